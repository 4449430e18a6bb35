// What readings that are not learned yet say of a server of which little is known: whether its host takes longer than the GPU,
// and whether its requests come and go unseen, matters from the first interval on.
import { busyIn } from "./durations.ts";
import type { Activity, Level, PollInterval, WorkRun } from "./evidence.ts";
import { isNew, observeEnded, observeSteps } from "./level.ts";

/** Returns the level with what intervals show that are not decided yet, while little was learned. */
export function levelAhead(activity: Activity, intervals: readonly PollInterval[]): Level {
  const { hasOthers, isTied, learnedUntil, level, windows } = activity;
  // The steps of several GPUs say nothing of how busy one of them is, unless they work together.
  const isOfOne = !hasOthers || isTied;
  if (!isNew(level)) return level;
  const ahead = { ...level };
  for (const interval of intervals) {
    const { contended, doubt, from, isCopied, isLent, open, steps, to } = interval;
    if (open || from < learnedUntil || doubt !== undefined || isCopied === true || isLent === true) continue;
    observeEnded(ahead, interval, sightOf(activity, interval));
    if (isOfOne && !contended) observeSteps(ahead, steps, busyIn(windows, from, to).nanos);
  }
  return ahead;
}

/** Where in an interval requests may have been: on one of several GPUs, and where none was seen at work, anywhere. */
export function sightOf({ hasOthers }: Activity, { all, from, to }: PollInterval): readonly WorkRun[] {
  return hasOthers || all.length === 0 ? [{ from, to, seen: false }] : all;
}
