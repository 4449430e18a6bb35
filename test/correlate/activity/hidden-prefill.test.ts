// A coarse window busier than all time in which tokens moved hides a prefill: its work is placed before its tokens, and once.
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  createActivity,
  observePoll,
  observeWindow,
  settle,
} from "../../../agent/correlate/activity/activity.ts";
import type { PollInterval } from "../../../agent/correlate/activity/evidence.ts";
import { hiddenPrefillShare } from "../../../agent/correlate/activity/hidden-prefill.ts";
import { observePeer } from "../../../agent/correlate/activity/others.ts";

const second = 1_000_000_000;

/** Intervals of a second, in which tokens moved or not. */
function intervalsOf(moved: readonly boolean[]): PollInterval[] {
  return moved.map((isMoved, index) => ({
    ...{ from: index * second, to: (index + 1) * second, open: false, steps: 0, ownSteps: 0 },
    ...({ kind: isMoved ? "moved" : "quiet", progress: isMoved ? 9 : 0, activeNanos: undefined } as const),
    ...{ inFlightFrom: undefined, inFlightTo: undefined, all: [], work: [], workNanos: 0, spared: [] },
    ...{ contended: false, beside: false, besideThin: false, ended: undefined, doubt: undefined, lone: 0 },
  }));
}

test("hiddenPrefillShare() gives quiet time all work that moving tokens leave, and no more", () => {
  const flags = fc.array(fc.boolean(), { minLength: 12, maxLength: 40 });
  fc.assert(
    fc.property(
      flags,
      fc.nat(1000).map((part) => part / 1000),
      (moved, busyRatio) => {
        const intervals = intervalsOf(moved);
        const window = { from: 1.5 * second, to: 11.5 * second, busyRatio };
        const inside = ({ from, to }: PollInterval): number =>
          Math.max(0, Math.min(to, window.to) - Math.max(from, window.from)) / second;
        const shares = intervals.map((interval) =>
          interval.kind === "quiet" ? hiddenPrefillShare(intervals, window, 1, interval) : 1,
        );
        const moving = intervals
          .filter(({ kind }) => kind !== "quiet")
          .reduce((sum, one) => sum + inside(one), 0);
        const found = intervals.reduce((sum, one, at) => sum + (shares[at] as number) * inside(one), 0);
        expect(found).toBeCloseTo(Math.max(moving, 10 * busyRatio), 6);
      },
    ),
  );
});

test("hiddenPrefillShare() fills the time right before the tokens first", () => {
  const intervals = intervalsOf([false, false, false, false, false, false, true, true, false, false]);
  const window = { from: 0, to: 10 * second, busyRatio: 0.45 };
  const shares = intervals.slice(0, 6).map((one) => hiddenPrefillShare(intervals, window, 1, one));
  expect(shares.map((share) => Math.round(100 * share))).toEqual([0, 0, 0, 50, 100, 100]);
  expect(hiddenPrefillShare(intervals, window, 1, intervals[8] as PollInterval)).toBe(0);
});

test("hiddenPrefillShare() fills the end of a window whose tokens were not read yet", () => {
  const intervals = intervalsOf([true, false, false, false, false, false, false, false, false, false]);
  const window = { from: 0, to: 10 * second, busyRatio: 0.3 };
  const shares = intervals.slice(1).map((one) => hiddenPrefillShare(intervals, window, 1, one));
  expect(shares).toEqual([0, 0, 0, 0, 0, 0, 0, 1, 1]);
});

/** Active seconds of a server without a gauge that makes 50 tokens in the last second of each window of 10 s. */
function found(busyRatio: number, isBeside: boolean): number {
  const state = createActivity({ from: 0, pollNanos: second });
  let outputTokens = 0;
  for (let at = 0; at <= 100; at++) {
    if (at > 0 && at % 10 === 0) outputTokens += 50;
    observePoll(state, {
      at: at * second,
      inputTokens: 0,
      outputTokens,
      progress: "step",
    });
    if (isBeside && at % 10 === 5) observePeer(state, (at - 5) * second, at * second);
  }
  for (let at = 0; at < 100; at += 10)
    observeWindow(state, { from: at * second, to: (at + 10) * second, busyRatio });
  const active = settle(state, 100 * second).filter((segment) => segment.state === "active");
  return active.reduce((sum, { from, to }) => sum + (to - from) / second, 0);
}

test("work in a window that others worked in too is no hidden prefill", () => {
  expect(found(0.6, false)).toBeGreaterThan(50);
  expect(found(0.6, true)).toBeLessThan(15);
});
