// One data point of a metric, as it is read: an object that is used again for every point.
import type { Histogram } from "../../model.ts";

/** Histograms of more buckets count requests only. */
const BUCKETS_MAX = 500;

/** A point; `attributesFrom` is -1 where it has no attributes. */
export interface Point {
  start: number;
  time: number;
  value: number;
  count: number;
  attributesFrom: number;
  attributesTo: number;
  buckets: number[];
  bounds: number[];
}

/** A point of nothing. */
export function newPoint(): Point {
  return {
    start: 0,
    time: 0,
    value: 0,
    count: 0,
    attributesFrom: -1,
    attributesTo: -1,
    buckets: [],
    bounds: [],
  };
}

/** The histogram of a point; without buckets where they do not fit its bounds or its count. */
export function histogramOf({ buckets, bounds, value, count }: Point): Histogram {
  const fits =
    buckets.length === bounds.length + 1 &&
    buckets.length <= BUCKETS_MAX &&
    buckets.reduce((sum, bucket) => sum + bucket, 0) === count;
  if (!fits) return { bounds: [], counts: [count], sum: value, count };
  return { bounds, counts: buckets, sum: value, count };
}
