// Claims of a server that publishes its own busy time: the increments are exact, only their place is found here.
// An increment goes onto the GPU work of its poll interval, then onto the idle rest of it. What is longer than the
// interval belongs to a step that began before: it is carried backwards. Of a server on several GPUs the increments are those of
// all of them together: a GPU at rest had no part in them. What may have been elsewhere is doubted.
import type { Nanos } from "../../model.ts";
import type { ActivityWindow, Claim, Doubt, PollInterval, WorkRun } from "./evidence.ts";
import { stepPauseNanos } from "./runs.ts";
import { isCoarse } from "./shares.ts";
import { append, clipped, place, total } from "./stretches.ts";

/** Where a server's own busy time may have been spent. */
export interface TimedPlace {
  readonly windows: readonly ActivityWindow[];
  /** The server has other GPUs. */
  readonly hasOthers: boolean;
  /** The busy time is that of ranks, whose GPU may work for others. */
  readonly isRanked: boolean;
}

/** The work of a rank's GPU and its busy time agree as nearly as this. */
const agreedNanos: Nanos = 50_000_000;

/** An increment where it was found, and what speaks against it. */
interface Placed {
  readonly pieces: readonly WorkRun[];
  readonly doubt: Doubt | undefined;
}

/** Returns the claims whose sum per interval is the increment of the server's own busy time; of several GPUs, its part on one. */
export function timedClaims(
  intervals: readonly PollInterval[],
  runs: readonly WorkRun[],
  on: TimedPlace,
): Claim[] {
  const perInterval: Placed[] = [];
  let carried = 0;
  for (let index = intervals.length - 1; index >= 0; index--) {
    const interval = intervals[index] as PollInterval;
    const length = interval.to - interval.from;
    const active = Math.max(0, interval.activeNanos ?? 0);
    // Of all ranks together it is longer than the interval because they work at once.
    const wanted = (interval.isLent === true ? Math.min(active, length) : active) + carried;
    const before = intervals[index - 1];
    const amount = Math.min(wanted - madeBefore(interval, before, wanted, on), length);
    carried = wanted - amount;
    perInterval.push(placed(interval, before, runs, amount, on));
  }
  const claims: Claim[] = [];
  for (const { doubt, pieces } of perInterval.reverse())
    for (const { from, to } of pieces) append(claims, from, to, "active_time", doubt);
  return claims;
}

/**
 * How much of the busy time that a copy showed is of the interval before: the copy was made some time before the poll that
 * showed it, so that work at the end of an interval counts in the next one.
 */
function madeBefore(
  interval: PollInterval,
  before: PollInterval | undefined,
  wanted: Nanos,
  on: TimedPlace,
): Nanos {
  if (before === undefined || !isPlacedLate(interval, on)) return 0;
  const unclaimed = Math.max(0, total(before.all) - (before.activeNanos ?? 0));
  return Math.min(unclaimed, Math.max(0, wanted - total(interval.all)));
}

/** Near windows of its only GPU say where the busy time was that a copy showed. */
function isPlacedLate(interval: PollInterval, on: TimedPlace): boolean {
  const { contended, from, isOfCopy, to } = interval;
  return isOfCopy === true && !contended && !isElsewhere(interval, on) && !isCoarse(on.windows, from, to);
}

function placed(
  interval: PollInterval,
  before: PollInterval | undefined,
  runs: readonly WorkRun[],
  busy: Nanos,
  on: TimedPlace,
): Placed {
  const work = clipped(runs, interval.from, interval.to);
  const starts = (interval.inFlightFrom ?? 0) > 0 || (before?.activeNanos ?? 0) > 0;
  const ends = (interval.inFlightTo ?? 0) > 0;
  const byGauges = starts === ends ? "both" : starts ? "start" : "end";
  const side = isPlacedLate(interval, on) ? "start" : byGauges;
  const spare = total(work.filter(({ seen }) => seen)) - busy;
  const amount = busy + forOthers(interval, spare, on);
  const missing = amount - total(work);
  // Of several GPUs more busy time than work is no surprise.
  const off = isElsewhere(interval, on) ? spare : Math.max(spare, missing);
  const doubt = doubtOf(interval, amount, off, on);
  if (missing <= 0) return { pieces: place(work, amount, side), doubt };
  const idle = openIn(work, interval, on);
  const pauses = place(idle, Math.min(missing, total(idle)), side);
  return { pieces: [...work, ...pauses].sort((left, right) => left.from - right.from), doubt };
}

/** In lockstep the GPU of a rank works for the others as well: what near readings show of it beyond its own busy time. */
function forOthers({ from, othersNanos = 0, to }: PollInterval, spare: Nanos, on: TimedPlace): Nanos {
  if (othersNanos <= 0 || spare <= 0 || isCoarse(on.windows, from, to)) return 0;
  return Math.min(spare, othersNanos);
}

/** Where else an increment may have been. Of a GPU of several, readings that are near say all that it did. */
function openIn(work: readonly WorkRun[], interval: PollInterval, on: TimedPlace): WorkRun[] {
  const idle = idleIn(work, interval);
  if (!isElsewhere(interval, on)) return idle;
  return isCoarse(on.windows, interval.from, interval.to) ? withoutRest(idle, on.windows) : [];
}

/** The busy time is that of several GPUs together. */
function isElsewhere(interval: PollInterval, { hasOthers }: TimedPlace): boolean {
  return hasOthers || interval.isLent === true;
}

/** What speaks against an increment, `off` being how far the work in its interval is from the busy time. */
function doubtOf(interval: PollInterval, amount: Nanos, off: Nanos, on: TimedPlace): Doubt | undefined {
  const { contended, from, to } = interval;
  if (amount <= 0) return undefined;
  if (isCoarse(on.windows, from, to)) {
    if (isElsewhere(interval, on)) return { reason: "coarse_windows", ratio: 1 };
    const rest = to - from - amount;
    if (!contended || rest <= stepPauseNanos) return undefined;
    return { reason: "coarse_windows", ratio: Math.min(1, rest / amount) };
  }
  // Of several GPUs, what others did here cannot be told from what the server did on another one.
  if (contended && isElsewhere(interval, on)) return { reason: "shared_work", ratio: 1 };
  // A place in near readings of one GPU is off by less than the time between two polls.
  const offMax = isElsewhere(interval, on) ? stepPauseNanos : on.isRanked ? agreedNanos : Infinity;
  return off <= offMax ? undefined : { reason: "shared_work", ratio: Math.min(1, off / amount) };
}

/** The pieces less the windows in which the GPU did nothing at all. */
function withoutRest(pieces: readonly WorkRun[], windows: readonly ActivityWindow[]): WorkRun[] {
  let open = [...pieces];
  for (const { busyRatio, from, sampled, to } of windows) {
    if (busyRatio > 0 || sampled === true) continue;
    open = open.flatMap((piece) => {
      if (from >= piece.to || to <= piece.from) return [piece];
      const ends = [
        { ...piece, to: Math.max(from, piece.from) },
        { ...piece, from: Math.min(to, piece.to) },
      ];
      return ends.filter((end) => end.to > end.from);
    });
  }
  return open;
}

function idleIn(work: readonly WorkRun[], interval: PollInterval): WorkRun[] {
  const idle: WorkRun[] = [];
  let reached = interval.from;
  for (const piece of work) {
    if (piece.from > reached) idle.push({ from: reached, to: piece.from, seen: true });
    reached = piece.to;
  }
  if (interval.to > reached) idle.push({ from: reached, to: interval.to, seen: true });
  return idle;
}
