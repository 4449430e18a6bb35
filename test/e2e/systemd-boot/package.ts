// The Debian package of this machine's architecture in any version, and a minimal Debian to install it into.
import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { packFolder } from "../../tools/packed.ts";
import { buildRoot } from "./machine.ts";

const project = fileURLToPath(new URL("../../..", import.meta.url));
const cache = join(project, "node_modules/.cache/tokenwatt");

/** A package from a copy of what is committed, with another version; made once for each commit. */
export function packVersion(version: string): string {
  const commit = execFileSync("git", ["rev-parse", "HEAD"], { cwd: project, encoding: "utf8" }).trim();
  const kept = join(cache, `package-${commit}-${version}.deb`);
  if (existsSync(kept)) return kept;
  mkdirSync(cache, { recursive: true });
  const old = readdirSync(cache).filter((name) => name.startsWith("package-") && !name.includes(commit));
  for (const name of old) rmSync(join(cache, name));
  // Not below node_modules: Node strips no types there.
  const copy = mkdtempSync(join(tmpdir(), "tokenwatt-copy-"));
  try {
    execFileSync("sh", ["-c", `git archive HEAD | tar -x -C '${copy}'`], { cwd: project });
    symlinkSync(join(project, "node_modules"), join(copy, "node_modules"));
    const file = join(copy, "package.json");
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, "utf8")), version }));
    packFolder(join(copy, "dist"), "deb", { SOURCE_DATE_EPOCH: "1790000000" }, copy);
    const name = readdirSync(join(copy, "dist")).find((one) => one.endsWith(".deb")) as string;
    copyFileSync(join(copy, "dist", name), kept);
  } finally {
    rmSync(copy, { recursive: true });
  }
  return kept;
}

/** A copy of the minimal system without anything of ours in it. */
export function bareRoot(root: string): void {
  execFileSync("cp", ["-a", buildRoot(), root]);
  // What the tests of the unit put there by hand, and what their boots wrote.
  for (const path of [
    "usr/bin/tokenwatt",
    "opt/tokenwatt",
    "etc/systemd/system/tokenwatt.service",
    "etc/systemd/system/tokenwatt.service.d",
    "etc/systemd/system/multi-user.target.wants/tokenwatt.service",
    "etc/tokenwatt",
    "usr/lib/sysusers.d/tokenwatt.conf",
    "var/lib/tokenwatt",
    "var/lib/private/tokenwatt",
    "var/log/journal",
  ]) {
    rmSync(join(root, path), { recursive: true, force: true });
  }
}
