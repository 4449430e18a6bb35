// The libraries that node needs, from Debian packages of pinned versions: glibc, libstdc++, libgcc. Fetched by apt with
// folders of its own, so that nothing on this machine changes and another architecture's packages can be had; held against
// the pinned SHA-256. A version that left the archive after a point release: `node deploy/pack/pin-base.ts` pins again.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { join, relative } from "node:path";
import type { File } from "./files.ts";
import { file, inWorkFolder } from "./files.ts";
import type { Architecture } from "./options.ts";
import { run } from "./tools.ts";

/** A Debian package as pinned in debian-base.json. */
export interface Pinned {
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
  readonly sha256: string;
}

/** gcc-12-base holds only the copyright of the other two. */
export const BASE_PACKAGES = ["libc6", "libgcc-s1", "libstdc++6", "gcc-12-base"] as const;

const TRIPLETS: Readonly<Record<Architecture, string>> = {
  x64: "x86_64-linux-gnu",
  arm64: "aarch64-linux-gnu",
};
const DEBIAN: Readonly<Record<Architecture, string>> = { x64: "amd64", arm64: "arm64" };

const WANTED = /(^|\/)lib(64)?\/([^/]+-linux-gnu\/)?[^/]+\.so(\.\d+)*$|\/copyright$/;

/** The root file system below the program, and the packages it is from. */
export async function debianBase(root: string, architecture: Architecture): Promise<File[]> {
  const all = JSON.parse(readFileSync(join(root, "deploy/pack/debian-base.json"), "utf8")) as Pinned[];
  const files: File[] = [];
  for (const one of all.filter((pinned) => pinned.architecture === DEBIAN[architecture])) {
    files.push(...(await packageFiles(root, one)));
  }
  return [...files, ...ownFiles(TRIPLETS[architecture])];
}

async function packageFiles(root: string, one: Pinned): Promise<File[]> {
  const deb = fetched(root, one);
  const libraries = await inWorkFolder(root, (work) => {
    run("dpkg-deb", ["--extract", deb, work]);
    return filesIn(work).filter(({ path }) => WANTED.test(path));
  });
  const facts = run("dpkg-deb", ["--info", deb, "control"]).toString().trim();
  // Where scanners of images without dpkg look for what is installed.
  return [
    ...libraries.map(merged),
    file(`var/lib/dpkg/status.d/${one.name}`, `${facts}\nStatus: install ok installed\n`),
  ];
}

/** The files and links below a folder. */
function filesIn(folder: string): File[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true }).flatMap((entry) => {
    const full = join(entry.parentPath, entry.name);
    const path = relative(folder, full);
    if (entry.isSymbolicLink()) return [{ path, link: readlinkSync(full) }];
    return entry.isFile() ? [file(path, readFileSync(full), statSync(full).mode & 0o777)] : [];
  });
}

/** /lib and /lib64 are links into /usr, as on any present system. */
function merged(entry: File): File {
  const path = entry.path.replace(/^lib(64)?\//, "usr/lib$1/");
  if (!("link" in entry)) return { ...entry, path };
  return { path, link: entry.link.replace(/^\/lib(64)?\//, "/usr/lib$1/") };
}

function ownFiles(triplet: string): File[] {
  return [
    { path: "lib", link: "usr/lib" },
    ...(triplet.startsWith("x86_64") ? [{ path: "lib64", link: "usr/lib64" }] : []),
    file(
      "etc/passwd",
      "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n",
    ),
    file("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    file("etc/nsswitch.conf", "hosts: files dns\n"),
    file("etc/ld.so.conf", `/usr/local/lib\n/usr/lib/${triplet}\n`),
    file(
      "etc/os-release",
      'PRETTY_NAME="tokenwatt on Debian GNU/Linux 12"\nID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n',
    ),
    { path: "tmp", mode: 0o1777, owner: 0 },
    { path: "etc/tokenwatt", mode: 0o755, owner: 0 },
    { path: "var/lib/tokenwatt", mode: 0o700, owner: 65_534 },
  ];
}

/** The path of the package, its bytes checked. */
function fetched(root: string, one: Pinned): string {
  const kept = join(
    root,
    "node_modules/.cache/tokenwatt/deb",
    `${one.name}_${one.architecture}_${one.sha256}.deb`,
  );
  if (!existsSync(kept)) {
    const folder = mkdtempSync(join(root, "node_modules/.cache/tokenwatt/apt-"));
    try {
      const path = downloadPackage(root, folder, one.architecture, `${one.name}=${one.version}`);
      mkdirSync(join(kept, ".."), { recursive: true });
      renameSync(path, kept);
    } finally {
      rmSync(folder, { recursive: true });
    }
  }
  const seen = createHash("sha256").update(readFileSync(kept)).digest("hex");
  if (seen === one.sha256) return kept;
  rmSync(kept);
  throw new Error(
    `Cannot use ${one.name} ${one.version} ${one.architecture}: its SHA-256 is ${seen}, pinned is ${one.sha256}`,
  );
}

/** Fetches a package of any architecture into `folder` and returns its path. Needs apt and Debian 12 sources. */
export function downloadPackage(root: string, folder: string, architecture: string, spec: string): string {
  const state = join(root, "node_modules/.cache/tokenwatt/apt", architecture);
  mkdirSync(join(state, "lists/partial"), { recursive: true });
  mkdirSync(join(state, "archives/partial"), { recursive: true });
  const options = [
    `APT::Architecture=${architecture}`,
    `APT::Architectures=${architecture}`,
    `Dir::State=${state}`,
    "Dir::State::status=/dev/null",
    `Dir::Cache=${state}`,
    "APT::Sandbox::User=root",
  ].flatMap((option) => ["-o", option]);
  const apt = (...words: string[]): { status: number | null; said: string } => {
    const run = spawnSync("apt-get", [...options, ...words], { cwd: folder, encoding: "utf8" });
    return { status: run.status, said: run.error?.message ?? run.stderr.trim() };
  };
  let run = apt("download", "-q", spec);
  if (run.status !== 0) {
    apt("update", "-q");
    run = apt("download", "-q", spec);
  }
  if (run.status !== 0) {
    throw new Error(
      `Cannot fetch Debian's ${spec} for ${architecture}: ${run.said}\nhint: it needs apt with Debian 12 sources; if the archive has moved on, run \`node deploy/pack/pin-base.ts\` and commit debian-base.json`,
    );
  }
  return join(folder, readdirSync(folder).find((name) => name.endsWith(".deb")) as string);
}
