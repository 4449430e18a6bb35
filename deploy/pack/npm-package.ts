// Parts of npm packages that `npm ci` leaves out on this machine because they are for another one: fetched by npm
// itself, held against the lockfile's integrity, kept in node_modules/.cache.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileOfTarball } from "./tar.ts";

/** What package-lock.json says of a package. */
export interface Locked {
  readonly version: string;
  readonly integrity?: string;
  readonly license?: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

/** The packages of package-lock.json by their folder, such as `node_modules/koffi`. */
export function readLockfile(root: string): Readonly<Record<string, Locked>> {
  const text = readFileSync(join(root, "package-lock.json"), "utf8");
  return (JSON.parse(text) as { packages: Record<string, Locked> }).packages;
}

/**
 * The named files of a locked package: from node_modules when it is installed there, else fetched. Throws with what npm
 * said when it cannot be fetched, and when its bytes are not those of the lockfile.
 */
export function lockedFiles(
  root: string,
  name: string,
  paths: readonly string[],
): ReadonlyMap<string, Uint8Array> {
  const locked = readLockfile(root)[`node_modules/${name}`];
  if (locked?.integrity === undefined) throw new Error(`Cannot pack ${name}: it is not in package-lock.json`);
  const folder = join(root, "node_modules", name);
  if (existsSync(folder)) return new Map(paths.map((path) => [path, readFileSync(join(folder, path))]));
  const archive = fetched(root, `${name}@${locked.version}`, locked.integrity);
  return new Map(paths.map((path) => [path, fileOfTarball(archive, `package/${path}`)]));
}

/** The path of the package's archive. */
function fetched(root: string, spec: string, integrity: string): string {
  const cache = join(root, "node_modules/.cache/tokenwatt/npm");
  const kept = join(cache, `${spec.replaceAll(/[@/]/g, "-")}.tgz`);
  if (existsSync(kept) && matches(readFileSync(kept), integrity)) return kept;
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(cache, "fetch-"));
  try {
    const npm = spawnSync("npm", ["pack", "--silent", "--pack-destination", folder, spec], {
      encoding: "utf8",
      cwd: folder,
    });
    if (npm.status !== 0) {
      throw new Error(
        `Cannot fetch ${spec}: npm ended with ${npm.status ?? npm.error}: ${npm.stderr.trim()}`,
      );
    }
    const archive = join(folder, npm.stdout.trim().split("\n").at(-1) as string);
    if (!matches(readFileSync(archive), integrity)) {
      throw new Error(
        `Cannot use ${spec}: what npm fetched is not what package-lock.json names (${integrity})`,
      );
    }
    renameSync(archive, kept);
    return kept;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function matches(bytes: Uint8Array, integrity: string): boolean {
  const [algorithm = "", wanted] = integrity.split("-");
  return createHash(algorithm).update(bytes).digest("base64") === wanted;
}
