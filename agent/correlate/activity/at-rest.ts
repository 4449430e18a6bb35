// A server that nothing moves: its GPU is idle in all that is looked at, its polls read nothing in flight and no counter moved. It
// claims nothing, whatever was learned of its requests: most servers of a host are like that most of the time.
import type { ProgressKind } from "../../model.ts";
import type { Activity, PollInterval, WorkRun } from "./evidence.ts";
import { isCoarse } from "./shares.ts";

/** True where claims and doubts are known to be none, or where nothing that is read says whether the server executes. */
export function claimsNothing(
  { decidedUntil, polls, windows }: Pick<Activity, "decidedUntil" | "polls" | "windows">,
  progress: ProgressKind,
  intervals: readonly PollInterval[],
  runs: readonly WorkRun[],
): boolean {
  const last = polls.at(-1);
  if (progress !== "step" && last?.inFlight === undefined && last?.activeNanos === undefined) return true;
  if (runs.length > 0) return false;
  for (let index = intervals.length - 1; index >= 0; index--) {
    const { activeNanos, doubt, from, kind, mayBeStale, to } = intervals[index] as PollInterval;
    // Its own busy time is claimed whatever the GPU shows, and what windows hide is in doubt.
    if (activeNanos !== undefined || doubt !== undefined || mayBeStale === true) return false;
    if (to > decidedUntil && (kind !== "quiet" || isCoarse(windows, from, to))) return false;
  }
  return true;
}
