// What the polls say: one interval per pair of neighbouring polls, with what moved in it, what was in flight at its
// ends, and the GPU work inside it. Whose work it is, claims.ts decides.

import type { Nanos, ProgressKind } from "../../model.ts";
import type { Credit, KnownIntervals, PeerStretch, PollInterval, SeenPoll, WorkRun } from "./evidence.ts";
import { isSameInterval } from "./same-interval.ts";
import { clipped, firstBeyond, isClip, lengthIn, none, total } from "./stretches.ts";

/** A prompt token takes about a tenth of the time of an output token (h100-solo-8b: 16,384 in 0.35 s, 5,781/s). */
const inputTokenWeight = 0.1;
/** The same over a decode step, which makes a token for each request running. */
export const inputStepWeight = 1 / 200;
/** A decode step costs this much more for each request. */
const stepPerRequest = 0.03;
/** On a GPU of its own: what a decode step takes longer for each request. */
export const ownStepPerRequest = 0.01;
/** There, of requests that leave one after the other, this part ran on average. */
const ownLeavingRatio = 0.5;
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
  known?: KnownIntervals,
): PollInterval[] {
  const intervals: PollInterval[] = [];
  let place = 0;
  let run = 0;
  for (let index = 0; index < polls.length; index++) {
    const poll = polls[index] as SeenPoll;
    const next = polls[index + 1];
    const to = next?.at ?? horizon;
    if (to <= poll.at) continue;
    run = firstBeyond(runs, poll.at, run);
    while (known !== undefined && (known.polls[place]?.at ?? Infinity) < poll.at) place++;
    const before = next === undefined ? undefined : knownBetween(known, place, poll, next);
    if (before !== undefined && stays(before, known as KnownIntervals, progress, runs, batch, run)) {
      intervals.push(before);
      continue;
    }
    const made = pollInterval(poll, next, to, progress, runs, peers, credits, batch, run);
    // A late credit seldom changes an interval: the old one is kept then, so that the new one need not grow old.
    intervals.push(before !== undefined && isSameInterval(before, made) ? before : made);
  }
  return intervals;
}

/** The interval between the very polls, the first of which is at `place`. */
function knownBetween(
  known: KnownIntervals | undefined,
  place: number,
  poll: SeenPoll,
  next: SeenPoll,
): PollInterval | undefined {
  if (known?.polls[place] !== poll || known.polls[place + 1] !== next) return undefined;
  return known.intervals[place];
}

/** True where nothing that an interval is made of, its polls aside, became another. */
function stays(
  interval: PollInterval,
  known: KnownIntervals,
  progress: ProgressKind,
  runs: readonly WorkRun[],
  batch: number | undefined,
  run: number,
): boolean {
  const { all, from, inFlightFrom = 0, inFlightTo = 0, to } = interval;
  if (to > known.until || progress !== known.progress) return false;
  // How many run on average counts where no gauge says it.
  if (batch !== known.batch && interval.progress !== 0 && !(inFlightFrom > 0) && !(inFlightTo > 0))
    return false;
  return isClip(all, runs, from, to, run);
}

/**
 * Returns the time from a poll to the one after it, or to `to` while there is none. No run before the one at `run` reaches into
 * it.
 */
