// The whole agent, killed with SIGKILL at random moments: every token of the server arrives once, no second is missing.
// The server counts on while the agent is down; the collector sees one unbroken cumulative series per key.
// 12 kills here, more with E2E_AGENT_KILLS.
import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { fromBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { systemClock } from "../../agent/platform/clock.ts";
import { serveTokenCounters } from "../../agent/servers/token-counters/server.ts";
import type { FakeCollector } from "../fakes/otlp-collector.ts";
import { startCollector } from "../fakes/otlp-collector.ts";
import { ExportMetricsServiceRequestSchema } from "../gen/opentelemetry/proto/collector/metrics/v1/metrics_service_pb.ts";

const KILLS = Number(process.env["E2E_AGENT_KILLS"] ?? 12);
const main = fileURLToPath(new URL("../../agent/main.ts", import.meta.url));
const demo = fileURLToPath(new URL("../../deploy/demo/h100-solo-8b", import.meta.url));
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

interface Seen {
  /** Last value by series. */
  readonly last: Map<string, number>;
  /** Start times by series: more than one means the series broke. */
  readonly starts: Map<string, Set<bigint>>;
  readonly times: Map<string, bigint>;
  readonly falls: string[];
}

function seen(collector: FakeCollector, name: string): Seen {
  const result: Seen = { last: new Map(), starts: new Map(), times: new Map(), falls: [] };
  for (const body of collector.requests) {
    for (const resource of fromBinary(ExportMetricsServiceRequestSchema, body).resourceMetrics) {
      for (const metric of resource.scopeMetrics.flatMap((scope) => scope.metrics)) {
        if (metric.name !== name || metric.data.case !== "sum") continue;
        for (const point of metric.data.value.dataPoints) {
          const key = point.attributes.map((one) => `${one.key}=${one.value?.value.value}`).join(",");
          // NO_RECORDED_VALUE ends a series and carries no value; what was sent before comes again after a kill.
          if ((point.flags & 1) !== 0 || point.timeUnixNano <= (result.times.get(key) ?? 0n)) continue;
          result.times.set(key, point.timeUnixNano);
          const value = Number(point.value.value ?? 0);
          const before = result.last.get(key) ?? 0;
          if (value < before) {
            const when = `at ${point.timeUnixNano}, start ${point.startTimeUnixNano}`;
            result.falls.push(`${key}: ${before} -> ${value} ${when}`);
          }
          result.last.set(key, value);
          result.starts.set(key, (result.starts.get(key) ?? new Set()).add(point.startTimeUnixNano));
        }
      }
    }
  }
  return result;
}

test(`${KILLS} x kill -9 of the agent lose and double no token`, {
  timeout: 60_000 + KILLS * 10_000,
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), "tokenwatt-kill-"));
  const collector = await startCollector();
  const clock = systemClock();
  const started = clock.now();
  let frozen: number | undefined;
  let served = 0;
  const firstRead = Promise.withResolvers<number>();
  const server = await serveTokenCounters("127.0.0.1:0", {
    clock,
    intervalMs: 200,
    read: () => {
      served = frozen ?? 3 * Math.floor((clock.now() - started) / 1e6);
      firstRead.resolve(served);
      return [
        {
          epochId: "one",
          pids: [418],
          running: 1,
          counters: [{ model: "m", tokens: [{ kind: "output", tokens: served }] }],
        },
      ];
    },
  });
  const config = join(folder, "config.yaml");
  writeFileSync(
    config,
    JSON.stringify({
      stateDir: join(folder, "state"),
      gpu: { backend: "replay", replay: { path: demo, time: "now", fromSeconds: 16, loop: true } },
      servers: { "token-counters": [{ id: "s", endpoint: server.address, pollMs: 200 }] },
      export: { otlp: { endpoint: `http://127.0.0.1:${collector.port}` }, prometheus: { listen: "" } },
      rates: { exportMs: 2000 },
    }),
  );
  const start = (): ChildProcess =>
    spawn(process.execPath, [main, "run", "--config", config], { stdio: ["ignore", "ignore", "inherit"] });
  let agent = start();
  const base = await firstRead.promise;
  await pause(5000);
  for (let kill = 0; kill < KILLS; kill++) {
    await pause(500 + 3500 * Math.random());
    agent.kill("SIGKILL");
    await once(agent, "exit");
    agent = start();
  }
  await pause(4000);
  frozen = 3 * Math.floor((clock.now() - started) / 1e6);
  await pause(4000);
  agent.kill("SIGTERM");
  await once(agent, "exit");
  const tokens = seen(collector, "tokenwatt.tokens");
  const seconds = seen(collector, "tokenwatt.gpu.time");
  const total = [...tokens.last.values()].reduce((sum, value) => sum + value, 0);
  console.log(
    `${KILLS} kills: ${total} tokens arrived, ${frozen - base} made; lost or doubled: ${total - (frozen - base)}`,
  );
  expect(total).toBe(frozen - base);
  expect(tokens.falls).toEqual([]);
  expect(seconds.falls).toEqual([]);
  for (const starts of tokens.starts.values()) expect(starts.size).toBe(1);
  const metered = [...seconds.last.values()].reduce((sum, value) => sum + value, 0);
  const wall = (clock.now() - started) / 1e9;
  expect(metered).toBeGreaterThan(wall - 8);
  expect(metered).toBeLessThanOrEqual(wall + 0.001);
  await server.close();
  await collector.close();
});
