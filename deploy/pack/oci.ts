// An OCI image (image-spec 1.1) for both architectures as one archive, written without a container engine. Three layers:
// Debian's libraries, node, the program; the last two pulls of an upgrade are small. There is no shell and no package
// manager inside; `tokenwatt` in it is a script for the node beside it, so that `kubectl exec` works.
import { createHash } from "node:crypto";
import { gzip } from "./compress.ts";
import { debianBase } from "./debian-base.ts";
import type { File } from "./files.ts";
import { below, file } from "./files.ts";
import { MALLOC, NODE_FLAGS } from "./runtime.ts";
import { tar } from "./tar.ts";
import type { Architecture, Sources } from "./tree.ts";

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

/** The archive of an image layout; `trees` holds the program for each architecture. */
export function imageArchive(sources: Sources, trees: ReadonlyMap<Architecture, readonly File[]>): Buffer {
  const blobs = new Map<string, File>();
  const add = (mediaType: string, content: string | Uint8Array): Descriptor => {
    const bytes = Buffer.from(content);
    const hex = createHash("sha256").update(bytes).digest("hex");
    blobs.set(hex, file(`blobs/sha256/${hex}`, bytes));
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
  };
  const manifests = [...trees].map(([architecture, tree]) => ({
    ...manifest(sources, architecture, tree, add),
    platform: {
      os: "linux",
      architecture: GOARCH[architecture],
      ...(architecture === "arm64" ? { variant: "v8" } : {}),
    },
  }));
  const index = "application/vnd.oci.image.index.v1+json";
  const image = add(
    index,
    json({ schemaVersion: 2, mediaType: index, manifests, annotations: labels(sources) }),
  );
  const reference = { "org.opencontainers.image.ref.name": sources.version };
  const files = [
    file("oci-layout", json({ imageLayoutVersion: "1.0.0" })),
    file(
      "index.json",
      json({ schemaVersion: 2, mediaType: index, manifests: [{ ...image, annotations: reference }] }),
    ),
    ...blobs.values(),
  ];
  return tar(files, { time: sources.time });
}

function manifest(
  sources: Sources,
  architecture: Architecture,
  tree: readonly File[],
  add: (mediaType: string, content: string | Uint8Array) => Descriptor,
): Descriptor {
  const layers = imageLayers(sources, architecture, tree).map((files) => {
    const archive = tar(files, { time: sources.time });
    const diffId = `sha256:${createHash("sha256").update(archive).digest("hex")}`;
    return { diffId, descriptor: add("application/vnd.oci.image.layer.v1.tar+gzip", gzip(archive, 6)) };
  });
  const created = new Date(sources.time * 1000).toISOString();
  const config = {
    created,
    os: "linux",
    architecture: GOARCH[architecture],
    ...(architecture === "arm64" ? { variant: "v8" } : {}),
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
      layers: layers.map((layer) => layer.descriptor),
      annotations: labels(sources),
    }),
  );
}

/** What each layer holds. */
function imageLayers(sources: Sources, architecture: Architecture, tree: readonly File[]): File[][] {
  const isNode = ({ path }: File): boolean => path === "bin/node";
  return [
    debianBase(sources.root, architecture).files,
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
