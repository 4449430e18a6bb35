// Every artefact of `npm run pack`, made twice: tarball, Debian package and rpm for x64 and arm64, the image of both. The same
// bytes; the tarball unpacks with the system's tar; and what is for arm64 runs, under QEMU's user emulation where this
// machine is x64. Emulation is slow: what is held here is every figure that does not depend on the wall clock.
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Kind } from "../../deploy/pack/options.ts";
import { freePort, pack, whyNoPacking } from "../tools/packed.ts";
import { buildArm64FakeNvml, emulate, whyNoEmulation } from "./arm64/emulation.ts";

const project = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "tokenwatt-artefacts-"));
const noPacking = whyNoPacking("tarball");
if (noPacking !== undefined) console.warn(`SKIPPED: every artefact, because ${noPacking}`);
const noApt = spawnSync("apt-get", ["--version"]).error !== undefined;
if (noApt) console.warn("SKIPPED: the image, because there is no apt to fetch Debian's libraries with");
const noEmulation = noPacking ?? (noApt ? "the libraries of arm64 come from the image" : whyNoEmulation());
if (noEmulation !== undefined) console.warn(`SKIPPED: running the arm64 artefacts, because ${noEmulation}`);
const noPackages = whyNoPacking("deb", "rpm");
if (noPackages !== undefined) console.warn(`SKIPPED: the Debian package and the rpm, because ${noPackages}`);
const kinds: readonly Kind[] = [
  "tarball",
  ...(noPackages === undefined ? (["deb", "rpm"] as const) : []),
  ...(noApt ? [] : (["oci"] as const)),
  "npm",
];
/** One of each kind for each architecture, but one image and one npm package for both. */
const COUNT = 2 * kinds.length - (noApt ? 1 : 2);

/** Packs a copy of what is committed (the checkout may change while this runs) and returns the folder of artefacts. */
function artefacts(place: string, environment: Readonly<Record<string, string>>): string {
  const copy = join(folder, place);
  mkdirSync(copy, { recursive: true });
  execFileSync("sh", ["-c", `git archive HEAD | tar -x -C '${copy}'`], { cwd: project });
  symlinkSync(join(project, "node_modules"), join(copy, "node_modules"));
  const out = join(copy, "dist");
  pack(out, {
    kinds,
    architectures: "x64,arm64",
    preset: 0,
    root: copy,
    environment: { SOURCE_DATE_EPOCH: "1790000000", ...environment },
  });
  return out;
}

let first = "";
beforeAll(() => {
  if (noPacking !== undefined) return;
  first = artefacts("one", { TZ: "UTC", LANG: "C" });
});
afterAll(() => rmSync(folder, { recursive: true }));

const named = (ending: string): string =>
  join(first, readdirSync(first).find((name) => name.endsWith(ending)) as string);

describe.skipIf(noPacking !== undefined)("npm run pack", () => {
  test("gives the same bytes again, whatever the place, the zone, the umask and the language", () => {
    const digests = (out: string): object =>
      Object.fromEntries(
        readdirSync(out).map((name) => [
          name,
          createHash("sha256")
            .update(readFileSync(join(out, name)))
            .digest("hex"),
        ]),
      );
    const wanted = digests(first);
    expect(Object.keys(wanted).length).toBe(COUNT + 1);
    const umask = process.umask(0o077);
    try {
      expect(digests(artefacts("another/deeper", { TZ: "Asia/Tokyo", LANG: "de_DE.UTF-8" }))).toEqual(wanted);
    } finally {
      process.umask(umask);
    }
  });

  test("lists digests that sha256sum accepts", () => {
    const { status, stdout } = spawnSync("sha256sum", ["-c", "SHA256SUMS"], { cwd: first, encoding: "utf8" });
    expect([status, stdout.match(/: OK$/gm)?.length]).toEqual([0, COUNT]);
  });

  test.each(["x64", "arm64"])("gives a node without symbols for %s", (architecture) => {
    const node = join(folder, `node-${architecture}`);
    const words = ["-xJOf", named(`-${architecture}.tar.xz`), "--wildcards", "*/bin/node"];
    writeFileSync(node, execFileSync("tar", words, { maxBuffer: 1 << 28 }));
    const sections = execFileSync("llvm-readelf", ["--sections", node], { encoding: "utf8" });
    expect(sections).toContain(" .text ");
    expect(sections).not.toMatch(/ \.(symtab|debug_\w+) /);
  });

  test("gives a tarball that unpacks with the system's tar", () => {
    const out = join(folder, "unpacked");
    mkdirSync(out);
    const archive = named(`-linux-${process.arch}.tar.xz`);
    execFileSync("tar", ["-xJf", archive, "-C", out]);
    const [name = ""] = readdirSync(out);
    const launcher = join(out, name, "bin/tokenwatt");
    const bare = { PATH: "/usr/bin:/bin", NO_COLOR: "1" };
    expect(spawnSync(launcher, ["--version"], { encoding: "utf8", env: bare }).stdout).toMatch(
      /^\d+\.\d+\.\d+\n$/,
    );
    expect(statSync(join(out, name, "app/main.mjs")).mtimeMs).toBe(1_790_000_000_000);
    const owners = execFileSync("tar", ["-tvJf", archive], { encoding: "utf8" });
    expect(owners.split("\n").filter((line) => line !== "" && !line.includes(" root/root "))).toEqual([]);
  });
});

