// The measured base of deploy/docs/sizing.md: bytes a host sends per beat, and processor time a gateway takes for them.
// Run by hand: node test/e2e/deploy-sizing.ts [hosts] [beats]; needs otelcol-deploy and prometheus.
import { createOtlpEncoder } from "../../agent/export/otlp/encoder.ts";
import { grpcTransport } from "../../agent/export/otlp/transport.ts";
import type { LedgerPoint } from "../../agent/model.ts";
import { startFleet } from "./deploy-fleet-rig.ts";
import { deployTool } from "./deploy-tools.ts";

const [hosts = 100, beats = 20] = process.argv.slice(2).map(Number);
const GPUS = 8;
const SECOND = 1_000_000_000n;

const fleet = await startFleet({
  prometheus: deployTool("prometheus") ?? "",
  otelcol: deployTool("otelcol-deploy") ?? "",
  withDemo: false,
});
const transport = grpcTransport({ target: `127.0.0.1:${fleet.ports.gateway}` }, { gzip: true });
const encoders = Array.from({ length: hosts }, (_, host) =>
  createOtlpEncoder({
    resource: {
      "service.name": "tokenwatt",
      "service.instance.id": `bench-${host}`,
      "host.name": `gpu-${host}`,
    },
    version: "0",
  }),
);
const began = BigInt(Math.floor(Date.now() / 1000) - beats * 10 - 10) * SECOND;
let bytes = 0;
let points = 0;
const before = fleet.gatewaySeconds();
for (let beat = 1; beat <= beats; beat++) {
  const time = began + BigInt(beat) * 10n * SECOND;
  const snapshot = hostPoints(beat, time);
  for (const encoder of encoders) {
    for (const request of encoder.encode({ sequence: beat, time, points: snapshot })) {
      bytes += request.bytes.length;
      points += snapshot.length;
      const delivery = await transport.send(request.bytes, AbortSignal.timeout(10_000));
      if (delivery.kind !== "accepted") throw new Error(JSON.stringify(delivery));
    }
  }
}
await new Promise((resolve) => setTimeout(resolve, 5_000));
const seconds = fleet.gatewaySeconds() - before;
console.log({
  series_per_host: hostPoints(1, began).length,
  uncompressed_bytes_per_beat: Math.round(bytes / hosts / beats),
  points,
  gateway_cpu_seconds: seconds,
  gateway_cpu_seconds_per_10k_points: (seconds / points) * 10_000,
  gateway_rss_mebibytes: fleet.gatewayMebibytes(),
});
transport.close();
await fleet.stop();

/** What a host of 8 GPUs with a server on each sends: as many series as the agent has, each with another value a beat. */
function hostPoints(beat: number, time: bigint): LedgerPoint[] {
  const list: LedgerPoint[] = [];
  const add = (metric: string, dimensions: Record<string, string>): void => {
    const value =
      metric.startsWith("hw.") && !metric.endsWith("energy") ? beat * 1.5 : BigInt(beat * 1_234_567);
    list.push({
      metric,
      dimensions,
      value,
      series: list.length,
      start: began,
      time,
      isNew: beat === 1,
      ended: false,
    });
  };
  for (let gpu = 0; gpu < GPUS; gpu++) {
    const board = {
      "hw.id": `GPU-00000000-0000-4000-8000-00000000000${gpu}`,
      "hw.model": "NVIDIA H100 80GB HBM3",
    };
    const server = {
      "tokenwatt.server.id": `server-${gpu}`,
      "gen_ai.request.model": "meta-llama/Llama-3.1-8B-Instruct",
    };
    for (const state of ["parked", "stalled", "token_active", "free"]) {
      const how = { "tokenwatt.gpu.state": state, "tokenwatt.method": "active_time" };
      for (const metric of ["tokenwatt.gpu.time", "tokenwatt.gpu.energy"]) add(metric, { ...board, ...how });
      if (state === "free") continue;
      for (const metric of ["tokenwatt.server.gpu_time", "tokenwatt.server.energy"])
        add(metric, { ...server, ...board, ...how });
    }
    for (const metric of ["tokenwatt.gpu.busy_time", "tokenwatt.gpu.clock", "tokenwatt.gpu.sm_active"])
      add(metric, board);
    for (const metric of [
      "hw.power",
      "hw.energy",
      "hw.temperature",
      "hw.gpu.utilization",
      "hw.gpu.memory.usage",
    ])
      add(metric, { ...board, "hw.type": "gpu" });
    for (const kind of ["input_uncached", "input_cached", "output"])
      add("tokenwatt.tokens", { ...server, "hw.model": board["hw.model"], "tokenwatt.token.kind": kind });
    for (const outcome of ["ok", "error"])
      add("tokenwatt.requests", { ...server, "tokenwatt.outcome": outcome });
    for (const metric of [
      "tokenwatt.server.running",
      "tokenwatt.server.waiting",
      "tokenwatt.server.kv_cache.utilization",
    ])
      add(metric, server);
  }
  return list;
}
