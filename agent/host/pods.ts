// The pods of this node: the kubelet's Pods API on its unix socket (KEP-4188; Kubernetes 1.37 on, alpha before).
// Needs the socket's folder mounted and uid 0, and no right in the cluster. Only running pods with an address are told.
// The package is v1alpha1 up to 1.36; later ones are asked first. proto/kubelet/pods.proto names the fields read.
import type { SourceContext } from "../source.ts";
import { callKubelet } from "./kubelet-call.ts";

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
}

interface ListResponse {
  readonly pods: readonly {
    readonly metadata: {
      readonly name: string;
      readonly namespace: string;
      readonly uid: string;
      readonly annotations?: Readonly<Record<string, string>>;
    } | null;
    readonly spec: { readonly hostNetwork: boolean } | null;
    readonly status: { readonly phase: string; readonly podIp: string } | null;
  }[];
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
  })) as ListResponse;
  return pods.flatMap(({ metadata, spec, status }) => {
    if (metadata === null || status?.phase !== "Running" || status.podIp === "") return [];
    const { annotations = {}, name, namespace, uid } = metadata;
    const hostNetwork = spec?.hostNetwork ?? false;
    return [{ namespace, name, uid, address: status.podIp, hostNetwork, annotations: { ...annotations } }];
  });
}
