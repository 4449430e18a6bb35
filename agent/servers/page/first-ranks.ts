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
/** Some families are told apart by priority, too. */
const OF_SCHEDULER = [...OF_SERIES, "priority"];

interface Decision {
  readonly shown: readonly MetricSample[];
  readonly isFirst: (labels: Labels) => boolean;
}

const known = new WeakMap<readonly MetricSample[], Decision>();

/**
 * Whether a series among those like `samples` is of the first scheduler of its data-parallel rank, and no sub-total over
 * priorities. What was counted outlasts its page: of the schedulers in `shown`, a gauge as it is on the page, where one has a
 * series, since a server started again may number them otherwise. The same function for the same lists.
 */
export function firstRanks(
  samples: readonly MetricSample[],
  shown: readonly MetricSample[] = samples,
): (labels: Labels) => boolean {
  let decision = known.get(samples);
  if (decision?.shown !== shown) {
    decision = { shown, isFirst: decide(samples, shown) };
    known.set(samples, decision);
  }
  return decision.isFirst;
}

function decide(
  samples: readonly MetricSample[],
  shown: readonly MetricSample[],
): (labels: Labels) => boolean {
  const there = new Set(shown.map(({ labels }) => partOf(labels, OF_SCHEDULER)));
  const isThere = ({ labels }: MetricSample): boolean => there.has(partOf(labels, OF_SCHEDULER));
  const least = new Map<string, readonly number[]>();
  for (const some of [samples.filter(isThere), samples])
    for (const [group, ranks] of leastOf(some)) if (!least.has(group)) least.set(group, ranks);
  return (labels) => {
    const first = isSubtotal(labels) ? undefined : least.get(partOf(labels, WITHOUT));
    return first !== undefined && compared(ranksOf(labels), first) === 0;
  };
}

/** The least ranks of each data-parallel rank. */
function leastOf(samples: readonly MetricSample[]): ReadonlyMap<string, readonly number[]> {
  const least = new Map<string, readonly number[]>();
  for (const { labels } of samples) {
    if (isSubtotal(labels)) continue;
    const group = partOf(labels, WITHOUT);
    const ranks = ranksOf(labels);
    const first = least.get(group);
    if (first === undefined || compared(ranks, first) < 0) least.set(group, ranks);
  }
  return least;
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
