// Which data-parallel rank of a server is on which GPU (METERING.md 4): by the names engines give to the processes that hold
// it, else by the order of the GPUs, which is an assumption, or by what they do (ranks/order.ts). Ranks that have no GPU here run
// on other hosts.
// Names: vLLM 0.10 on `VLLM::EngineCore_DP1` and, below it, `VLLM::Worker_DP1_TP0_EP2` (v1/engine/core.py and
// v1/executor/multiproc_executor.py, 0.33); SGLang `sglang::scheduler_DP1_PP0_TP4` (managers/scheduler.py, 0.5.23).

import type { TokenIncrement, TokenKind } from "../model.ts";
import type { Seat } from "./ranks/order.ts";
import type { RankProgress } from "./ranks/progress.ts";

/** The ranks whose GPU one is. */
export interface RankPlace {
  readonly ranks: readonly string[];
  /** No name says that it is so: by the order of GPUs. */
  readonly isAssumed: boolean;
  /** What the ranks and the GPUs do says so. */
  readonly isLearned?: true;
}

/** Where the ranks of a server are. */
export interface RankPlaces {
  /** GPUs that are not named are spoken for by the server as a whole. */
  readonly byGpu: ReadonlyMap<string, RankPlace>;
  /** Ranks on other hosts. */
  readonly elsewhere: ReadonlySet<string>;
  /** Some ranks must be on other hosts; which of them is not known. */
  readonly isUnplaced: boolean;
  /** GPUs of other hosts are configured, and every rank that the page shows is here: it may count tokens of ranks it does not show. */
  readonly mayHideRanks?: true;
  /** The same by the order of GPUs alone, where more is known. */
  readonly inOrder?: ReadonlyMap<string, RankPlace>;
}

/** Where one rank is, for people. */
export interface RankStatus {
  readonly server: string;
  readonly rank: string;
  /** Its GPUs on this host. */
  readonly gpus: readonly string[];
  /**
   * `named`: by its processes. `learned`: by what it and its GPUs do. `assumed`: by the order of GPUs. `elsewhere`: on another
   * host. `unknown`: the server speaks for it.
   */
  readonly place: "named" | "learned" | "assumed" | "elsewhere" | "unknown";
  /** The order of GPUs says another place. */
  readonly isOutOfOrder?: true;
}

/** What is known of a server's GPUs. */
export interface RankFacts {
  /** The ranks its page tells apart. */
  readonly ranks: readonly string[];
  /** Its GPUs on this host, by index. */
  readonly gpus: readonly string[];
  /** Ranks that the processes on each are named after. */
  readonly named: ReadonlyMap<string, ReadonlySet<string>>;
  /** Its GPUs as the configuration names them, in that order; those of other hosts among them. */
  readonly configured: readonly string[] | undefined;
}

const nowhere: RankPlaces = { byGpu: new Map(), elsewhere: new Set(), isUnplaced: false };

/** The data-parallel rank an engine named a process after; undefined where it names none. */
export function rankOfTitle(title: string | undefined): string | undefined {
  return title === undefined ? undefined : /::[A-Za-z]+(?:_[A-Z]+\d+)*?_DP(\d+)(?:_|\s|$)/.exec(title)?.[1];
}

/** Finds the GPUs of each rank. Fewer than two ranks are the server itself. */
export function placeRanks(facts: RankFacts): RankPlaces {
  const { gpus, named, ranks } = facts;
  if (ranks.length < 2 || gpus.length === 0) return nowhere;
  const byGpu = new Map<string, RankPlace>();
  for (const gpu of gpus) {
    const own = ranks.filter((rank) => named.get(gpu)?.has(rank));
    if (own.length > 0) byGpu.set(gpu, { ranks: own, isAssumed: false });
  }
  if (byGpu.size === 0) return byOrder(facts);
  // A GPU whose processes have no name yet may be that of any rank.
  if (byGpu.size < gpus.length) return { byGpu, elsewhere: new Set(), isUnplaced: false };
  const here = new Set([...byGpu.values()].flatMap((place) => place.ranks));
  const elsewhere = new Set(ranks.filter((rank) => !here.has(rank)));
  const hides = elsewhere.size === 0 && (facts.configured?.length ?? 0) > gpus.length;
  return { byGpu, elsewhere, isUnplaced: false, ...(hides ? { mayHideRanks: true } : {}) };
}

