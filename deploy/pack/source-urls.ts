// `new URL("./...", import.meta.url)` names a file beside the source; in the bundle every chunk lies in app/. Entry
// points (.ts) become app/<path>.mjs, everything else keeps its place in the project: ../proto, ../package.json.
import { dirname, join, relative } from "node:path/posix";

const RELATIVE_URL = /new URL\(\s*"(\.\.?\/[^"]*)",\s*import\.meta\.url\s*,?\s*\)/g;

/** One source file's relative URLs. */
export interface SourceUrls {
  /** The source text with its URLs as they must be in app/. */
  readonly code: string;
  /** The modules it starts as processes or threads, as paths in the project. */
  readonly entries: readonly string[];
  /** The other files it reads, as paths in the project. */
  readonly files: readonly string[];
}

/** Rewrites the relative URLs of a source file, given its path in the project, such as `agent/platform/grpc.ts`. */
export function rewriteUrls(path: string, code: string): SourceUrls {
  const entries: string[] = [];
  const files: string[] = [];
  const rewritten = code.replaceAll(RELATIVE_URL, (_whole, target: string) => {
    const named = join(dirname(path), target);
    if (named.startsWith("..")) {
      throw new Error(`Cannot pack ${path}: its URL ${JSON.stringify(target)} leaves the project`);
    }
    (named.endsWith(".ts") ? entries : files).push(named);
    const packed = named.endsWith(".ts") ? `./${entryName(named)}.mjs` : relative("app", named);
    return `new URL(${JSON.stringify(packed)}, import.meta.url)`;
  });
  return { code: rewritten, entries, files };
}

/** The name of an entry point's chunk, from its path so that it is unique: `agent/gpu/nvml/child/main.ts` -> `gpu-nvml-child-main`. */
export function entryName(path: string): string {
  return relative("agent", path).replace(/\.ts$/, "").replaceAll("/", "-");
}
