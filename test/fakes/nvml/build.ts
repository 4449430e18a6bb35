// Builds the fake libnvidia-ml.so.1 with the system's C compiler, once per test run; without one, says so on stderr.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

// Reader children start in half the time when what they load is compiled already.
process.env["NODE_COMPILE_CACHE"] ??= fileURLToPath(
  new URL("../../../node_modules/.cache/node", import.meta.url),
);

const source = fileURLToPath(new URL("./fake-nvml.c", import.meta.url));

/** A fake library of its own with a scenario file beside it. */
export interface FakeNvml {
  readonly path: string;
  /** Replaces the scenario; the library reads it at its next call. */
  scenario(...lines: string[]): void;
}

/** Path of the built library, or undefined (said on stderr) where no C compiler works. */
export function buildFakeNvml(): string | undefined {
  const hash = createHash("sha256").update(readFileSync(source)).digest("hex").slice(0, 16);
  const folder = join(tmpdir(), "tokenwatt-fake-nvml");
  const library = join(folder, `${hash}.so`);
  if (existsSync(library)) return library;
  mkdirSync(folder, { recursive: true });
  const partial = join(folder, `${hash}.${process.pid}`);
  for (const compiler of ["cc", "gcc", "clang"]) {
    const built = spawnSync(compiler, [
      "-shared",
      "-fPIC",
      "-O1",
      "-o",
      partial,
      source,
      "-lpthread",
      "-ldl",
    ]);
    if (built.status !== 0) continue;
    renameSync(partial, library);
    return library;
  }
  process.stderr.write(
    "\n*** SKIPPED: no C compiler (cc, gcc, clang): the NVML backend is not tested ***\n\n",
  );
  return undefined;
}

/** A copy of the library for one test, so that its scenario is its own. */
export function fakeNvml(library: string, ...lines: string[]): FakeNvml {
  const path = join(mkdtempSync(join(tmpdir(), "nvml-")), "libnvidia-ml.so.1");
  copyFileSync(library, path);
  const scenario = (...next: string[]): void => {
    // Written beside and renamed: the library never reads half a file.
    writeFileSync(`${path}.next`, `${next.join("\n")}\n`);
    renameSync(`${path}.next`, `${path}.scenario`);
  };
  scenario(...lines);
  return { path, scenario };
}