describe.skipIf(noEmulation !== undefined)("on arm64", () => {
  const tree = join(folder, "arm64");
  const rootfs = join(folder, "rootfs");
  let home = "";
  let replayed = "";

  beforeAll(() => {
    for (const one of [tree, rootfs]) mkdirSync(one);
    execFileSync("tar", ["-xJf", named("-linux-arm64.tar.xz"), "-C", tree]);
    home = join(tree, readdirSync(tree)[0] as string);
    unpackImage(named("-oci.tar"), rootfs);
    const recording = join(project, "deploy/demo/h100-solo-8b");
    const run = spawnSync(process.execPath, [join(project, "agent/main.ts"), "replay", recording, "--json"], {
      encoding: "utf8",
    });
    replayed = run.stdout;
  });

  /** The tarball's program; the image lends it the glibc of arm64, as a host of that kind has it. */
  const tokenwatt = (words: readonly string[], environment: Readonly<Record<string, string>> = {}) =>
    emulate({ QEMU_LD_PREFIX: rootfs, ...environment }, "-", join(home, "bin/tokenwatt"), ...words);

  test("the tarball's node is for arm64 and says the version", () => {
    expect(readFileSync(join(home, "bin/node")).readUInt16LE(18)).toBe(183);
    expect(tokenwatt(["--version"])).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
    });
  });

  test("the tarball replays the demo to the same bytes as x64", () => {
    const run = tokenwatt(["replay", join(home, "deploy/demo/h100-solo-8b"), "--json"]);
    expect([run.status, run.stderr]).toEqual([0, ""]);
    expect(run.stdout.length).toBeGreaterThan(10_000);
    expect(run.stdout === replayed).toBe(true);
  });

  test("the tarball's doctor names what is missing", () => {
    const run = tokenwatt(["doctor", "--json", "--set", `stateDir=${join(folder, "doctor")}`]);
    const verdicts = Object.fromEntries(
      (JSON.parse(run.stdout).findings as { id: string; verdict: string }[]).map((one) => [
        one.id,
        one.verdict,
      ]),
    );
    expect(verdicts).toMatchObject({
      "node.version": "ok",
      "config.valid": "ok",
      "state.writable": "ok",
      "clock.sane": "ok",
    });
  });

  test("the tarball's demo meters every second and delivers every token", async () => {
    const listen = `127.0.0.1:${await freePort()}`;
    const environment = { TOKENWATT_EXPORT_PROMETHEUS_LISTEN: listen };
    const run = tokenwatt(["demo", "--scene", "solo", "--duration", "15s", "--json"], environment);
    expect(run.status, run.stderr).toBe(0);
    const { stdout } = spawnSync(process.execPath, [join(project, "test/tools/check-demo.ts")], {
      input: run.stdout,
      encoding: "utf8",
    });
    // Emulated children start seconds late, and those are rightly unobserved: active time and joules are not held.
    for (const what of [
      "seconds metered",
      "input tokens",
      "output tokens",
      "tokens the collector received",
    ]) {
      expect(stdout).toContain(`ok   ${what}: `);
    }
  });

  const library = noEmulation === undefined ? buildArm64FakeNvml() : undefined;
  test.skipIf(library === undefined)(
    "the tarball reads GPUs through koffi and keeps a sound ledger",
    async () => {
      const environment = {
        TOKENWATT_GPU_BACKEND: "nvml",
        TOKENWATT_GPU_NVML_LIBRARY_PATH: library as string,
        TOKENWATT_STATE_DIR: join(folder, "state"),
        TOKENWATT_EXPORT_PROMETHEUS_LISTEN: `127.0.0.1:${await freePort()}`,
      };
      const run = tokenwatt(["run", "--duration", "20s"], environment);
      expect(run.status, run.stderr).toBe(0);
      expect(run.stderr).toContain('"event":"GPU reader started"');
      const { energy_joules, state_seconds } = JSON.parse(run.stdout) as Record<
        string,
        Record<string, number>
      >;
      expect(state_seconds?.["other"]).toBeGreaterThan(1);
      // The library's energy counter runs at its 300 W: what was seen of it must say the same.
      const watts = (energy_joules?.["other"] ?? 0) / (state_seconds?.["other"] ?? 0);
      expect(watts).toBeGreaterThan(290);
      expect(watts).toBeLessThan(310);
      expect(tokenwatt(["verify"], environment)).toMatchObject({ status: 0 });
    },
  );

  test("the image runs from its own files alone and replays to the same bytes", () => {
    const inside = (...words: string[]) => emulate({}, rootfs, "/usr/bin/tokenwatt", ...words);
    expect(inside("--version")).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
    });
    const run = inside("replay", "/usr/lib/tokenwatt/deploy/demo/h100-solo-8b", "--json");
    expect([run.status, run.stdout === replayed]).toEqual([0, true]);
  });
});

/** Unpacks the arm64 image of an archive, layer by layer. */
function unpackImage(archive: string, root: string): void {
  const layout = join(folder, "layout");
  mkdirSync(layout);
  execFileSync("tar", ["-xf", archive, "-C", layout]);
  type Descriptor = { readonly digest: string; readonly platform?: { readonly architecture: string } };
  const blob = ({ digest }: Descriptor): Buffer =>
    readFileSync(join(layout, "blobs", digest.replace(":", "/")));
  const parse = (bytes: Buffer): { manifests: Descriptor[]; layers: Descriptor[] } => JSON.parse(`${bytes}`);
  const [index] = parse(readFileSync(join(layout, "index.json"))).manifests;
  const image = parse(blob(index as Descriptor)).manifests.find(
    (one) => one.platform?.architecture === "arm64",
  );
  for (const layer of parse(blob(image as Descriptor)).layers) {
    execFileSync("tar", ["-x", "-C", root], { input: gunzipSync(blob(layer)) });
  }
}
