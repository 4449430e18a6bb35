// Which pod and container holds which GPU: the kubelet's pod-resources API on its unix socket (v1, Kubernetes 1.20 on).
// Needs the socket's folder mounted and uid 0, and no right in the cluster. Device ids are those of NVIDIA's device
// plugin: GPU and MIG UUIDs, "::<n>" behind them when time-sliced. Index forms (GKE's "nvidia0") and claims of dynamic
// resource allocation tell that a container holds GPUs, not which.
import type { SourceContext } from "../../source.ts";
import { callKubelet } from "./call.ts";

/** The kubelet's socket on a usual node. */
export const podResourcesSocket = "/var/lib/kubelet/pod-resources/kubelet.sock";

/** A container that was given GPUs. */
export interface PodGpus {
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
  /** GPU or MIG UUIDs; empty where only the fact is known. */
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
      readonly dynamicResources: readonly {
        readonly claimResources: readonly { readonly driverName: string }[];
      }[];
    }[];
  }[];
}

const SHARED = /::\d+$/;
/** The driver of NVIDIA's GPUs under dynamic resource allocation (Kubernetes 1.34 on). */
const DRA_DRIVER = "gpu.nvidia.com";

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
      // Others of nvidia.com are network devices and switches.
      const ids = container.devices.flatMap(({ resourceName, deviceIds }) =>
        deviceIds.filter((id) => /^nvidia\.com\/(gpu|mig-)/.test(resourceName) || isUuid(resourceName, id)),
      );
      const claimed = container.dynamicResources.some(({ claimResources }) =>
        claimResources.some(({ driverName }) => driverName === DRA_DRIVER),
      );
      if (ids.length === 0 && !claimed) return [];
      const named = ids.filter((id) => isUuid("nvidia.com/", id));
      const gpus = [...new Set(named.map((id) => id.replace(SHARED, "")))];
      const shared = ids.some((id) => SHARED.test(id));
      return [{ namespace, pod: name, container: container.name, gpus, shared }];
    }),
  );
}

function isUuid(resourceName: string, id: string): boolean {
  return resourceName.startsWith("nvidia.com/") && /^(GPU|MIG)-/.test(id);
}
