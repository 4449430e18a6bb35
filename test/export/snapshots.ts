// Snapshots for tests and benches of the export room: fixed ones of a given size and arbitrary ones for properties.
import fc from "fast-check";
import type { Metric } from "../../agent/export/metrics.ts";
import { findMetric, metrics } from "../../agent/export/metrics.ts";
import type { LedgerPoint, LedgerSnapshot } from "../../agent/model.ts";

/** 2026-01-01T00:00:00Z. */
export const T0 = 1_767_225_600_000_000_000n;
export const SECOND = 1_000_000_000n;

/** A point with everything defaulted: a sum of the first ten seconds after T0. */
export function point(
  metric: string,
  value: LedgerPoint["value"],
  rest: Partial<LedgerPoint> = {},
): LedgerPoint {
  return {
    metric,
    value,
    dimensions: {},
    series: 1,
    start: T0,
    time: T0 + 10n * SECOND,
    isNew: false,
    ended: false,
    ...rest,
  };
}

export function snapshot(points: readonly LedgerPoint[], rest: Partial<LedgerSnapshot> = {}): LedgerSnapshot {
  return { sequence: 1, time: T0 + 10n * SECOND, points, ...rest };
}

/** `count` sums of realistic shape (8 attributes), `beat` beats after T0; every value moves with each beat. */
export function bulk(count: number, beat = 1, isNew = false): LedgerSnapshot {
  const names = [
    "tokenwatt.server.gpu_time",
    "tokenwatt.server.energy",
    "tokenwatt.tokens",
    "tokenwatt.requests",
  ];
  const time = T0 + BigInt(beat) * 10n * SECOND;
  const points: LedgerPoint[] = [];
  for (let i = 0; i < count; i++) {
    points.push({
      metric: names[i % names.length] as string,
      dimensions: dimensionsOf(i),
      series: i,
      start: T0,
      time,
      value: BigInt(beat) * BigInt(1_000_003 + i * 7919),
      isNew,
      ended: false,
    });
  }
  return { sequence: beat, time, points };
}

const kept = new Map<number, LedgerPoint["dimensions"]>();

function dimensionsOf(i: number): LedgerPoint["dimensions"] {
  let dimensions = kept.get(i);
  if (dimensions === undefined) {
    dimensions = {
      "tokenwatt.server.id": `vllm-${i % 97}`,
      "gen_ai.request.model": `meta-llama/Llama-3.1-${i % 7}-Instruct`,
      "hw.id": `GPU-00000000-0000-0000-0000-${String(i).padStart(12, "0")}`,
      "hw.model": "NVIDIA H100 80GB HBM3",
      "hw.parent": `GPU-10000000-0000-0000-0000-${String(i >> 3).padStart(12, "0")}`,
      "tokenwatt.gpu.state": ["token_active", "stalled", "parked"][i % 3] as string,
      "tokenwatt.method": "direct",
      "tokenwatt.server.role": "combined",
    };
    kept.set(i, dimensions);
  }
  return dimensions;
}

const arbitraryDimensions = fc.dictionary(
  fc.constantFrom("hw.id", "tokenwatt.server.id", "tokenwatt.tenant", "reason"),
  fc.string({ unit: "grapheme", maxLength: 40 }),
);

function arbitraryValue(metric: Metric): fc.Arbitrary<LedgerPoint["value"]> {
  if (metric.kind === "histogram") {
    return fc
      .array(fc.integer({ min: 0, max: 1_000_000 }), { minLength: 1, maxLength: 20 })
      .map((counts) => ({
        bounds: counts.slice(1).map((_, i) => (i + 1) * 0.25),
        counts,
        sum: counts.reduce((a, b) => a + b, 0) * 0.3,
        count: counts.reduce((a, b) => a + b, 0),
      }));
  }
  if (metric.kind === "gauge")
    return fc.double({ noNaN: true, noDefaultInfinity: true, min: -1e12, max: 1e12 });
  return fc.bigInt({ min: 0n, max: 2n ** 62n });
}

/** Any points of any metric, series numbered by place. */
export const arbitrarySnapshot: fc.Arbitrary<LedgerSnapshot> = fc
  .array(
    fc.constantFrom(...metrics.map((metric) => metric.name)).chain((name) =>
      fc.record({
        metric: fc.constant(name),
        dimensions: arbitraryDimensions,
        series: fc.constant(0),
        start: fc.bigInt({ min: T0, max: T0 + 3600n * SECOND }),
        time: fc.bigInt({ min: T0 + 3601n * SECOND, max: T0 + 7200n * SECOND }),
        value: arbitraryValue(findMetric(name) as Metric),
        isNew: fc.boolean(),
        ended: fc.boolean(),
      }),
    ),
    { maxLength: 60 },
  )
  .map((points) => snapshot(points.map((one, series) => ({ ...one, series }))));
