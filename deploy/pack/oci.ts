// An OCI image (image-spec 1.1) for both architectures as one archive, written without a container engine. Three layers:
// Debian's libraries, node, the program; the last two pulls of an upgrade are small. There is no shell and no package
// manager inside; `tokenwatt` in it is a script for the node beside it, so that `kubectl exec` works.
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync } from "node:fs";
import { join } from "node:path";
import { debianBase } from "./debian-base.ts";
import type { File } from "./files.ts";
import { below, file, writeTree } from "./files.ts";
import { gzip } from "./gzip.ts";
import type { Architecture } from "./options.ts";
import { MALLOC, NODE_FLAGS } from "./runtime.ts";
import { tarFolder, tarTree } from "./tar.ts";
import type { Sources } from "./tree.ts";

const GOARCH: Readonly<Record<Architecture, string>> = { x64: "amd64", arm64: "arm64" };
const HOME = "usr/lib/tokenwatt";
/** For people: `kubectl exec POD -- tokenwatt doctor`. The kernel passes one argument of this line. */
const LAUNCHER = `#!/${HOME}/bin/node ${NODE_FLAGS[0]}\nimport "/${HOME}/app/main.mjs";\n`;
const IN_IMAGE =
  /^(app|node_modules|proto|deploy|licenses|share)\/|^(package\.json|LICENSE|METRICS\.md|sbom\.cdx\.json)$/;

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

/**
 * Writes the archive of an image layout to `path`, and returns that. `trees` holds the program for each architecture, `work`
 * is a folder for it to use.
 */
export async function writeImageArchive(
  path: string,
  work: string,
  sources: Sources,
  trees: ReadonlyMap<Architecture, readonly File[]>,
): Promise<string> {
  const blobs: File[] = [];
  const add = (mediaType: string, content: string | Uint8Array): Descriptor => {
    const bytes = Buffer.from(content);
    const hex = createHash("sha256").update(bytes).digest("hex");
    blobs.push(file(`blobs/sha256/${hex}`, bytes));
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
  };
  const images = [...trees].map(async ([architecture, tree]) => ({
    ...manifest(sources, architecture, await packLayers(work, sources, architecture, tree), add),
    platform: platform(architecture),
  }));
  const index = "application/vnd.oci.image.index.v1+json";
  const manifests = await Promise.all(images);
  const image = add(
    index,
    json({ schemaVersion: 2, mediaType: index, manifests, annotations: labels(sources) }),
  );
  const reference = { "org.opencontainers.image.ref.name": sources.version };
  const layout = join(work, "layout");
  mkdirSync(layout);
  writeTree(layout, [
    file("oci-layout", json({ imageLayoutVersion: "1.0.0" })),
    file(
      "index.json",
      json({ schemaVersion: 2, mediaType: index, manifests: [{ ...image, annotations: reference }] }),
    ),
    ...blobs,
  ]);
  return tarFolder(path, layout, sources.time);
}

interface Layer {
  /** Of the archive before compression. */
  readonly diffId: string;
  readonly packed: Buffer;
}

/** The layers, compressed at the same time in Node's threads. */
async function packLayers(
  work: string,
  sources: Sources,
  architecture: Architecture,
  tree: readonly File[],
): Promise<Layer[]> {
  const layers = await imageLayers(sources, architecture, tree);
  return Promise.all(
    layers.map(async (files) => {
      const archive = tarTree(mkdtempSync(join(work, "layer-")), files, sources.time);
      const diffId = `sha256:${createHash("sha256").update(archive).digest("hex")}`;
      return { diffId, packed: await gzip(archive, 6) };
    }),
  );
}

function manifest(
  sources: Sources,
  architecture: Architecture,
  layers: readonly Layer[],
  add: (mediaType: string, content: string | Uint8Array) => Descriptor,
): Descriptor {
  const created = new Date(sources.time * 1000).toISOString();
  const config = {
    created,
    ...platform(architecture),
    config: {
      User: "65534:65534",
      WorkingDir: "/",
      Entrypoint: [`/${HOME}/bin/node`, ...NODE_FLAGS, `/${HOME}/app/main.mjs`],
      Cmd: ["run"],
      Env: [
        "PATH=/usr/bin",
        ...Object.entries(MALLOC).map(([name, value]) => `${name}=${value}`),
        // As systemd says it; a configured stateDir wins.
        "STATE_DIRECTORY=/var/lib/tokenwatt",
        "NVIDIA_VISIBLE_DEVICES=all",
        "NVIDIA_DRIVER_CAPABILITIES=utility",
      ],
      ExposedPorts: { "9464/tcp": {} },
      Volumes: { "/var/lib/tokenwatt": {} },
      StopSignal: "SIGTERM",
      Labels: labels(sources),
    },
    rootfs: { type: "layers", diff_ids: layers.map((layer) => layer.diffId) },
    history: ["Debian libraries", "node", "tokenwatt"].map((comment) => ({
      created,
      created_by: "deploy/pack",
      comment,
    })),
  };
  const mediaType = "application/vnd.oci.image.manifest.v1+json";
  return add(
    mediaType,
    json({
      schemaVersion: 2,
      mediaType,
      config: add("application/vnd.oci.image.config.v1+json", json(config)),
      layers: layers.map(({ packed }) => add("application/vnd.oci.image.layer.v1.tar+gzip", packed)),
      annotations: labels(sources),
    }),
  );
}

function platform(architecture: Architecture): object {
  const variant = architecture === "arm64" ? { variant: "v8" } : {};
  return { os: "linux", architecture: GOARCH[architecture], ...variant };
}

/** What each layer holds. */
async function imageLayers(
  sources: Sources,
  architecture: Architecture,
  tree: readonly File[],
): Promise<File[][]> {
  const isNode = ({ path }: File): boolean => path === "bin/node";
  return [
    await debianBase(sources.root, architecture),
    below(HOME, tree.filter(isNode)),
    [
      ...below(
        HOME,
        tree.filter(({ path }) => IN_IMAGE.test(path)),
      ),
      file("usr/bin/tokenwatt", LAUNCHER, 0o755),
    ],
  ];
}

function labels({ time, version }: Sources): Readonly<Record<string, string>> {
  return {
    "org.opencontainers.image.title": "tokenwatt",
    "org.opencontainers.image.description":
      "Per-host GPU metering: tokens per GPU-hour, token-active utilisation, tokens per joule",
    "org.opencontainers.image.licenses": "Apache-2.0",
    "org.opencontainers.image.version": version,
    "org.opencontainers.image.created": new Date(time * 1000).toISOString(),
  };
}

function json(value: unknown): string {
  return JSON.stringify(value);
}
