// Arithmetic on latency histograms: steps between readings, sums, and percentiles (METERING.md 6 and 7).
// Buckets are merged only where the bounds are equal; percentiles are never exported, only read from merged buckets.
import type { Histogram } from "../../model.ts";

/**
 * How a reading relates to the one before. base: nothing counts. whole: all of it does. restart: all of it, and it is a
 * reset. same: it goes on, a fall is a glitch. fallen: no epoch, and all that the server counts fell after a look had
 * failed: a fall is a reset. scale: the source keeps the bases, a fall is only a figure worked out of two counters.
 * rescaled: the same counters on another scale, where a lower value is a new base.
 */
export type Relation = "base" | "whole" | "restart" | "same" | "fallen" | "scale" | "rescaled";

/** From one cumulative reading to the next. */
export interface HistogramStep {
  /** What was observed since; absent when nothing was, or when it cannot be told. */
  readonly moved: Histogram | undefined;
  /** What the next reading is compared with. */
  readonly base: Histogram;
  readonly reset: boolean;
  /** Fell inside an epoch: the old base is kept for now. */
  readonly held: boolean;
}

/** The step from `previous` to `current`, bucket by bucket. Changed bounds are a new base. Undefined = unusable. */
export function histogramStep(
  previous: Histogram | undefined,
  current: Histogram,
  relation: Relation,
): HistogramStep | undefined {
  if (!isUsable(current)) return undefined;
  const quiet = { moved: undefined, base: current, reset: false, held: false };
  const whole = { ...quiet, moved: current.count > 0 ? current : undefined };
  if (relation === "base") return quiet;
  if (relation === "whole" || relation === "restart") return whole;
  if (previous === undefined || !sameBounds(previous.bounds, current.bounds)) return quiet;
  const { counts, fell, sum: count } = differences(current.counts, previous.counts);
  if (fell) {
    if (relation === "fallen") return { ...whole, reset: true };
    if (relation === "rescaled") return quiet;
    return { ...quiet, base: previous, held: relation === "same" };
  }
  // What did not move is not replaced: it need not be stored again.
  if (count === 0) return current.sum === previous.sum ? { ...quiet, base: previous } : quiet;
  const sum = Math.max(0, current.sum - previous.sum);
  return { ...quiet, moved: { bounds: current.bounds, counts, sum, count } };
}

/** What buckets have more than before. One loop by place: a host's latencies are thousands of buckets at every poll. */
function differences(
  now: readonly number[],
  before: readonly number[],
): { readonly counts: readonly number[]; readonly fell: boolean; readonly sum: number } {
  // A copy that is written over: a list that grows from nothing has room for twice as many, and is kept until it is booked.
  const counts = now.slice();
  let [fell, sum] = [false, 0];
  for (let bucket = 0; bucket < now.length; bucket++) {
    const moved = (now[bucket] as number) - (before[bucket] ?? 0);
    counts[bucket] = moved;
    sum += moved;
    if (moved < 0) fell = true;
  }
  return { counts, fell, sum };
}

/** A histogram of one value. */
export function observation(bounds: readonly number[], value: number): Histogram {
  const bucket = bounds.findIndex((bound) => value <= bound);
  const counts = Array.from({ length: bounds.length + 1 }, () => 0);
  counts[bucket === -1 ? bounds.length : bucket] = 1;
  return { bounds, counts, sum: value, count: 1 };
}

/** The sum of two histograms of equal bounds; undefined where the bounds differ. */
export function addHistograms(one: Histogram, other: Histogram): Histogram | undefined {
  if (!sameBounds(one.bounds, other.bounds)) return undefined;
  const counts = one.counts.slice();
  for (let bucket = 0; bucket < counts.length; bucket++)
    counts[bucket] = (counts[bucket] as number) + (other.counts[bucket] ?? 0);
  return {
    bounds: one.bounds,
    counts,
    sum: one.sum + other.sum,
    count: one.count + other.count,
  };
}

/** The bounds of a histogram, none where there is no histogram. */
type Bounds = readonly number[] | undefined;

/** Whether two histograms have the same bounds, or both are none. */
export function sameBounds(one: Bounds, other: Bounds): boolean {
  if (one === other) return true;
  if (one === undefined || other?.length !== one.length) return false;
  return one.every((bound, at) => bound === other[at]);
}

/**
 * The value below which the share `quantile` of all observations lies, linear inside its bucket. Beyond the highest
 * bound that bound is returned; without observations, or without bounds, undefined.
 */
export function percentile(histogram: Histogram, quantile: number): number | undefined {
  const { bounds, counts } = histogram;
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total === 0 || bounds.length === 0 || !(quantile >= 0 && quantile <= 1)) return undefined;
  const rank = quantile * total;
  let below = 0;
  for (const [bucket, count] of counts.entries()) {
    if (count > 0 && below + count >= rank) {
      const upper = bounds[bucket];
      if (upper === undefined) break;
      const first = bounds[0] ?? 0;
      const lower = bucket === 0 ? Math.min(0, first) : (bounds[bucket - 1] ?? 0);
      return lower + (upper - lower) * Math.max(0, (rank - below) / count);
    }
    below += count;
  }
  return bounds.at(-1);
}

function isUsable(histogram: Histogram): boolean {
  const { bounds, counts, sum, count } = histogram;
  if (counts.length !== bounds.length + 1 || !Number.isFinite(sum) || !isCount(count)) return false;
  // By place: to hand each to a function, V8 makes an object of every number that is no small one.
  for (let bucket = 0; bucket < counts.length; bucket++) if (!isCount(counts[bucket] as number)) return false;
  return true;
}

function isCount(value: number): boolean {
  return value >= 0 && value <= Number.MAX_SAFE_INTEGER;
}
