// How much of a server's time is in doubt because its page may be a copy: beside others most of it, alone next to nothing,
// for a GPU that nobody else uses worked for the server whatever instant the copy is of.
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  createActivity,
  observePoll,
  observeWindow,
  settle,
} from "../../../agent/correlate/activity/activity.ts";
import type { ActivitySegment } from "../../../agent/correlate/activity/evidence.ts";
import { observePeer } from "../../../agent/correlate/activity/others.ts";
import { second } from "../trace-replay.ts";

const windowNanos = second / 5;

/** What is decided of a server whose copied page is polled each second, in flight throughout, its GPU busy in `busy` windows. */
function decided(busy: readonly number[], isKnown: boolean, hasPeer: boolean): readonly ActivitySegment[] {
  const activity = createActivity({ from: 0, pollNanos: second });
  const end = busy.length * windowNanos;
  if (hasPeer) observePeer(activity, 0, end);
  busy.forEach((busyRatio, index) => {
    observeWindow(activity, { from: index * windowNanos, to: (index + 1) * windowNanos, busyRatio });
  });
  for (let at = 0, tokens = 0; at <= end; at += second, tokens += 50) {
    const counts = { inputTokens: 0, outputTokens: tokens, inFlight: 1, progress: "step" } as const;
    observePoll(activity, {
      ...{ at, ...counts, doubt: "cached_page", shownFrom: at - 5 * second },
      ...(isKnown ? { isOfCopy: true } : {}),
    });
  }
  return settle(activity, end);
}

function doubted(segments: readonly ActivitySegment[]): { readonly active: number; readonly doubt: number } {
  let [active, doubt] = [0, 0];
  for (const segment of segments) {
    if (segment.state !== "active") continue;
    active += segment.to - segment.from;
    doubt += (segment.to - segment.from) * (segment.doubt?.ratio ?? 0);
  }
  return { active, doubt };
}

const world = fc.record({
  busy: fc.array(
    fc.integer({ min: 850, max: 1000 }).map((share) => share / 1000),
    {
      minLength: 20,
      maxLength: 60,
      size: "max",
    },
  ),
  isKnown: fc.boolean(),
});

test("a copy leaves little of a server's time in doubt that has its GPU alone, most of it beside others", () => {
  fc.assert(
    fc.property(world, ({ busy, isKnown }) => {
      const alone = doubted(decided(busy, isKnown, false));
      const beside = doubted(decided(busy, isKnown, true));
      expect(alone.active).toBeGreaterThan(0.9 * busy.length * windowNanos);
      expect(alone.doubt).toBeGreaterThan(0);
      expect(alone.doubt).toBeLessThanOrEqual(0.1 * alone.active);
      expect(beside.doubt).toBeGreaterThanOrEqual(0.25 * beside.active);
      expect(beside.doubt).toBeLessThan(beside.active);
    }),
  );
});

test("a page that never changed is less likely a copy than one that is known to be", () => {
  fc.assert(
    fc.property(world, ({ busy }) => {
      const [never, known] = [false, true].map((isKnown) => doubted(decided(busy, isKnown, true)));
      expect(never?.doubt).toBeLessThan(known?.doubt ?? 0);
    }),
  );
});

test("work that a copy does not explain is in doubt as a whole, whoever is alone", () => {
  const activity = createActivity({ from: 0, pollNanos: second });
  for (let index = 0; index < 50; index++)
    observeWindow(activity, { from: index * windowNanos, to: (index + 1) * windowNanos, busyRatio: 1 });
  for (let at = 0; at <= 10 * second; at += second)
    observePoll(activity, {
      ...{ at, inputTokens: 5, outputTokens: 5, inFlight: 0, progress: "step" },
      ...{ doubt: "cached_page", shownFrom: at - 5 * second, isOfCopy: true },
    });
  const segments = settle(activity, 10 * second);
  expect(segments.every(({ state }) => state === "idle")).toBe(true);
  expect(segments.every(({ doubt }) => doubt?.ratio === 1)).toBe(true);
});

/** What is decided of a server that never showed anything, on a GPU busy in `busy` windows, its page `mayBeOld` or not. */
function silent(busy: readonly number[], lengthNanos: number, mayBeOld: boolean, isShared: boolean) {
  const activity = createActivity({ from: 0, pollNanos: second });
  const end = busy.length * lengthNanos;
  if (isShared) observePeer(activity, 0, end, true);
  busy.forEach((busyRatio, index) => {
    observeWindow(activity, { from: index * lengthNanos, to: (index + 1) * lengthNanos, busyRatio });
  });
  for (let at = 0; at <= end; at += second)
    observePoll(activity, {
      ...{ at, inputTokens: 5, outputTokens: 5, inFlight: 0, progress: "step" },
      ...(mayBeOld ? { shownFrom: at - 5 * second, isRepeated: true } : {}),
    });
  return settle(activity, end);
}

test("work that nothing explains is in doubt behind any page that may be a copy, unless others may have done it", () => {
  const windows = fc.record({
    busy: fc.array(
      fc.integer({ min: 0, max: 1000 }).map((share) => share / 1000),
      { minLength: 2, maxLength: 20, size: "max" },
    ),
    lengthNanos: fc.constantFrom(1, 2, 5, 10).map((seconds) => seconds * second),
  });
  fc.assert(
    fc.property(windows, ({ busy, lengthNanos }) => {
      const worked = (one: ActivitySegment): boolean =>
        busy.some((r, n) => r > 0.1 && n * lengthNanos < one.to && (n + 1) * lengthNanos > one.from);
      const [behind, seen, shared] = [
        silent(busy, lengthNanos, true, false),
        silent(busy, lengthNanos, false, false),
        silent(busy, lengthNanos, true, true),
      ].map((segments) => segments.filter(worked).map(({ doubt }) => doubt));
      expect(behind).toEqual(behind?.map(() => ({ reason: "cached_page", ratio: 1 })));
      expect(seen).toEqual(seen?.map(() => undefined));
      if (busy.every((ratio) => ratio > 0.1)) expect(shared).toEqual(shared?.map(() => undefined));
    }),
  );
});

test("work that goes on for longer than a copy is old is someone else's, until the page shows something new", () => {
  const activity = createActivity({ from: 0, pollNanos: second });
  const doubtAt: boolean[] = [];
  for (let at = 0; at <= 40 * second; at += second) {
    for (let from = at - second; from < at; from += windowNanos)
      observeWindow(activity, { from, to: from + windowNanos, busyRatio: 1 });
    const tokens = at >= 30 * second ? 50 : 5;
    const isRepeated = at > 0 && at !== 30 * second;
    const counts = { inputTokens: 5, outputTokens: tokens, inFlight: 0, progress: "step" } as const;
    observePoll(activity, { at, ...counts, shownFrom: at - 5 * second, isRepeated });
    const segments = settle(activity, at);
    if (segments.length > 0) doubtAt[at / second] = segments.at(-1)?.doubt?.reason === "cached_page";
  }
  expect([2, 4].map((at) => doubtAt[at])).toEqual([true, true]);
  expect([10, 20, 28].map((at) => doubtAt[at])).toEqual([false, false, false]);
  expect([32, 34].map((at) => doubtAt[at])).toEqual([true, true]);
});
