// Histograms of a metric page: cumulative buckets in any order, bounds in any unit, to model.ts's Histogram.
// Prometheus text format 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats); writers differ in the order
// of buckets and in "1.0" against "1".
import type { Histogram } from "../../model.ts";
import type { MetricSample } from "../../source.ts";
import type { Labels } from "./labels.ts";
import { partOf } from "./labels.ts";

/** One histogram of a family: whose it is, and where its values stand in the family's lists of samples. */
interface Part {
  readonly labels: Labels;
  /** Rising, in seconds; undefined where a bound is no number. */
  readonly bounds: readonly number[] | undefined;
  /** Positions of the buckets by rising bound, the last of them +Inf if `open`. */
  readonly buckets: readonly number[];
  readonly open: boolean;
  readonly sum: number | undefined;
  readonly count: number | undefined;
}

/** The parts of a family as long as its lists of samples stay the same. */
interface Layout {
  readonly sums: readonly MetricSample[];
  readonly counts: readonly MetricSample[];
  readonly scale: number;
  readonly parts: readonly Part[];
}

// A page without new series keeps its lists of samples, and bounds are compared by identity further on.
const layouts = new WeakMap<readonly MetricSample[], Layout>();

/** A family's histograms by part (labels without `le`); `histogram` is undefined where buckets fall. */
export function pageHistograms(
  counters: (name: string) => readonly MetricSample[],
  family: string,
  scale: number,
  when: ((labels: Labels) => boolean) | undefined,
): { readonly labels: Labels; readonly histogram: Histogram | undefined }[] {
  const buckets = counters(`${family}_bucket`);
  const sums = counters(`${family}_sum`);
  const counts = counters(`${family}_count`);
  let layout = layouts.get(buckets);
  if (layout?.sums !== sums || layout.counts !== counts || layout.scale !== scale) {
    layout = { sums, counts, scale, parts: partsOf(buckets, sums, counts, scale) };
    layouts.set(buckets, layout);
  }
  const parts = when === undefined ? layout.parts : layout.parts.filter(({ labels }) => when(labels));
  return parts.map((part) => ({
    labels: part.labels,
    histogram: histogramOf(
      part,
      buckets,
      part.sum === undefined ? 0 : (sums[part.sum] as MetricSample).value * scale,
      part.count === undefined ? 0 : (counts[part.count] as MetricSample).value,
    ),
  }));
}

const WITHOUT_BOUND = ["le"];

function partsOf(
  buckets: readonly MetricSample[],
  sums: readonly MetricSample[],
  counts: readonly MetricSample[],
  scale: number,
): readonly Part[] {
  const drafts = new Map<
    string,
    { labels: Labels; bounds: [number, number][]; sum?: number; count?: number }
  >();
  const draft = ({ labels }: MetricSample) => {
    const key = partOf(labels, WITHOUT_BOUND);
    const known = drafts.get(key) ?? { labels, bounds: [] };
    drafts.set(key, known);
    return known;
  };
  for (const [index, sample] of buckets.entries())
    draft(sample).bounds.push([boundOf(sample.labels["le"]), index]);
  for (const [index, sample] of sums.entries()) draft(sample).sum = index;
  for (const [index, sample] of counts.entries()) draft(sample).count = index;
  const shared = new Map<string, readonly number[]>();
  return [...drafts.values()].map(({ labels, bounds, sum, count }) => {
    const rising = bounds.toSorted(([a], [b]) => a - b);
    const finite = rising.map(([bound]) => bound).filter((bound) => bound !== Number.POSITIVE_INFINITY);
    const text = finite.join();
    const known = shared.get(text) ?? finite.map((bound) => bound * scale);
    shared.set(text, known);
    return {
      labels,
      bounds: finite.some(Number.isNaN) ? undefined : known,
      buckets: rising.map(([, index]) => index),
      open: finite.length < rising.length,
      sum,
      count,
    };
  });
}

/** The bound in a `le` label; NaN when it is none. */
function boundOf(le: string | undefined): number {
  return le === "+Inf" ? Number.POSITIVE_INFINITY : Number(le ?? "none");
}

/** The histogram of one part, in seconds; undefined when its buckets fall. */
function histogramOf(
  { bounds, buckets, open }: Part,
  samples: readonly MetricSample[],
  sum: number,
  total: number,
): Histogram | undefined {
  if (bounds === undefined) return undefined;
  // As long as it will be, and no longer: it is kept until the next page.
  const counts = buckets.slice();
  let below = 0;
  for (let place = 0; place < buckets.length; place++) {
    const cumulative = (samples[buckets[place] as number] as MetricSample).value;
    if (cumulative < below) return undefined;
    counts[place] = cumulative - below;
    below = cumulative;
  }
  if (!open) counts.push(Math.max(0, total - below));
  return { bounds, counts, sum, count: open ? below : Math.max(below, total) };
}

/** Two parts in one, or undefined when their bounds differ. */
export function mergeHistograms(known: Histogram | undefined, more: Histogram): Histogram | undefined {
  if (known === undefined) return more;
  const same =
    known.bounds === more.bounds ||
    (known.bounds.length === more.bounds.length &&
      known.bounds.every((bound, i) => bound === more.bounds[i]));
  if (!same) return undefined;
  return {
    bounds: known.bounds,
    counts: known.counts.map((count, index) => count + (more.counts[index] as number)),
    sum: known.sum + more.sum,
    count: known.count + more.count,
  };
}
