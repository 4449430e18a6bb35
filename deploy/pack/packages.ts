// The Debian package and the rpm, by nfpm from one description (nfpm.yaml): Debian Policy 4.6. The program lies in
// /usr/lib/tokenwatt. dpkg-deb writes the Debian package again, because its xz is smaller and uses every core.
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { File } from "./files.ts";
import { file, writeTree } from "./files.ts";
import { gzip } from "./gzip.ts";
import type { Architecture } from "./options.ts";
import { NFPM, run } from "./tools.ts";
import type { Sources } from "./tree.ts";

const DEBIAN: Readonly<Record<Architecture, string>> = { x64: "amd64", arm64: "arm64" };
const RPM: Readonly<Record<Architecture, string>> = { x64: "x86_64", arm64: "aarch64" };
const MAINTAINER = "tokenwatt maintainers <maintainers@tokenwatt.example>";

/** What a package is made from: the folder that nfpm.yaml's sources are relative to. */
export interface Staged {
  readonly sources: Sources;
  readonly architecture: Architecture;
  readonly folder: string;
}

/** Fills a folder with the program and what only packages have. */
export async function stagePackage(staged: Staged, tree: readonly File[]): Promise<void> {
  const { root, texts, time, version } = staged.sources;
  const scripts = ["deb", "rpm"].flatMap((kind) =>
    readdirSync(join(root, "deploy/pack", kind)).map((name) =>
      file(`scripts/${kind}/${name}`, readFileSync(join(root, "deploy/pack", kind, name))),
    ),
  );
  writeTree(staged.folder, [
    ...tree,
    ...scripts,
    file(
      "package/config.yaml",
      texts.config.replace("./config.schema.json", "/usr/share/tokenwatt/config.schema.json"),
    ),
    file("package/tokenwatt.1.gz", await gzip(texts.manual1)),
    file("package/tokenwatt.yaml.5.gz", await gzip(texts.manual5)),
    file("package/copyright", copyright(tree)),
    file("package/changelog.gz", await gzip(changelog(version, time))),
  ]);
}

/** Writes the Debian package and returns its path; `preset` is that of xz. */
export function debianPackage(staged: Staged, out: string, preset: number): string {
  const name = `tokenwatt_${staged.sources.version}_${DEBIAN[staged.architecture]}.deb`;
  const [plain, unpacked] = [join(staged.folder, name), join(staged.folder, "unpacked")];
  nfpm(staged, "deb", plain);
  mkdirSync(unpacked);
  run("dpkg-deb", ["--raw-extract", plain, unpacked]);
  const flags = ["--root-owner-group", "-Zxz", `-z${preset}`];
  const environment = { SOURCE_DATE_EPOCH: String(staged.sources.time) };
  run("dpkg-deb", [...flags, "--build", unpacked, join(out, name)], { environment });
  return join(out, name);
}

/** Writes the rpm and returns its path. */
export function rpmPackage(staged: Staged, out: string): string {
  const path = join(out, `tokenwatt-${staged.sources.version}-1.${RPM[staged.architecture]}.rpm`);
  nfpm(staged, "rpm", path);
  return path;
}

function nfpm({ architecture, folder, sources }: Staged, packager: string, target: string): void {
  const config = join(sources.root, "deploy/pack/nfpm.yaml");
  run("sh", [NFPM, "package", "--config", config, "--packager", packager, "--target", target], {
    cwd: folder,
    environment: {
      SOURCE_DATE_EPOCH: String(sources.time),
      PACK_ARCHITECTURE: DEBIAN[architecture],
      PACK_VERSION: sources.version,
      PACK_MAINTAINER: MAINTAINER,
    },
  });
}

/** Machine-readable copyright 1.0: our own licence, and a pointer to the texts of everything inside. */
function copyright(tree: readonly File[]): string {
  const index = tree.find((entry) => entry.path === "licenses/INDEX.txt");
  const lines =
    index !== undefined && "bytes" in index ? Buffer.from(index.bytes).toString().trim().split("\n") : [];
  return `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: tokenwatt
Comment: The program is bundled with the packages below and with Node.js. Their own
 licence texts are in /usr/share/doc/tokenwatt/licenses.
${lines.map((line) => ` ${line}`).join("\n")}

Files: *
Copyright: 2026 the tokenwatt authors
License: Apache-2.0
 On Debian systems the text of the Apache License 2.0 is in
 /usr/share/common-licenses/Apache-2.0.
`;
}

function changelog(version: string, time: number): string {
  const date = new Date(time * 1000).toUTCString().replace("GMT", "+0000");
  return `tokenwatt (${version}) unstable; urgency=medium

  * Packaged from the sources of this version.

 -- ${MAINTAINER}  ${date}
`;
}
