// What the meter posts is what the metrics table promises: every metric is in it, with no attribute it does not list.
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { openRecording } from "../../../agent/cli/replay/run.ts";
import { findMetric } from "../../../agent/export/metrics/metrics.ts";
import { gpuGauges, gpuInfoGauge, serverInfoGauge } from "../../../agent/meter/gauges.ts";
import { Meter } from "../../../agent/meter/meter.ts";
import type {
  AnyPosting,
  Dimensions,
  GpuInfo,
  GpuSample,
  ServerInfo,
  SettledInterval,
  TokenIncrement,
  TokenSample,
} from "../../../agent/model.ts";

const histogram = { bounds: [1], counts: [1, 0], sum: 0.5, count: 1 };

/** Attributes used per metric that its row does not list; empty when all is well. */
function strangers(used: readonly { readonly metric: string; readonly dimensions: Dimensions }[]): string[] {
  const found = new Set<string>();
  for (const { metric, dimensions } of used) {
    const row = findMetric(metric);
    if (row === undefined) found.add(`${metric} is not in the table`);
    for (const key of Object.keys(dimensions)) {
      if (row !== undefined && !row.attributes.includes(key)) found.add(`${metric}: ${key}`);
    }
  }
  return [...found];
}

function gpuInfo(uuid: string): GpuInfo {
  return {
    uuid,
    weight: 1,
    index: 0,
    name: "NVIDIA H100",
    pciBusId: "00:01.0",
    driverVersion: "1",
    migProfile: "1g",
  };
}

function serverInfo(id: string, family: ServerInfo["family"]): ServerInfo {
  return { id, type: "vllm", family, address: "localhost:1", pollMs: 1000, endpoint: "chat" };
}

/** Tokens, requests and every latency of a gateway and an engine, late and on time. */
function increments(): TokenIncrement[] {
  const latencies = {
    time_to_first_token: histogram,
    time_per_output_token: histogram,
    inter_token_latency: histogram,
    request_duration: histogram,
    queue_time: histogram,
  };
  return (["engine", "gateway"] as const).flatMap((family) =>
    [false, true].map((late) => ({
      server: family,
      family,
      model: "m",
      tenant: "t",
      endpoint: "e",
      role: "combined" as const,
      tokens: { input_uncached: 5, input_cached: 3, input_unsplit: 2, output: 4 },
      tokensByOutcome: { error: { output: 1 } },
      reasoningTokens: 2,
      requests: { ok: 2, error: 1, aborted: 1, rejected: 1 },
      latencies,
      resets: 1,
      late,
      at: 1,
    })),
  );
}

describe("the metrics table", () => {
  test("lists every metric and attribute the meter posts for a recording of two servers on one GPU", async () => {
    const meter = new Meter();
    const posted: AnyPosting[] = [];
    let gpus = new Map<string, GpuInfo>();
    let servers = new Map<string, ServerInfo>();
    const run = await openRecording({
      folder: fileURLToPath(new URL("../../fixtures/traces/h100-shared-8b-1b", import.meta.url)),
      gpuPollMs: 1000,
      tokenPollMs: 5000,
      intervalMs: 1000,
      warn: () => {},
      onInterval: (interval) =>
        posted.push(...meter.meterInterval(interval, { gpus, servers, soleModel: () => "m" })),
    });
    gpus = new Map(run.gpus.map((uuid) => [uuid, gpuInfo(uuid)]));
    servers = new Map(run.servers.map((id) => [id, serverInfo(id, "engine")]));
    await run.run();
    expect(posted.length).toBeGreaterThan(300);
    expect(strangers(posted)).toEqual([]);
  });

  test("lists what gateways, late tokens, resets and broken laws post", () => {
    const nanos = { token_active: 1, stalled: 0, parked: 0, unknown: 0 };
    const interval: SettledInterval = {
      from: 0,
      to: 1,
      gpus: [],
      servers: ["engine", "gateway"].map((server) => ({
        server,
        nanos,
        activityMethod: "counter_gpu" as const,
        increments: increments().filter((one) => one.server === server),
      })),
      lateSamples: 1,
      violations: ["states sum to wall time"],
    };
    const families = (["engine", "gateway"] as const).map((id) => [id, serverInfo(id, id)] as const);
    const posted = new Meter().meterInterval(interval, {
      gpus: new Map(),
      servers: new Map(families),
      soleModel: () => "m",
    });
    expect(new Set(posted.map((one) => one.metric)).size).toBeGreaterThan(12);
    expect(strangers(posted)).toEqual([]);
  });

  test("lists what is observed of a GPU and a server", () => {
    const info = { ...gpuInfo("MIG-1"), parent: "GPU-1" };
    const sample: GpuSample = {
      gpu: info.uuid,
      at: 1,
      powerWatts: 300,
      utilizationRatio: 0.5,
      memoryUsedBytes: 1,
      temperatureCelsius: 40,
      memoryTemperatureCelsius: 50,
      smClockHertz: 1e9,
      memoryClockHertz: 1e9,
      smActiveRatio: 0.5,
      tensorActiveRatio: 0.5,
      dramActiveRatio: 0.5,
    };
    const tokens: TokenSample = {
      server: "engine",
      family: "engine",
      sent: 1,
      received: 1,
      at: 1,
      readings: [],
      version: "1",
      ignoredSamples: 0,
      errors: [],
    };
    const seen = [
      ...gpuGauges(info, sample, 1000),
      gpuInfoGauge(info, 1, 1000),
      serverInfoGauge(serverInfo("engine", "engine"), tokens),
    ];
    expect(seen.length).toBeGreaterThan(8);
    expect(strangers(seen)).toEqual([]);
  });
});
