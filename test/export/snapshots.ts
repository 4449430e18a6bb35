// Snapshots for tests and benches of the export room: fixed ones of a given size and arbitrary ones for properties.
import fc from "fast-check";
import type { Metric } from "../../agent/export/metrics/metric.ts";
import { findMetric, metrics } from "../../agent/export/metrics/metrics.ts";
import type { LedgerPoint, LedgerSnapshot } from "../../agent/model.ts";
import { snapshotOf } from "../fakes/snapshot.ts";
import { SECOND, T0 } from "./bulk.ts";

export { bulk, SECOND, T0 } from "./bulk.ts";

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

export function snapshot(
  points: readonly LedgerPoint[],
  rest: Partial<Pick<LedgerSnapshot, "sequence" | "time">> = {},
): LedgerSnapshot {
  return snapshotOf(points, { time: T0 + 10n * SECOND, ...rest });
}

const arbitraryDimensions = fc.dictionary(
  fc.constantFrom("hw.id", "tokenwatt.server.id", "tokenwatt.tenant", "tokenwatt.reason"),
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
        time: fc.constant(T0 + 7200n * SECOND),
        value: arbitraryValue(findMetric(name) as Metric),
        isNew: fc.boolean(),
        ended: fc.boolean(),
      }),
    ),
    { maxLength: 60 },
  )
  .map((points) =>
    snapshot(
      points.map((one, series) => ({ ...one, series })),
      { time: T0 + 7200n * SECOND },
    ),
  );
