// The tokens a server made between two polls, and what increments say of that time beside them.
import type { Nanos, ProgressKind, ServerPoll, TokenIncrement } from "../model.ts";
import type { Ended } from "./activity/evidence.ts";
import { endedOf, together } from "./ended.ts";

/** Tokens a server made between two polls; on the GPU of a rank, those of the rank. */
export interface TokenStep {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Requests that ended in it. */
  readonly requests: number;
  /** Requests running at its ends, where the server says so. */
  readonly inFlightFrom: number | undefined;
  readonly inFlightTo: number | undefined;
  readonly progress: ProgressKind;
  /** What the durations of its requests add up to, where the server says so. */
  readonly ended?: Ended | undefined;
  /** Its counters stood for another instant than its poll, or are known less well for another reason. */
  readonly isDoubted: boolean;
  /** Of the server as a whole: the rank of this GPU did nothing. What the GPU may have done then, it did for others. */
  readonly isLent?: true;
}

/** What increments say of the time between two polls. */
export interface StepFacts {
  readonly requests: number;
  readonly input: number;
  readonly cached: number;
  readonly ended: Ended | undefined;
}

interface Moves {
  readonly at: Nanos;
  readonly whole: StepFacts;
  readonly byRank: ReadonlyMap<string, StepFacts> | undefined;
}

/** Increments waiting at most. */
const pendingMax = 4096;
/** Steps are kept this long for token shares. */
const keptNanos = 60_000_000_000;
/** No increment says anything. */
export const noFacts = (): StepFacts => nothing;
const nothing: StepFacts = { requests: 0, input: 0, cached: 0, ended: undefined };

/** What the increments that wait for their poll say, in order. */
export class StepQueue {
  readonly #moves: Moves[] = [];

  queueMoves(increments: readonly TokenIncrement[]): void {
    for (const increment of increments) this.#moves.push(movesOf(increment));
    if (this.#moves.length > pendingMax) this.#moves.splice(0, this.#moves.length - pendingMax);
  }

  /** What those of the polls up to `at` say together: of the server, or of some of its ranks. */
  take(at: Nanos): (ranks?: readonly string[]) => StepFacts {
    let count = 0;
    while (count < this.#moves.length && (this.#moves[count] as Moves).at <= at) count++;
    const taken = this.#moves.splice(0, count);
    return (ranks) => {
      let facts = nothing;
      for (const { byRank, whole } of taken) {
        if (ranks === undefined) facts = added(facts, whole);
        else for (const rank of ranks) facts = added(facts, byRank?.get(rank) ?? nothing);
      }
      return facts;
    };
  }
}

/** The step from one poll to the next. */
export function stepBetween(previous: ServerPoll, poll: ServerPoll, facts: StepFacts): TokenStep {
  const cachedRatio = facts.input > 0 ? facts.cached / facts.input : 0;
  return {
    from: previous.at,
    to: poll.at,
    inputTokens: (poll.inputTokens - previous.inputTokens) * (1 - cachedRatio),
    outputTokens: poll.outputTokens - previous.outputTokens,
    requests: facts.requests,
    inFlightFrom: previous.inFlight,
    inFlightTo: poll.inFlight,
    progress: poll.progress,
    isDoubted: poll.doubt !== undefined,
    ended: facts.ended,
  };
}

/** Appends a step; those of long ago leave. */
export function keepStep(steps: TokenStep[], step: TokenStep): void {
  steps.push(step);
  while (steps.length > 0 && (steps[0] as TokenStep).to < step.to - keptNanos) steps.shift();
}

/** Whether tokens moved or requests were in flight between polls that touch `[from, to)`, or no poll can say yet. */
export function wasBusy(steps: readonly TokenStep[], from: Nanos, to: Nanos): boolean {
  let known = to;
  for (let index = steps.length - 1; index >= 0; index--) {
    const step = steps[index] as TokenStep;
    if (step.to <= from) break;
    if (step.from >= to) continue;
    known = Math.min(known, step.from);
    if (step.isLent) continue;
    if (step.inputTokens + step.outputTokens > 0) return true;
    if ((step.inFlightFrom ?? 0) > 0 || (step.inFlightTo ?? 0) > 0) return true;
  }
  return known > from;
}

function movesOf(increment: TokenIncrement): Moves {
  const { at, ranks, requests } = increment;
  const ended = (requests.ok ?? 0) + (requests.error ?? 0) + (requests.aborted ?? 0);
  const whole = { ...inputOf(increment), requests: ended, ended: endedOf(increment) };
  if (ranks === undefined) return { at, whole, byRank: undefined };
  const byRank = new Map(
    ranks.map((rank) => {
      const own = { latencies: rank.latencies, requests: {} };
      return [rank.rank, { ...inputOf(rank), requests: rank.requests, ended: endedOf(own) }] as const;
    }),
  );
  return { at, whole, byRank };
}

function inputOf({ tokens }: Pick<TokenIncrement, "tokens">): Pick<StepFacts, "input" | "cached"> {
  const cached = tokens.input_cached ?? 0;
  return { cached, input: cached + (tokens.input_uncached ?? 0) + (tokens.input_unsplit ?? 0) };
}

function added(one: StepFacts, other: StepFacts): StepFacts {
  if (one === nothing) return other;
  if (other === nothing) return one;
  return {
    requests: one.requests + other.requests,
    input: one.input + other.input,
    cached: one.cached + other.cached,
    ended: together(one.ended, other.ended),
  };
}
