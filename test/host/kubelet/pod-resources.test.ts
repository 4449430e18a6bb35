import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { listPodGpus } from "../../../agent/host/kubelet/pod-resources.ts";
import { systemClock } from "../../../agent/platform/clock.ts";
import { Server, ServerCredentials } from "../../../agent/platform/grpc.ts";
import { field, message } from "../../fakes/grpc-peer.ts";

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0).reverse()) close();
});
const context = { clock: systemClock() };

/** A kubelet on a unix socket that answers `response`. */
async function kubelet(response: Buffer): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "tokenwatt-kubelet-"));
  closing.push(() => rmSync(folder, { recursive: true }));
  const socket = join(folder, "kubelet.sock");
  const server = new Server();
  const bytes = (value: Buffer): Buffer => value;
  const list = (_: unknown, callback: (error: null, value: Buffer) => void): void => callback(null, response);
  server.register("/v1.PodResourcesLister/List", list, bytes, bytes, "unary");
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) =>
      error ? reject(error) : resolve(),
    ),
  );
  closing.push(() => server.forceShutdown());
  return socket;
}

const devices = (resource: string, ...ids: string[]): Buffer =>
  field(2, message(field(1, resource), ...ids.map((id) => field(2, id))));
const claim = (driver: string): Buffer =>
  field(
    5,
    message(field(2, "a-claim"), field(4, message(field(2, driver), field(3, "pool"), field(4, "gpu-0")))),
  );
const container = (name: string, ...more: Buffer[]): Buffer => field(3, message(field(1, name), ...more));
const pod = (name: string, ...more: Buffer[]): Buffer =>
  field(1, message(field(1, name), field(2, "team-a"), ...more));

describe("listPodGpus()", () => {
  test("names the container of every GPU and MIG instance, time slices as shared", async () => {
    const socket = await kubelet(
      message(
        pod(
          "llm-0",
          container("vllm", devices("nvidia.com/gpu", "GPU-1::0", "GPU-1::3", "GPU-2")),
          container("sidecar"),
        ),
        pod("small-0", container("tgi", devices("nvidia.com/mig-1g.10gb", "MIG-7"))),
        pod(
          "web-0",
          container("web", devices("example.com/nic", "nic0"), devices("nvidia.com/rdma", "mlx5_0")),
        ),
        pod("gke-0", container("tgi", devices("nvidia.com/gpu", "nvidia0"))),
        pod("claim-0", container("vllm", claim("gpu.nvidia.com"))),
        pod("claim-1", container("x", claim("dra.example.com"))),
      ),
    );
    expect(await listPodGpus(context, socket)).toEqual([
      { namespace: "team-a", pod: "llm-0", container: "vllm", gpus: ["GPU-1", "GPU-2"], shared: true },
      { namespace: "team-a", pod: "small-0", container: "tgi", gpus: ["MIG-7"], shared: false },
      // That they hold GPUs is told, which ones is not.
      { namespace: "team-a", pod: "gke-0", container: "tgi", gpus: [], shared: false },
      { namespace: "team-a", pod: "claim-0", container: "vllm", gpus: [], shared: false },
    ]);
  });

  test("takes answers above gRPC's usual 4 MiB", async () => {
    const long = "x".repeat(5000);
    const pods = Array.from({ length: 1000 }, (_, index) => pod(`${long}${index}`));
    expect(await listPodGpus(context, await kubelet(message(...pods)))).toEqual([]);
  });

  test("is absent where there is no kubelet", async () => {
    await expect(listPodGpus(context, "/nowhere/kubelet.sock")).rejects.toMatchObject({ kind: "absent" });
  });
});
