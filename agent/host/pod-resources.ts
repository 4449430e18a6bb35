// Which pod and container holds which GPU: the kubelet's pod-resources API on its unix socket (v1, Kubernetes 1.20 on).
// Needs the socket's folder mounted and uid 0, and no right in the cluster. Device ids are those of NVIDIA's device
// plugin: GPU and MIG UUIDs, "::<n>" behind them when time-sliced; index forms (GKE's "nvidia0") are left out.
import type { SourceContext } from "../source.ts";
import { callKubelet } from "./kubelet-call.ts";

/** The kubelet's socket on a usual node. */
export const podResourcesSocket = "/var/lib/kubelet/pod-resources/kubelet.sock";

/** A container that was given GPUs. */
export interface PodGpus {
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
  /** GPU or MIG UUIDs. */
  readonly gpus: readonly string[];
  /** Whether a GPU may be given to other containers too (time slicing). */
  readonly shared: boolean;
}

interface ListResponse {
  readonly podResources: readonly {
    readonly name: string;
    readonly namespace: string;
    readonly containers: readonly {
      readonly name: string;
      readonly devices: readonly { readonly resourceName: string; readonly deviceIds: readonly string[] }[];
    }[];
  }[];
}

const SHARED = /::\d+$/;

/**
 * Containers with GPUs on this node. Throws SourceError: `absent` where there is no kubelet, `transient` when it does not
 * answer. Call it on a timer, not in the path of an export.
 */
export async function listPodGpus(
  context: Pick<SourceContext, "clock">,
  socket: string = podResourcesSocket,
): Promise<PodGpus[]> {
  const response = await callKubelet(context, socket, {
    file: "kubelet/podresources.proto",
    service: "v1.PodResourcesLister",
    method: "List",
    what: "list the devices of pods",
  });
  return gpusOf(response as ListResponse);
}

function gpusOf(response: ListResponse): PodGpus[] {
  return response.podResources.flatMap(({ name, namespace, containers }) =>
    containers.flatMap((container) => {
      const ids = container.devices
        .filter(({ resourceName }) => resourceName.startsWith("nvidia.com/"))
        .flatMap(({ deviceIds }) => deviceIds)
        .filter((id) => /^(GPU|MIG)-/.test(id));
      if (ids.length === 0) return [];
      const gpus = [...new Set(ids.map((id) => id.replace(SHARED, "")))];
      return [
        { namespace, pod: name, container: container.name, gpus, shared: ids.some((id) => SHARED.test(id)) },
      ];
    }),
  );
}
