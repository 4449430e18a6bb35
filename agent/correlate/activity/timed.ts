// Claims of a server that publishes its own busy time: the increments are exact, only their place is found here.
// An increment goes onto the GPU work of its poll interval, then onto the idle rest of it. What is longer than the
// interval belongs to a step that began before: it is carried backwards.
import type { Nanos } from "../../model.ts";
import type { Claim, PollInterval, WorkRun } from "./evidence.ts";
import { append, clipped, place, total } from "./stretches.ts";

/** Returns the claims whose sum per interval is the increment of the server's own busy time. */
export function timedClaims(intervals: readonly PollInterval[], runs: readonly WorkRun[]): Claim[] {
  const perInterval: (readonly WorkRun[])[] = [];
  let carried = 0;
  for (let index = intervals.length - 1; index >= 0; index--) {
    const interval = intervals[index] as PollInterval;
    const wanted = Math.max(0, interval.activeNanos ?? 0) + carried;
    const amount = Math.min(wanted, interval.to - interval.from);
    carried = wanted - amount;
    perInterval.push(placed(interval, intervals[index - 1], runs, amount));
  }
  const claims: Claim[] = [];
  for (const pieces of perInterval.reverse())
    for (const piece of pieces) append(claims, piece.from, piece.to, "active_time");
  return claims;
}

function placed(
  interval: PollInterval,
  before: PollInterval | undefined,
  runs: readonly WorkRun[],
  amount: Nanos,
): WorkRun[] {
  const work = clipped(runs, interval.from, interval.to);
  const starts = (interval.inFlightFrom ?? 0) > 0 || (before?.activeNanos ?? 0) > 0;
  const ends = (interval.inFlightTo ?? 0) > 0;
  const missing = amount - total(work);
  const side = starts === ends ? "both" : starts ? "start" : "end";
  if (missing <= 0) return place(work, amount, side);
  const pauses = place(idleIn(work, interval), missing, side);
  return [...work, ...pauses].sort((left, right) => left.from - right.from);
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
