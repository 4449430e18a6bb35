// Runs of work and intervals between polls, built once from the readings of an estimator and used until the next reading:
// how far it can decide and what it decides there are asked for one after the other.
import type { Nanos } from "../../model.ts";
import { withoutCopies } from "./copies.ts";
import type { Activity, Outlook, SeenPoll, WorkRun } from "./evidence.ts";
import { gaugesOf } from "./evidence.ts";
import { pollInterval, pollIntervals } from "./intervals.ts";
import { pauseOf, stepPauseNanos, workRuns } from "./runs.ts";

/** Returns what the readings so far say up to `last`, the last poll, and up to the end of the last window. */
export function outlookOf(activity: Activity, last: SeenPoll): Outlook {
  const { outlook, windows } = activity;
  if (outlook !== undefined) return outlook;
  const reached = windows.at(-1)?.to ?? last.at;
  activity.outlook = built(activity, windows[0]?.from ?? reached, reached, last.at);
  return activity.outlook;
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
  const open = pollInterval(last, undefined, horizon, last.progress, runs, peers, credits, batch);
  return { polls, runs, intervals: [...intervals, open] };
}

/** True where runs are the same from `from` to `until`: the windows reach over that time, and follow one another. */
function holds({ windows }: Activity, runs: readonly WorkRun[], from: Nanos, until: Nanos): boolean {
  const [first, last] = [windows[0], windows.at(-1)];
  if (first === undefined || last === undefined) return false;
  if (first.from - from > stepPauseNanos || until - last.to > stepPauseNanos) return false;
  for (const { seen } of runs) if (!seen) return false;
  return true;
}

function built(activity: Activity, from: Nanos, to: Nanos, horizon: Nanos): Outlook {
  const { batch, credits, peers, plateau, windows } = activity;
  const runs = workRuns(windows, gaugesOf(activity), from, to, plateau, pauseOf(activity));
  const progress = activity.polls.at(-1)?.progress ?? "step";
  const polls = withoutCopies(activity, runs);
  return { polls, runs, intervals: pollIntervals(polls, progress, runs, peers, horizon, credits, batch) };
}
