// Which samples of a list are read: those of one data-parallel rank, those of the upstreams that count. Each list is gone
// through once; a page without new series keeps its lists.
import type { MetricSample } from "../../source.ts";
import { isUpstream } from "../entry.ts";
import type { ReaderOptions } from "./labels.ts";

/** A data-parallel rank: the label that names it, and its value. */
export interface RankOf {
  readonly label: string;
  readonly value: string;
}

const ofRanks = new WeakMap<readonly MetricSample[], Map<string, readonly MetricSample[]>>();

/** The samples of a rank; the same list for the same list. */
export function ofRank(samples: readonly MetricSample[], rank: RankOf | undefined): readonly MetricSample[] {
  if (rank === undefined) return samples;
  const known = ofRanks.get(samples) ?? new Map<string, readonly MetricSample[]>();
  ofRanks.set(samples, known);
  let own = known.get(rank.value);
  if (own === undefined) {
    own = samples.filter(({ labels }) => labels[rank.label] === rank.value);
    known.set(rank.value, own);
  }
  return own;
}

const chosen = new WeakMap<ReaderOptions, WeakMap<readonly MetricSample[], readonly MetricSample[]>>();

/** The samples of the upstreams that count; the same list for the same list. */
export function answeredHere(
  samples: readonly MetricSample[],
  options: ReaderOptions,
): readonly MetricSample[] {
  const { upstreamLabel = "", upstreams } = options;
  if (upstreams === undefined) return samples;
  const known = chosen.get(options) ?? new WeakMap<readonly MetricSample[], readonly MetricSample[]>();
  chosen.set(options, known);
  let here = known.get(samples);
  if (here === undefined) {
    here = samples.filter(({ labels }) => isUpstream(labels[upstreamLabel], upstreams));
    known.set(samples, here);
  }
  return here;
}
