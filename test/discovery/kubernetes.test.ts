// Pods that ask to be read, told by a fake kubelet over real unix sockets, read over real ones.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Config } from "../../agent/config/load.ts";
import { Placement } from "../../agent/correlate/placement.ts";
import { targetsOf } from "../../agent/discovery/pods.ts";
import { listPods } from "../../agent/host/kubelet/pods.ts";
import { serverInfoGauge } from "../../agent/meter/gauges.ts";
import type { ServerInfo } from "../../agent/model.ts";
import { virtualClock } from "../../agent/platform/clock.ts";
import type { FakeKubelet } from "../fakes/kubelet.ts";
import { fakeKubelet } from "../fakes/kubelet.ts";
import { annotated, servePage, watchKubelet } from "./kubernetes-rig.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});
let kubelet: FakeKubelet;
beforeEach(async () => {
  kubelet = await fakeKubelet();
  closing.push(() => kubelet.close());
});
const pageServer = () => servePage(closing);
const watch = (more: Partial<Config["discovery"]> = {}) => watchKubelet(kubelet, closing, more);

describe("KubernetesWatch", () => {
  test("takes in what a pod's annotations name, with its GPUs, pod and labels, and lets it go with the pod", async () => {
    const { port } = await pageServer();
    kubelet.pods = [
      {
        namespace: "team-a",
        name: "llm-0",
        gpus: ["GPU-1", "GPU-2"],
        annotations: annotated(port, {
          "tokenwatt.io/type": "vllm",
          "tokenwatt.io/path": "/metrics",
          "tokenwatt.io/id": "llm",
          "tokenwatt.io/product-endpoint": "chat",
          "tokenwatt.io/tenant-label": "team",
        }),
      },
      { namespace: "team-a", name: "web-0" },
    ];
    const { watched, servers, sources } = watch({ trustedNamespaces: ["team-a"] });
    await watched.look();
    expect([...servers.values()]).toMatchObject([
      {
        id: "llm",
        type: "vllm",
        address: `http://127.0.0.1:${port}/metrics`,
        gpus: ["GPU-1", "GPU-2"],
        endpoint: "chat",
        pod: { namespace: "team-a", name: "llm-0", uid: "uid-of-llm-0" },
      },
    ]);
    const source = sources.get("llm");
    const sample = source?.kind === "pull" ? await source.poll() : undefined;
    expect(sample?.readings.length).toBeGreaterThan(0);
    expect(serverInfoGauge(servers.get("llm") as ServerInfo, sample as never).dimensions).toMatchObject({
      "k8s.namespace.name": "team-a",
      "k8s.pod.name": "llm-0",
    });
    expect(watched.status()).toMatchObject({
      pods: { "team-a/llm-0": { state: "found", why: "vllm: its annotation names the type", server: "llm" } },
    });
    kubelet.pods = [];
    await watched.look();
    expect(servers.size).toBe(0);
    expect(watched.status()["pods"]).toEqual({});
  });

  test("finds the type out where no annotation names it, and asks a silent port rarely", async () => {
    const { port } = await pageServer();
    const silent = createServer((_, response) => response.writeHead(404).end());
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    closing.push(() => silent.close());
    let connections = 0;
    silent.on("request", () => connections++);
    const other = (silent.address() as AddressInfo).port;
    kubelet.pods = [
      { namespace: "a", name: "llm", annotations: annotated(port) },
      { namespace: "a", name: "silent", annotations: annotated(other) },
    ];
    const { watched, servers, clock } = watch();
    await watched.look();
    expect([...servers.keys()]).toEqual(["vllm@a/llm"]);
    expect(watched.status()["pods"]).toMatchObject({
      "a/silent": { state: "nothing", why: expect.stringMatching(/\/metrics: it answers 404/) },
    });
    const after = connections;
    await watched.look();
    expect(connections).toBe(after);
    await clock.advance(16e9);
    await watched.look();
    expect(connections).toBeGreaterThan(after);
  }, 20_000);

  test("tells pods of one template apart, and reads anew what changed its annotations or was replaced", async () => {
    const [one, two] = [await pageServer(), await pageServer()];
    const same = { "tokenwatt.io/type": "vllm", "tokenwatt.io/id": "llm" };
    kubelet.pods = [
      { namespace: "a", name: "r-1", annotations: annotated(one.port, same) },
      { namespace: "a", name: "r-2", annotations: annotated(two.port, same) },
    ];
    const { watched, servers } = watch({ trustedNamespaces: ["a"] });
    await watched.look();
    expect([...servers.keys()]).toEqual(["llm", "llm@a/r-2"]);
    kubelet.pods = [{ namespace: "a", name: "r-1", uid: "new", annotations: annotated(two.port, same) }];
    await watched.look();
    expect([...servers.values()]).toMatchObject([{ id: "llm", pod: { uid: "new" } }]);
    expect(servers.get("llm")?.address).toContain(String(two.port));
  });

  test("keeps what it knows while the kubelet does not answer", async () => {
    const { port } = await pageServer();
    const annotations = annotated(port, { "tokenwatt.io/type": "vllm" });
    kubelet.pods = [{ namespace: "a", name: "llm", annotations }];
    const { watched, servers } = watch();
    await watched.look();
    kubelet.failing = true;
    await watched.look();
    expect(servers.size).toBe(1);
    expect(watched.status()["pods_api"]).toMatchObject({
      ok: false,
      why: expect.stringMatching(/Cannot list pods at .*kubelet restarts/),
    });
  });

  test("reads nothing twice: a server that is configured, or behind the same port of the host", async () => {
    const { port, asked } = await pageServer();
    const annotations = annotated(port, { "tokenwatt.io/type": "vllm" });
    kubelet.pods = [
      { namespace: "a", name: "same", annotations },
      { namespace: "a", name: "host", address: "192.0.2.1", hostNetwork: true, annotations },
    ];
    const { watched, servers } = watch();
    const info = { id: "configured", type: "vllm", family: "engine", pollMs: 1000 } as const;
    servers.set("configured", { ...info, address: `127.0.0.1:${port}`, port });
    await watched.look();
    expect([...servers.keys()]).toEqual(["configured"]);
    expect(watched.status()["pods"]).toEqual({
      "a/same": { state: "known", why: "read already as configured", server: "configured" },
      "a/host": { state: "known", why: "read already as configured", server: "configured" },
    });
    expect(asked()).toBe(0);
    servers.delete("configured");
    await watched.look();
    expect([...servers.keys()]).toEqual(["vllm@a/same"]);
    servers.set("configured", { ...info, address: `127.0.0.1:${port}`, port });
    await watched.look();
    expect([...servers.keys()]).toEqual(["configured"]);
  });

  test("asks nobody where it is switched off, and says why nothing is found where there is no kubelet", async () => {
    kubelet.pods = [{ namespace: "a", name: "llm", annotations: annotated(1) }];
    const off = watch({ kubernetes: "off" });
    off.watched.start();
    await off.clock.advance(60e9);
    expect(off.watched.status()).toEqual({ from: "off" });
    kubelet = { ...kubelet, podsSocket: "/nowhere/pods.sock", podResourcesSocket: "/nowhere/kubelet.sock" };
    const none = watch();
    await none.watched.look();
    expect(none.watched.status()["pods_api"]).toMatchObject({
      why: "Cannot list pods: there is no socket /nowhere/pods.sock",
    });
  });
});

