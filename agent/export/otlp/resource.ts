// Who sends: the OTLP resource attributes, from the host, the environment and the configuration, the later winning.
// METERING.md 5: service.name, service.instance.id (kept over restarts), host.*, k8s.*, cloud.* where known.
import { randomUUID } from "node:crypto";
import type { Attributes, AttributeValue } from "./attributes.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** What the host room found out about this machine; everything may be unknown. */
export interface HostFacts {
  /** Of the machine; in a pod that knows its node the node's name is taken instead. */
  readonly hostName?: string;
  /** Stable over reboots: the machine id. */
  readonly hostId?: string;
  readonly hostArch?: string;
  readonly osType?: string;
  readonly osDescription?: string;
  /** Kept in the state folder, so that a restart is the same stream and not a new one. */
  readonly instanceId?: string;
  /** Anything else under its full name, for example `cloud.region`. */
  readonly more?: Attributes;
}

/** Variables in which Kubernetes' downward API usually says where a pod runs. */
const FROM_ENVIRONMENT: readonly (readonly [string, string])[] = [
  ["K8S_NODE_NAME", "k8s.node.name"],
  ["NODE_NAME", "k8s.node.name"],
  ["K8S_CLUSTER_NAME", "k8s.cluster.name"],
  ["K8S_NAMESPACE_NAME", "k8s.namespace.name"],
  ["K8S_POD_NAME", "k8s.pod.name"],
  ["K8S_POD_UID", "k8s.pod.uid"],
];

/**
 * The resource of everything this agent exports. `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` win over host
 * facts, `configured` (the config section `resource`, which has read them already) over all. Keys with unknown values
 * are absent. Without a kept instance id a random one is made.
 */
export function agentResource(options: {
  readonly env: Environment;
  readonly facts: HostFacts;
  readonly configured: Attributes;
  readonly version?: string;
}): Attributes {
  const { env, facts, configured, version } = options;
  const found: Record<string, AttributeValue | undefined> = {
    "service.name": "tokenwatt",
    "service.version": version,
    "service.instance.id": facts.instanceId ?? randomUUID(),
    "host.id": facts.hostId,
    "host.arch": facts.hostArch,
    "os.type": facts.osType,
    "os.description": facts.osDescription,
    ...facts.more,
  };
  for (const [name, key] of FROM_ENVIRONMENT.toReversed()) {
    const text = env[name]?.trim();
    if (text) found[key] = text;
  }
  // A pod's own host name is the pod's, another one after each restart: series would start from scratch and the old ones fall silent.
  found["host.name"] = found["k8s.node.name"] ?? facts.hostName;
  Object.assign(found, parseAttributes(env["OTEL_RESOURCE_ATTRIBUTES"]), serviceName(env), configured);
  return Object.fromEntries(
    Object.entries(found).filter(
      (entry): entry is [string, AttributeValue] => entry[1] !== undefined && entry[1] !== "",
    ),
  );
}

function serviceName(env: Environment): Attributes {
  const name = env["OTEL_SERVICE_NAME"]?.trim();
  return name ? { "service.name": name } : {};
}

/** `a=1,b=2`, percent-encoded. A pair that cannot be read is left out: the config reader has reported it. */
function parseAttributes(text: string | undefined): Attributes {
  const found: Record<string, string> = {};
  for (const part of (text ?? "").split(",")) {
    const split = part.indexOf("=");
    if (split < 1) continue;
    try {
      found[decodeURIComponent(part.slice(0, split).trim())] = decodeURIComponent(
        part.slice(split + 1).trim(),
      );
    } catch {}
  }
  return found;
}
