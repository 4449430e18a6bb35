// Progress between two polls: decode steps, however many requests make a token in each.
import { expect, test } from "vitest";
import type { SeenPoll } from "../../../agent/correlate/activity/evidence.ts";
import { pollIntervals } from "../../../agent/correlate/activity/intervals.ts";

const second = 1_000_000_000;
const progressOf = (inFlight: number | undefined, outputTokens: number, inputTokens = 0): number => {
  const poll = (at: number, made: number): SeenPoll => ({
    ...{ at, inputTokens: made * inputTokens, outputTokens: made * outputTokens, progress: "step" },
    ...(inFlight === undefined ? {} : { inFlight }),
  });
  return pollIntervals([poll(0, 0), poll(second, 1)], "step", [], [], second)[0]?.progress ?? -1;
};

test("pollIntervals() counts about as many steps for a batch as for one request", () => {
  const one = progressOf(1, 100);
  expect(progressOf(5, 500) / one).toBeGreaterThan(0.95);
  expect(progressOf(5, 500) / one).toBeLessThan(1.25);
  // A prompt token costs much less than a step.
  expect(progressOf(1, 100, 1000) - one).toBeCloseTo(5);
});

test("pollIntervals() counts tokens where no gauge says how many requests run", () => {
  expect(progressOf(undefined, 500)).toBe(500);
});
