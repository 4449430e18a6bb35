// What the polls say: one interval per pair of neighbouring polls, with what moved in it, what was in flight at its
// ends, and the GPU work inside it. Whose work it is, claims.ts decides.

import type { Nanos, ProgressKind } from "../../model.ts";
import type { Credit, PeerStretch, PollInterval, SeenPoll, WorkRun } from "./evidence.ts";
import { clipped, total } from "./stretches.ts";

/** A prompt token takes about a tenth of the time of an output token (h100-solo-8b: 16,384 in 0.35 s, 5,781/s). */
const inputTokenWeight = 0.1;
/** The same over a decode step, which makes a token for each request running, and costs this much more for each. */
const [inputStepWeight, stepPerRequest] = [1 / 200, 0.03];
/** Of requests that were there at one of two polls alone, this part ran on average: they leave one after the other, come together. */
const [leavingRatio, comingRatio] = [0.6, 0.9];
/** The driver's readings follow each other within this. */
const creditGap = 100_000_000;

/** Returns the intervals between `polls` in order, the open one from the last poll to `horizon` included. */
export function pollIntervals(
  polls: readonly SeenPoll[],
  progress: ProgressKind,
  runs: readonly WorkRun[],
  peers: readonly PeerStretch[],
  horizon: Nanos,
  credits: readonly Credit[] = [],
  batch?: number,
): PollInterval[] {
  const intervals: PollInterval[] = [];
  for (let index = 0; index < polls.length; index++) {
    const poll = polls[index] as SeenPoll;
    const next = polls[index + 1];
    const to = next?.at ?? horizon;
    if (to <= poll.at) continue;
    const all = clipped(runs, poll.at, to);
    const at = peers.filter((peer) => all.some((piece) => piece.from < peer.to && peer.from < piece.to));
    const moves = movement(poll, next, progress, batch);
    // A request in flight throughout goes on whoever the driver credits.
    const throughout = (moves.inFlightFrom ?? 0) > 0 && (moves.inFlightTo ?? 0) > 0;
    const { work, spared } =
      at.length > 0 && !throughout ? credited(all, credits) : { work: all, spared: [] };
    intervals.push({
      ...moves,
      from: poll.at,
      to,
      work,
      workNanos: total(work),
      spared,
      creditedNanos: () => creditedIn(all, credits, poll.at, to),
      contended: at.length > 0,
      beside: at.some(({ stranger }) => stranger),
    });
  }
  return intervals;
}

/** Work in stretches that credited the server, and the rest. Where nothing credits it, nothing is known against it. */
function credited(
  all: readonly WorkRun[],
  credits: readonly Credit[],
): { readonly work: readonly WorkRun[]; readonly spared: readonly WorkRun[] } {
  const others = credits.filter((credit) => !credit.credited);
  const spared = others.flatMap(({ from, to }) => clipped(all, from, to));
  if (spared.length === 0) return { work: all, spared: [] };
  const work: WorkRun[] = [];
  for (const run of all) {
    let reached = run.from;
    for (const { from, to } of others) {
      if (to <= reached || from >= run.to) continue;
      if (from > reached) work.push({ from: reached, to: from, seen: run.seen });
      reached = Math.min(run.to, to);
    }
    if (reached < run.to) work.push({ from: reached, to: run.to, seen: run.seen });
  }
  return work.length === 0 ? { work: all, spared: [] } : { work, spared };
}

/** A stretch of credits begins and ends half a reading inside, on average. */
function creditedIn(
  all: readonly WorkRun[],
  credits: readonly Credit[],
  from: Nanos,
  to: Nanos,
): Nanos | undefined {
  let [reached, sum] = [from, 0];
  let first = credits.length;
  while (first > 0 && (credits[first - 1] as Credit).to > from) first--;
  for (let index = first; index < credits.length; index++) {
    const credit = credits[index] as Credit;
    if (credit.from >= to || credit.from > reached + creditGap) break;
    reached = Math.max(reached, credit.to);
    if (!isCredited(credits, index)) continue;
    const half = (credit.to - credit.from) / 2;
    const start = index > 0 && !isCredited(credits, index - 1) ? credit.from + half : credit.from;
    const end = index + 1 < credits.length && !isCredited(credits, index + 1) ? credit.to - half : credit.to;
    sum += total(clipped(all, Math.max(from, start), Math.min(to, end)));
  }
  return reached < to ? undefined : Math.round(sum);
}

/** One reading without a credit between two with one is chance. */
function isCredited(credits: readonly Credit[], index: number): boolean {
  if (credits[index]?.credited) return true;
  return credits[index - 1]?.credited === true && credits[index + 1]?.credited === true;
}

type Movement = Omit<
  PollInterval,
  "from" | "to" | "work" | "workNanos" | "contended" | "beside" | "spared" | "creditedNanos"
>;

function movement(
  poll: SeenPoll,
  next: SeenPoll | undefined,
  progress: ProgressKind,
  batch: number | undefined,
): Movement {
  const open = next === undefined;
  const output = open ? 0 : next.outputTokens - poll.outputTokens;
  const input = open ? 0 : next.inputTokens - poll.inputTokens;
  const moved = output + input * inputTokenWeight;
  const activeNanos =
    next?.activeNanos === undefined || poll.activeNanos === undefined
      ? undefined
      : next.activeNanos - poll.activeNanos;
  const inFlightTo = open ? poll.inFlight : next.inFlight;
  const flying = (poll.inFlight ?? 0) > 0 || (inFlightTo ?? 0) > 0;
  // An estimate runs on between its corrections, so alone it proves nothing.
  const rose = progress === "estimate" ? moved > 0 && flying : moved > 0;
  const kind = (activeNanos ?? 0) > 0 || rose ? "moved" : flying ? "held" : "quiet";
  return {
    open,
    kind,
    progress: progress === "step" ? paceOf(poll.inFlight, inFlightTo, output, input, batch) : 0,
    activeNanos,
    doubt: next?.doubt,
    endedNanos: next?.ended?.nanos,
    inFlightFrom: poll.inFlight,
    inFlightTo,
  };
}

/** Progress in decode steps where the gauges say how many requests made the tokens, else in output tokens. */
function paceOf(
  from: number | undefined,
  to: number | undefined,
  output: number,
  input: number,
  batch: number | undefined,
): number {
  if (from === undefined || to === undefined) return output + input * inputTokenWeight;
  return output * (1 / runningBetween(from, to, batch) + stepPerRequest) + input * inputStepWeight;
}

/** Requests running on average while any ran. */
function runningBetween(from: number, to: number, batch = 1): number {
  if (from > 0 && to > 0) return (from + to) / 2;
  if (from > 0) return 1 + (from - 1) * leavingRatio;
  return to > 0 ? 1 + (to - 1) * comingRatio : Math.max(1, batch);
}
