// Runs of work and intervals between polls, built once from the readings of an estimator and used until the next reading:
// how far it can decide and what it decides there are asked for one after the other. An interval that neither a reading nor
// a learned level touched since is the one of the time before (intervals.ts): most are seen ten times until they are dropped.
import type { Nanos } from "../../model.ts";
import { withoutCopies } from "./copies.ts";
import type { Activity, Outlook, SeenPoll, WorkRun } from "./evidence.ts";
import { gaugesOf } from "./evidence.ts";
import { pollInterval, pollIntervals } from "./intervals.ts";
import { progressOf } from "./progress-kind.ts";
import { pauseOf, stepPauseNanos, workRuns } from "./runs.ts";

/** Returns what the readings so far say up to `last`, the last poll, and up to the end of the last window. */
export function outlookOf(activity: Activity, last: SeenPoll): Outlook {
  const { outlook, windows } = activity;
  if (outlook !== undefined) return outlook;
  const reached = windows.at(-1)?.to ?? last.at;
  activity.outlook = built(activity, windows[0]?.from ?? reached, reached, last.at);
  return activity.outlook;
}

/** Returns the runs of the same alone: whoever asks for no more is spared the intervals. */
export function runsOf(activity: Activity, last: SeenPoll): readonly WorkRun[] {
  const { outlook, windows } = activity;
  if (outlook !== undefined) return outlook.runs;
  const reached = windows.at(-1)?.to ?? last.at;
  return runsBetween(activity, windows[0]?.from ?? reached, reached);
}

/** Returns what they say from the first poll to `until`, with the time after the last poll as an open interval. */
export function outlookUntil(activity: Activity, until: Nanos): Outlook {
  const { batch, credits, peers, windows } = activity;
  const from = Math.min(activity.polls[0]?.at ?? until, until);
  const last = activity.polls.at(-1);
  const horizon = Math.max(until, last?.at ?? until, windows.at(-1)?.to ?? until);
  if (last === undefined) return built(activity, from, until, horizon);
  const { intervals, polls, runs } = outlookOf(activity, last);
  if (!holds(activity, runs, from, until)) return built(activity, from, until, horizon);
  if (horizon <= last.at) return { polls, runs, intervals };
  const open = pollInterval(last, undefined, horizon, progressOf(activity), runs, peers, credits, batch);
  return { polls, runs, intervals: intervals.concat([open]) };
}

/** True where runs are the same from `from` to `until`: the windows reach over that time, and follow one another. */
function holds({ windows }: Activity, runs: readonly WorkRun[], from: Nanos, until: Nanos): boolean {
  const first = windows[0];
  const last = windows.at(-1);
  if (first === undefined || last === undefined) return false;
  if (first.from - from > stepPauseNanos || until - last.to > stepPauseNanos) return false;
  for (const { seen } of runs) if (!seen) return false;
  return true;
}

/** Notes that others were busy from `from` on, or were credited: what was worked out of the time before stays. */
export function noteOthers(activity: Activity, from: Nanos): void {
  activity.outlook = undefined;
  if (activity.known !== undefined) activity.known.until = Math.min(activity.known.until, from);
}

function built(activity: Activity, from: Nanos, to: Nanos, horizon: Nanos): Outlook {
  const { batch, credits, known, peers } = activity;
  const runs = runsBetween(activity, from, to);
  const progress = progressOf(activity);
  const polls = withoutCopies(activity, runs);
  const intervals = pollIntervals(polls, progress, runs, peers, horizon, credits, batch, known);
  // The list of polls is the estimator's own: it goes on.
  activity.known = { polls: polls.slice(), intervals, progress, batch, until: Infinity };
  return { polls, runs, intervals };
}

function runsBetween(activity: Activity, from: Nanos, to: Nanos): readonly WorkRun[] {
  const { plateau, windows } = activity;
  return workRuns(windows, gaugesOf(activity), from, to, plateau, pauseOf(activity));
}
