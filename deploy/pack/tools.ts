// The programs that packing needs beside Node: what each kind of artefact takes, how to get them, and how they are run.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Kind } from "./options.ts";

/** The script that runs the pinned nfpm. */
export const NFPM = fileURLToPath(new URL("nfpm.sh", import.meta.url));

interface Tool {
  /** A command that ends with 0 where the tool is installed. */
  readonly probe: readonly [program: string, ...words: string[]];
  readonly howToGet: string;
}

const TOOLS = {
  tar: { probe: ["tar", "--sort=name", "--version"], howToGet: "GNU tar, Debian's package tar" },
  "llvm-strip": { probe: ["llvm-strip", "--version"], howToGet: "Debian's package llvm" },
  xz: { probe: ["xz", "--version"], howToGet: "Debian's package xz-utils" },
  "dpkg-deb": { probe: ["dpkg-deb", "--version"], howToGet: "Debian's package dpkg" },
  nfpm: {
    probe: ["sh", NFPM, "--version"],
    howToGet: "sh deploy/pack/nfpm.sh install (needs Go 1.25 or newer)",
  },
} as const satisfies Readonly<Record<string, Tool>>;

const NEEDED: Readonly<Record<Kind, readonly (keyof typeof TOOLS)[]>> = {
  folder: [],
  tarball: ["xz"],
  deb: ["nfpm", "dpkg-deb"],
  rpm: ["nfpm"],
  oci: ["dpkg-deb"],
  npm: [],
};

/** What is not installed of the tools that these kinds need: a line each, with how to get it. */
export function missingTools(kinds: readonly Kind[]): string[] {
  const needed = new Set(["tar" as const, "llvm-strip" as const, ...kinds.flatMap((kind) => NEEDED[kind])]);
  return [...needed].flatMap((name) => {
    const [program, ...words] = TOOLS[name].probe;
    return spawnSync(program, words).status === 0 ? [] : [`${name}: ${TOOLS[name].howToGet}`];
  });
}

/** Where a program is run, and what it is told beside its words. */
export interface RunOptions {
  readonly cwd?: string;
  readonly environment?: Readonly<Record<string, string>>;
}

/** Runs a program to its end and returns its stdout. Throws with what it said when it fails. */
export function run(program: string, words: readonly string[], options: RunOptions = {}): Buffer {
  const { cwd, environment } = options;
  const { error, status, stderr, stdout } = spawnSync(program, words, {
    env: { ...process.env, LC_ALL: "C", ...environment },
    maxBuffer: 1 << 30,
    ...(cwd === undefined ? {} : { cwd }),
  });
  if (status === 0) return stdout;
  throw new Error(`Cannot pack: \`${program} ${words.join(" ")}\` ended with ${status ?? error}: ${stderr}`);
}
