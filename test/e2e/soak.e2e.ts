// Memory over time: an agent under churn of servers, tenants, models, processes and reloads, with a Collector that comes and
// goes. Prints the curve, and wants it to level off: the last third takes at most half of what the first took, but for noise.
// E2E_SOAK_MINUTES (default 3) says for how long; E2E_SOAK_FASTER (default 1) multiplies the pace of the churn.
import type { ChildProcess } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { openChannel } from "../../agent/platform/grpc.ts";
import { MALLOC } from "../../deploy/pack/runtime.ts";
import { field, message } from "../fakes/grpc-peer.ts";
import type { FakeCollector } from "../fakes/otlp-collector.ts";
import { startCollector } from "../fakes/otlp-collector.ts";
import { AgentHome, end, freePort, memoryMb, pause } from "./faults/whole-agent.ts";

const MINUTES = Number(process.env["E2E_SOAK_MINUTES"] ?? 3);
const FASTER = Number(process.env["E2E_SOAK_FASTER"] ?? 1);
const SAMPLE_MS = 10_000;
/** Noise of the collector of V8, and pages the allocator keeps. */
const NOISE_MB = 12;
/** Servers at a time, and how many of them are others after a reload. */
const SERVERS = 8;
const REPLACED = 2;
const SERIES_MAX = 3000;
/** Compressed: what rests for a day on a host rests for two minutes here. */
const IDLE_SECONDS = 120;

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** A vLLM page whose model names change with `generation`. */
async function engines(): Promise<{ readonly port: number; generation: number }> {
  let polls = 0;
  const state = { port: 0, generation: 0 };
  const server = createServer((request, response) => {
    polls++;
    const model = `model-${request.url?.slice(1)}-${state.generation}`;
    const labels = `{engine="0",model_name="${model}"}`;
    response.setHeader("content-type", "text/plain");
    response.end(
      `${["generation", "prompt"]
        .map(
          (kind) => `# TYPE vllm:${kind}_tokens counter\nvllm:${kind}_tokens_total${labels} ${polls * 10}\n`,
        )
        .join("")}vllm:num_requests_running${labels} 1\n`,
    );
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  state.port = (server.address() as AddressInfo).port;
  closing.push(
    () => server.closeAllConnections(),
    () => server.close(),
  );
  return state;
}

/** A recording of a GPU whose processes are others every few seconds; one stays. */
function recordProcesses(folder: string): string {
  const path = join(folder, "recording");
  mkdirSync(path);
  const uuid = "GPU-11111111-1111-4111-8111-111111111111";
  const lines: unknown[] = [{ kind: "device", uuid, name: "NVIDIA H100 80GB HBM3", power_limit_mw: 700_000 }];
  const began = Math.floor(Date.now() / 1000);
  for (let second = 0; second < (MINUTES + 2) * 60; second++) {
    const pids = [
      900_000,
      ...[1, 2, 3].map((place) => 1_000_000 + Math.floor((second * FASTER) / 3) * 3 + place),
    ];
    lines.push({
      t: began + second,
      gpu_util_pct: 50,
      power_average_mw: 300_000,
      energy_mj: second * 300_000,
      processes: pids.map((pid) => ({ pid, used_memory_bytes: 1e9 })),
    });
  }
  writeFileSync(join(path, "gpu.jsonl"), lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
  return path;
}

/** Records of usage of tenants. */
function records(all: readonly { readonly id: string; readonly tenant: string }[]): Buffer {
  const tokens = field(7, message(field(1, 4), field(3, 100)));
  const one = ({ id, tenant }: { readonly id: string; readonly tenant: string }): Buffer =>
    message(
      ...[field(1, id), field(2, Date.now() * 1e6), field(3, "m"), field(4, tenant), field(6, 1), tokens],
    );
  return message(field(1, "soak"), ...all.map((each) => field(2, one(each))));
}

test(`${MINUTES} minutes of churn: memory levels off`, { timeout: (MINUTES + 3) * 60_000 }, async () => {
  const page = await engines();
  const [usage, collectorPort] = [await freePort(), await freePort()];
  const home = await AgentHome.make({});
  const recording = recordProcesses(home.folder);
  const config = (generation: number): Record<string, unknown> => ({
    gpu: { backend: "replay", replay: { path: recording, time: "now", loop: true } },
    series: { max: SERIES_MAX, idleSeconds: IDLE_SECONDS },
    servers: {
      vllm: Array.from({ length: SERVERS }, (_, place) => {
        const id = `engine-${place}-${Math.floor((generation * REPLACED + place) / SERVERS)}`;
        return { id, endpoint: `http://127.0.0.1:${page.port}/${place}` };
      }),
      "usage-reports": [{ id: "usage", endpoint: `127.0.0.1:${usage}` }],
    },
    export: {
      prometheus: { listen: `127.0.0.1:${home.port}` },
      otlp: { endpoint: `http://127.0.0.1:${collectorPort}` },
    },
    rates: { exportMs: 2000, scrapeMs: 1000 },
  });
  home.configure(config(0));
  const agent: ChildProcess = await home.startReady(MALLOC);
  closing.push(() => end(agent, "SIGKILL"));
  const channel = openChannel({ target: `127.0.0.1:${usage}` });
  closing.push(() => channel.close());
  let collector: FakeCollector | undefined;
  closing.push(() => collector?.close());
  let [sent, waiting] = [0, 0];
  const report = (): void => {
    // Answers come with the next commit: callers do not wait for one another.
    if (waiting >= 100) return;
    waiting++;
    const ten = Array.from({ length: 10 }, () => ({
      id: `r${sent}`,
      tenant: `tenant-${Math.floor(sent++ / 20)}`,
    }));
    const same = (bytes: Buffer): Buffer => bytes;
    const deadline = { deadline: Date.now() + 5000 };
    const path = "/tokenwatt.v1.UsageReports/ReportUsage";
    channel.makeUnaryRequest(path, same, same, records(ten), deadline, () => {
      waiting--;
    });
  };
  const started = Date.now();
  const curve: {
    readonly seconds: number;
    readonly anonMb: number;
    readonly series: number;
    readonly page: number;
  }[] = [];
  let steps = 0;
  let nextSample = started;
  while (Date.now() - started < MINUTES * 60_000) {
    steps++;
    for (let i = 0; i < 5; i++) report();
    if (steps % 20 === 0) page.generation++;
    if (steps % 15 === 0) {
      home.configure(config(steps / 15));
      agent.kill("SIGHUP");
    }
    if (steps % 25 === 0) {
      if (collector === undefined) collector = await startCollector({ listen: `127.0.0.1:${collectorPort}` });
      else {
        await collector.close();
        collector = undefined;
      }
    }
    // What it was sent is not looked at here.
    collector?.requests.splice(0);
    await home.page(steps % 2 === 0 ? "/metrics" : "/-/status");
    if (Date.now() >= nextSample) {
      nextSample += SAMPLE_MS;
      const answer = await home.page("/-/status", 30_000);
      // On a machine that does much else an answer may take long: there is another in a few seconds.
      if (answer.status !== 200) continue;
      const status = JSON.parse(answer.body) as { export?: { series?: number } };
      const lines = (await home.page("/metrics")).body.split("\n").length;
      const seconds = Math.round((Date.now() - started) / 1000);
      curve.push({
        seconds,
        anonMb: memoryMb(agent, "RssAnon"),
        series: status.export?.series ?? 0,
        page: lines,
      });
    }
    await pause(1000 / FASTER);
  }
  for (const { anonMb, page: lines, seconds, series } of curve) {
    console.log(
      `${String(seconds).padStart(5)} s ${anonMb.toFixed(0).padStart(4)} MB ${"#".repeat(Math.round(anonMb / 4))} ${series} series, ${lines} lines`,
    );
  }
  const third = Math.floor(curve.length / 3);
  const mean = (part: typeof curve): number =>
    part.reduce((sum, { anonMb }) => sum + anonMb, 0) / part.length;
  const at = (place: number): number => mean(curve.slice(Math.max(0, place - 1), place + 2));
  const [first, one, two, last] = [at(0), at(third), at(2 * third), at(curve.length - 1)];
  const grown = [one - first, two - one, last - two].map(Math.round);
  console.log(
    `${sent} records of ${Math.floor(sent / 20)} tenants, ${Math.floor(steps / 15)} reloads; ${Math.round(first)} MB, more in each third: ${grown.join(", ")} MB`,
  );
  expect(grown[2]).toBeLessThanOrEqual(Math.max(NOISE_MB, (grown[0] ?? 0) / 2));
});
