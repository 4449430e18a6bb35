// Archives by GNU tar, made so that equal files give equal bytes: sorted by name, one time, owner root.
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import type { File } from "./files.ts";
import { writeTree } from "./files.ts";
import { run } from "./tools.ts";

/** Writes an archive of everything in a folder to `path`, and returns that. */
export function tarFolder(path: string, folder: string, time: number, flags: readonly string[] = []): string {
  run("tar", [...same(time), ...ROOT, ...flags, "-cf", path, "-C", folder, ...readdirSync(folder).sort()]);
  return path;
}

/**
 * The same compressed by xz; `preset` 0 to 9. Several threads work on blocks of one size, so that their number changes
 * nothing; a single thread would write one block. The checksum is one that old tools know.
 */
export function tarXzFolder(path: string, folder: string, time: number, preset: number): string {
  const threads = Math.max(2, availableParallelism());
  return tarFolder(path, folder, time, [`--use-compress-program=xz -T${threads} -${preset} --check=crc32`]);
}

/** An archive of a tree, folders of other owners included; `work` is a folder for it to use. */
export function tarTree(work: string, files: readonly File[], time: number): Buffer {
  const folder = join(work, "tree");
  const path = join(work, "tree.tar");
  mkdirSync(folder, { recursive: true });
  writeTree(folder, files);
  const owned = files.flatMap((entry) => ("owner" in entry && entry.owner !== 0 ? [entry] : []));
  tarFolder(path, folder, time, [
    "--anchored",
    "--no-wildcards",
    ...owned.map((one) => `--exclude=${one.path}`),
  ]);
  for (const { owner, path: name } of owned) {
    const owners = [`--owner=${owner}`, `--group=${owner}`, "--numeric-owner", "--no-recursion"];
    run("tar", [...same(time), ...owners, "-rf", path, "-C", folder, name]);
  }
  return readFileSync(path);
}

/** The named file of a compressed archive. Throws when it is not there. */
export function fileOfTarball(archive: string, name: string): Buffer {
  return run("tar", ["-xzOf", archive, name]);
}

const ROOT = ["--owner=root:0", "--group=root:0"] as const;

function same(time: number): string[] {
  return ["--format=ustar", "--sort=name", `--mtime=@${time}`];
}
