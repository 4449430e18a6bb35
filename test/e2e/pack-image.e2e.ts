// The OCI image: its layout by the letter of image-spec 1.1, both architectures, and the amd64 or arm64 one of this machine
// unpacked and run as nobody with nothing else in sight: that is also the proof that the program needs no host.
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { NODE_FLAGS } from "../../deploy/pack/runtime.ts";
import { freePort, whyNoPacking } from "../tools/packed.ts";

const project = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "tokenwatt-image-"));
const layout = join(folder, "layout");
const rootfs = join(folder, "rootfs");
const goarch = process.arch === "arm64" ? "arm64" : "amd64";
const missing = (tool: string): boolean => spawnSync(tool, ["--version"]).error !== undefined;
const noApt = missing("apt-get");
const noRoot = process.getuid?.() !== 0;
const noPacking = whyNoPacking("oci");
if (noPacking !== undefined) console.warn(`SKIPPED: the image, because ${noPacking}`);
if (noApt) console.warn("SKIPPED: the image, because there is no apt to fetch Debian's libraries with");
if (noRoot) console.warn("SKIPPED: running the image, because chroot needs root");
for (const tool of ["skopeo", "umoci"]) {
  if (missing(tool))
    console.warn(`SKIPPED: the judgement of ${tool} on the image, because it is not installed`);
}
let archive = "";

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly platform?: { readonly os: string; readonly architecture: string };
}

/** A blob, its digest and size checked. */
function blob({ digest, size }: Descriptor): Buffer {
  const bytes = readFileSync(join(layout, "blobs", digest.replace(":", "/")));
  expect([`sha256:${createHash("sha256").update(bytes).digest("hex")}`, bytes.length]).toEqual([
    digest,
    size,
  ]);
  return bytes;
}

const parse = (bytes: Buffer) => JSON.parse(bytes.toString());

describe.skipIf(noApt || noPacking !== undefined)("the OCI image", () => {
  beforeAll(() => {
    const main = join(project, "deploy/pack/main.ts");
    execFileSync(process.execPath, [main, "--only", "oci", "--out", folder], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    archive = join(folder, readdirSync(folder).find((name) => name.endsWith("-oci.tar")) as string);
    mkdirSync(layout);
    mkdirSync(rootfs);
    execFileSync("tar", ["-xf", archive, "-C", layout]);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const manifests = (): Descriptor[] => {
    const [image] = parse(readFileSync(join(layout, "index.json"))).manifests;
    return parse(blob(image)).manifests;
  };

  test("is a layout whose every blob is reachable and what its digest says", () => {
    expect(parse(readFileSync(join(layout, "oci-layout")))).toEqual({ imageLayoutVersion: "1.0.0" });
    const [image] = parse(readFileSync(join(layout, "index.json"))).manifests as Descriptor[];
    const reached = new Set([image?.digest]);
    expect(manifests().map((one) => one.platform?.architecture)).toEqual(["amd64", "arm64"]);
    for (const one of manifests()) {
      const manifest = parse(blob(one));
      const config = parse(blob(manifest.config));
      expect(manifest.mediaType).toBe("application/vnd.oci.image.manifest.v1+json");
      expect(config).toMatchObject({
        os: "linux",
        architecture: one.platform?.architecture,
        rootfs: { type: "layers" },
      });
      const diffs = (manifest.layers as Descriptor[]).map((layer) =>
        createHash("sha256")
          .update(gunzipSync(blob(layer)))
          .digest("hex"),
      );
      expect(config.rootfs.diff_ids).toEqual(diffs.map((hex) => `sha256:${hex}`));
      expect(config.config).toMatchObject({
        User: "65534:65534",
        Entrypoint: ["/usr/lib/tokenwatt/bin/node", ...NODE_FLAGS, "/usr/lib/tokenwatt/app/main.mjs"],
        Labels: {
          "org.opencontainers.image.title": "tokenwatt",
          "org.opencontainers.image.licenses": "Apache-2.0",
        },
      });
      for (const part of [one, manifest.config, ...manifest.layers]) reached.add(part.digest);
    }
    const stored = readdirSync(join(layout, "blobs/sha256")).map((hex) => `sha256:${hex}`);
    expect(new Set(stored)).toEqual(reached);
  });

  test.skipIf(missing("skopeo"))("is copied by skopeo, both architectures", () => {
    const copy = spawnSync(
      "skopeo",
      ["copy", "--all", `oci-archive:${archive}`, `dir:${join(folder, "copied")}`],
      { encoding: "utf8" },
    );
    expect(copy).toMatchObject({ status: 0 });
    for (const architecture of ["amd64", "arm64"]) {
      const seen = execFileSync(
        "skopeo",
        ["inspect", `--override-arch=${architecture}`, `oci-archive:${archive}`],
        { encoding: "utf8" },
      );
      expect(JSON.parse(seen)).toMatchObject({ Architecture: architecture, Os: "linux" });
    }
  });

  test.skipIf(missing("umoci") || missing("skopeo"))("is unpacked by umoci", () => {
    const one = join(folder, "one");
    execFileSync("skopeo", ["copy", `--override-arch=${goarch}`, `oci-archive:${archive}`, `oci:${one}:x`], {
      stdio: "pipe",
    });
    const unpack = spawnSync(
      "umoci",
      ["unpack", "--rootless", "--image", `${one}:x`, join(folder, "bundle")],
      { encoding: "utf8" },
    );
    expect(unpack).toMatchObject({ status: 0 });
  });

  test.skipIf(noRoot)("runs the demo as nobody, with no shell and no other program in it", async () => {
    const own = manifests().find((one) => one.platform?.architecture === goarch) as Descriptor;
    for (const layer of parse(blob(own)).layers as Descriptor[]) {
      execFileSync("tar", ["-xz", "-C", rootfs], { input: blob(layer) });
    }
    expect(readdirSync(join(rootfs, "usr/bin"))).toEqual(["tokenwatt"]);
    // What every container runtime mounts.
    for (const name of ["proc", "dev"]) mkdirSync(join(rootfs, name));
    const script = `mount -t proc proc '${rootfs}/proc' && mount --rbind /dev '${rootfs}/dev' && exec chroot --userspec=65534:65534 '${rootfs}' "$@"`;
    const { Entrypoint, Env } = parse(blob(parse(blob(own)).config)).config as Record<
      "Entrypoint" | "Env",
      string[]
    >;
    const imageEnvironment = Object.fromEntries(Env.map((pair) => pair.split("=", 2)));
    const listen = `127.0.0.1:${await freePort()}`;
    const inside = (...words: string[]) =>
      spawnSync("unshare", ["--mount", "sh", "-c", script, "sh", ...words], {
        encoding: "utf8",
        env: {
          ...imageEnvironment,
          PATH: process.env["PATH"],
          TOKENWATT_EXPORT_PROMETHEUS_LISTEN: listen,
        },
      });
    const demo = inside("/usr/bin/tokenwatt", "demo", "--scene", "solo", "--duration", "12s", "--json");
    expect([demo.status, demo.stderr]).toEqual([0, expect.anything()]);
    const verdict = spawnSync(process.execPath, [join(project, "test/tools/check-demo.ts")], {
      input: demo.stdout,
      encoding: "utf8",
    });
    expect(verdict).toMatchObject({ status: 0 });
    // Nobody can keep state in its own folder.
    expect(inside(...Entrypoint, "run", "--duration", "2s").status).toBe(0);
    expect(readdirSync(join(rootfs, "var/lib/tokenwatt")).length).toBeGreaterThan(0);
  });
});
