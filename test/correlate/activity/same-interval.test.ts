// An interval that is made again takes the place of the old one wherever it says anything else.
import { expect, test } from "vitest";
import type { PollInterval } from "../../../agent/correlate/activity/evidence.ts";
import { isSameInterval } from "../../../agent/correlate/activity/same-interval.ts";

const run = { from: 1, to: 2, seen: true };
const ended = { requests: 1 } as unknown as NonNullable<PollInterval["ended"]>;

/** Every field of an interval, and for each of them what it might be as well. */
const one = {
  ...{ from: 1, to: 2, open: false, kind: "moved", progress: 3, lone: 4, steps: 5, ownSteps: 6 },
  ...{ activeNanos: 7, othersNanos: 8, inFlightFrom: 9, inFlightTo: 10, workNanos: 11, requests: 12 },
  ...{ all: [run], work: [run], spared: [run], contended: false, besideThin: false, beside: false },
  ...{ ended: undefined, doubt: undefined, mayPause: undefined, mayBeLate: undefined },
  ...{ mayBeLonger: undefined, mayBeStale: undefined, isOfCopy: undefined, isCopied: undefined },
} as const satisfies PollInterval;
const other: Required<PollInterval> = {
  ...{ from: 0, to: 3, open: true, kind: "quiet", progress: 4, lone: 5, steps: 6, ownSteps: 7 },
  ...{ activeNanos: undefined, othersNanos: 9, inFlightFrom: undefined, inFlightTo: 11 },
  ...{ workNanos: 12, requests: undefined, all: [], work: [{ ...run, to: 3 }] },
  ...{ spared: [{ ...run, seen: false }], contended: true, besideThin: true, beside: true },
  ...{ ended, doubt: "cached_page", isLent: true, mayPause: true, mayBeLate: true },
  ...{ mayBeLonger: true, mayBeStale: true, isOfCopy: true, isCopied: true },
};

test("isSameInterval() is true of a copy", () => {
  expect(isSameInterval(one, structuredClone(one))).toBe(true);
});

test.each(Object.keys(other) as (keyof PollInterval)[])("isSameInterval() looks at %s", (key) => {
  expect(isSameInterval(one, { ...one, [key]: other[key] })).toBe(false);
});
