// Short requests behind a driver whose last window alone is read: they are where their tokens moved, whatever the window caught.
import fc from "fast-check";
import { expect, test } from "vitest";
import type { PollInterval } from "../../../agent/correlate/activity/evidence.ts";
import { createLevel } from "../../../agent/correlate/activity/level.ts";
import type { ShareEvidence } from "../../../agent/correlate/activity/shares.ts";
import { shareDoubt, sharedPieces } from "../../../agent/correlate/activity/shares.ts";
import { total } from "../../../agent/correlate/activity/stretches.ts";

const second = 1_000_000_000;

function intervalsOf(progress: readonly number[]): PollInterval[] {
  return progress.map((amount, index) => ({
    ...{
      from: index * 5 * second,
      to: (index + 1) * 5 * second,
      open: false,
      steps: 0,
      lone: 0,
      ownSteps: 0,
    },
    ...({ kind: amount > 0 ? "moved" : "quiet", progress: amount, activeNanos: undefined } as const),
    ...{ inFlightFrom: 0, inFlightTo: 0, all: [], work: [], workNanos: 0, spared: [] },
    ...{ contended: false, beside: false, besideThin: false, ended: undefined, doubt: undefined },
  }));
}

function evidenceOf(intervals: readonly PollInterval[], ratios: readonly number[]): ShareEvidence {
  const windows = intervals.map(({ from, to }, index) => ({
    ...{ from, to, busyRatio: ratios[index % ratios.length] as number },
    sampled: true,
  }));
  return {
    ...{ windows, intervals, siblings: [], perBusy: 1.1, error: 0.1, samples: 9, level: createLevel() },
    ...{
      perProgress: second / 100,
      beside: undefined,
      seat: 0,
      stay: false,
      perDuration: undefined,
      pace: undefined,
      paceError: 0,
      learned: true,
    },
  };
}

const progress = fc.array(fc.nat(90), { minLength: 4, maxLength: 12 });
const ratios = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 4, maxLength: 12 });

test("sharedPieces() gives short requests what their tokens stand for, whatever single windows caught", () => {
  fc.assert(
    fc.property(progress, ratios, (moved, caught) => {
      const intervals = intervalsOf(moved);
      const evidence = evidenceOf(intervals, caught);
      for (const interval of intervals)
        expect(total(sharedPieces(evidence, interval)) / second).toBeCloseTo(interval.progress / 100, 6);
    }),
  );
});

test("without a pace single windows say it, as often as they are right: on average", () => {
  const intervals = intervalsOf(Array.from({ length: 12 }, () => 10));
  const caught = [0, 0, 0.4];
  const evidence = { ...evidenceOf(intervals, caught), perProgress: undefined };
  const found = intervals.reduce((sum, interval) => sum + total(sharedPieces(evidence, interval)), 0);
  expect(found / second).toBeCloseTo((60 * 0.4 * 1.1) / 3, 6);
});

test("shareDoubt() shrinks with the number of windows that caught work", () => {
  const [interval] = intervalsOf([10]);
  if (interval === undefined) throw new Error("an interval was made");
  const doubtOf = (samples: number) => shareDoubt({ ...evidenceOf([interval], [0.3]), samples }, interval);
  expect(doubtOf(0)).toBe(1);
  expect(doubtOf(4)).toBeGreaterThan(0.5);
  expect(doubtOf(100)).toBeLessThan(0.5);
});
