// Which pod and container holds which GPU: the kubelet's pod-resources API on its unix socket (v1, Kubernetes 1.20 on).
// Needs the socket's folder mounted and uid 0, and no right in the cluster. Device ids are those of NVIDIA's device
// plugin: GPU and MIG UUIDs, "::<n>" behind them when time-sliced; index forms (GKE's "nvidia0") are left out.
// A node with many pods answers more than the usual 4 MiB (dcgm-exporter#509): 32 MiB are accepted.
import { existsSync } from "node:fs";
import { callMetadata, openChannel, serviceDefinition, status } from "../grpc.ts";
import type { SourceContext } from "../source.ts";
import { SourceError } from "../source.ts";

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

const RECEIVE_BYTES = 32 * 1024 * 1024;
const TIMEOUT_MS = 5000;
const SHARED = /::\d+$/;

/**
 * Containers with GPUs on this node. Throws SourceError: `absent` where there is no kubelet, `transient` when it does not
 * answer. Call it on a timer, not in the path of an export.
 */
export async function listPodGpus(
  context: Pick<SourceContext, "clock">,
  socket: string = podResourcesSocket,
): Promise<PodGpus[]> {
  if (!existsSync(socket)) throw new SourceError("absent", `Cannot list pods: there is no socket ${socket}`);
  const list = serviceDefinition("kubelet/podresources.proto", "v1.PodResourcesLister")["List"];
  if (list === undefined) throw new Error("the method List is missing in podresources.proto");
  const target = { target: `unix:${socket}`, receiveBytesMax: RECEIVE_BYTES };
  const channel = openChannel(target, { "grpc.use_local_subchannel_pool": 1 });
  try {
    const response = await new Promise<ListResponse>((resolve, reject) => {
      const { path, requestSerialize, responseDeserialize } = list;
      const call = channel.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        {},
        callMetadata(target),
        (error, value) => {
          cancel();
          if (error === null) resolve(value as ListResponse);
          else reject(error);
        },
      );
      const cancel = context.clock.at(context.clock.now() + TIMEOUT_MS * 1e6, () => call.cancel());
    });
    return gpusOf(response);
  } catch (cause) {
    const { code, details } = cause as { code?: number; details?: string };
    const hint =
      code === status.UNAVAILABLE
        ? "the socket answers to uid 0 only; all capabilities may be dropped"
        : undefined;
    throw new SourceError("transient", `Cannot list pods at ${socket}: ${details ?? String(cause)}`, {
      cause,
      ...(hint === undefined ? {} : { hint }),
    });
  } finally {
    channel.close();
  }
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
