// Stored histograms: JSON of the model's Histogram, added bucket by bucket where their bounds are equal.
import type { Histogram } from "../model.ts";

/** The sum of two stored histograms; where the bounds changed the later one stands alone. */
export function addHistogramTexts(one: string | undefined, other: string): string {
  return one === undefined ? other : JSON.stringify(addStored(JSON.parse(one), JSON.parse(other)));
}

/** The same on parsed histograms. */
export function addStored(one: Histogram, other: Histogram): Histogram {
  if (String(one.bounds) !== String(other.bounds)) return other;
  return {
    bounds: one.bounds,
    counts: one.counts.map((count, bucket) => count + (other.counts[bucket] ?? 0)),
    sum: one.sum + other.sum,
    count: one.count + other.count,
  };
}