/** Rank r of ranks with k GPUs each has the GPUs from r x k on. */
function byOrder({ configured, gpus, ranks }: RankFacts): RankPlaces {
  const names = configured !== undefined && configured.length >= gpus.length ? configured : gpus;
  if (names.length < ranks.length) return { ...nowhere, isUnplaced: true };
  if (names.length % ranks.length !== 0) return nowhere;
  const inOrder = [...ranks].sort((one, other) => Number(one) - Number(other));
  const perRank = names.length / ranks.length;
  const byGpu = new Map<string, RankPlace>();
  const here = new Set<string>();
  names.forEach((gpu, index) => {
    const rank = inOrder[Math.floor(index / perRank)];
    if (rank === undefined || !gpus.includes(gpu)) return;
    byGpu.set(gpu, { ranks: [rank], isAssumed: true });
    here.add(rank);
  });
  if (byGpu.size === 0) return nowhere;
  return { byGpu, elsewhere: new Set(ranks.filter((rank) => !here.has(rank))), isUnplaced: false };
}

/** Places as `seats` say, which began as those by order: where the two differ, and of GPUs that have none by order. */
export function withSeats(
  places: RankPlaces,
  { gpus, ranks }: RankFacts,
  seats: ReadonlyMap<string, Seat>,
): RankPlaces {
  const byGpu = new Map<string, RankPlace>();
  for (const [gpu, { isLearned, rank }] of seats)
    byGpu.set(gpu, { ranks: [rank], isAssumed: true, ...(isLearned ? { isLearned } : {}) });
  if (byGpu.size === 0) return places;
  const here = new Set([...seats.values()].map(({ rank }) => rank));
  const isWhole = gpus.every((gpu) => byGpu.has(gpu));
  return {
    byGpu,
    elsewhere: isWhole ? new Set(ranks.filter((rank) => !here.has(rank))) : places.elsewhere,
    isUnplaced: places.isUnplaced && !isWhole,
    inOrder: places.byGpu,
  };
}

/**
 * Increments with what each GPU made of them, and what ranks elsewhere made apart; `progress` says whose tokens are that the
 * server counts for all ranks together.
 */
export function placedIncrements(
  increments: readonly TokenIncrement[],
  places: RankPlaces,
  progress: RankProgress,
): readonly TokenIncrement[] {
  const { elsewhere, isUnplaced, mayHideRanks } = places;
  if (isUnplaced)
    return increments.map((one) => (one.doubt === undefined ? { ...one, doubt: "assumed_ranks" } : one));
  return increments.flatMap((increment) => {
    const onGpus = sharesOnGpus(increment, places, progress);
    const placed = onGpus === undefined ? increment : { ...increment, onGpus };
    const unseen = mayHideRanks === true ? progress.unseenPart : 0;
    if (elsewhere.size === 0 && unseen === 0) return [placed];
    return splitElsewhere(placed, elsewhere, progress, unseen);
  });
}

