// Execution by a server's own pace: no more than the interval, at the end at which a request was read.
import fc from "fast-check";
import { expect, test } from "vitest";
import { pacedStretches } from "../../../agent/correlate/activity/paced.ts";

const second = 1_000_000_000;
const interval = {
  ...{ steps: 0, progress: 0, lone: 0 },
  ...({
    open: false,
    kind: "moved",
    activeNanos: undefined,
    ended: undefined,
    work: [],
    workNanos: 0,
    spared: [],
  } as const),
  ...({ all: [], contended: false, beside: false, besideThin: false, doubt: undefined } as const),
};

test("pacedStretches() takes the steps at the pace, within the interval, where a request was in flight", () => {
  const gauge = fc.nat(3);
  fc.assert(
    fc.property(
      gauge,
      gauge,
      fc.integer({ min: 1, max: 2000 }),
      fc.integer({ min: 3, max: 30 }),
      fc.boolean(),
      (before, after, steps, seconds, areOthers) => {
        const to = seconds * second;
        const mayPause = before > 0 && after > 0 && areOthers ? ({ mayPause: true } as const) : {};
        const flights = { inFlightFrom: before, inFlightTo: after };
        const given = { ...interval, from: 0, to, ...flights, ownSteps: steps, ...mayPause };
        const stretches = pacedStretches(100 / second, given) ?? [];
        const length = stretches.reduce((sum, stretch) => sum + stretch.to - stretch.from, 0);
        const paced = Math.min(to, (steps * second) / 100);
        const throughout = before > 0 && after > 0 && (!areOthers || paced >= 0.85 * to);
        expect(length).toBe(throughout ? to : paced);
        if (length === 0) return;
        if (before > 0) expect(stretches[0]?.from).toBe(0);
        if (after > 0) expect(stretches.at(-1)?.to).toBe(to);
      },
    ),
  );
});

test("pacedStretches() knows nothing without gauges, without a pace, and of polls that see both ends themselves", () => {
  const given = { ...interval, from: 0, to: 5 * second, inFlightFrom: 0, inFlightTo: 1, ownSteps: 100 };
  expect(pacedStretches(100 / second, given)).toBeDefined();
  expect(pacedStretches(undefined, given)).toBeUndefined();
  expect(pacedStretches(100 / second, { ...given, inFlightTo: undefined })).toBeUndefined();
  expect(pacedStretches(100 / second, { ...given, to: second })).toBeUndefined();
});
