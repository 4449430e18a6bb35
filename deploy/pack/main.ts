// `npm run pack`: dist/ with a tarball, a Debian package, an rpm, an OCI image layout and an npm package of the program, for
// x64 and arm64; a line on stderr for each as it is finished. Every time in an artefact is SOURCE_DATE_EPOCH, or else that of the last commit.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { CommanderError } from "commander";
import type { PackBar } from "./bar.ts";
import { startPackBar } from "./bar.ts";
import { bundleAgent } from "./bundle.ts";
import type { File } from "./files.ts";
import { below, inWorkFolder, writeTree } from "./files.ts";
import { writeNpmArchive } from "./npm-archive.ts";
import { writeImageArchive } from "./oci.ts";
import type { Architecture, PackOptions } from "./options.ts";
import { readOptions } from "./options.ts";
import { debianPackage, rpmPackage, stagePackage } from "./packages.ts";
import { tarXzFolder } from "./tar.ts";
import { missingTools } from "./tools.ts";
import type { Sources } from "./tree.ts";
import { askProgram, programTree } from "./tree.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
try {
  await main(readOptions(root, process.argv.slice(2)));
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  process.exitCode = error.exitCode;
}

async function main(options: PackOptions): Promise<void> {
  const missing = missingTools(options.only);
  if (missing.length > 0) {
    console.error(`Cannot pack ${options.only.join(", ")}: not installed:\n  ${missing.join("\n  ")}`);
    process.exitCode = 1;
    return;
  }
  // The folders that tools archive get their modes from it.
  process.umask(0o022);
  mkdirSync(options.out, { recursive: true });
  const began = performance.now();
  const bar = startPackBar(options);
  const timed = (make: Make): Promise<string> => timedOn(bar, make);
  const sources = await gather();
  const trees = new Map<Architecture, readonly File[]>();
  for (const one of options.arch) trees.set(one, await programTree(sources, one));
  bar.step(`the program is bundled, ${secondsSince(began)}`);
  const written: string[] = [];
  for (const [architecture, tree] of trees) {
    written.push(...(await packArchitecture(options, sources, architecture, tree, timed)));
  }
  if (options.only.includes("oci")) {
    const path = join(options.out, `tokenwatt-${sources.version}-oci.tar`);
    written.push(
      await timed(() => inWorkFolder(root, (work) => writeImageArchive(path, work, sources, trees))),
    );
  }
  if (options.only.includes("npm")) {
    const path = join(options.out, `tokenwatt-${sources.version}.tgz`);
    written.push(
      await timed(() =>
        inWorkFolder(root, (work) => writeNpmArchive(path, join(work, "npm"), sources, trees)),
      ),
    );
  }
  bar.end();
  if (written.length === 0) return;
  const sums = written.map((path) => `${digestOf(readFileSync(path))}  ${basename(path)}\n`);
  writeFileSync(join(options.out, "SHA256SUMS"), sums.sort().join(""));
}

async function gather(): Promise<Sources> {
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
  const bundle = await bundleAgent(root);
  return { root, version, time: sourceTime(), bundle, texts: await askProgram(root, bundle) };
}

/** Everything but image and npm package, which are for all architectures; returns the paths of the files. */
async function packArchitecture(
  { only, out, preset }: PackOptions,
  sources: Sources,
  architecture: Architecture,
  tree: readonly File[],
  timed: (make: Make) => Promise<string>,
): Promise<string[]> {
  const written: string[] = [];
  const name = `tokenwatt-${sources.version}-linux-${architecture}`;
  if (only.includes("folder")) {
    rmSync(join(out, name), { recursive: true, force: true });
    writeTree(join(out, name), tree);
  }
  if (only.includes("tarball")) {
    const path = join(out, `${name}.tar.xz`);
    await inWorkFolder(root, async (work) => {
      writeTree(work, below(name, tree));
      written.push(await timed(() => tarXzFolder(path, work, sources.time, preset)));
    });
  }
  if (only.includes("deb") || only.includes("rpm")) {
    await inWorkFolder(root, async (folder) => {
      const staged = { sources, architecture, folder };
      await stagePackage(staged, tree);
      if (only.includes("deb")) written.push(await timed(() => debianPackage(staged, out, preset)));
      if (only.includes("rpm")) written.push(await timed(() => rpmPackage(staged, out)));
    });
  }
  return written;
}

type Make = () => string | Promise<string>;

/** Makes a file and says so. */
async function timedOn(bar: PackBar, make: Make): Promise<string> {
  const began = performance.now();
  const path = await make();
  bar.step(`${basename(path)}: ${(statSync(path).size / 1e6).toFixed(1)} MB, ${secondsSince(began)}`);
  return path;
}

function secondsSince(began: number): string {
  return `${((performance.now() - began) / 1000).toFixed(1)} s`;
}

function digestOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function sourceTime(): number {
  const given = process.env["SOURCE_DATE_EPOCH"];
  const commit = spawnSync("git", ["log", "-1", "--format=%ct"], { cwd: root, encoding: "utf8" });
  const time = Number(given ?? (commit.status === 0 ? commit.stdout.trim() : Number.NaN));
  if (Number.isSafeInteger(time) && time > 0) return time;
  throw new Error(
    "Cannot date the artefacts: SOURCE_DATE_EPOCH is not set to seconds, and there is no git commit",
  );
}
