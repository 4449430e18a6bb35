// Which servers a pod of this node may hold: the one its annotations `tokenwatt.io/*` name, else one in each container
// that was given GPUs, at the TCP ports that container declares. Containers beside it (proxies, exporters) and init
// containers hold no GPU and are never asked: a proxy would answer with the engine's own page.
// The address is always the pod's own, as the kubelet of this node gives it: an annotation cannot send the agent elsewhere.
import { isIP } from "node:net";
import { keepsAwake } from "../host/command-lines.ts";
import type { PodGpus } from "../host/kubelet/pod-resources.ts";
import type { Pod, PodContainer } from "../host/kubelet/pods.ts";
import type { ServerType } from "../source.ts";
import { askedType } from "./ask.ts";

/** What annotations begin with. */
const annotationPrefix = "tokenwatt.io/";

const KEYS = ["port", "type", "path", "id", "product-endpoint", "tenant-label", "model-label"];
/** Ports asked of one container; a server declares two or three. */
const PORTS_MAX = 4;

/** A server a pod asks to have read, or may hold. */
export interface PodServer {
  /** Equal texts are the same server, whatever its GPUs. */
  readonly fingerprint: string;
  readonly host: string;
  /** To be asked in this order; one where an annotation names it. */
  readonly ports: readonly number[];
  /** An annotation asks for it: ports beside the named one may be asked, too. */
  readonly asked: boolean;
  /** A gateway found there is not read: its tenants would be the pod's word. */
  readonly enginesOnly: boolean;
  /** Absent: find out by asking the ports. */
  readonly type: ServerType | undefined;
  /** The entry without its GPUs, and without its `endpoint` where the type must be found out. */
  readonly entry: Readonly<Record<string, unknown>>;
  /** GPUs held alone. */
  readonly gpus: readonly string[];
  /** Which containers run it, so that restarted ones can be distinguished; empty where the kubelet does not say. */
  readonly instance: string;
}

/** Why nothing of a pod is asked; `wanted` where somebody should do something about it. */
export interface NotAsked {
  readonly refused: string;
  readonly wanted: boolean;
}

/** A place in a pod where a server is or may be. */
export interface PodTarget {
  /** `namespace/pod`, and `/container` where the container was not named by an annotation. */
  readonly name: string;
  readonly pod: Pod;
  readonly server: PodServer | NotAsked;
}

/** What annotations of pods may say. */
export interface AnnotationRules {
  /** Namespaces whose pods may name gateways, tenant labels and any id. */
  readonly trustedNamespaces: readonly string[];
}

/** Where servers are or may be in a pod; empty where it asks for nothing and holds no GPU. */
export function targetsOf(
  pod: Pod,
  gpus: readonly PodGpus[],
  from: "auto" | "annotations" = "auto",
  rules: AnnotationRules = { trustedNamespaces: [] },
): readonly PodTarget[] {
  const name = `${pod.namespace}/${pod.name}`;
  const own = gpus.filter((one) => one.namespace === pod.namespace && one.pod === pod.name);
  const annotated = annotatedServer(pod, own, rules.trustedNamespaces.includes(pod.namespace));
  if (annotated !== undefined) return [{ name, pod, server: annotated }];
  if (from === "annotations") return [];
  return pod.containers.flatMap((container) => {
    const given = own.filter((one) => one.container === container.name);
    if (given.length === 0) return [];
    return [{ name: `${name}/${container.name}`, pod, server: serverIn(container, pod, given) }];
  });
}

