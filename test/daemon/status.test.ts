// `/-/status` as a running agent answers it: GPUs, a server, a pod, a ledger and a destination that refuses what it gets.
// Its keys are snake_case but for those that are data, and what the documents quote of it is there.
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import { loadConfig } from "../../agent/config/load.ts";
import { startAgent } from "../../agent/daemon/agent.ts";
import { systemClock } from "../../agent/platform/clock.ts";
import { status as grpcStatus } from "../../agent/platform/grpc.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { servePage } from "../discovery/kubernetes-rig.ts";
import { fakeKubelet } from "../fakes/kubelet.ts";
import { buildFakeNvml, fakeNvml } from "../fakes/nvml/build.ts";
import { startCollector } from "../fakes/otlp-collector.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const smi = fileURLToPath(new URL("../fakes/nvidia-smi", import.meta.url));
const library = buildFakeNvml();

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** Objects whose keys are data, and what such a key looks like. */
const DATA: Readonly<Record<string, RegExp>> = {
  sources: /^(gpu|server):?/,
  "correlation.energy": /^GPU-/,
  "gpu_backend.trouble": /^GPU-/,
  "gpu_backend.unsupported": /^GPU-/,
  "host.discovery.ports": /^\d+$/,
  "host.kubernetes.pods": /^ml\/typo$/,
  "export.destinations[].dropped_points": /^[A-Z_]+$/,
};

interface Key {
  /** Path of the object it is in. */
  readonly of: string;
  readonly key: string;
}

/** Every key of a value, with `[]` for the elements of an array and `*` for a key that is data. */
function keysOf(value: unknown, path = ""): readonly Key[] {
  if (Array.isArray(value)) return value.flatMap((one) => keysOf(one, `${path}[]`));
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) => {
    const step = path in DATA ? "*" : key;
    return [{ of: path, key }, ...keysOf(inner, path === "" ? step : `${path}.${step}`)];
  });
}

/** Settings of a GPU backend over two boards of a fake; NVML's refuse a reading, those of nvidia-smi most of them. */
const BACKENDS: Readonly<Record<string, () => readonly string[]>> = {
  nvml: () => {
    // A process that names a port holds a GPU.
    const idle = ["-e", "setInterval(() => {}, 1e9)", "--", "--port", "18080"];
    const holder = spawn(process.execPath, idle, { stdio: "ignore" });
    closing.push(() => holder.kill());
    const refusal = "fail nvmlDeviceGetTemperature -1 3";
    const { path } = fakeNvml(library as string, "gpus 2", `pid 0 ${holder.pid}`, refusal);
    return ["gpu.backend=nvml", `gpu.nvml.libraryPath=${path}`];
  },
  "nvidia-smi": () => {
    const path = join(mkdtempSync(join(tmpdir(), "nvidia-smi-")), "nvidia-smi");
    writeFileSync(path, `#!/bin/sh\nFAKE_MODE=absent exec '${smi}' "$@"\n`, { mode: 0o755 });
    return ["gpu.backend=nvidia-smi", `gpu.nvidia-smi.path=${path}`];
  },
};

type Json = Readonly<Record<string, never>>;

/** What an agent with that backend answers once everything it is connected to has said something. */
async function answered(backend: string, isThere: (status: Json) => unknown): Promise<Json> {
  const stateDir = mkdtempSync(join(tmpdir(), "tokenwatt-status-"));
  closing.push(() => rmSync(stateDir, { recursive: true, force: true }));
  const collector = await startCollector({
    answer: () => ({ kind: "error", code: grpcStatus.INVALID_ARGUMENT }),
  });
  closing.push(() => collector.close());
  const kubelet = await fakeKubelet();
  closing.push(() => kubelet.close());
  kubelet.pods = [{ namespace: "ml", name: "typo", annotations: { "tokenwatt.io/prot": "1" } }];
  const { port } = await servePage(closing);
  const { config } = loadConfig({
    env: {},
    file: false,
    settings: [
      `stateDir=${stateDir}`,
      "export.prometheus.listen=127.0.0.1:0",
      `export.otlp.endpoint=http://127.0.0.1:${collector.port}`,
      "rates.exportMs=1000",
      `discovery.podsSocket=${kubelet.podsSocket}`,
      `discovery.podResourcesSocket=${kubelet.podResourcesSocket}`,
      `servers.vllm=${JSON.stringify([{ id: "Chat-1", endpoint: `http://127.0.0.1:${port}/metrics` }])}`,
      ...(BACKENDS[backend]?.() ?? []),
    ],
  });
  const agent = await startAgent({ config, clock: systemClock(), log: silentLog, env: {} });
  closing.push(() => agent.stop({ flushMs: 200 }));
  let status: Json = {};
  const ready = async (): Promise<boolean> => {
    const answer = await fetch(`http://${agent.exports.address}/-/status`);
    status = (await answer.json()) as Json;
    return Boolean(isThere(status));
  };
  await expect.poll(ready, { timeout: 60_000, interval: 200 }).toBe(true);
  return status;
}

