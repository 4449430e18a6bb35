// `npm run pack`: dist/ with a tarball, a Debian package and an OCI image layout of the program, for x64 and arm64. Equal
// sources give equal bytes: every time in an artefact is SOURCE_DATE_EPOCH, or else that of the last commit.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { bundleAgent } from "./bundle.ts";
import { gzip, haveXz, xz } from "./compress.ts";
import { debianPackage } from "./deb.ts";
import { below } from "./files.ts";
import { imageArchive } from "./oci.ts";
import { tar } from "./tar.ts";
import type { Architecture, Sources } from "./tree.ts";
import { askProgram, programTree, writeTree } from "./tree.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const FORMS = ["folder", "tar", "deb", "oci"] as const;
const { values } = parseArgs({
  options: {
    out: { type: "string", default: join(root, "dist") },
    architecture: { type: "string", default: "x64,arm64" },
    form: { type: "string", default: "tar,deb,oci" },
    // xz: 9 saves a percent or two and takes several times as long.
    preset: { type: "string", default: "6" },
  },
});
const architectures = choose("architecture", values.architecture, ["x64", "arm64"] as const);
const forms = choose("form", values.form, FORMS);
const out = values.out;
const preset = Number(values.preset);
mkdirSync(out, { recursive: true });

const written: string[] = [];
const sources = await gather();
const trees = new Map(
  architectures.map((architecture) => [architecture, programTree(sources, architecture)]),
);
for (const architecture of architectures) await pack(architecture);
if (forms.includes("oci")) write(`tokenwatt-${sources.version}-oci.tar`, imageArchive(sources, trees));
for (const path of written) {
  const bytes = readFileSync(path);
  console.log(`${digestOf(bytes)}  ${basename(path)}  ${(bytes.length / 1e6).toFixed(1)} MB`);
}
if (written.length > 0) {
  const sums = written.map((path) => `${digestOf(readFileSync(path))}  ${basename(path)}\n`);
  writeFileSync(join(out, "SHA256SUMS"), sums.sort().join(""));
}

async function gather(): Promise<Sources> {
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
  const bundle = await bundleAgent(root);
  return { root, version, time: sourceTime(), bundle, texts: askProgram(root, bundle) };
}

async function pack(architecture: Architecture): Promise<void> {
  const tree = trees.get(architecture) ?? [];
  const name = `tokenwatt-${sources.version}-linux-${architecture}`;
  if (forms.includes("folder")) {
    rmSync(join(out, name), { recursive: true, force: true });
    writeTree(join(out, name), tree);
  }
  if (forms.includes("tar")) {
    const archive = tar(below(name, tree), { time: sources.time });
    if (haveXz()) write(`${name}.tar.xz`, await xz(archive, preset));
    else {
      console.warn("xz is not installed: the tarball is gzip, and larger than it should be");
      write(`${name}.tar.gz`, gzip(archive));
    }
  }
  if (forms.includes("deb")) write(...(await debianPackage(sources, tree, architecture, preset)));
}

function write(name: string, bytes: Uint8Array): void {
  const path = join(out, name);
  writeFileSync(path, bytes);
  written.push(path);
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

function choose<T extends string>(option: string, text: string, known: readonly T[]): T[] {
  return text.split(",").map((word) => {
    const found = known.find((one) => one === word);
    if (found === undefined) {
      throw new Error(`Cannot read --${option} as one of ${known.join(", ")}: got ${JSON.stringify(word)}`);
    }
    return found;
  });
}
