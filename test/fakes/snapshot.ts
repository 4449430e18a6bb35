// Snapshots of given points: the columns a ledger would lay out for them.
import { Snapshot } from "../../agent/meter/ledger/snapshot.ts";
import type { Histogram, LedgerPoint, LedgerSnapshot, ShownName } from "../../agent/model.ts";

/** The snapshot that shows these points, all at `time`: theirs where none is given. */
export function snapshotOf(
  points: readonly LedgerPoint[],
  { sequence = 1, time = points[0]?.time ?? 0n }: Partial<Pick<LedgerSnapshot, "sequence" | "time">> = {},
): LedgerSnapshot {
  const histograms: Histogram[] = [];
  const [high, low] = [new Float64Array(points.length), new Uint32Array(points.length)];
  const starts = new BigInt64Array(points.length);
  for (const [place, { start, value }] of points.entries()) {
    if (typeof value === "object") high[place] = histograms.push(value) - 1;
    else high[place] = Number(typeof value === "bigint" ? value >> 32n : value);
    if (typeof value === "bigint") low[place] = Number(value & 0xffff_ffffn);
    if (typeof value !== "number") starts[place] = start;
  }
  const said = points.flatMap(({ back, ended, isNew }, place) =>
    isNew || ended || back !== undefined
      ? [[place, { isNew, ended, ...(back === undefined ? {} : { back }) }] as const]
      : [],
  );
  const series = { names: points.map(nameOf), starts };
  return new Snapshot({ sequence, time, series, values: { high, low, histograms }, said: new Map(said) });
}

function nameOf({ dimensions, metric, series, value }: LedgerPoint): ShownName {
  const kind = typeof value === "object" ? "histogram" : typeof value === "bigint" ? "sum" : "gauge";
  return { id: series, kind, metric, dimensions };
}
