// What cannot be decided yet: stretches at the end of the readings that the next window or poll may still explain.
// How long they may be held open is the caller's decision (METERING.md 2, settleMs).
import type { Nanos } from "../../model.ts";
import { unexplainedFrom } from "./copies.ts";
import type { Activity, ActivityWindow, PollInterval, WorkRun } from "./evidence.ts";
import { outlookOf, runsOf } from "./outlook.ts";
import { prefillNanosMax } from "./prefill.ts";
import { longPauseNanos, preparationPause, stepPauseNanos, workingBusyRatio } from "./runs.ts";

/** Returns the start of the stretch that the next window or the next poll may still explain, Infinity for none. */
export function heldOpenFrom(activity: Activity): Nanos {
  const last = activity.polls.at(-1);
  if (last === undefined) return Infinity;
  const outlook = outlookOf(activity, last);
  if (activity.held?.outlook === outlook) return activity.held.from;
  const { intervals, runs } = outlook;
  const held = Math.min(heldByWindows(activity, runs, intervals), heldByPolls(activity, runs, intervals));
  const from = Math.min(held, unexplainedFrom(activity, runs));
  activity.held = { outlook, from };
  return from;
}

/** Returns how long an interval may have to wait for a page that may be a copy, 0 where it need not. */
export function copyHoldNanos(activity: Activity): Nanos {
  const last = activity.polls.at(-1);
  if (last?.shownFrom === undefined || !activity.windows.some(isWork)) return 0;
  return unexplainedFrom(activity, runsOf(activity, last)) < Infinity
    ? last.at - last.shownFrom + activity.pollNanos
    : 0;
}

/** The edge of a run needs the window after it; a pause, and tokens without work, need to see what follows. */
function heldByWindows(
  activity: Activity,
  runs: readonly WorkRun[],
  intervals: readonly PollInterval[],
): Nanos {
  const window = activity.windows.at(-1);
  const newest = intervals.at(-1);
  if (window === undefined) return Infinity;
  if (window.busyRatio >= workingBusyRatio) return Math.max(window.from, runs.at(-1)?.from ?? window.from);
  const run = runs.at(-1);
  const lag = 2 * stepPauseNanos;
  if (newest?.kind === "moved" && newest.work.length === 0 && window.to < newest.to + lag) return newest.from;
  if (run === undefined || !run.seen) return Infinity;
  const flying = (activity.polls.at(-1)?.inFlight ?? 0) > 0;
  const pause = flying ? longPauseNanos : preparationPause(activity.polls, run, window.to);
  return window.to - run.to < pause ? run.to : Infinity;
}

/** Work up to the last poll that nothing in flight explains may be a prefill; a shared GPU needs the next rate. */
function heldByPolls(
  activity: Activity,
  runs: readonly WorkRun[],
  intervals: readonly PollInterval[],
): Nanos {
  const last = activity.polls.at(-1);
  const newest = intervals.at(-1);
  if (last === undefined || newest === undefined) return Infinity;
  if (last.progress !== "step" && last.inFlight === undefined) return Infinity;
  if (newest.activeNanos !== undefined) return heldByBusyTime(intervals, activity.windows.at(-1)?.to);
  const flying = (last.inFlight ?? 0) > 0;
  if (newest.contended && newest.kind === "moved" && !(flying && (newest.inFlightFrom ?? 0) > 0))
    return newest.from;
  const run = runs.findLast((candidate) => candidate.from < last.at);
  if (flying || run === undefined || !run.seen) return Infinity;
  const reached = Math.min(last.at, activity.windows.at(-1)?.to ?? last.at);
  if (reached - run.to > preparationPause(activity.polls, run, reached)) return Infinity;
  let from = last.at;
  for (let index = intervals.length - 1; index >= 0; index--) {
    const interval = intervals[index] as PollInterval;
    from = Math.max(run.from, interval.from);
    if (interval.kind !== "quiet" || from === run.from) break;
  }
  return last.at - from > Math.max(prefillNanosMax, activity.pollNanos) ? Infinity : from;
}

/**
 * Work beyond the busy time published so far may be a long step: its time is published when it ends. Busy time beyond the
 * work seen so far may be work in windows that are still to come: placed before them it would count twice.
 */
function heldByBusyTime(intervals: readonly PollInterval[], seenUntil: Nanos | undefined): Nanos {
  let from = Infinity;
  for (let index = intervals.length - 1; index >= 0; index--) {
    const { activeNanos = 0, from: start, to, workNanos } = intervals[index] as PollInterval;
    const isPartlySeen = seenUntil !== undefined && seenUntil < to;
    const isLong = workNanos - activeNanos > stepPauseNanos;
    if (!isLong && !(isPartlySeen && activeNanos > workNanos)) {
      if (isPartlySeen) continue;
      break;
    }
    from = start;
  }
  return from;
}

function isWork({ busyRatio }: ActivityWindow): boolean {
  return busyRatio >= workingBusyRatio;
}