/** Which part each GPU made of what ranks of this host made; undefined where that of one is not known. */
function sharesOnGpus(
  { ranks = [] }: TokenIncrement,
  { byGpu, elsewhere }: RankPlaces,
  progress: RankProgress,
): Readonly<Record<string, number>> | undefined {
  const told = ranks.map(({ rank, tokens }) => [rank, summed(tokens)] as const);
  const isTold = told.some(([, count]) => count > 0);
  const parts = isTold ? told : [...(progress.parts("output") ?? [])];
  const made = new Map<string, number>();
  let all = 0;
  for (const [rank, count] of parts) {
    if (count === 0 || elsewhere.has(rank)) continue;
    const gpus = [...byGpu].flatMap(([gpu, place]) => (place.ranks.includes(rank) ? [gpu] : []));
    if (gpus.length === 0) return undefined;
    for (const gpu of gpus) made.set(gpu, (made.get(gpu) ?? 0) + count / gpus.length);
    all += count;
  }
  if (all === 0) return undefined;
  return Object.fromEntries([...made].map(([gpu, count]) => [gpu, count / all]));
}

function summed(tokens: TokenIncrement["tokens"]): number {
  let count = 0;
  for (const amount of Object.values(tokens)) count += amount;
  return count;
}

/**
 * An increment as it is, or what ranks of this host and ranks elsewhere made of it; its requests stay with the first. Kinds that
 * no rank counts for itself are shared by progress: an estimate.
 */
function splitElsewhere(
  increment: TokenIncrement,
  elsewhere: ReadonlySet<string>,
  progress: RankProgress,
  unseen: number,
): readonly TokenIncrement[] {
  const { ranks = [] } = increment;
  const away: Partial<Record<TokenKind, number>> = {};
  const here: Partial<Record<TokenKind, number>> = { ...increment.tokens };
  let isEstimated = false;
  for (const kind of Object.keys(here) as TokenKind[]) {
    const all = here[kind] ?? 0;
    let amount = 0;
    if (ranks.some(({ tokens }) => tokens[kind] !== undefined)) {
      for (const { rank, tokens } of ranks) if (elsewhere.has(rank)) amount += tokens[kind] ?? 0;
    } else if (all > 0) {
      isEstimated = true;
      amount = unseen * all;
      for (const [rank, part] of progress.parts(kind === "output" ? "output" : "input") ?? [])
        if (elsewhere.has(rank)) amount += part * all;
      amount = progress.wholeOf(kind, amount, all);
    }
    amount = Math.min(all, amount);
    if (amount <= 0) continue;
    away[kind] = amount;
    here[kind] = all - amount;
  }
  const doubt = increment.doubt ?? (isEstimated ? "estimated_counters" : undefined);
  const doubted = doubt === undefined ? increment : { ...increment, doubt };
  if (Object.keys(away).length === 0) return [doubted];
  const { ranks: _ranks, onGpus: _onGpus, tokensByOutcome: _byOutcome, ...rest } = doubted;
  const moved = { ...rest, tokens: away, requests: {}, latencies: {}, reasoningTokens: 0, resets: 0 };
  return [
    { ...doubted, tokens: here },
    { ...moved, elsewhere: true },
  ];
}

/** Where each rank of a server is. */
export function rankStatus(server: string, ranks: readonly string[], places: RankPlaces): RankStatus[] {
  if (ranks.length < 2) return [];
  return ranks.map((rank) => {
    const own = [...places.byGpu].filter(([, place]) => place.ranks.includes(rank));
    const missing = places.elsewhere.has(rank) ? "elsewhere" : "unknown";
    const isOutOfOrder = own.some(([gpu]) => places.inOrder?.get(gpu)?.ranks.includes(rank) === false);
    return {
      ...{
        server,
        rank,
        gpus: own.map(([gpu]) => gpu),
        place: foundBy(own.map(([, place]) => place)) ?? missing,
      },
      ...(isOutOfOrder ? { isOutOfOrder } : {}),
    };
  });
}

/** What the weakest of the places of a rank rests on. */
function foundBy(places: readonly RankPlace[]): "named" | "learned" | "assumed" | undefined {
  if (places.length === 0) return undefined;
  const open = places.filter(({ isAssumed }) => isAssumed);
  if (open.length === 0) return "named";
  return open.every(({ isLearned }) => isLearned) ? "learned" : "assumed";
}
