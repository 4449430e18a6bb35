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
  /** The last reading of it by label set. */
  readonly last: WeakMap<KeyCounters, RankReading>;
  /** Busy time as last read, of whichever label set carried it. */
  lastActive: number | undefined;
}

/** The ranks of one server. Label sets are taken in one by one; `finish` closes a look. */
export class RankCounters {
  readonly #totals = new Map<string, Totals>();
  #look = 1;

  /** Takes the ranks of a reading in and returns what each moved. */
  take(reading: TokenReading, counters: KeyCounters, relation: Relation): readonly RankIncrement[] {
    const moved: RankIncrement[] = [];
    for (const now of reading.ranks ?? []) {
      const totals = this.#of(now.rank);
      if (totals === undefined) continue;
      const before = totals.last.get(counters);
      totals.last.set(counters, now);
      if (totals.seen !== this.#look) totals.inFlight = undefined;
      totals.seen = this.#look;
      if (now.running !== undefined) totals.inFlight = (totals.inFlight ?? 0) + now.running;
      if (now === before) continue;
      const step = stepOf(before, now, relation);
      const { input, output } = progressOf(step.tokens, before, now, relation);
      totals.inputTokens += input;
      totals.outputTokens += output;
      addActive(totals, now.activeNanos, relation);
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
    totals = {
      inputTokens: 0,
      outputTokens: 0,
      activeNanos: undefined,
      inFlight: undefined,
      seen: 0,
      last: new WeakMap(),
      lastActive: undefined,
    };
    this.#totals.set(rank, totals);
    return totals;
  }
}

/** Adds busy time. It is the rank's: a label set that is new, or carries it for the first time, does not make it news. */
function addActive(totals: Totals, now: number | undefined, relation: Relation): void {
  if (now === undefined) return;
  const before = totals.lastActive;
  const isOfSet = before === undefined || (relation !== "base" && relation !== "whole");
  totals.activeNanos = (totals.activeNanos ?? 0) + rise(before, now, isOfSet ? relation : "same");
  totals.lastActive = now;
}

function stepOf(before: RankReading | undefined, now: RankReading, relation: Relation): RankIncrement {
  const tokens: Partial<Record<TokenKind, number>> = {};
  for (const kind of KINDS) {
    const value = now.tokens[kind];
    if (value === undefined) continue;
    const amount = rise(before?.tokens[kind], value, relation);
    if (amount > 0) tokens[kind] = amount;
  }
  // A page says nothing of the requests of a rank that none ended on yet.
  const requests = rise(before && (before.requests ?? 0), now.requests ?? 0, relation);
  return { rank: now.rank, tokens, requests, latencies: latenciesBetween(before, now, relation) };
}

function latenciesBetween(before: RankReading | undefined, now: RankReading, relation: Relation): Latencies {
  const moved: { -readonly [Key in keyof Latencies]: Latencies[Key] } = {};
  const relationOf = before === undefined && relation === "scale" ? "whole" : relation;
  for (const name in now.latencies) {
    const key = name as LatencyKey;
    const current = now.latencies[key];
    const step = current && histogramStep(before?.latencies?.[key], current, relationOf);
    if (step?.moved !== undefined) moved[key] = step.moved;
  }
  return moved;
}

function progressOf(
  moved: RankIncrement["tokens"],
  before: RankReading | undefined,
  { progress }: RankReading,
  relation: Relation,
): { readonly input: number; readonly output: number } {
  if (progress === undefined) {
    const input = (moved.input_uncached ?? 0) + (moved.input_cached ?? 0) + (moved.input_unsplit ?? 0);
    return { input, output: moved.output ?? 0 };
  }
  return {
    input: rise(before?.progress?.input, progress.input, relation),
    output: rise(before?.progress?.output, progress.output, relation),
  };
}

/** As the label set's own counters (key-counters.ts), but that a fall is no movement unless the server began again. */
function rise(before: number | undefined, now: number, relation: Relation): number {
  if (relation === "base" || !(now >= 0 && now <= Number.MAX_SAFE_INTEGER)) return 0;
  if (relation === "whole" || relation === "restart") return Math.floor(now);
  if (before === undefined) return relation === "scale" ? Math.floor(now) : 0;
  if (now >= before) return Math.floor(now) - Math.floor(before);
  return relation === "fallen" ? Math.floor(now) : 0;
}
