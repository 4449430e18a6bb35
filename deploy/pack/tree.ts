// The program as installed: what lies in the tarball's folder and in /usr/lib/tokenwatt. Only node, koffi.node and the
// SBOM differ between architectures.
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Bundle } from "./bundle.ts";
import { documentFiles } from "./documents.ts";
import type { File } from "./files.ts";
import { file, inWorkFolder, writeTree } from "./files.ts";
import type { Packaged } from "./licences.ts";
import { licenceFiles, readPackage } from "./licences.ts";
import type { Locked } from "./npm-package.ts";
import { lockedFiles, readLockfile } from "./npm-package.ts";
import type { Architecture } from "./options.ts";
import { sbom } from "./sbom.ts";
import { run } from "./tools.ts";

/** What an artefact is made from. */
export interface Sources {
  /** The project's folder. */
  readonly root: string;
  readonly version: string;
  /** Seconds since 1970, for every file. */
  readonly time: number;
  readonly bundle: Bundle;
  /** What the program prints about itself. */
  readonly texts: Texts;
}

/** Files that the program itself prints. */
export interface Texts {
  readonly manual1: string;
  readonly manual5: string;
  readonly bash: string;
  readonly zsh: string;
  readonly fish: string;
  readonly schema: string;
  readonly config: string;
}

/** The program for one architecture. */
export async function programTree(sources: Sources, architecture: Architecture): Promise<File[]> {
  const { bundle, root, texts } = sources;
  const runtime = `node-linux-${architecture}`;
  const node = lockedFiles(root, runtime, ["bin/node", "LICENSE"]);
  const addon = `@koromix/koffi-linux-${architecture}`;
  const native = `linux_${architecture}/koffi.node`;
  const koffi = lockedFiles(root, addon, [native]);
  const lockfile = readLockfile(root);
  const packages = [
    ...bundle.packages.map((folder) => readPackage(root, folder)),
    addonPackage(addon, lockfile[`node_modules/${addon}`]),
  ];
  const program = [
    file("bin/node", await stripped(root, node.get("bin/node") as Uint8Array), 0o755),
    file("bin/tokenwatt", readFileSync(join(root, "deploy/pack/tokenwatt.sh")), 0o755),
    ...bundle.files,
    file(`node_modules/${addon}/koffi.node`, koffi.get(native) as Uint8Array),
    file(`node_modules/${addon}/package.json`, `${JSON.stringify({ name: addon, main: "koffi.node" })}\n`),
    ...bundle.reads.flatMap((path) =>
      path === "package.json" ? [ownPackage(root)] : projectFiles(root, path),
    ),
    ...["LICENSE", "README.md", "systemd"].flatMap((path) => projectFiles(root, path)),
    file("METRICS.md", readFileSync(join(root, "agent/export/METRICS.md"))),
    ...licenceFiles(root, packages),
    file("licenses/node/LICENSE", node.get("LICENSE") as Uint8Array),
    file(
      "sbom.cdx.json",
      sbom({
        ...sources,
        architecture,
        packages,
        lockfile,
        nodeVersion: lockfile[`node_modules/${runtime}`]?.version ?? "",
      }),
    ),
    file("share/man/man1/tokenwatt.1", texts.manual1),
    file("share/man/man5/tokenwatt.yaml.5", texts.manual5),
    file("share/completions/tokenwatt.bash", texts.bash),
    file("share/completions/_tokenwatt", texts.zsh),
    file("share/completions/tokenwatt.fish", texts.fish),
    file("share/config.schema.json", texts.schema),
    file("share/config.yaml", texts.config),
    file("share/example.yaml", readFileSync(join(root, "deploy/config/tokenwatt.yaml"))),
  ];
  const known = new Set(program.map(({ path }) => path));
  return [...program, ...documentFiles(root).filter(({ path }) => !known.has(path))];
}

/** A program of either architecture without its symbols. */
function stripped(root: string, program: Uint8Array): Promise<Buffer> {
  return inWorkFolder(root, (work) => {
    const [whole, smaller] = [join(work, "whole"), join(work, "stripped")];
    writeFileSync(whole, program);
    run("llvm-strip", ["--strip-all", "-o", smaller, whole]);
    return readFileSync(smaller);
  });
}

/** The native code beside node: no bundler sees it, and its package brings no licence text but koffi's. */
function addonPackage(name: string, locked: Locked | undefined): Packaged {
  if (locked?.license === undefined)
    throw new Error(`Cannot pack ${name}: package-lock.json has no licence of it`);
  const { license, version } = locked;
  return { folder: `node_modules/${name}`, name, version, licence: license, textsIn: "node_modules/koffi" };
}

/** What the bundled program prints about itself, run on this machine's Node. */
export function askProgram(root: string, bundle: Bundle): Promise<Texts> {
  return inWorkFolder(root, (folder) => {
    writeTree(folder, [...bundle.files, ownPackage(root)]);
    const ask = (...words: string[]): string => {
      const { error, status, stderr, stdout } = spawnSync(
        process.execPath,
        [join(folder, "app/main.mjs"), ...words],
        {
          encoding: "utf8",
          env: { NO_COLOR: "1", PATH: process.env["PATH"] },
        },
      );
      if (status === 0 && stdout !== "") return stdout;
      throw new Error(
        `Cannot pack: the bundle's \`tokenwatt ${words.join(" ")}\` ended with ${status ?? error}: ${stderr}`,
      );
    };
    return {
      manual1: ask("manual", "1"),
      manual5: ask("manual", "5"),
      bash: ask("completion", "bash"),
      zsh: ask("completion", "zsh"),
      fish: ask("completion", "fish"),
      schema: ask("config", "schema"),
      config: ask("config", "init"),
    };
  });
}

function ownPackage(root: string): File {
  const { description, license, name, type, version } = JSON.parse(
    readFileSync(join(root, "package.json"), "utf8"),
  ) as Record<string, string>;
  return file(
    "package.json",
    `${JSON.stringify({ name, version, description, license, type }, undefined, 2)}\n`,
  );
}

function projectFiles(root: string, path: string): File[] {
  const full = join(root, path);
  if (!statSync(full).isDirectory()) return [file(path, readFileSync(full))];
  return readdirSync(full)
    .sort()
    .flatMap((name) => projectFiles(root, `${path}/${name}`));
}
