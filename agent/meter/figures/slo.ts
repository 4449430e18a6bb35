// How many requests met an objective, as far as histograms can tell (a joint pass rate is not in them).
// A histogram bounds each single share by the buckets around the target; several shares together are bounded by
// Frechet: at least the sum of the shares less the rest, at most the smallest.
import type { Histogram, LatencyName } from "../../model.ts";

/** An objective: every latency named must stay at or below its seconds. */
export interface Objective {
  readonly name: string;
  readonly seconds: Readonly<Partial<Record<LatencyName, number>>>;
}

/** Requests that certainly met an objective, and those that may have. */
export interface Met {
  readonly min: number;
  readonly max: number;
  /** Requests the bounds are out of. */
  readonly requests: number;
}

/**
 * Bounds of the requests at or below `seconds`: whole buckets below it, and the bucket it lies in.
 * Exported for its test: histograms of every kind.
 */
export function metBounds(histogram: Histogram, seconds: number): Met {
  let [min, max, requests] = [0, 0, 0];
  for (const [bucket, count] of histogram.counts.entries()) {
    const lower =
      bucket === 0 ? Number.NEGATIVE_INFINITY : (histogram.bounds[bucket - 1] ?? Number.POSITIVE_INFINITY);
    const upper = histogram.bounds[bucket] ?? Number.POSITIVE_INFINITY;
    requests += count;
    if (upper <= seconds) min += count;
    if (lower < seconds) max += count;
  }
  return { min, max, requests };
}

/**
 * Bounds of the requests that met all parts of an objective at once; undefined when a latency it names was not
 * observed. Latencies counted per token (inter-token) bound the share of tokens and are scaled to the requests.
 */
export function goodput(
  objective: Objective,
  histograms: Readonly<Partial<Record<LatencyName, Histogram>>>,
): Met | undefined {
  const names = Object.keys(objective.seconds) as LatencyName[];
  const parts: Met[] = [];
  for (const name of names) {
    const histogram = histograms[name];
    const seconds = objective.seconds[name];
    if (histogram === undefined || seconds === undefined) return undefined;
    parts.push(metBounds(histogram, seconds));
  }
  const requests = Math.max(
    0,
    ...parts.filter((_, at) => names[at] !== "inter_token_latency").map((one) => one.requests),
  );
  if (parts.length === 0 || requests === 0) return undefined;
  const share = (part: Met, count: number): number => (part.requests === 0 ? 0 : count / part.requests);
  const least = parts.reduce((sum, part) => sum + share(part, part.min), 1 - parts.length);
  const most = Math.min(...parts.map((part) => share(part, part.max)));
  return {
    // A hair of tolerance: 0.7 + 0.8 - 1 must not lose the request it stands for.
    min: Math.max(0, Math.floor(least * requests + 1e-9)),
    max: Math.min(requests, Math.ceil(most * requests - 1e-9)),
    requests,
  };
}
