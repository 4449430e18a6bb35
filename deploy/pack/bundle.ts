// The agent as ES modules in app/: one chunk for each entry point (processes and threads included) and shared chunks
// beside them, so that what a command does not need is never parsed. Entry points are found, not listed: main.ts and
// every module that a `new URL("./...", import.meta.url)` names.
import { readdirSync, readFileSync, realpathSync } from "node:fs";
import { join, relative } from "node:path";
import type { Plugin } from "rolldown";
import { rolldown } from "rolldown";
import { lazyBuiltins } from "./builtins.ts";
import type { File } from "./files.ts";
import { file } from "./files.ts";
import { entryName, rewriteUrls } from "./source-urls.ts";
import { unusedTelemetry } from "./unused.ts";

/** What bundling gives. */
export interface Bundle {
  /** The chunks, as app/<name>.mjs. */
  readonly files: readonly File[];
  /** Folders of the npm packages that have code in it, relative to the project: `node_modules/zod`. */
  readonly packages: readonly string[];
  /** Files and folders the code reads beside itself, relative to the project: `proto`, `package.json`. */
  readonly reads: readonly string[];
}

/** Bundles the agent of the project in folder `root`, minified. Fails on anything that could not be resolved. */
export async function bundleAgent(root: string): Promise<Bundle> {
  const { entries, reads } = findUrls(root);
  const input: Record<string, string> = {};
  for (const entry of ["agent/main.ts", ...entries]) {
    input[entryName(entry)] = join(root, entry);
  }
  const build = await rolldown({
    cwd: root,
    input,
    platform: "node",
    plugins: [urls(root), lazyBuiltins(), unusedTelemetry(), commonJsTelemetry(), releasedReact()],
    onLog: (level, log) => {
      if (log.code === "UNRESOLVED_IMPORT") throw new Error(`Cannot pack: ${log.message}`);
      if (level === "warn" && log.code !== "EVAL") console.warn(`bundle: ${log.message}`);
    },
  });
  const { output } = await build.generate({
    format: "esm",
    entryFileNames: "[name].mjs",
    chunkFileNames: "[name]-[hash].mjs",
    minify: true,
    comments: { legal: false },
  });
  await build.close();
  const modules = new Set(output.flatMap((chunk) => (chunk.type === "chunk" ? chunk.moduleIds : [])));
  return {
    files: output.map((chunk) =>
      file(`app/${chunk.fileName}`, chunk.type === "chunk" ? inOneByte(chunk.code) : chunk.source),
    ),
    packages: [
      ...new Set([...modules].map((id) => packageFolder(root, id)).filter((id) => id !== undefined)),
    ].sort(),
    reads,
  };
}

/** One character beyond Latin-1 makes V8 keep two bytes for each of a chunk. None may stand in a `String.raw`. */
function inOneByte(code: string): string {
  if (code.includes("String.raw")) return code;
  return code.replace(/[\u0100-\uffff]/g, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function findUrls(root: string): { entries: string[]; reads: string[] } {
  const entries = new Set<string>();
  const reads = new Set<string>();
  for (const name of readdirSync(join(root, "agent"), { recursive: true, encoding: "utf8" })) {
    if (!name.endsWith(".ts")) continue;
    const path = `agent/${name}`;
    const found = rewriteUrls(path, readFileSync(join(root, path), "utf8"));
    for (const entry of found.entries) entries.add(entry);
    for (const read of found.files) reads.add(read);
  }
  return { entries: [...entries].sort(), reads: [...reads].sort() };
}

function urls(root: string): Plugin {
  return {
    name: "source-urls",
    transform: (code, id) => {
      const path = relative(root, id);
      if (!path.startsWith("agent/")) return null;
      // The launcher starts it, so no chunk is a program of its own.
      return rewriteUrls(path, code.replace(/^#!.*/, "")).code;
    },
  };
}

// The ES modules of @opentelemetry `require` grpc-js at the first export, which an ES bundle answers with an error that
// nobody sees: the self-metrics would silently never arrive. Their CommonJS twins bundle right.
function commonJsTelemetry(): Plugin {
  return {
    name: "commonjs-telemetry",
    resolveId: async function (source, importer, options) {
      if (!source.startsWith("@opentelemetry/") && !importer?.includes("/@opentelemetry/")) return null;
      const resolved = await this.resolve(source, importer, { ...options, skipSelf: true });
      if (resolved === null || !resolved.id.includes("/@opentelemetry/")) return resolved;
      return { ...resolved, id: resolved.id.replace(/\.mjs$/, ".cjs") };
    },
  };
}

// React comes with a build for development beside its own, chosen when it runs; ink knows a debugger that is not installed.
function releasedReact(): Plugin {
  const absent = "\0no-debugger";
  return {
    name: "released-react",
    resolveId: (source) => (source === "react-devtools-core" ? absent : null),
    load: (id) => (id === absent ? "export default {};" : null),
    transform: (code, id) =>
      /[/\\]node_modules[/\\](react|react-reconciler|scheduler)[/\\]/.test(id)
        ? code.replaceAll("process.env.NODE_ENV", '"production"')
        : null,
  };
}

function packageFolder(root: string, id: string): string | undefined {
  const path = join("node_modules", relative(realpathSync(join(root, "node_modules")), id));
  return /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0];
}
