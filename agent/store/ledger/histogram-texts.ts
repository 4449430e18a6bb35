// Stored histograms: JSON of the model's Histogram, added bucket by bucket where their bounds are equal.
import type { Histogram } from "../../model.ts";

/** The sum of two stored histograms; where the bounds changed the later one stands alone. */
export function addHistogramTexts(one: string | undefined, other: string): string {
  return one === undefined ? other : JSON.stringify(addStored(JSON.parse(one), JSON.parse(other)));
}

/** The same on parsed histograms; with `sign` -1 the other is taken off. */
export function addStored(one: Histogram, other: Histogram, sign: 1 | -1 = 1): Histogram {
  if (String(one.bounds) !== String(other.bounds)) return sign === 1 ? other : one;
  return {
    bounds: one.bounds,
    counts: one.counts.map((count, bucket) => count + sign * (other.counts[bucket] ?? 0)),
    sum: Math.max(0, one.sum + sign * other.sum),
    count: one.count + sign * other.count,
  };
}
