// What each data-parallel rank of one server counted, beside its readings: ranks move activity and say whose increments
// those were; what is booked are the readings alone, so that a rank that is left out loses no token.
// Nothing of it is stored: after a start of the agent a rank counts from its first look on.
import type {
  Latencies,
  LatencyKey,
  RankIncrement,
  RankPoll,
  RankReading,
  TokenKind,
  TokenReading,
} from "../../model.ts";
import type { Relation } from "./histograms.ts";
import { histogramStep } from "./histograms.ts";
import type { KeyCounters } from "./key-counters.ts";

/** A rank that was on none of this many looks is forgotten: a server started with fewer ranks. */
const UNSEEN_LOOKS_MAX = 60;
/** No server has more ranks on a host. */
const RANKS_MAX = 512;
const KINDS: readonly TokenKind[] = ["input_uncached", "input_cached", "input_unsplit", "output"];

interface Totals {
  inputTokens: number;
  outputTokens: number;
  activeNanos: number | undefined;
  inFlight: number | undefined;
  seen: number;
}

/** The ranks of one server. Label sets are taken in one by one; `finish` closes a look. */
export class RankCounters {
  readonly #totals = new Map<string, Totals>();
  /** The last reading of each rank, by label set. */
  readonly #last = new WeakMap<KeyCounters, Map<string, RankReading>>();
  #look = 1;

  /** Takes the ranks of a reading in and returns what each moved. */
  take(reading: TokenReading, counters: KeyCounters, relation: Relation): readonly RankIncrement[] {
    const last = this.#last.get(counters) ?? new Map<string, RankReading>();
    this.#last.set(counters, last);
    if (relation === "restart") last.clear();
    const moved: RankIncrement[] = [];
    for (const now of reading.ranks ?? []) {
      const totals = this.#of(now.rank);
      if (totals === undefined) continue;
      const before = last.get(now.rank);
      last.set(now.rank, now);
      if (totals.seen !== this.#look) totals.inFlight = undefined;
      totals.seen = this.#look;
      if (now.running !== undefined) totals.inFlight = (totals.inFlight ?? 0) + now.running;
      if (now === before) continue;
      const step = stepOf(before, now, countsWhole(relation));
      const { input, output } = progressOf(step.tokens, before, now, countsWhole(relation));
      totals.inputTokens += input;
      totals.outputTokens += output;
      if (now.activeNanos !== undefined)
        totals.activeNanos =
          (totals.activeNanos ?? 0) +
          rise(before?.activeNanos, now.activeNanos, relation !== "base" && before === undefined);
      moved.push(step);
    }
    return moved;
  }

  /** Where every rank stands after a look. */
  finish(): readonly RankPoll[] {
    const polls: RankPoll[] = [];
    for (const [rank, { activeNanos, inFlight, inputTokens, outputTokens, seen }] of this.#totals) {
      if (this.#look - seen > UNSEEN_LOOKS_MAX) {
        this.#totals.delete(rank);
        continue;
      }
      const flying = seen === this.#look ? inFlight : undefined;
      polls.push({
        ...{ rank, inputTokens, outputTokens },
        ...(flying === undefined ? {} : { inFlight: flying }),
        ...(activeNanos === undefined ? {} : { activeNanos }),
      });
    }
    this.#look++;
    return polls;
  }

  #of(rank: string): Totals | undefined {
    let totals = this.#totals.get(rank);
    if (totals !== undefined) return totals;
    if (this.#totals.size >= RANKS_MAX) return undefined;
    totals = { inputTokens: 0, outputTokens: 0, activeNanos: undefined, inFlight: undefined, seen: 0 };
    this.#totals.set(rank, totals);
    return totals;
  }
}

/** What a rank that is seen for the first time had counted is news only where its whole label set is. */
function countsWhole(relation: Relation): boolean {
  return relation === "whole" || relation === "restart" || relation === "scale";
}

function stepOf(before: RankReading | undefined, now: RankReading, isWhole: boolean): RankIncrement {
  const tokens: Partial<Record<TokenKind, number>> = {};
  for (const kind of KINDS) {
    const value = now.tokens[kind];
    if (value === undefined) continue;
    const amount = rise(before?.tokens[kind], value, isWhole);
    if (amount > 0) tokens[kind] = amount;
  }
  const requests = rise(before?.requests, now.requests ?? 0, isWhole);
  return { rank: now.rank, tokens, requests, latencies: latenciesBetween(before, now, isWhole) };
}

function latenciesBetween(before: RankReading | undefined, now: RankReading, isWhole: boolean): Latencies {
  const moved: { -readonly [Key in keyof Latencies]: Latencies[Key] } = {};
  const relation = before !== undefined ? "same" : isWhole ? "whole" : "base";
  for (const name in now.latencies) {
    const key = name as LatencyKey;
    const current = now.latencies[key];
    const step = current && histogramStep(before?.latencies?.[key], current, relation);
    if (step?.moved !== undefined) moved[key] = step.moved;
  }
  return moved;
}

function progressOf(
  moved: RankIncrement["tokens"],
  before: RankReading | undefined,
  { progress }: RankReading,
  isWhole: boolean,
): { readonly input: number; readonly output: number } {
  if (progress === undefined) {
    const input = (moved.input_uncached ?? 0) + (moved.input_cached ?? 0) + (moved.input_unsplit ?? 0);
    return { input, output: moved.output ?? 0 };
  }
  return {
    input: rise(before?.progress?.input, progress.input, isWhole),
    output: rise(before?.progress?.output, progress.output, isWhole),
  };
}

/** A fall is no movement: the source says itself when its counters begin again. */
function rise(before: number | undefined, now: number, isWhole: boolean): number {
  if (!(now >= 0 && now <= Number.MAX_SAFE_INTEGER)) return 0;
  if (before === undefined) return isWhole ? Math.floor(now) : 0;
  return Math.max(0, Math.floor(now) - Math.floor(before));
}