export function pollInterval(
  poll: SeenPoll,
  next: SeenPoll | undefined,
  to: Nanos,
  progress: ProgressKind,
  runs: readonly WorkRun[],
  peers: readonly PeerStretch[],
  credits: readonly Credit[],
  batch: number | undefined,
  run = 0,
): PollInterval {
  const open = next === undefined;
  const output = open ? 0 : next.outputTokens - poll.outputTokens;
  const input = open ? 0 : next.inputTokens - poll.inputTokens;
  const activeNanos =
    next?.activeNanos === undefined || poll.activeNanos === undefined
      ? undefined
      : next.activeNanos - poll.activeNanos;
  const inFlightTo = open ? poll.inFlight : next.inFlight;
  const before = (poll.inFlight ?? 0) > 0;
  const after = (inFlightTo ?? 0) > 0;
  const moved = output + input * inputTokenWeight > 0;
  // An estimate runs on between its corrections, so alone it proves nothing.
  const rose = progress === "estimate" ? moved && (before || after) : moved;
  const ended = next?.requests ?? 0;
  const mayPause = before && after && ended >= (poll.inFlight ?? 0);
  const running = mayPause ? leavingAndComing : runningBetween;
  const pace =
    progress === "step" ? paceOf(poll.inFlight, inFlightTo, output, input, batch, running, ended) : noPace;
  const all = clipped(runs, poll.at, to, run);
  const contended = touchesPeer(all, peers);
  // A request in flight throughout goes on whoever the driver credits, but what a copy shows may be over.
  const isThroughout = before && after;
  const mayBeOver = isThroughout && next?.isRepeated === true;
  const isShared = contended && (!isThroughout || mayBeOver) && isSpared(all, credits);
  const credited = isShared ? withoutSpared(all, credits) : all;
  // Where nothing credits the server, nothing is known against it.
  const work = credited.length > 0 || mayBeOver ? credited : all;
  return {
    from: poll.at,
    to,
    open,
    kind: (activeNanos ?? 0) > 0 || rose ? "moved" : before || after ? "held" : "quiet",
    progress: pace.progress,
    lone: pace.lone,
    steps: pace.steps,
    ownSteps: pace.ownSteps,
    activeNanos,
    inFlightFrom: poll.inFlight,
    inFlightTo,
    all,
    work,
    workNanos: total(work),
    spared: work === all ? none : sparedOf(all, credits),
    contended,
    beside: contended && touchesPeer(all, peers, isStranger),
    besideThin: contended && !touchesPeer(all, peers, isThick),
    ended: next?.ended,
    requests: next?.requests,
    doubt: next?.doubt,
    // Named, not spread: dozens of these are made at each tick.
    mayPause: mayPause ? true : undefined,
    mayBeLate: poll.shownFrom === undefined ? undefined : true,
    mayBeLonger: poll.isRepeated === true ? true : undefined,
    mayBeStale: next?.isRepeated === true ? true : undefined,
    isOfCopy: next?.isOfCopy,
    isCopied: next?.isRenewal === true ? true : undefined,
  };
}

function isStranger({ stranger }: PeerStretch): boolean {
  return stranger;
}

function isThick({ thin }: PeerStretch): boolean {
  return thin !== true;
}

/** Whether a peer, or one that `isMeant`, was busy while the GPU worked. */
function touchesPeer(
  all: readonly WorkRun[],
  peers: readonly PeerStretch[],
  isMeant?: (peer: PeerStretch) => boolean,
): boolean {
  for (const peer of peers) {
    if (isMeant !== undefined && !isMeant(peer)) continue;
    for (const piece of all) if (piece.from < peer.to && peer.from < piece.to) return true;
  }
  return false;
}

/** Work in stretches of the driver's readings that did not credit the server. */
function sparedOf(all: readonly WorkRun[], credits: readonly Credit[]): readonly WorkRun[] {
  const spared: WorkRun[] = [];
  for (const { credited, from, to } of credits)
    if (!credited) for (const piece of clipped(all, from, to)) spared.push(piece);
  return spared;
}

/** True where some of the work is in such a stretch. */
function isSpared(all: readonly WorkRun[], credits: readonly Credit[]): boolean {
  for (const { credited, from, to } of credits) {
    if (credited) continue;
    for (const run of all) if (run.from < to && run.to > from) return true;
  }
  return false;
}

/** The rest of the work. */
function withoutSpared(all: readonly WorkRun[], credits: readonly Credit[]): readonly WorkRun[] {
  const work: WorkRun[] = [];
  for (const run of all) {
    let reached = run.from;
    for (const { credited, from, to } of credits) {
      if (credited || to <= reached || from >= run.to) continue;
      if (from > reached) work.push({ from: reached, to: from, seen: run.seen });
      reached = Math.min(run.to, to);
    }
    if (reached < run.to) work.push({ from: reached, to: run.to, seen: run.seen });
  }
  return work;
}

/** Execution by the driver's shares per process. */
export interface Credited {
  readonly nanos: Nanos;
  /** How long a reading is, how many credited the server, and in how many stretches they were. */
  readonly readingNanos: Nanos;
  readonly readings: number;
  readonly stretches: number;
}

/** How long one of the driver's windows is. Each is credited to one of those that worked in it. */
export const creditWindow: Nanos = 200_000_000;
/** Shares from which to which that is a matter of chance. */
const [leastRatio, mostRatio] = [0.2, 0.98];

