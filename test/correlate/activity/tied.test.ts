// GPUs that work together: gauges and counters of a server on several of them speak of each, and of none where they do not.
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  createActivity,
  decidableUntil,
  observePlace,
  observePoll,
  observeWindow,
  settle,
} from "../../../agent/correlate/activity/activity.ts";
import type { ActivityWindow } from "../../../agent/correlate/activity/evidence.ts";
import type { Level } from "../../../agent/correlate/activity/learned.ts";
import { second } from "../trace-replay.ts";

const window = second / 5;

/** What is learned on one GPU from busy shares by window and gauges by second, with another GPU beside it or none. */
function learned(hundredths: readonly number[], gauges: readonly number[], other: "none" | "tied" | "apart") {
  const state = createActivity({ from: 0, pollNanos: second });
  const windows = hundredths.map(
    (hundredth, index): ActivityWindow => ({
      ...{ from: index * window, to: (index + 1) * window, busyRatio: hundredth / 100 },
    }),
  );
  observePlace(state, second, other !== "none", other === "none" ? [] : [windows], other === "tied");
  for (const [index, inFlight] of gauges.entries()) {
    const now = (index + 1) * second;
    for (const one of windows.slice(5 * index, 5 * index + 5)) observeWindow(state, one);
    const counted = { inputTokens: 0, outputTokens: 7 * index, requests: 2 };
    observePoll(state, { at: now - second / 10, ...counted, inFlight, progress: "step" });
    settle(state, decidableUntil(state, now, 5 * second));
  }
  return state.level;
}

const seen = ({ gauges, long, short, stepNanos, steps }: Level) => ({
  gauges,
  long,
  short,
  stepNanos,
  steps,
});

test("what GPUs that work together teach of requests is what one alone teaches; of GPUs that do not it is nothing", () => {
  const seconds = 12;
  const shares = fc.array(fc.nat(80), { minLength: 5 * seconds, maxLength: 5 * seconds });
  const gauges = fc.array(fc.nat(2), { minLength: seconds, maxLength: seconds });
  let taught = 0;
  fc.assert(
    fc.property(shares, gauges, (hundredths, inFlight) => {
      const [alone, tied, apart] = (["none", "tied", "apart"] as const).map((other) =>
        learned(hundredths, inFlight, other),
      ) as [Level, Level, Level];
      expect(seen(tied)).toEqual(seen(alone));
      expect([apart.gauges, apart.steps]).toEqual([0, 0]);
      if (alone.gauges > 0 && alone.steps > 0) taught++;
    }),
    { numRuns: 40 },
  );
  expect(taught).toBeGreaterThan(30);
});
