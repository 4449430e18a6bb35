// Execution by a server's own pace: no more than the interval, at the end at which a request was read.
import fc from "fast-check";
import { expect, test } from "vitest";
import { pacedStretch } from "../../../agent/correlate/activity/paced.ts";

const second = 1_000_000_000;
const interval = {
  steps: 0,
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

test("pacedStretch() takes the steps at the pace, within the interval, where a request was in flight", () => {
  const gauge = fc.nat(3);
  fc.assert(
    fc.property(
      gauge,
      gauge,
      fc.nat(2000),
      fc.integer({ min: 3, max: 30 }),
      (before, after, steps, seconds) => {
        const to = seconds * second;
        const given = { ...interval, from: 0, to, inFlightFrom: before, inFlightTo: after, progress: steps };
        const stretch = pacedStretch(100 / second, given);
        const length = (stretch?.to ?? 0) - (stretch?.from ?? 0);
        const throughout = before > 0 && after > 0;
        expect(length).toBe(throughout ? to : Math.min(to, (steps * second) / 100));
        if (before > 0) expect(stretch?.from).toBe(0);
        if (after > 0) expect(stretch?.to).toBe(to);
      },
    ),
  );
});

test("pacedStretch() knows nothing without gauges, without a pace, and of polls that see both ends themselves", () => {
  const given = { ...interval, from: 0, to: 5 * second, inFlightFrom: 0, inFlightTo: 1, progress: 100 };
  expect(pacedStretch(100 / second, given)).toBeDefined();
  expect(pacedStretch(undefined, given)).toBeUndefined();
  expect(pacedStretch(100 / second, { ...given, inFlightTo: undefined })).toBeUndefined();
  expect(pacedStretch(100 / second, { ...given, to: second })).toBeUndefined();
});
