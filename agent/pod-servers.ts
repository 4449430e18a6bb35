// What the annotations of a pod say about the server in it: `tokenwatt.io/port` (which asks for it to be read), `type`,
// `path`, `id`, `product-endpoint`, `tenant-label`, `model-label`.
// The address is always the pod's own, as the kubelet of this node tells it: an annotation cannot send the agent elsewhere.
import { isIP } from "node:net";
import type { PodGpus } from "./host/pod-resources.ts";
import type { Pod } from "./host/pods.ts";
import { askedType } from "./servers/discover.ts";
import type { ServerType } from "./source.ts";

/** What annotations begin with. */
export const annotationPrefix = "tokenwatt.io/";

const KEYS = ["port", "type", "path", "id", "product-endpoint", "tenant-label", "model-label"];

/** A server a pod asks to have read. */
export interface PodServer {
  /** Equal texts are the same server. */
  readonly fingerprint: string;
  readonly host: string;
  readonly port: number;
  /** Absent: find out by asking the port. */
  readonly type: ServerType | undefined;
  /** The entry without its `endpoint` where the type must be found out. */
  readonly entry: Readonly<Record<string, unknown>>;
}

/** The server a pod names, why it cannot be read, or undefined where the pod asks for nothing. */
export function serverOfPod(
  pod: Pod,
  gpus: readonly PodGpus[],
): PodServer | { readonly refused: string } | undefined {
  const said = Object.entries(pod.annotations).filter(([key]) => key.startsWith(annotationPrefix));
  if (said.length === 0) return undefined;
  const values = new Map(said.map(([key, value]) => [key.slice(annotationPrefix.length), value.trim()]));
  const unknown = [...values.keys()].find((key) => !KEYS.includes(key));
  if (unknown !== undefined) {
    return refuse(`Cannot read annotation ${annotationPrefix}${unknown}: known are ${KEYS.join(", ")}`);
  }
  const port = Number(values.get("port"));
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    const got = values.get("port");
    return refuse(
      `Cannot read ${annotationPrefix}port as a port: ${got === undefined ? "it is missing" : `got ${JSON.stringify(got)}`}`,
    );
  }
  if (isIP(pod.address) === 0)
    return refuse(`Cannot read ${JSON.stringify(pod.address)} as the pod's address`);
  const name = values.get("type");
  const type = name === undefined ? undefined : askedType(name);
  if (name !== undefined && type === undefined) {
    return refuse(`Cannot read a server of type ${JSON.stringify(name)}: no such type that can be asked`);
  }
  const path = values.get("path");
  if (path !== undefined && (type?.page === undefined || !/^\/[\w\-./?=&%]*$/.test(path))) {
    return refuse(
      `Cannot use ${annotationPrefix}path: it needs a type with a metric page, and a leading "/"`,
    );
  }
  const host = isIP(pod.address) === 6 ? `[${pod.address}]` : pod.address;
  const address = `${host}:${port}`;
  const entry = {
    ...(type === undefined ? {} : { endpoint: path === undefined ? address : `http://${address}${path}` }),
    ...given("id", values.get("id")),
    ...given("productEndpoint", values.get("product-endpoint")),
    ...given("tenantLabel", values.get("tenant-label")),
    ...given("modelLabel", values.get("model-label")),
    ...gpusOf(pod, gpus),
    pod: { namespace: pod.namespace, name: pod.name, uid: pod.uid },
  };
  const fingerprint = JSON.stringify([address, name ?? null, entry]);
  return { fingerprint, host, port, type, entry };
}

/** GPUs the pod has alone; of shared ones the kubelet does not tell the share. */
function gpusOf(pod: Pod, gpus: readonly PodGpus[]): { readonly gpus?: readonly string[] } {
  const own = gpus.filter(
    (one) => one.namespace === pod.namespace && one.pod === pod.name && one.shared === false,
  );
  const uuids = [...new Set(own.flatMap((one) => one.gpus))].sort();
  return uuids.length === 0 ? {} : { gpus: uuids };
}

function given(key: string, value: string | undefined): Readonly<Record<string, string>> {
  return value === undefined || value === "" ? {} : { [key]: value };
}

function refuse(refused: string): { readonly refused: string } {
  return { refused };
}
