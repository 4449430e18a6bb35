// A Debian package written without dpkg, so that it is the same everywhere: Debian Policy 4.6, deb(5). The program lies in
// /usr/lib/tokenwatt; configuration and environment are conffiles, which an upgrade asks about before it touches them.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ar } from "./ar.ts";
import { gzip, xz } from "./compress.ts";
import type { File } from "./files.ts";
import { below, file } from "./files.ts";
import { tar } from "./tar.ts";
import type { Architecture, Sources } from "./tree.ts";

const DEBIAN: Readonly<Record<Architecture, string>> = { x64: "amd64", arm64: "arm64" };
const MAINTAINER = "tokenwatt maintainers <maintainers@tokenwatt.example>";
const CONFFILES = ["etc/default/tokenwatt", "etc/tokenwatt/config.yaml"];

/** Its file name and bytes. */
export async function debianPackage(
  sources: Sources,
  tree: readonly File[],
  architecture: Architecture,
  preset: number,
): Promise<readonly [name: string, bytes: Buffer]> {
  const { time, version } = sources;
  const files = debianFiles(sources, tree);
  const control = [
    file("control", controlText(version, DEBIAN[architecture], files)),
    file("conffiles", CONFFILES.map((path) => `/${path}\n`).join("")),
    file(
      "md5sums",
      files
        .flatMap((entry) =>
          "bytes" in entry && !CONFFILES.includes(entry.path) ? [`${md5(entry.bytes)}  ${entry.path}\n`] : [],
        )
        .join(""),
    ),
    ...["postinst", "prerm", "postrm"].map((name) =>
      file(name, readFileSync(join(sources.root, "deploy/pack/deb", name)), 0o755),
    ),
  ];
  const bytes = ar(
    [
      ["debian-binary", Buffer.from("2.0\n")],
      ["control.tar.xz", await xz(tar(control, { time, prefix: "./" }), preset)],
      ["data.tar.xz", await xz(tar(files, { time, prefix: "./" }), preset)],
    ],
    time,
  );
  return [`tokenwatt_${version}_${DEBIAN[architecture]}.deb`, bytes];
}

const IN_LIBRARY = /^(bin|app|node_modules|proto|deploy)\/|^package\.json$/;
const DOCUMENTS = /^(README|METRICS)\.md$|^sbom\.cdx\.json$|^licenses\//;

/** Where everything lies on a Debian system. */
export function debianFiles(sources: Sources, tree: readonly File[]): File[] {
  const { root, texts, time, version } = sources;
  const documents = "usr/share/doc/tokenwatt";
  const find = (path: string): Uint8Array => {
    const found = tree.find((entry) => entry.path === path);
    if (found === undefined || !("bytes" in found))
      throw new Error(`Cannot pack: the program holds no ${path}`);
    return found.bytes;
  };
  return [
    ...below(
      "usr/lib/tokenwatt",
      tree.filter(({ path }) => IN_LIBRARY.test(path)),
    ),
    { path: "usr/bin/tokenwatt", link: "../lib/tokenwatt/bin/tokenwatt" },
    file("usr/lib/systemd/system/tokenwatt.service", find("systemd/tokenwatt.service")),
    file("usr/lib/sysusers.d/tokenwatt.conf", find("systemd/tokenwatt.sysusers")),
    file("etc/default/tokenwatt", find("systemd/tokenwatt.env")),
    file(
      "etc/tokenwatt/config.yaml",
      texts.config.replace("./config.schema.json", "/usr/share/tokenwatt/config.schema.json"),
    ),
    file("usr/share/tokenwatt/config.schema.json", texts.schema),
    file("usr/share/man/man1/tokenwatt.1.gz", gzip(Buffer.from(texts.manual1))),
    file("usr/share/man/man5/tokenwatt.yaml.5.gz", gzip(Buffer.from(texts.manual5))),
    file("usr/share/bash-completion/completions/tokenwatt", texts.bash),
    file("usr/share/zsh/vendor-completions/_tokenwatt", texts.zsh),
    file("usr/share/fish/vendor_completions.d/tokenwatt.fish", texts.fish),
    ...below(
      documents,
      tree.filter(({ path }) => DOCUMENTS.test(path)),
    ),
    ...below(
      `${documents}/examples`,
      tree.filter(({ path }) => path.startsWith("systemd/drop-ins/")),
    ),
    file(`${documents}/examples/config.yaml`, find("share/example.yaml")),
    file(`${documents}/README.systemd.md`, find("systemd/README.md")),
    file(`${documents}/copyright`, copyright(tree)),
    file(`${documents}/changelog.gz`, gzip(Buffer.from(changelog(version, time)))),
    file(
      "usr/share/lintian/overrides/tokenwatt",
      readFileSync(join(root, "deploy/pack/deb/lintian-overrides")),
    ),
  ];
}

function controlText(version: string, architecture: string, files: readonly File[]): string {
  const kibibytes = files.reduce(
    (sum, entry) => sum + ("bytes" in entry ? Math.ceil(entry.bytes.length / 1024) : 1),
    0,
  );
  return `Package: tokenwatt
Version: ${version}
Architecture: ${architecture}
Maintainer: ${MAINTAINER}
Installed-Size: ${kibibytes}
Pre-Depends: init-system-helpers (>= 1.54~)
Depends: libc6 (>= 2.28), libgcc-s1 (>= 3.4), libstdc++6 (>= 8)
Section: admin
Priority: optional
Description: per-host GPU metering: tokens per GPU-hour and per joule
 tokenwatt reads the GPUs of a host (activity, power, energy, memory,
 processes) and the token counters of its inference servers, joins the two in
 time, and ships additive totals as OpenTelemetry and Prometheus metrics.
 .
 The daemon runs as a user of its own without any capability. It brings its
 own Node.js runtime; NVIDIA's driver is used where it is found.
`;
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

function md5(bytes: Uint8Array): string {
  return createHash("md5").update(bytes).digest("hex");
}