/**
 * Returns the execution in an interval by the driver's shares per process: the stretches that credited the server, half a
 * reading less at each end, for that is where execution begins and ends on average, but for the windows there that were
 * credited to others: of a share of a half one and a half. Undefined where the driver says nothing of some part.
 */
export function creditedIn(
  { all, from, to }: Pick<PollInterval, "all" | "from" | "to">,
  credits: readonly Credit[],
): Credited | undefined {
  let reached = from;
  let sum = 0;
  let seen = 0;
  let stretches = 0;
  let first = credits.length;
  let wall = 0;
  let readings = 0;
  let isInside = false;
  while (first > 0 && (credits[first - 1] as Credit).to > from) first--;
  const missed = missedNanos(credits, first, to);
  for (let index = first; index < credits.length; index++) {
    const credit = credits[index] as Credit;
    if (credit.from >= to || credit.from > reached + creditGap) break;
    reached = Math.max(reached, credit.to);
    seen++;
    wall += credit.to - credit.from;
    const wasInside = isInside;
    isInside = isCredited(credits, index);
    if (!isInside) continue;
    readings++;
    if (!wasInside) stretches++;
    const half = Math.max(0, (credit.to - credit.from) / 2 - missed);
    const start = index > 0 && !isCredited(credits, index - 1) ? credit.from + half : credit.from;
    const end = index + 1 < credits.length && !isCredited(credits, index + 1) ? credit.to - half : credit.to;
    sum += lengthIn(all, Math.max(from, start), Math.min(to, end));
  }
  if (reached < to || seen === 0) return undefined;
  return { nanos: Math.round(sum), readingNanos: wall / seen, readings, stretches };
}

/** How long a server executes until it is credited first, by the share of the windows that it is credited with. */
function missedNanos(credits: readonly Credit[], first: number, to: Nanos): Nanos {
  let sum = 0;
  let count = 0;
  for (let index = first; index < credits.length; index++) {
    const { credited, from, ratio = 0.5 } = credits[index] as Credit;
    if (from >= to) break;
    if (!credited) continue;
    sum += ratio;
    count++;
  }
  const share = Math.min(mostRatio, Math.max(leastRatio, sum / count));
  return count === 0 ? 0 : Math.round(-creditWindow / Math.log(1 - share));
}

/** One reading without a credit between two with one is chance. */
function isCredited(credits: readonly Credit[], index: number): boolean {
  if (credits[index]?.credited) return true;
  return credits[index - 1]?.credited === true && credits[index + 1]?.credited === true;
}

type Pace = Pick<PollInterval, "lone" | "ownSteps" | "progress" | "steps">;
const noPace: Pace = { lone: 0, ownSteps: 0, progress: 0, steps: 0 };

/** Progress in decode steps where the gauges say how many requests made the tokens, else in output tokens. */
function paceOf(
  from: number | undefined,
  to: number | undefined,
  output: number,
  input: number,
  batch: number | undefined,
  runningOf: typeof runningBetween,
  ended: number,
): Pace {
  // The first token of a request comes out of its prefill.
  const lone = output - Math.min(output, ended) + input * inputStepWeight;
  if (from === undefined || to === undefined)
    return { ...noPace, lone, progress: output + input * inputTokenWeight };
  const running = runningOf(from, to, batch);
  const progress = output * (1 / running + stepPerRequest) + input * inputStepWeight;
  const passing = ownLeavingRatio * Math.max(0, ended - from);
  const isUnseen = ended > 0 && from <= 0 && to <= 0;
  const own = isUnseen ? runningBetween(ended, 0) : runningOf(from, to, batch, ownLeavingRatio) + passing;
  const ownSteps = output * (1 / own + ownStepPerRequest) + input * inputStepWeight;
  return { lone, ownSteps, progress, steps: (output - Math.min(output, ended)) / running };
}

/** Requests running on average while any ran. */
function runningBetween(from: number, to: number, batch = 1, leaving = leavingRatio): number {
  if (from > 0 && to > 0) return (from + to) / 2;
  if (from > 0) return 1 + (from - 1) * leaving;
  return to > 0 ? 1 + (to - 1) * comingRatio : Math.max(1, batch);
}

/** The same where those of the first poll may all have left before those of the second came. */
function leavingAndComing(from: number, to: number, batch = 1, leaving = leavingRatio): number {
  return (runningBetween(from, 0, batch, leaving) + runningBetween(0, to)) / 2;
}
