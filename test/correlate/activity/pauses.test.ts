// Requests in flight at both ends of a time beside others, all of which may have ended in it: where the server counts no steps, how
// likely none was there for a while is in doubt, and the less the more there are. Steps, or requests that stay, leave no doubt.
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  createActivity,
  observePoll,
  observeWindow,
  settle,
} from "../../../agent/correlate/activity/activity.ts";
import { observePeer } from "../../../agent/correlate/activity/others.ts";
import { second } from "../trace-replay.ts";

const [pollNanos, length] = [5 * second, 30 * second];

/** The doubts of what a server executed that is polled each 5 s, `inFlight` at each, `ended` between two, its GPU busy throughout. */
function doubts(inFlight: number, ended: number, hasPeer: boolean): readonly (number | undefined)[] {
  const activity = createActivity({ from: 0, pollNanos });
  if (hasPeer) observePeer(activity, 0, length, true);
  for (let from = 0; from < length; from += second / 5)
    observeWindow(activity, { from, to: from + second / 5, busyRatio: 1 });
  for (let poll = 0; poll * pollNanos <= length; poll++)
    observePoll(activity, {
      ...{ at: poll * pollNanos, inputTokens: 900 * poll, outputTokens: 300 * poll },
      ...{ inFlight, requests: ended, progress: "finish" },
    });
  return settle(activity, length)
    .filter(({ state }) => state === "active")
    .map(({ doubt }) => doubt?.ratio);
}

// More requests that end for each in flight are short ones, whose ends are as good as steps.
test("a pause between requests that no step tells is in doubt beside others", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 0, max: 20 }), (inFlight, ended) => {
      const wanted = ended >= inFlight ? Math.exp(-inFlight) : undefined;
      expect(new Set(doubts(inFlight, ended, true))).toEqual(new Set([wanted]));
      expect(new Set(doubts(inFlight, ended, false))).toEqual(new Set([undefined]));
    }),
  );
});
