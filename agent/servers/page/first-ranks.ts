// Schedulers that repeat each other: those of one data-parallel rank count the same tokens once per tensor-, pipeline- and
// expert-parallel rank, and the first of them that is on the page stands for all. That need not be rank 0: with SGLang's
// data-parallel attention ranks are numbered through, so that the first of dp_rank 1 is tp_rank 4 of 8
// (metrics_collector.py, 0.5.23: labels are global ranks, a scheduler reports where its attention tp rank is 0).
import type { MetricSample } from "../../source.ts";
import type { Labels } from "./labels.ts";
import { partOf } from "./labels.ts";

const REPEATING = ["pp_rank", "tp_rank", "moe_ep_rank"] as const;
/** Labels that tell apart what one scheduler counts, not which scheduler it is. */
const OF_SERIES = ["le", "mode", "category"];
const WITHOUT = [...REPEATING, ...OF_SERIES];

const known = new WeakMap<readonly MetricSample[], (labels: Labels) => boolean>();

/**
 * Whether a series among those like `samples` is of the first scheduler of its data-parallel rank, and no sub-total over
 * priorities. The same function for the same list.
 */
export function firstRanks(samples: readonly MetricSample[]): (labels: Labels) => boolean {
  let isFirst = known.get(samples);
  if (isFirst === undefined) {
    isFirst = decide(samples);
    known.set(samples, isFirst);
  }
  return isFirst;
}

function decide(samples: readonly MetricSample[]): (labels: Labels) => boolean {
  const least = new Map<string, readonly number[]>();
  for (const { labels } of samples) {
    if (isSubtotal(labels)) continue;
    const group = partOf(labels, WITHOUT);
    const ranks = ranksOf(labels);
    const first = least.get(group);
    if (first === undefined || compared(ranks, first) < 0) least.set(group, ranks);
  }
  return (labels) => {
    const first = isSubtotal(labels) ? undefined : least.get(partOf(labels, WITHOUT));
    return first !== undefined && compared(ranksOf(labels), first) === 0;
  };
}

function ranksOf(labels: Labels): readonly number[] {
  return REPEATING.map((name) => Number(labels[name] ?? 0) || 0);
}

function compared(one: readonly number[], other: readonly number[]): number {
  const place = one.findIndex((rank, index) => rank !== other[index]);
  return place < 0 ? 0 : (one[place] as number) - (other[place] as number);
}

/** priority="" is the sum over priorities. */
function isSubtotal({ priority }: Labels): boolean {
  return priority !== undefined && priority !== "";
}
