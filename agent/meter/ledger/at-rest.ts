// Series of the ledger that nothing moves: which of them are given up, and since when each rests.
// A series that ended is kept for 35 days, to go on under its old start, unless its place is needed before.
import type { UnixNanos } from "../../model.ts";
import { BUCKET_NANOS } from "../../model.ts";
import type { Series } from "./series.ts";

type Table = Iterable<Series>;

/** How long each live series rests, as [number, unix nanoseconds of its last movement]. */
export type Resting = readonly (readonly [number, string])[];

const retentionNanos = 35n * 86_400_000_000_000n;
const gaugeRetentionNanos = 3_600_000_000_000n;

/** Series that ended so long ago that they are forgotten in `bucket`. */
export function forgottenIn(table: Table, bucket: UnixNanos): readonly Series[] {
  const forgotten: Series[] = [];
  for (const series of table) {
    const { endedAt, kind, life } = series;
    if (life !== "ended" || endedAt === undefined) continue;
    const retained = kind === "gauge" ? gaugeRetentionNanos : retentionNanos;
    if (endedAt + retained <= bucket + BUCKET_NANOS) forgotten.push(series);
  }
  return forgotten;
}

/**
 * The `most` series that ended longest ago, none that is not stored as it stands. What ended since the bucket before
 * `bucket` began stays: under a new number it would have two rows in one bucket.
 */
export function longestEnded(table: Table, most: number, bucket: UnixNanos): readonly Series[] {
  const before = bucket - BUCKET_NANOS;
  const ended = [...table].filter(
    ({ changed, endedAt, kind, life }) =>
      life === "ended" && endedAt !== undefined && (kind === "gauge" || (!changed && endedAt < before)),
  );
  ended.sort((one, other) => Number((one.endedAt ?? 0n) - (other.endedAt ?? 0n)));
  return ended.slice(0, most);
}

/** The live sums and histograms that nothing moved since `before`: a restart must not begin their rest again. */
export function restingSince(table: Table, before: UnixNanos): Resting {
  const resting: [number, string][] = [];
  for (const { announced, id, kind, life, movedAt } of table) {
    if (kind !== "gauge" && life === "live" && announced !== undefined && movedAt < before)
      resting.push([id, String(movedAt)]);
  }
  return resting;
}

/** Takes in what `restingSince` said before a restart. */
export function takeResting(table: Table, resting: Resting): void {
  const moved = new Map(resting);
  for (const series of table) {
    const at = moved.get(series.id);
    if (at !== undefined) series.movedAt = BigInt(at);
  }
}
