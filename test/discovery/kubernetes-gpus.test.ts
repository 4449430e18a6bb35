// Pods that hold GPUs and ask for nothing: which of their ports are asked, and what is never asked.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Config } from "../../agent/config/load.ts";
import { Place, twinOf } from "../../agent/discovery/places.ts";
import type { TokenReading, TokenSample } from "../../agent/model.ts";
import type { ServerSource } from "../../agent/source.ts";
import type { FakeKubelet } from "../fakes/kubelet.ts";
import { fakeKubelet } from "../fakes/kubelet.ts";
import { fakeKubeletHttps } from "../fakes/kubelet-https.ts";
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

describe("KubernetesWatch and pods nobody annotated", () => {
  test("finds a server at a declared port of the container that holds GPUs, and asks nothing else of its pod", async () => {
    const [engine, proxy, init] = [await pageServer(), await pageServer(), await pageServer()];
    const closed = { port: 9, protocol: "UDP" };
    kubelet.pods = [
      {
        namespace: "ml",
        name: "llm-0",
        containers: [
          { name: "mesh", init: true, restartPolicy: "Always", ports: [{ port: proxy.port }] },
          { name: "fetch", init: true, gpus: ["GPU-1"], ports: [{ port: init.port }] },
          { name: "proxy", ports: [{ port: proxy.port }] },
          { name: "engine", gpus: ["GPU-1", "GPU-2"], ports: [closed, { port: engine.port }] },
        ],
      },
    ];
    const { watched, servers } = watch();
    await watched.look();
    expect([...servers.values()]).toMatchObject([
      {
        id: "vllm@ml/llm-0",
        address: `http://127.0.0.1:${engine.port}/metrics`,
        gpus: ["GPU-1", "GPU-2"],
        pod: { namespace: "ml", name: "llm-0", uid: "uid-of-llm-0" },
      },
    ]);
    expect(watched.status()["pods"]).toMatchObject({ "ml/llm-0/engine": { state: "found" } });
    expect([engine.asked(), proxy.asked(), init.asked()]).toEqual([2, 0, 0]);
  });

  test("reads one server per container: a port that says metrics first, a sidecar that stays where it holds GPUs", async () => {
    const [one, two, three] = [await pageServer(), await pageServer(), await pageServer()];
    kubelet.pods = [
      {
        namespace: "ml",
        name: "pair",
        containers: [
          {
            name: "a",
            gpus: ["GPU-1"],
            ports: [{ port: one.port }, { port: two.port, name: "http-metrics" }],
          },
          { name: "b", init: true, restartPolicy: "Always", gpus: ["GPU-2"], ports: [{ port: three.port }] },
        ],
      },
    ];
    const { watched, servers } = watch();
    await watched.look();
    expect([...servers.values()].map(({ address, gpus, id }) => [id, address, gpus])).toEqual([
      ["vllm@ml/pair", `http://127.0.0.1:${two.port}/metrics`, ["GPU-1"]],
      ["vllm@ml/pair#2", `http://127.0.0.1:${three.port}/metrics`, ["GPU-2"]],
    ]);
    expect(one.asked()).toBe(0);
    kubelet.pods = [];
    await watched.look();
    expect(servers.size).toBe(0);
  });

  test("lets an annotation win, also one that wants nothing asked, and a configuration that takes annotations alone", async () => {
    const [named, declared] = [await pageServer(), await pageServer()];
    const containers = [{ name: "engine", gpus: ["GPU-1"], ports: [{ port: declared.port }] }];
    kubelet.pods = [
      { namespace: "a", name: "says", containers, annotations: annotated(named.port) },
      { namespace: "a", name: "none", containers, annotations: { "tokenwatt.io/port": "none" } },
    ];
    const { watched, servers } = watch();
    await watched.look();
    expect([...servers.values()].map(({ address }) => address)).toEqual([
      `http://127.0.0.1:${named.port}/metrics`,
    ]);
    expect(watched.status()["pods"]).toMatchObject({ "a/none": { state: "off" } });
    kubelet.pods = [{ namespace: "a", name: "silent", containers }];
    const only = watch({ kubernetes: "annotations" });
    await only.watched.look();
    expect(only.watched.status()).toMatchObject({ from: "annotations", pods: {} });
    expect(declared.asked()).toBe(0);
  });

  test("asks the pod's own address alone, four ports at most, and none beside those declared", async () => {
    const connected = new Set<string>();
    const original = Socket.prototype.connect;
    // Somebody who answers, but publishes nothing.
    const other = createServer((_, response) => response.writeHead(404).end());
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    closing.push(() => other.close());
    const { port } = other.address() as AddressInfo;
    const connect = vi.spyOn(Socket.prototype, "connect").mockImplementation(function (
      this: Socket,
      ...args
    ) {
      const [first, ...rest] = args.flat() as {
        host?: string;
        hostname?: string;
        port?: number;
        path?: unknown;
      }[];
      if (typeof first?.path === "string") return original.apply(this, args as never);
      connected.add(`${first?.host ?? first?.hostname}:${first?.port}`);
      return original.apply(this, [port, "127.0.0.1", ...rest.filter((one) => one !== null)] as never);
    });
    closing.push(() => connect.mockRestore());
    kubelet.pods = [
      {
        namespace: "a",
        name: "many",
        address: "10.9.8.7",
        containers: [
          { name: "x", gpus: ["GPU-1"], ports: [1, 3, 5, 7, 9, 11].map((one) => ({ port: one })) },
        ],
      },
    ];
    const { watched } = watch();
    await watched.look();
    expect([...connected]).toEqual(["10.9.8.7:1", "10.9.8.7:3", "10.9.8.7:5", "10.9.8.7:7"]);
    expect(watched.status()["pods"]).toMatchObject({ "a/many/x": { state: "nothing" } });
  });

  test("says what stands in the way: no declared port, a model that sleeps, more places than it looks at", async () => {
    const ports = [{ port: 1 }];
    kubelet.pods = [
      { namespace: "a", name: "bare", gpus: ["GPU-1"] },
      {
        namespace: "a",
        name: "sleeper",
        containers: [
          { name: "x", gpus: ["GPU-2"], ports, args: ["-m", "x.gguf", "--sleep-idle-seconds", "60"] },
        ],
      },
    ];
    const { watched } = watch();
    await watched.look();
    expect(watched.status()["pods"]).toEqual({
      "a/bare/main": { state: "refused", why: expect.stringContaining("declares no TCP port") },
      "a/sleeper/x": { state: "refused", why: expect.stringContaining("keep its model awake") },
    });
    kubelet.pods = Array.from({ length: 510 }, (_, index) => ({
      namespace: "a",
      name: `p${index}`,
      gpus: [`GPU-${index}`],
    }));
    await watched.look();
    expect(watched.status()["left_out"]).toBe(10);
  });

  test("keeps a server while pod-resources does not answer, and lets it go with its pod", async () => {
    const { port } = await pageServer();
    const containers = [{ name: "engine", gpus: ["GPU-1"], ports: [{ port }] }];
    kubelet.pods = [{ namespace: "a", name: "llm", containers }];
    const { watched, servers } = watch();
    await watched.look();
    expect(servers.size).toBe(1);
    kubelet.failingResources = true;
    await watched.look();
    expect(watched.status()["pod_resources"]).toMatchObject({ ok: false });
    expect([...servers.values()]).toMatchObject([{ gpus: ["GPU-1"] }]);
    kubelet.pods = [{ namespace: "a", name: "llm", uid: "replaced", containers }];
    await watched.look();
    expect(servers.size).toBe(0);
  });

  test("counts nothing twice: a pod behind a Service that is configured is told by its process start", async () => {
    const { port, asked } = await pageServer();
    const containers = [{ name: "engine", gpus: ["GPU-1"], ports: [{ port }] }];
    kubelet.pods = [{ namespace: "a", name: "llm", containers }];
    const health = new Map<string, { ok: boolean }>();
    const { watched, servers, sources, lastTokenSamples, clock } = watchKubelet(kubelet, closing, {}, health);
    const info = {
      id: "chat",
      type: "vllm",
      family: "engine",
      pollMs: 1000,
      address: "http://vllm.ml",
    } as const;
    servers.set("chat", info);
    // Before it was read nobody can tell.
    await watched.look();
    expect(asked()).toBe(0);
    expect(watched.status().pods).toMatchObject({ "a/llm/engine": { state: "waiting" } });
    health.set("server:chat", { ok: false });
    await watched.look();
    expect([...servers.keys()]).toEqual(["chat", "vllm@a/llm"]);
    // Silent then, it answers now: the one that was found steps back.
    const source = sources.get("vllm@a/llm");
    const sample = source?.kind === "pull" ? await source.poll() : undefined;
    if (sample === undefined) throw new Error("no sample");
    lastTokenSamples.set("vllm@a/llm", sample);
    lastTokenSamples.set("chat", { ...sample, server: "chat" });
    await watched.look();
    expect([...servers.keys()]).toEqual(["chat"]);
    expect(watched.status().pods).toMatchObject({ "a/llm/engine": { state: "known", server: "chat" } });
    // And is not taken in again while that lasts, but when it is gone.
    lastTokenSamples.delete("vllm@a/llm");
    await clock.advance(61e9);
    await watched.look();
    expect([...servers.keys()]).toEqual(["chat"]);
    servers.delete("chat");
    await clock.advance(122e9);
    await watched.look();
    expect([...servers.keys()]).toEqual(["vllm@a/llm"]);
  });

  test("asks a container that restarted what it runs: keeps the same, waits for one that loads, reads another", async () => {
    const { port, asked, show } = await pageServer();
    const runs = (id: string) => {
      const containers = [{ name: "engine", gpus: ["GPU-1"], ports: [{ port }], id }];
      kubelet.pods = [{ namespace: "a", name: "llm", containers }];
    };
    runs("containerd://1");
    const { watched, servers, sources, clock } = watch();
    await watched.look();
    const [source] = sources.values();
    const first = asked();
    await watched.look();
    expect(asked()).toBe(first);
    runs("containerd://2");
    await watched.look();
    expect(asked()).toBe(first + 1);
    expect([...servers.keys()]).toEqual(["vllm@a/llm"]);
    expect([...sources.values()]).toEqual([source]);
    show(undefined);
    runs("containerd://3");
    await watched.look();
    expect([...servers.keys()]).toEqual(["vllm@a/llm"]);
    expect(watched.status().pods?.["a/llm/engine"]).toMatchObject({ state: "found", server: "vllm@a/llm" });
    show("sglang-0.5.23-two-tenants");
    await clock.advance(16e9);
    await watched.look();
    expect([...servers.values()]).toMatchObject([
      { id: "sglang@a/llm", type: "sglang", gpus: ["GPU-1"], pod: { name: "llm" } },
    ]);
  });

  test("reads another type under the name an annotation gives, and asks none whose type it names", async () => {
    const [open, named] = [await pageServer(), await pageServer()];
    const runs = (id: string) => {
      const pod = (name: string, port: number, more: Record<string, string>) => ({
        namespace: "a",
        name,
        annotations: annotated(port, { "tokenwatt.io/id": name, ...more }),
        containers: [{ name: "main", id: `${name}-${id}` }],
      });
      kubelet.pods = [pod("open", open.port, {}), pod("named", named.port, { "tokenwatt.io/type": "vllm" })];
    };
    runs("1");
    const { watched, servers, sources } = watch();
    await watched.look();
    const source = sources.get("a/named");
    for (const { show } of [open, named]) show("sglang-0.5.23-two-tenants");
    runs("2");
    await watched.look();
    const types = [...servers.values()].map(({ id, type }) => [id, type]);
    expect(types.sort()).toEqual([
      ["a/named", "vllm"],
      ["a/open", "sglang"],
    ]);
    expect(sources.get("a/named")).toBe(source);
    expect(named.asked()).toBe(0);
  });

  test("asks an older kubelet over HTTPS where that is configured", async () => {
    const { port } = await pageServer();
    const https = await fakeKubeletHttps();
    closing.push(https.close);
    kubelet.pods = [{ namespace: "a", name: "llm", gpus: ["GPU-1"] }];
    const container = { name: "main", ports: [{ containerPort: port }] };
    https.body = JSON.stringify({
      items: [
        {
          metadata: { namespace: "a", name: "llm", uid: "u" },
          spec: { containers: [container] },
          status: { phase: "Running", podIP: "127.0.0.1" },
        },
      ],
    });
    const { caFile, endpoint, tokenFile } = https;
    const { watched, servers } = watch({
      podsSocket: "/nowhere/pods.sock",
      kubelet: { endpoint, tokenFile, caFile, insecureSkipVerify: false },
    });
    await watched.look();
    expect([...servers.values()]).toMatchObject([{ id: "vllm@a/llm", gpus: ["GPU-1"] }]);
    expect(watched.status()).toMatchObject({
      pods_api: { ok: false },
      kubelet_https: { ok: true, why: "answers, 1 running pods" },
    });
    const without = watch({ podsSocket: "/nowhere/pods.sock" });
    await without.watched.look();
    expect(without.watched.status()).not.toHaveProperty("kubelet_https");
    expect(https.asked).toEqual(["GET /pods"]);
  });
});

