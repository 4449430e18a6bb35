import { describe, expect, test } from "vitest";
import { Convenience } from "../../agent/meter/convenience.ts";
import type { Gauge, GpuInfo, SettledInterval } from "../../agent/model.ts";

const gpus = new Map<string, GpuInfo>([["GPU-a", { uuid: "GPU-a", index: 0, name: "H100", weight: 1 }]]);

function second(index: number, tokens: number, active: number): SettledInterval {
  const nanos = {
    token_active: active * 1e9,
    stalled: 0,
    parked: (1 - active) * 1e9,
    other: 0,
    free: 0,
    unobserved: 0,
  };
  const millijoules = {
    token_active: 400_000 * active,
    stalled: 0,
    parked: 0,
    other: 0,
    free: 0,
    unobserved: 0,
    unattributed: 0,
  };
  return {
    from: index * 1e9,
    to: (index + 1) * 1e9,
    lateSamples: 0,
    violations: [],
    gpus: [
      {
        gpu: "GPU-a",
        nanos,
        millijoules,
        busyNanos: 0,
        activityMethod: "counter_gpu",
        energyMethod: "counter",
        rejectedMillijoules: 0,
        residents: [{ server: "s", nanos, millijoules, method: "direct" }],
      },
    ],
    servers: [
      {
        server: "s",
        nanos: { token_active: 0, stalled: 0, parked: 0, unknown: 0 },
        activityMethod: "counter_gpu",
        increments: [
          {
            server: "s",
            family: "engine",
            role: "combined",
            tokens: { output: tokens },
            reasoningTokens: 0,
            requests: {},
            latencies: {},
            resets: 0,
            late: false,
            at: 0,
          },
        ],
      },
    ],
  };
}

describe("Convenience", () => {
  test("gives ratios of sums over its windows, per server and product, once per 10 s", () => {
    const windows = new Convenience();
    const batches: (readonly Gauge[])[] = [];
    for (let index = 0; index < 120; index++)
      batches.push(windows.add(second(index, index < 60 ? 0 : 100, 0.5), gpus));
    expect(batches.filter((batch) => batch.length > 0)).toHaveLength(12);
    const last = batches.at(-1) ?? [];
    const value = (metric: string, window: string, key: string): number | undefined =>
      last.find(
        (gauge) =>
          gauge.metric === metric &&
          gauge.dimensions["tokenwatt.window"] === window &&
          key in gauge.dimensions,
      )?.value;
    for (const key of ["tokenwatt.server.id", "hw.model"]) {
      expect(value("tokenwatt.tokens_per_gpu_hour", "1m", key)).toBeCloseTo(360_000, 6);
      expect(value("tokenwatt.tokens_per_gpu_hour", "1h", key)).toBeCloseTo(180_000, 6);
      expect(value("tokenwatt.token_active_utilization", "1m", key)).toBeCloseTo(0.5, 9);
      expect(value("tokenwatt.tokens_per_joule", "1m", key)).toBeCloseTo(0.5, 9);
    }
  });

  test("gives nothing where a denominator is empty", () => {
    const windows = new Convenience();
    const idle = { ...second(20, 0, 0), gpus: [] };
    expect(windows.add(idle, gpus)).toEqual([]);
  });
});
