// The pace of long requests where windows hide their execution: who was there throughout, and what the fastest interval says.
import fc from "fast-check";
import { expect, test } from "vitest";
import { createActivity } from "../../../agent/correlate/activity/activity.ts";
import { pollInterval } from "../../../agent/correlate/activity/intervals.ts";
import { paceOf } from "../../../agent/correlate/activity/paced.ts";
import { flyingPace, learnRates, paceByFastest } from "../../../agent/correlate/activity/rates.ts";
import { second } from "../trace-replay.ts";

/** The time between two polls 5 s apart, with what ended in it. */
function between(before: number, after: number, outputTokens: number, requests: number) {
  const [poll, next] = [
    { at: 0, inputTokens: 0, outputTokens: 0, inFlight: before, progress: "step" as const },
    { at: 5 * second, inputTokens: 0, outputTokens, inFlight: after, progress: "step" as const, requests },
  ];
  return pollInterval(poll, next, next.at, "step", [], [], [], undefined);
}

test("requests that are in flight at both polls may all be others only where as many ended as there were", () => {
  fc.assert(
    fc.property(fc.nat(9), fc.nat(9), fc.nat(20), (before, after, ended) => {
      const interval = between(before, after, 1000, ended);
      expect(interval.mayPause === true).toBe(before > 0 && after > 0 && ended >= before);
      // Only who executes throughout shows a pace.
      const isThroughout = before > 0 && after > 0 && ended < before;
      expect(flyingPace([interval]) !== undefined).toBe(isThroughout);
    }),
  );
});

test("paceByFastest() finds the pace of requests that begin anywhere between two polls", () => {
  const share = fc.double({ min: 0.02, max: 1, noNaN: true });
  const fills = fc.array(share, { minLength: 40, maxLength: 60, size: "max" });
  fc.assert(
    fc.property(fills, fc.integer({ min: 20, max: 300 }), (filled, stepsPerSecond) => {
      const running = 10;
      const intervals = filled.map((share) =>
        between(0, running, Math.round(running * stepsPerSecond * 5 * share), 0),
      );
      const { error, pace } = paceByFastest({ rate: 0, intervals: 0 }, intervals);
      // What was fast long ago counts a hundredth less with each interval since.
      const remembered = Math.max(...filled.map((one, index) => one * 0.99 ** (filled.length - 1 - index)));
      // Steps are counted by requests running on average, which is thought to be a fifth less than it was.
      const found = (pace ?? 0) * second;
      expect(found).toBeGreaterThanOrEqual(1.1 * stepsPerSecond * remembered);
      expect(found).toBeLessThanOrEqual(1.3 * stepsPerSecond * remembered);
      expect(error).toBeCloseTo(1 / (filled.length + 1), 9);
    }),
  );
  expect(paceByFastest({ rate: 0, intervals: 0 }, []).pace).toBeUndefined();
});

test("paceOf() is as sure before an interval is learned as after: none counts twice", () => {
  const state = createActivity({ from: 0, pollNanos: 5 * second });
  // Many more are in flight than end: they are long.
  Object.assign(state.level, { inside: 40, polls: 4, ended: 1 });
  const intervals = [between(0, 10, 1000, 0)];
  const ahead = paceOf(state, intervals);
  Object.assign(state, { rates: learnRates(intervals, state.rates, 0), learnedUntil: 5 * second });
  expect(ahead.pace).toBeGreaterThan(0);
  expect(paceOf(state, intervals)).toEqual(ahead);
});
