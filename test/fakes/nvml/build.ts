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

/** The binary interface of a driver: what its version decides. */
export interface FakeDriver {
  readonly version: string;
  /** Bytes of a row of the process lists; 24 unless the driver has its own mind. */
  readonly rowBytes?: 16 | 24 | 32;
  /** Newest names of calls it exports: 1 = no suffix, 2 = _v2; absent = today's. */
  readonly generation?: 1 | 2;
}

/** Drivers of which each has its own interface, by what they are known for. */
export const FAKE_DRIVERS: Readonly<Record<"450" | "470" | "535" | "575" | "580", FakeDriver>> = {
  "450": { version: "450.51.06", generation: 1, rowBytes: 16 },
  "470": { version: "470.256.02", generation: 2 },
  "535": { version: "535.86.05", rowBytes: 32 },
  "575": { version: "575.57.08" },
  "580": { version: "580.126.09" },
};

function definesOf({ version, rowBytes = 24, generation }: FakeDriver): readonly string[] {
  const names = generation === undefined ? [] : [`-DDRIVER_GENERATION=${generation}`];
  return [`-DDRIVER_VERSION="${version}"`, `-DROW_BYTES=${rowBytes}`, ...names];
}

/** Path of the built library, or undefined (said on stderr) where no C compiler works. */
export function buildFakeNvml(driver: FakeDriver = { version: "580.00.00" }): string | undefined {
  const defines = definesOf(driver);
  const hash = createHash("sha256")
    .update(readFileSync(source))
    .update(defines.join())
    .digest("hex")
    .slice(0, 16);
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
      ...defines,
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