describe("twinOf()", () => {
  const sample = (server: string, model: string, epoch?: string): TokenSample => ({
    server,
    family: "engine",
    sent: 0,
    received: 0,
    at: 0,
    readings: [{ model, ...(epoch === undefined ? {} : { epoch }) } as TokenReading],
    ignoredSamples: 0,
    errors: [],
  });
  const info = { id: "found", type: "vllm", family: "engine", pollMs: 1, address: "10.0.0.1:8000" } as const;
  const twin = (theirs: TokenSample, ours: TokenSample, other: object = {}, found = false) => {
    const chat = { ...info, id: "chat", ...other };
    if (found) new Place().found({ info: chat } as ServerSource, "it was found");
    const lastTokenSamples = new Map([["chat", theirs]]);
    return twinOf(info, ours, { servers: new Map([["chat", chat]]), lastTokenSamples })?.server;
  };

  test.each([
    ["the same start and model", "m", "start:1", "m", "start:1", "chat"],
    ["another start", "m", "start:1", "m", "start:2", undefined],
    ["another model", "m", "start:1", "n", "start:1", undefined],
    ["no start on one side", "m", undefined, "m", "start:1", "chat"],
  ])("%s", (_, model, epoch, itsModel, itsEpoch, expected) => {
    expect(twin(sample("chat", itsModel, itsEpoch), sample("found", model, epoch))).toBe(expected);
  });

  test("a server of another type needs the start, one that was found is never the same", () => {
    const [theirs, ours] = [sample("chat", "m"), sample("found", "m")];
    expect(twin(theirs, ours, { type: "sglang" })).toBeUndefined();
    expect(twin(theirs, ours, {}, true)).toBeUndefined();
    expect(twin(sample("chat", "m", "s"), sample("found", "m", "s"), { type: "prometheus-generic" })).toBe(
      "chat",
    );
  });
});
