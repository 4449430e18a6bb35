// Counters that move as requests end (Triton, a gateway's usage records). Of long requests they say nothing of the time between two polls;
// of requests that are hardly longer than a window they say as much as counters of steps: what moved was executed there.
import type { ProgressKind } from "../../model.ts";
import type { Activity, SeenPoll } from "./evidence.ts";
import { areQuick, endedFew, observeEnded } from "./lengths.ts";

/** Returns how the counters of a server move, by what they say. */
export function progressOf(activity: Pick<Activity, "learnedUntil" | "level" | "polls">): ProgressKind {
  const told = activity.polls.at(-1)?.progress ?? "step";
  return told === "finish" && areQuick(levelByPolls(activity)) ? "step" : told;
}

/** The level with what polls show that are not learned yet, while little was: whatever the GPU did between them. */
function levelByPolls({
  learnedUntil,
  level,
  polls,
}: Pick<Activity, "learnedUntil" | "level" | "polls">): Activity["level"] {
  if (!endedFew(level)) return level;
  const ahead = { ...level };
  for (let index = 1; index < polls.length; index++) {
    const [from, poll] = [(polls[index - 1] as SeenPoll).at, polls[index] as SeenPoll];
    if (from < learnedUntil || poll.isRepeated === true) continue;
    const { at: to, inFlight: inFlightTo, requests } = poll;
    observeEnded(ahead, { inFlightTo, requests, to }, [{ from, to, seen: false }]);
  }
  return ahead;
}
