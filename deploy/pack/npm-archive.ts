// The program as an npm package, for a try with nothing but Node: `npx tokenwatt demo`. One archive for every architecture;
// koffi's addons are bundled, so that nothing is fetched. Node is the user's own: one that is too old is told so.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { File } from "./files.ts";
import { below, file, writeTree } from "./files.ts";
import { gzip } from "./gzip.ts";
import { readLockfile } from "./npm-package.ts";
import type { Architecture } from "./options.ts";
import { MALLOC, NODE_FLAGS } from "./runtime.ts";
import { tarFolder } from "./tar.ts";
import type { Sources } from "./tree.ts";

/** Of an installed program alone: its own Node, and what is about that. */
const NOT_HERE = /^(bin\/|licenses\/node\/|package\.json$|sbom\.cdx\.json$|node_modules\/)/;

/** Writes the archive to `path` and returns that; `work` is a folder for it to use. */
export async function writeNpmArchive(
  path: string,
  work: string,
  sources: Sources,
  trees: ReadonlyMap<Architecture, readonly File[]>,
): Promise<string> {
  const [program = []] = trees.values();
  const addons = [...trees.keys()].map((one) => `@koromix/koffi-linux-${one}`);
  const lockfile = readLockfile(sources.root);
  const versions = Object.fromEntries(
    addons.map((name) => [name, lockfile[`node_modules/${name}`]?.version ?? ""]),
  );
  const files = [
    ...program.filter(({ path: name }) => !NOT_HERE.test(name)),
    ...[...trees.values()].flat().filter(({ path: name }) => name.endsWith("/koffi.node")),
    ...addons.map((name) =>
      file(
        `node_modules/${name}/package.json`,
        json({ name, version: versions[name], license: "MIT", main: "koffi.node" }),
      ),
    ),
    file("bin/tokenwatt.cjs", readFileSync(join(sources.root, "deploy/pack/tokenwatt.cjs")), 0o755),
    file("bin/runtime.json", json({ flags: NODE_FLAGS, malloc: MALLOC })),
    file("package.json", manifest(sources, [...trees.keys()], versions)),
  ];
  writeTree(work, below("package", files));
  const plain = `${work}.tar`;
  tarFolder(plain, work, sources.time);
  writeFileSync(path, await gzip(readFileSync(plain)));
  return path;
}

function manifest(
  { root }: Sources,
  cpu: readonly Architecture[],
  addons: Readonly<Record<string, string>>,
): string {
  const { description, engines, license, name, type, version } = JSON.parse(
    readFileSync(join(root, "package.json"), "utf8"),
  ) as { engines: { node: string } } & Readonly<Record<string, string>>;
  return json({
    ...{ name, version, description, license, type },
    bin: { [name ?? "tokenwatt"]: "bin/tokenwatt.cjs" },
    engines: { node: engines.node },
    os: ["linux"],
    cpu,
    dependencies: addons,
    bundleDependencies: Object.keys(addons),
  });
}

function json(value: object): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}