test("a pod cannot take another namespace's id, nor say by annotation who is billed, unless its namespace is trusted", async () => {
  const { port } = await pageServer();
  kubelet.pods = [
    {
      namespace: "tenant-b",
      name: "evil",
      annotations: annotated(port, { "tokenwatt.io/type": "vllm", "tokenwatt.io/id": "vllm@tenant-a/llm-0" }),
    },
    { namespace: "tenant-b", name: "named", annotations: annotated(2, { "tokenwatt.io/type": "litellm" }) },
    {
      namespace: "tenant-b",
      name: "label",
      annotations: annotated(3, { "tokenwatt.io/type": "vllm", "tokenwatt.io/tenant-label": "team" }),
    },
  ];
  const { watched, servers } = watch();
  await watched.look();
  expect([...servers.keys()]).toEqual(["tenant-b/vllm@tenant-a/llm-0"]);
  expect(watched.status()).toMatchObject({
    pods: {
      "tenant-b/named": {
        state: "refused",
        why: expect.stringMatching(/^a gateway \(litellm\) says who is billed.*trustedNamespaces/),
      },
      "tenant-b/label": {
        state: "refused",
        why: expect.stringMatching(/^a tenant label says who is billed/),
      },
    },
  });
});

describe("targetsOf()", () => {
  const pod = (annotations: Record<string, string>, address = "10.1.2.3") => ({
    namespace: "a",
    name: "llm",
    uid: "u",
    address,
    hostNetwork: false,
    annotations,
    containers: [],
  });
  const only = (...args: Parameters<typeof targetsOf>) => targetsOf(...args)[0]?.server;

  test("refuses what would be read elsewhere or otherwise than meant, with the reason", () => {
    const refused = (annotations: Record<string, string>, address?: string) =>
      (only(pod(annotations, address), []) as { refused: string }).refused;
    expect(refused({ "tokenwatt.io/typ": "vllm" })).toMatch(/tokenwatt\.io\/typ: known are port, type/);
    expect(refused({ "tokenwatt.io/type": "vllm" })).toMatch(/port: it is missing|missing/);
    expect(refused(annotated(0))).toMatch(/got "0"/);
    expect(refused(annotated(80), "evil.example")).toMatch(/as the pod's address/);
    expect(refused(annotated(80, { "tokenwatt.io/type": "otlp" }))).toMatch(/no such type/);
    const path = { "tokenwatt.io/type": "vllm", "tokenwatt.io/path": "@evil.example/metrics" };
    expect(refused(annotated(80, path))).toMatch(/path/);
    expect(targetsOf(pod({ "prometheus.io/scrape": "true" }), [])).toEqual([]);
  });

  test("gives a pod the GPUs it has alone, never a share", () => {
    const gpus = [
      { namespace: "a", pod: "llm", container: "x", gpus: ["GPU-2", "GPU-1"], shared: false },
      { namespace: "a", pod: "llm", container: "y", gpus: ["GPU-9"], shared: true },
      { namespace: "b", pod: "llm", container: "x", gpus: ["GPU-7"], shared: false },
    ];
    expect(only(pod(annotated(80)), gpus)).toMatchObject({ gpus: ["GPU-1", "GPU-2"] });
  });

  test("writes an IPv6 address as an address with a port is written", () => {
    const found = only(pod(annotated(80, { "tokenwatt.io/type": "vllm" }), "fd00::1"), []);
    expect(found).toMatchObject({ entry: { endpoint: "[fd00::1]:80" } });
  });
});

describe("a pod's uid", () => {
  test("places the processes in its cgroup", () => {
    const placement = new Placement();
    const info = { type: "vllm", family: "engine", address: "10.0.0.9:8000", pollMs: 1000 } as const;
    const podOf = (uid: string) => ({ namespace: "a", name: uid, uid });
    placement.setServers(
      [
        { ...info, id: "one", pod: podOf("u1") },
        { ...info, id: "two", pod: podOf("u2") },
      ],
      new Map(),
    );
    placement.setFacts([{ pid: 10, pod: "u2" }]);
    expect(placement.place("GPU-1", undefined, [10])).toMatchObject([{ server: "two", rung: 2 }]);
  });
});

describe("listPods()", () => {
  test("asks newer packages first and leaves out what does not run", async () => {
    for (const name of ["v1alpha1", "v1beta1", "v1"]) {
      const one = await fakeKubelet(name);
      closing.push(() => one.close());
      one.pods = [
        { namespace: "a", name: "up", hostNetwork: true, annotations: { k: "v" } },
        { namespace: "a", name: "done", phase: "Succeeded" },
      ];
      expect(await listPods({ clock: virtualClock(0n) }, one.podsSocket)).toEqual([
        {
          namespace: "a",
          name: "up",
          uid: "uid-of-up",
          address: "127.0.0.1",
          hostNetwork: true,
          annotations: { k: "v" },
          containers: [{ name: "main", words: [], ports: [] }],
        },
      ]);
    }
    const none = await fakeKubelet("v9");
    closing.push(() => none.close());
    await expect(listPods({ clock: virtualClock(0n) }, none.podsSocket)).rejects.toMatchObject({
      kind: "absent",
    });
  });
});
