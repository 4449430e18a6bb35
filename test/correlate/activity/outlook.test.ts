// Runs and intervals that are kept until the next reading are those that the readings make at once, for any readings.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  createActivity,
  observePlace,
  observePoll,
  observeWindow,
  settle,
} from "../../../agent/correlate/activity/activity.ts";
import type { Activity } from "../../../agent/correlate/activity/evidence.ts";
import { gaugesOf } from "../../../agent/correlate/activity/evidence.ts";
import { pollIntervals } from "../../../agent/correlate/activity/intervals.ts";
import { observeCredit, observePeer } from "../../../agent/correlate/activity/others.ts";
import { outlookOf, outlookUntil } from "../../../agent/correlate/activity/outlook.ts";
import { pauseOf, workRuns } from "../../../agent/correlate/activity/runs.ts";

const tenth = 100_000_000;

type Reading = (activity: Activity, at: number) => void;

/** A reading that ends `at`, of any kind; windows may leave holes behind them. */
const reading: fc.Arbitrary<Reading> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.tuple(fc.integer({ min: 1, max: 2 }), fc.constantFrom(0, 0, 0.3, 0.9, 1)).map(
      ([length, busyRatio]): Reading =>
        (activity, at) =>
          void observeWindow(activity, { from: at - length * tenth, to: at, busyRatio }),
    ),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.nat({ max: 3 }), fc.option(fc.nat({ max: 2 }), { nil: undefined }), fc.nat({ max: 3 }))
      .map(
        ([tokens, inFlight, requests]): Reading =>
          (activity, at) => {
            const outputTokens = (activity.polls.at(-1)?.outputTokens ?? 0) + tokens;
            const gauge = inFlight === undefined ? {} : { inFlight };
            observePoll(activity, { at, inputTokens: 0, outputTokens, progress: "step", requests, ...gauge });
          },
      ),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.boolean(), fc.boolean(), fc.nat({ max: 20 })).map(
      ([stranger, thin, back]): Reading =>
        (activity, at) =>
          observePeer(activity, at - (5 + back) * tenth, at - back * tenth, stranger, thin),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.boolean().map(
      (credited): Reading =>
        (activity, at) =>
          observeCredit(activity, { from: at - 2 * tenth, to: at, credited }),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.boolean().map(
      (hasOthers): Reading =>
        (activity) =>
          observePlace(activity, 10 * tenth, hasOthers),
    ),
  },
  { weight: 1, arbitrary: fc.constant<Reading>((activity, at) => void settle(activity, at - 20 * tenth)) },
);

/** The same without anything kept. */
function madeAtOnce(activity: Activity, from: number, to: number, horizon: number) {
  const { batch, credits, peers, plateau, polls, windows } = activity;
  const runs = workRuns(windows, gaugesOf(activity), from, to, plateau, pauseOf(activity));
  return { polls, runs, intervals: pollIntervals(polls, "step", runs, peers, horizon, credits, batch) };
}

describe("outlookOf() and outlookUntil()", () => {
  test("say what the readings say, whichever is asked first and whatever came since", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(reading, fc.integer({ min: 1, max: 6 }), fc.boolean(), fc.nat({ max: 30 })), {
          maxLength: 120,
          size: "max",
        }),
        (steps) => {
          const activity = createActivity({ from: 0, pollNanos: 10 * tenth });
          let at = 20 * tenth;
          for (const [take, later, isAsked, back] of steps) {
            at += later > 4 ? later * tenth : tenth;
            take(activity, at);
            const { polls, windows } = activity;
            const last = polls.at(-1);
            if (last !== undefined && isAsked) {
              const reached = windows.at(-1)?.to ?? last.at;
              const wanted = madeAtOnce(activity, windows[0]?.from ?? reached, reached, last.at);
              expect(outlookOf(activity, last)).toEqual(wanted);
            }
            const until = at - back * tenth;
            const horizon = Math.max(until, last?.at ?? until, windows.at(-1)?.to ?? until);
            const from = Math.min(polls[0]?.at ?? until, until);
            expect(outlookUntil(activity, until)).toEqual(madeAtOnce(activity, from, until, horizon));
          }
        },
      ),
      { numRuns: 60 },
    );
  });
});
