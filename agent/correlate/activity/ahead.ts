// What readings that are not learned yet say of a server of which little is known: whether its host takes longer than the GPU,
// and whether its requests come and go unseen, matters from the first interval on.
import { busyIn } from "./durations.ts";
import type { Activity, ActivityWindow, PollInterval, WorkRun } from "./evidence.ts";
import type { Level } from "./learned.ts";
import { observeEnded } from "./lengths.ts";
import { isNew, observeRoughness, observeSteps } from "./level.ts";
import { isMadeNew, observeMade } from "./presumed.ts";

/** Pairs of windows of its own that it takes to say whether requests fill them. */
const pairsMin = 30;

/** Returns the level with what intervals show that are not decided yet, while little was learned. */
export function levelAhead(activity: Activity, intervals: readonly PollInterval[]): Level {
  const { hasOthers, isTied, learnedUntil, level, windows } = activity;
  // The steps of several GPUs say nothing of how busy one of them is, unless they work together.
  const isOfOne = !hasOthers || isTied;
  const isRough = activity.isShared && level.pairs < pairsMin;
  const isUnmade = activity.isShared && isMadeNew(level);
  if (!isNew(level) && !isRough && !isUnmade) return level;
  const ahead = { ...level };
  for (const interval of intervals) {
    const { contended, doubt, from, isCopied, isLent, open, steps, to } = interval;
    if (open || from < learnedUntil) continue;
    if (isUnmade) observeMade(ahead, interval);
    if (isRough) observeOwnRoughness(ahead, activity, interval);
    if (!isNew(level) || doubt !== undefined || isCopied === true || isLent === true) continue;
    observeEnded(ahead, interval, sightOf(activity, interval));
    if (isOfOne && !contended) observeSteps(ahead, steps, busyIn(windows, from, to).nanos);
  }
  return ahead;
}

/** Takes in how rough the windows of an interval are in which a server worked, where nobody else did in them and those before. */
export function observeOwnRoughness(
  level: Level,
  { peers, windows }: Pick<Activity, "peers" | "windows">,
  { contended, from, kind, to }: Pick<PollInterval, "contended" | "from" | "kind" | "to">,
): void {
  if (contended || kind === "quiet") return;
  let first = windows.length;
  while (first > 0 && (windows[first - 1] as ActivityWindow).to > from) first--;
  for (let index = first; index < windows.length; index++) {
    const window = windows[index] as ActivityWindow;
    if (window.to > to) break;
    const start = windows[index - 3]?.from ?? -Infinity;
    if (start < from && peers.some((peer) => peer.to > start && peer.from < window.to)) continue;
    observeRoughness(level, windows, index + 1);
  }
}

/** Where in an interval requests may have been: on one of several GPUs, and where none was seen at work, anywhere. */
export function sightOf({ hasOthers }: Activity, { all, from, to }: PollInterval): readonly WorkRun[] {
  return hasOthers || all.length === 0 ? [{ from, to, seen: false }] : all;
}
