// The kubelet's own generated server code and pods that k8s.io/api marshals, in a Go program (main.go): what our readers
// make of both sockets and of /pods over HTTPS, what the watch takes in, and what the running agent shows of it.
import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import { kubeletConfig } from "../../../agent/host/config.ts";
import { listPodGpus } from "../../../agent/host/kubelet/pod-resources.ts";
import { listPods, listPodsByHttps } from "../../../agent/host/kubelet/pods.ts";
import { systemClock } from "../../../agent/platform/clock.ts";
import { watchKubelet } from "../../discovery/kubernetes-rig.ts";
import { freePort } from "../../tools/packed.ts";
import { toolsFolder } from "../tools-folder.ts";

const peer = join(toolsFolder, "kubelet-peer");
const usable = existsSync(peer);
if (!usable)
  console.warn(`SKIPPED: the kubelet's peer, because ${peer} is not here; run test/e2e/install-tools.sh`);

const main = fileURLToPath(new URL("../../../agent/main.ts", import.meta.url));
const fixtures = fileURLToPath(new URL("../../fixtures/servers/", import.meta.url));
const context = { clock: systemClock() };
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function pageServer(fixture: string): Promise<number> {
  const page = readFileSync(join(fixtures, fixture));
  const server = createServer((request, response) => {
    response.writeHead(request.url === "/metrics" ? 200 : 404).end(request.url === "/metrics" ? page : "");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => {
    server.close();
    server.closeAllConnections();
  });
  return (server.address() as AddressInfo).port;
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill();
  await once(child, "exit");
}

/** Starts the peer with a scenario. */
async function kubelet(scenario: object) {
  const folder = mkdtempSync(join(tmpdir(), "tokenwatt-peer-"));
  closing.push(() => rmSync(folder, { recursive: true }));
  const tell = (next: object): void =>
    writeFileSync(join(folder, "scenario.json"), JSON.stringify({ token: "a-token", ...next }));
  tell(scenario);
  writeFileSync(join(folder, "token"), "a-token\n");
  const child = spawn(peer, [folder], { stdio: ["ignore", "pipe", "inherit"] });
  closing.push(() => stop(child));
  const [port] = (await once(child.stdout, "data")) as [Buffer];
  const [podsSocket, podResourcesSocket] = [join(folder, "pods-api.sock"), join(folder, "kubelet.sock")];
  const https = kubeletConfig.parse({
    endpoint: `https://127.0.0.1:${port.toString().trim()}`,
    tokenFile: join(folder, "token"),
    caFile: join(folder, "ca.crt"),
  });
  return {
    podsSocket,
    podResourcesSocket,
    https,
    tell,
    close: () => {},
    pods: [],
    failing: false,
    failingResources: false,
  };
}

const pod = (name: string, spec: object, more: { annotations?: object; status?: object } = {}): object => ({
  metadata: {
    name,
    namespace: "ml",
    uid: `uid-of-${name}`,
    labels: { app: name },
    creationTimestamp: "2026-01-02T03:04:05Z",
    ownerReferences: [{ apiVersion: "apps/v1", kind: "StatefulSet", name, uid: "u", controller: true }],
    managedFields: [{ manager: "kubectl", operation: "Update", apiVersion: "v1" }],
    annotations: { "kubernetes.io/config.source": "api", ...more.annotations },
  },
  spec: { nodeName: "node-1", tolerations: [{ operator: "Exists" }], ...spec },
  status: {
    phase: "Running",
    podIP: "127.0.0.1",
    podIPs: [{ ip: "127.0.0.1" }],
    hostIP: "192.0.2.7",
    startTime: "2026-01-02T03:04:06Z",
    ...more.status,
  },
});
const container = (name: string, port: number, more: object = {}): object => ({
  name,
  image: "registry.example.com/engine:1",
  resources: { limits: { cpu: "4", memory: "16Gi", "nvidia.com/gpu": "1" } },
  volumeMounts: [{ name: "models", mountPath: "/models" }],
  livenessProbe: { httpGet: { path: "/health", port } },
  ports: [{ name: "http", containerPort: port, protocol: "TCP" }],
  ...more,
});
const runs = (name: string, containerID: string): object => ({
  name,
  containerID,
  image: "registry.example.com/engine:1",
  imageID: "registry.example.com/engine@sha256:0",
  ready: true,
  restartCount: 3,
  started: true,
  state: { running: { startedAt: "2026-01-02T03:04:07Z" } },
});
const holds = (name: string, ids: readonly string[], resource = "nvidia.com/gpu"): object => ({
  name,
  namespace: "ml",
  containers: [
    {
      name: "engine",
      devices: [{ resource_name: resource, device_ids: ids, topology: { nodes: [{ ID: 1 }] } }],
      cpu_ids: [1, 2, 3],
      memory: [{ memory_type: "memory", size: 1 }],
    },
    { name: "proxy" },
  ],
});

async function node() {
  const ports = {
    annotated: await pageServer("vllm-0.16-two-engines.prom"),
    gpus: await pageServer("sglang-2026-two-ranks.prom"),
    mig: await pageServer("tgi-3-serving.prom"),
    slice: await pageServer("llama-cpp-b6-serving.prom"),
    host: await pageServer("vllm-rust-openmetrics.prom"),
    proxy: await pageServer("vllm-0.16-two-engines.prom"),
  };
  const mesh = container("proxy", ports.proxy, { restartPolicy: "Always" });
  const scenario = {
    pods: [
      pod(
        "annotated",
        { containers: [container("engine", 1)] },
        {
          annotations: { "tokenwatt.io/port": String(ports.annotated), "tokenwatt.io/id": "chat" },
        },
      ),
      pod(
        "gpus",
        {
          containers: [container("engine", ports.gpus)],
          initContainers: [mesh, container("fetch", ports.proxy)],
        },
        {
          status: {
            containerStatuses: [runs("engine", "containerd://e")],
            initContainerStatuses: [runs("proxy", "containerd://p"), runs("fetch", "containerd://f")],
          },
        },
      ),
      pod("mig", { containers: [container("engine", ports.mig)] }),
      pod("slice", {
        containers: [container("engine", ports.slice, { command: ["llama-server"], args: ["-m", "x.gguf"] })],
      }),
      pod("host", { hostNetwork: true, containers: [container("engine", ports.host)] }),
      pod("done", { containers: [container("engine", 1)] }, { status: { phase: "Succeeded" } }),
    ],
    devices: [
      holds("annotated", ["GPU-0"]),
      holds("gpus", ["GPU-1", "GPU-2"]),
      holds("mig", ["MIG-7"], "nvidia.com/mig-1g.10gb"),
      holds("slice", ["GPU-3::0", "GPU-3::7"]),
      holds("host", ["GPU-4"]),
    ],
    filler: 500,
    fillerBytes: 12_000,
  };
  return { ports, scenario, kubelet: await kubelet(scenario) };
}

describe.runIf(usable)("the kubelet's own code", () => {
  test("tells listPods() 505 running pods in more than 4 MiB", async () => {
    const { kubelet, ports } = await node();
    const pods = await listPods(context, kubelet.podsSocket);
    expect(pods).toHaveLength(505);
    expect(pods.find(({ name }) => name === "gpus")).toEqual({
      namespace: "ml",
      name: "gpus",
      uid: "uid-of-gpus",
      address: "127.0.0.1",
      hostNetwork: false,
      annotations: { "kubernetes.io/config.source": "api" },
      containers: [
        { name: "engine", id: "containerd://e", words: [], ports: [{ port: ports.gpus, name: "http" }] },
        { name: "proxy", id: "containerd://p", words: [], ports: [{ port: ports.proxy, name: "http" }] },
      ],
    });
    expect(pods.find(({ name }) => name === "host")?.hostNetwork).toBe(true);
    expect(pods.find(({ name }) => name === "slice")?.containers[0]?.words).toEqual([
      "llama-server",
      "-m",
      "x.gguf",
    ]);
    // The same pods over HTTPS, in Go's JSON.
    expect(await listPodsByHttps(context, kubelet.https)).toEqual(pods);
  });

  test("tells listPodGpus() boards, MIG instances and time slices", async () => {
    const { kubelet } = await node();
    const told = await listPodGpus(context, kubelet.podResourcesSocket);
    expect(told.map(({ gpus, pod, shared }) => [pod, gpus, shared])).toEqual([
      ["annotated", ["GPU-0"], false],
      ["gpus", ["GPU-1", "GPU-2"], false],
      ["mig", ["MIG-7"], false],
      ["slice", ["GPU-3"], true],
      ["host", ["GPU-4"], false],
    ]);
  });

  test.each(["its Pods API", "HTTPS"])("lets the watch find every server through %s", async (way) => {
    const { kubelet, scenario } = await node();
    const older = { podsSocket: "/nowhere/pods-api.sock", kubelet: kubelet.https };
    const { watched, servers } = watchKubelet(kubelet, closing, way === "HTTPS" ? older : {});
    await watched.look();
    expect([...servers.values()].map(({ gpus, id }) => [id, gpus])).toEqual([
      ["ml/chat", ["GPU-0"]],
      ["sglang@ml/gpus", ["GPU-1", "GPU-2"]],
      ["tgi@ml/mig", ["MIG-7"]],
      ["llama-cpp@ml/slice", undefined],
      ["vllm@ml/host", ["GPU-4"]],
    ]);
    kubelet.tell({ ...scenario, pods: [], filler: 0 });
    await watched.look();
    expect(servers.size).toBe(0);
  });

  test("refuses a wrong token", async () => {
    const { kubelet } = await node();
    writeFileSync(kubelet.https.tokenFile, "another");
    await expect(listPodsByHttps(context, kubelet.https)).rejects.toThrow("answers 401");
  });

  test("shows in /-/status of the running agent, whose servers are read", async () => {
    const { kubelet } = await node();
    const folder = mkdtempSync(join(tmpdir(), "tokenwatt-agent-"));
    closing.push(() => rmSync(folder, { recursive: true }));
    const listen = `127.0.0.1:${await freePort()}`;
    const env = {
      PATH: process.env["PATH"],
      TOKENWATT_STATE_DIR: folder,
      TOKENWATT_EXPORT_PROMETHEUS_LISTEN: listen,
      TOKENWATT_DISCOVERY_PODS_SOCKET: kubelet.podsSocket,
      TOKENWATT_DISCOVERY_POD_RESOURCES_SOCKET: kubelet.podResourcesSocket,
    };
    const agent = spawn(process.execPath, [main, "run"], { env, stdio: ["ignore", "ignore", "inherit"] });
    closing.push(() => stop(agent));
    const status = async (): Promise<Record<string, Record<string, { ok?: boolean }>> | undefined> =>
      fetch(`http://${listen}/-/status`)
        .then((answer) => answer.json() as never)
        .catch(() => undefined);
    const ok = async () =>
      Object.entries((await status())?.["sources"] ?? {})
        .filter(([name, source]) => name.startsWith("server:") && source.ok)
        .map(([name]) => name)
        .sort();
    await expect
      .poll(ok, { timeout: 60_000, interval: 250 })
      .toEqual([
        "server:llama-cpp@ml/slice",
        "server:ml/chat",
        "server:sglang@ml/gpus",
        "server:tgi@ml/mig",
        "server:vllm@ml/host",
      ]);
    expect((await status())?.["host"]?.["kubernetes"]).toMatchObject({
      pods_api: { ok: true, why: "answers, 505 running pods" },
      pod_resources: { ok: true, why: "answers, 5 containers with GPUs" },
      pods: { "ml/annotated": { state: "found", server: "ml/chat" }, "ml/mig/engine": { state: "found" } },
    });
  });
});