function annotatedServer(
  pod: Pod,
  gpus: readonly PodGpus[],
  isTrusted: boolean,
): PodServer | NotAsked | undefined {
  const said = Object.entries(pod.annotations).filter(([key]) => key.startsWith(annotationPrefix));
  if (said.length === 0) return undefined;
  const values = new Map(said.map(([key, value]) => [key.slice(annotationPrefix.length), value.trim()]));
  const unknown = [...values.keys()].find((key) => !KEYS.includes(key));
  if (unknown !== undefined) {
    return refuse(`Cannot read annotation ${annotationPrefix}${unknown}: known are ${KEYS.join(", ")}`);
  }
  if (values.get("port") === "none") {
    return { refused: `not asked: its annotation ${annotationPrefix}port says "none"`, wanted: false };
  }
  const port = Number(values.get("port"));
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    const got = values.get("port");
    const seen = got === undefined ? "it is missing" : `got ${JSON.stringify(got)}`;
    return refuse(`Cannot read ${annotationPrefix}port as a port or "none": ${seen}`);
  }
  if (isIP(pod.address) === 0)
    return refuse(`Cannot read ${JSON.stringify(pod.address)} as the pod's address`);
  const name = values.get("type");
  const type = name === undefined ? undefined : askedType(name);
  if (name !== undefined && type === undefined) {
    return refuse(`Cannot read a server of type ${JSON.stringify(name)}: no such type that can be asked`);
  }
  if (!isTrusted && type?.family === "gateway") return refuse(billedBy(pod, `a gateway (${type.name})`));
  if (!isTrusted && values.has("tenant-label")) return refuse(billedBy(pod, "a tenant label"));
  const path = values.get("path");
  if (path !== undefined && (type?.page === undefined || !/^\/[\w\-./?=&%]*$/.test(path))) {
    return refuse(
      `Cannot use ${annotationPrefix}path: it needs a type with a metric page, and a leading "/"`,
    );
  }
  const address = `${hostOf(pod)}:${port}`;
  const endpoint = path === undefined ? address : `http://${address}${path}`;
  const entry = {
    ...(type === undefined ? {} : { endpoint }),
    ...given("id", isTrusted ? values.get("id") : ownId(pod, values.get("id"))),
    ...given("productEndpoint", values.get("product-endpoint")),
    ...given("tenantLabel", values.get("tenant-label")),
    ...given("modelLabel", values.get("model-label")),
    pod: podOf(pod),
  };
  const fingerprint = JSON.stringify([address, name ?? null, entry]);
  return {
    fingerprint,
    host: hostOf(pod),
    ports: [port],
    asked: true,
    enginesOnly: !isTrusted,
    type,
    entry,
    gpus: gpusOf(gpus),
    instance: pod.containers.flatMap(({ id }) => id ?? []).join(),
  };
}

function serverIn(container: PodContainer, pod: Pod, gpus: readonly PodGpus[]): PodServer | NotAsked {
  if (isIP(pod.address) === 0)
    return refuse(`Cannot read ${JSON.stringify(pod.address)} as the pod's address`);
  if (keepsAwake(container.words)) {
    return {
      refused: "not asked: reading it would keep its model awake (--sleep-idle-seconds)",
      wanted: true,
    };
  }
  // A port that says it is for metrics first.
  const named = container.ports.toSorted((a, b) => rank(a.name) - rank(b.name));
  const ports = [...new Set(named.map(({ port }) => port))].slice(0, PORTS_MAX);
  if (ports.length === 0) {
    const refused = `holds GPUs, but declares no TCP port to ask: annotate its pod with ${annotationPrefix}port`;
    return { refused, wanted: true };
  }
  const entry = { pod: podOf(pod) };
  const fingerprint = JSON.stringify([pod.address, ports, entry]);
  return {
    fingerprint,
    host: hostOf(pod),
    ports,
    asked: false,
    // Of what a container with GPUs says nothing is taken but its ports.
    enginesOnly: true,
    type: undefined,
    entry,
    gpus: gpusOf(gpus),
    instance: container.id ?? "",
  };
}

/** Why a pod may not say by annotation what others are billed by. */
export function billedBy({ namespace }: Pod, what: string): string {
  return (
    `${what} says who is billed, and is not taken from a pod of namespace ${namespace}: ` +
    "configure it under servers, or trust the namespace with discovery.trustedNamespaces"
  );
}

/** An id that no pod of another namespace can take. */
function ownId({ namespace }: Pod, id: string | undefined): string | undefined {
  if (id === undefined || id === "") return undefined;
  return id.startsWith(`${namespace}/`) ? id : `${namespace}/${id}`;
}

function rank(name: string | undefined): number {
  return name !== undefined && /metric|prom/i.test(name) ? 0 : 1;
}

function hostOf({ address }: Pod): string {
  return isIP(address) === 6 ? `[${address}]` : address;
}

function podOf({ namespace, name, uid }: Pod): Readonly<Record<string, string>> {
  return { namespace, name, ...given("uid", uid) };
}

/** GPUs held alone; of shared ones the kubelet does not tell the share. */
function gpusOf(gpus: readonly PodGpus[]): readonly string[] {
  return [...new Set(gpus.filter(({ shared }) => !shared).flatMap((one) => one.gpus))].sort();
}

function given(key: string, value: string | undefined): Readonly<Record<string, string>> {
  return value === undefined || value === "" ? {} : { [key]: value };
}

function refuse(refused: string): NotAsked {
  return { refused, wanted: true };
}
