// Histograms of a metric page: cumulative buckets in any order, bounds in any unit, to model.ts's Histogram.
// Facts: prometheus text format 0.0.4; writers differ in the order of buckets and in "1.0" against "1" (facts P24).
import type { Histogram } from "../model.ts";
import type { MetricSample } from "../source.ts";
import type { Labels } from "./page-labels.ts";
import { partOf } from "./page-labels.ts";

interface Part {
  readonly labels: Labels;
  readonly buckets: [number, number][];
  sum: number;
  count: number;
}

/** A family's histograms by part (labels without `le`); `histogram` is undefined where buckets fall. */
export function pageHistograms(
  counters: (name: string) => readonly MetricSample[],
  family: string,
  scale: number,
  when: ((labels: Labels) => boolean) | undefined,
): { readonly labels: Labels; readonly histogram: Histogram | undefined }[] {
  const parts = new Map<string, Part>();
  const each = (suffix: string, run: (part: Part, sample: MetricSample) => void): void => {
    for (const sample of counters(`${family}${suffix}`)) {
      if (when !== undefined && !when(sample.labels)) continue;
      const key = partOf(sample.labels, WITHOUT_BOUND);
      const part = parts.get(key) ?? { labels: sample.labels, buckets: [], sum: 0, count: 0 };
      parts.set(key, part);
      run(part, sample);
    }
  };
  each("_bucket", (part, { labels, value }) => part.buckets.push([boundOf(labels["le"]), value]));
  each("_sum", (part, { value }) => {
    part.sum = value;
  });
  each("_count", (part, { value }) => {
    part.count = value;
  });
  return [...parts.values()].map(({ labels, buckets, sum, count }) => ({
    labels,
    histogram: histogramOf(buckets, sum * scale, count, scale),
  }));
}

const WITHOUT_BOUND = ["le"];

/** The bound in a `le` label; NaN when it is none. */
function boundOf(le: string | undefined): number {
  return le === "+Inf" ? Number.POSITIVE_INFINITY : Number(le ?? "none");
}

/** The histogram of one part, in seconds; undefined when its buckets fall. */
function histogramOf(
  buckets: readonly (readonly [number, number])[],
  sum: number,
  total: number,
  scale: number,
): Histogram | undefined {
  const rising = buckets.toSorted(([a], [b]) => a - b);
  const bounds: number[] = [];
  const counts: number[] = [];
  let below = 0;
  for (const [bound, cumulative] of rising) {
    if (Number.isNaN(bound) || cumulative < below) return undefined;
    if (bound !== Number.POSITIVE_INFINITY) bounds.push(bound * scale);
    counts.push(cumulative - below);
    below = cumulative;
  }
  if (counts.length === bounds.length) counts.push(Math.max(0, total - below));
  const count = counts.reduce((a, b) => a + b, 0);
  return { bounds, counts, sum, count };
}

/** Two parts in one, or undefined when their bounds differ. */
export function mergeHistograms(known: Histogram | undefined, more: Histogram): Histogram | undefined {
  if (known === undefined) return more;
  const same =
    known.bounds.length === more.bounds.length && known.bounds.every((bound, i) => bound === more.bounds[i]);
  if (!same) return undefined;
  return {
    bounds: known.bounds,
    counts: known.counts.map((count, index) => count + (more.counts[index] as number)),
    sum: known.sum + more.sum,
    count: known.count + more.count,
  };
}
