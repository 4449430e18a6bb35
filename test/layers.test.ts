// The room rules of the architecture, read off the import lines: who may import whom, who may touch the process, the
// clock and each package. A rule that is broken names file and line.
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
const agent = join(root, "agent");

interface Source {
  /** Relative to agent/. */
  readonly name: string;
  readonly room: string;
  readonly text: string;
  /** Without comments. */
  readonly code: string;
  readonly imports: readonly { readonly from: string; readonly typeOnly: boolean }[];
}

const sources = readdirSync(agent, { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".ts"))
  .map((name) => readSource(name, readFileSync(join(agent, name), "utf8")));

function readSource(name: string, text: string): Source {
  const code = withoutComments(text);
  const imports = [
    ...code.matchAll(/^\s*(?:import|export)\s+(type\s+)?[^"';]*?\bfrom\s*["']([^"']+)["']/gm),
    ...code.matchAll(/\bimport\s*()\(\s*["']([^"']+)["']\s*\)/g),
    ...code.matchAll(/^\s*import\s*()["']([^"']+)["']/gm),
  ].map((match) => ({ from: match[2] ?? "", typeOnly: (match[1] ?? "") !== "" }));
  return { name, room: roomOf(name), text, code, imports };
}

function withoutComments(text: string): string {
  return text.replaceAll(/\/\*[\s\S]*?\*\//g, "").replaceAll(/(^|[^:"'`/])\/\/.*$/gm, "$1");
}

/** The folder below agent/, or the file itself where it lies in agent/ directly. */
function roomOf(name: string): string {
  return name.split("/")[0] ?? "";
}

/**
 * The rooms by floor, top first, each with the rooms it may import, types counted. A row names lower floors only, so
 * that no circle of rooms can be written down.
 */
const ROOMS: Readonly<Record<string, readonly string[]>> = {
  "main.ts": ["cli"],
  cli: [
    ...["daemon", "discovery", "config", "gpu", "servers", "policy", "page", "host", "recording", "export"],
    ...["source.ts", "store", "correlate", "meter", "platform", "model.ts"],
  ],
  daemon: [
    ...["discovery", "config", "policy", "page", "host", "export"],
    ...["source.ts", "store", "correlate", "meter", "platform", "model.ts"],
  ],
  discovery: ["config", "servers", "page", "host", "source.ts", "platform", "model.ts"],
  config: ["gpu", "servers", "policy", "host", "export", "source.ts", "meter", "platform", "model.ts"],
  gpu: ["page", "recording", "source.ts", "platform", "model.ts"],
  servers: ["page", "recording", "source.ts", "platform", "model.ts"],
  policy: ["meter", "platform", "model.ts"],
  page: ["source.ts", "platform"],
  host: ["source.ts", "platform", "model.ts"],
  recording: ["source.ts", "platform", "model.ts"],
  export: ["store", "meter", "platform", "model.ts"],
  "source.ts": ["platform", "model.ts"],
  store: ["platform", "model.ts"],
  correlate: ["matrix.ts", "model.ts"],
  meter: ["matrix.ts", "model.ts"],
  platform: ["model.ts"],
  "model.ts": [],
  "matrix.ts": [],
};
const PURE_ROOMS = ["correlate", "meter"];

/** Package -> the only files that may load it. Types may be imported anywhere; zod is spoken by every source. */
const DOORS: Readonly<Record<string, RegExp>> = {
  "@grpc/grpc-js": /^platform\/grpc\.ts$/,
  "@grpc/proto-loader": /^platform\/grpc\.ts$/,
  commander: /^cli\/program\.ts$/,
  pino: /^platform\/log\.ts$/,
  yaml: /^config\/file\.ts$/,
  // The child's calls of the driver; messages to the service manager; advice to the kernel on memory.
  koffi: /^(gpu\/nvml\/child\/[a-z-]+|platform\/(service-manager|own-process|unix-peer))\.ts$/,
  zod: /./,
};

/** Processes of their own: they end themselves and keep their own time. */
const CHILD_ENTRY = /(^|[/-])(child|worker|receiver|token-server)\.ts$|\/child\/main\.ts$/;

/** The clock itself; the log's repeat limit; systemd's clock; the child's translation of driver time. */
const OWN_TIME = /^(platform\/(clock|log|service-manager)|gpu\/nvml\/child\/driver-clock)\.ts$/;

function broken(check: (source: Source) => readonly string[]): string[] {
  return sources.flatMap((source) => check(source).map((what) => `agent/${source.name}: ${what}`));
}

/** The line numbers of code (comments aside) that match. */
function linesMatching(source: Source, pattern: RegExp): string[] {
  const code = source.text.split("\n").map((line) => (/^\s*(\/\/|\*|\/\*)/.test(line) ? "" : line));
  return code.flatMap((line, index) => (pattern.test(line) ? [`line ${index + 1}: ${line.trim()}`] : []));
}

describe("rooms of agent/", () => {
  test("are those of the table, and import what their row allows", () => {
    expect([...new Set(sources.map((source) => source.room))].sort()).toEqual(Object.keys(ROOMS).sort());
    const violations = broken((source) =>
      source.imports.flatMap(({ from }) => {
        if (!from.startsWith(".")) return [];
        const room = roomOf(relative(agent, join(agent, dirname(source.name), from)));
        return room === source.room || ROOMS[source.room]?.includes(room) ? [] : [`imports ${from}`];
      }),
    );
    expect(violations).toEqual([]);
  });

  test("import no room above them", () => {
    const floors = Object.keys(ROOMS);
    const upwards = floors.flatMap((room, floor) =>
      (ROOMS[room] ?? [])
        .filter((below) => floors.indexOf(below) <= floor)
        .map((below) => `${room} > ${below}`),
    );
    expect(upwards).toEqual([]);
  });

  test("hold no file and folder of one name, commands and their machinery aside", () => {
    const files = new Set(sources.filter(({ room }) => room !== "cli").map((source) => source.name));
    const folders = new Set(sources.map((source) => dirname(source.name)));
    expect([...folders].filter((folder) => files.has(`${folder}.ts`))).toEqual([]);
  });

  test("correlate/ and meter/ are pure: no package, no node:, no globals of the outside", () => {
    const violations = broken((source) => {
      if (!PURE_ROOMS.includes(source.room)) return [];
      const outside = source.imports
        .filter(({ from }) => !from.startsWith("."))
        .map(({ from }) => `imports ${from}`);
      const globals =
        /\bprocess\.(env|argv|hrtime|cwd|std|next|exit|kill|on|memory|versions)|\b(globalThis|console|Buffer|performance|crypto)\.|\bfetch\(|\bMath\.random\b/;
      return [...outside, ...linesMatching(source, globals)];
    });
    expect(violations).toEqual([]);
  });

  test("only main.ts and child processes end a process", () => {
    const violations = broken((source) =>
      source.name === "main.ts" || CHILD_ENTRY.test(source.name)
        ? []
        : linesMatching(source, /\bprocess\.(exit|abort|reallyExit)\b|\bprocess\.exitCode\s*=/),
    );
    expect(violations).toEqual([]);
  });

  test("only clock.ts asks for the time or sets timers", () => {
    // A socket's own `setTimeout` is the kernel's idle time, no timer of ours.
    const system =
      /\bDate\.now\b|\bnew Date\(\)|(?<![.\w])set(Timeout|Interval)\(|\bhrtime\b|\bperformance\.now\b/;
    const violations = broken((source) =>
      OWN_TIME.test(source.name) || CHILD_ENTRY.test(source.name) ? [] : linesMatching(source, system),
    );
    expect(violations).toEqual([]);
  });

  test("each package has one door", () => {
    const doors = new Map<string, Set<string>>();
    const violations = broken((source) =>
      source.imports.flatMap(({ from, typeOnly }) => {
        if (from.startsWith(".") || from.startsWith("node:") || typeOnly) return [];
        const name = from
          .split("/")
          .slice(0, from.startsWith("@") ? 2 : 1)
          .join("/");
        doors.set(name, (doors.get(name) ?? new Set()).add(source.name));
        const door = DOORS[name];
        return door === undefined || door.test(source.name) ? [] : [`imports ${name}`];
      }),
    );
    const several = [...doors].filter(([name, files]) => files.size > 1 && DOORS[name] === undefined);
    expect(violations).toEqual([]);
    expect(several.map(([name, files]) => `${name}: ${[...files].join(", ")}`)).toEqual([]);
  });

  test("node modules are imported with node:, own files with .ts", () => {
    const violations = broken((source) =>
      source.imports
        .filter(({ from }) => from.startsWith(".") && !from.endsWith(".ts"))
        .map(({ from }) => from),
    );
    expect(violations).toEqual([]);
  });

  test("no file passes 400 lines; one over 300 wants a reason", () => {
    const violations = broken((source) => {
      const lines = source.text.split("\n").length - 1;
      // The vocabulary is types and their comments only: one place to look a noun up.
      if (source.name === "model.ts") return [];
      return lines > 400 ? [`${lines} lines`] : [];
    });
    expect(violations).toEqual([]);
  });

  test("every file begins with a comment, of 6 lines at most", () => {
    const violations = broken((source) => {
      const head = source.text.replace(/^#!.*\n/, "").match(/^(\/\/.*\n)+/)?.[0] ?? "";
      const lines = head.split("\n").length - 1;
      return lines >= 1 && lines <= 6 ? [] : [`${lines} lines of head comment`];
    });
    expect(violations).toEqual([]);
  });

  test("every export has a doc comment", () => {
    const violations = broken((source) => {
      if (/registry\.ts$/.test(source.name)) return [];
      const lines = source.text.split("\n");
      return lines.flatMap((line, index) => {
        if (!/^export (async )?(function|class|interface|type|const)\b/.test(line)) return [];
        const above = lines.slice(0, index).findLast((each) => !/^\s*\/\/ biome/.test(each));
        return /\*\/$/.test(above ?? "") ? [] : [`line ${index + 1}: ${line}`];
      });
    });
    expect(violations).toEqual([]);
  });

  test("the program knows no test, fixture or development path", () => {
    const violations = broken((source) => linesMatching(source, /["'`/](test|fixtures?|shared|work)\//));
    expect(violations).toEqual([]);
  });
});

describe("the rules themselves", () => {
  test("imports are seen in every form", () => {
    const text =
      'import { a } from "./a.ts";\nimport type {\n  B,\n} from "../b.ts";\nconst c = await import("c");\nimport "d";\nexport { e } from "./e.ts";\n// import { f } from "./f.ts";\n';
    const found = readSource("cli/x.ts", text).imports.map(
      ({ from, typeOnly }) => `${from}${typeOnly ? " type" : ""}`,
    );
    expect(found.sort()).toEqual(["../b.ts type", "./a.ts", "./e.ts", "c", "d"]);
  });

  test("there is something to check", () => {
    expect(sources.length).toBeGreaterThan(20);
    expect(sources.flatMap((source) => source.imports).length).toBeGreaterThan(50);
  });
});