/** Keys that are data, which must stay as they are, by the path of their object. */
const dataIn = (keys: readonly Key[], path: string): string[] =>
  keys.filter(({ of }) => of === path).map(({ key }) => key);

describe("/-/status", () => {
  test.each(Object.keys(BACKENDS).filter((name) => name !== "nvml" || library !== undefined))(
    "answers snake_case keys, and leaves those that are data, with %s",
    async (backend) => {
      const wanted = Object.keys(DATA).filter((path) => {
        // A fake driver is never in trouble; the fake nvidia-smi names processes that are not there.
        return path !== "gpu_backend.trouble" && (backend === "nvml" || path !== "host.discovery.ports");
      });
      const status = await answered(backend, (one) => {
        const keys = keysOf(one);
        const paths = new Set(keys.map(({ of }) => of));
        return wanted.every((path) => paths.has(path)) && dataIn(keys, "sources").includes("server:Chat-1");
      });
      const keys = keysOf(status);
      const ours = keys.filter(({ of }) => !(of in DATA));
      expect(ours.filter(({ key }) => !/^[a-z][a-z0-9_]*$/.test(key))).toEqual([]);
      for (const path of wanted)
        for (const key of dataIn(keys, path))
          expect([path, key]).toEqual([path, expect.stringMatching(DATA[path] as RegExp)]);
      expect(status).toMatchObject({
        gpus: [{ driver_version: expect.any(String) }, {}],
        servers: [{ id: "Chat-1", poll_ms: expect.any(Number) }],
        sources: { "server:Chat-1": { ok: true, last_read_ms: expect.any(Number) } },
        export: {
          spool: { bytes_max: expect.any(Number) },
          destinations: [{ dropped_points: { INVALID_ARGUMENT: expect.any(Number) } }],
          ledger: { waiting_rows: 0 },
        },
      });
    },
    120_000,
  );

  test("has every path the documents quote of it", async () => {
    const quoted = documents().flatMap(([name, text]) => quotedPaths(text).map((path) => ({ name, path })));
    expect(quoted.length).toBeGreaterThan(10);
    const pathsOf = (status: Json) =>
      new Set(keysOf(status).map(({ of, key }) => (of === "" ? key : `${of}.${key}`)));
    const refused = "export.destinations[].last_error";
    const paths = pathsOf(await answered("nvidia-smi", (status) => pathsOf(status).has(refused)));
    expect(quoted.filter(({ path }) => !paths.has(path))).toEqual([]);
  }, 120_000);
});

function documents(): readonly (readonly [name: string, text: string])[] {
  const names = ["deploy", "agent", "systemd"].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".md"))
      .map((name) => join(folder, name)),
  );
  return [...names, "README.md"].map((name) => [name, readFileSync(join(root, name), "utf8")] as const);
}

/** Names and paths in code behind `/-/status` in a sentence, a part of one or a cell. */
function quotedPaths(text: string): readonly string[] {
  return text
    .split(/\.\s|;\s|\|/)
    .flatMap((part) => part.split("/-/status").slice(1))
    .flatMap((behind) => [...behind.matchAll(/`([\w.[\]]+)`/g)])
    .map(([, path = ""]) => path);
}
