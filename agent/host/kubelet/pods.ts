// The pods of this node: the kubelet's Pods API on its unix socket (KEP-4188; Kubernetes 1.37 on, a feature gate in 1.36),
// or, where it is configured, the kubelet's /pods over HTTPS for older ones.
// The socket needs its folder mounted and uid 0, and no right in the cluster. Only running pods with an address are listed.
// The package is v1alpha1 in 1.36 and 1.37; later ones are asked first. proto/kubelet/pods.proto names the fields read.
import type { SourceContext } from "../../source.ts";
import { SourceError } from "../../source.ts";
import { callKubelet } from "./call.ts";
import type { KubeletHttps } from "./https.ts";
import { getFromKubelet } from "./https.ts";

/** The kubelet's socket on a usual node. */
export const podsSocket = "/var/lib/kubelet/pods-api/pods-api.sock";

/** A running pod of this node. */
export interface Pod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly address: string;
  /** Its address is the node's. */
  readonly hostNetwork: boolean;
  readonly annotations: Readonly<Record<string, string>>;
  /** Those that run as long as the pod does: no init container but one that restarts always (a native sidecar). */
  readonly containers: readonly PodContainer[];
}

/** A container of a pod, sidecars included. */
export interface PodContainer {
  readonly name: string;
  /** Of the runtime: another one after each restart. Absent until it was started once. */
  readonly id?: string;
  /** TCP ports it declares. */
  readonly ports: readonly { readonly port: number; readonly name?: string }[];
  /** Command and arguments as the pod gives them; those of the image are not known. */
  readonly words: readonly string[];
}

/** A pod as the APIs tell it; proto-loader and JSON spell some names differently, JSON leaves defaults out. */
interface ToldPod {
  readonly metadata?: {
    readonly name?: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly annotations?: Readonly<Record<string, string>>;
  } | null;
  readonly spec?: {
    readonly hostNetwork?: boolean;
    readonly containers?: readonly ToldContainer[];
    readonly initContainers?: readonly ToldContainer[];
  } | null;
  readonly status?: {
    readonly phase?: string;
    readonly podIp?: string;
    readonly podIP?: string;
    readonly containerStatuses?: readonly ToldStatus[];
    readonly initContainerStatuses?: readonly ToldStatus[];
  } | null;
}

interface ToldStatus {
  readonly name?: string;
  readonly containerId?: string;
  readonly containerID?: string;
}

interface ToldContainer {
  readonly name?: string;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly ports?: readonly {
    readonly name?: string;
    readonly containerPort?: number;
    readonly protocol?: string;
  }[];
  readonly restartPolicy?: string;
}

/** Running pods. Throws SourceError: `absent` where there is no such API, `transient` when it does not answer. */
export async function listPods(
  context: Pick<SourceContext, "clock">,
  socket: string = podsSocket,
): Promise<Pod[]> {
  const { pods } = (await callKubelet(context, socket, {
    file: "kubelet/pods.proto",
    service: "v1alpha1.Pods",
    method: "ListPods",
    packages: ["v1", "v1beta1", "v1alpha1"],
    what: "list pods",
  })) as { readonly pods: readonly ToldPod[] };
  return pods.flatMap(podOf);
}

/** Running pods as the kubelet lists them over HTTPS. Throws SourceError (transient) when it does not. */
export async function listPodsByHttps(
  context: Pick<SourceContext, "clock">,
  kubelet: KubeletHttps,
): Promise<Pod[]> {
  const text = await getFromKubelet(context, kubelet, "/pods");
  try {
    const { items } = JSON.parse(text) as { readonly items: readonly ToldPod[] };
    return items.flatMap(podOf);
  } catch (cause) {
    const message = `Cannot read ${kubelet.endpoint}/pods as a list of pods: ${(cause as Error).message}`;
    throw new SourceError("transient", message, { cause });
  }
}

function podOf({ metadata, spec, status }: ToldPod): Pod[] {
  const address = status?.podIp ?? status?.podIP ?? "";
  if (metadata?.name === undefined || status?.phase !== "Running" || address === "") return [];
  const { annotations, name, namespace = "", uid = "" } = metadata;
  const statuses = [...(status.containerStatuses ?? []), ...(status.initContainerStatuses ?? [])];
  const sidecars = (spec?.initContainers ?? []).filter(({ restartPolicy }) => restartPolicy === "Always");
  return [
    {
      namespace,
      name,
      uid,
      address,
      hostNetwork: spec?.hostNetwork ?? false,
      annotations: { ...annotations },
      containers: [...(spec?.containers ?? []), ...sidecars].map((container) =>
        containerOf(container, statuses),
      ),
    },
  ];
}

function containerOf(
  { name = "", command = [], args = [], ports = [] }: ToldContainer,
  statuses: readonly ToldStatus[],
): PodContainer {
  const status = statuses.find((one) => one.name === name);
  const id = status?.containerId ?? status?.containerID ?? "";
  const tcp = ports.filter(({ protocol }) => (protocol ?? "") === "" || protocol === "TCP");
  return {
    name,
    ...(id === "" ? {} : { id }),
    words: [...command, ...args],
    ports: tcp.flatMap(({ containerPort: port = 0, name: label = "" }) =>
      port < 1 || port > 65_535 ? [] : [{ port, ...(label === "" ? {} : { name: label }) }],
    ),
  };
}
