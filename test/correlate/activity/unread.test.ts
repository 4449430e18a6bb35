// A server whose polls fail: work after the last of them that is decided all the same is in doubt, wherever in it polls failed, and
// work between two polls is not.
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  createActivity,
  decidableUntil,
  observePoll,
  observeWindow,
  settle,
} from "../../../agent/correlate/activity/activity.ts";
import type { ActivitySegment } from "../../../agent/correlate/activity/evidence.ts";
import { second } from "../trace-replay.ts";

const windowNanos = second / 5;
/** A source is waited for this long. */
const settleNanos = 4 * second;

/** Decides a GPU that works throughout, its server polled each second but for `lost` seconds from `from` on. */
function decided(length: number, from: number, lost: number, inFlight: number): readonly ActivitySegment[] {
  const activity = createActivity({ from: 0, pollNanos: second });
  const segments: ActivitySegment[] = [];
  for (let at = 0; at <= length; at++) {
    for (let part = 1; part <= 5; part++) {
      const to = at * second + part * windowNanos;
      observeWindow(activity, { from: to - windowNanos, to, busyRatio: 0.95 });
    }
    const counts = { inputTokens: 0, outputTokens: 50 * at, inFlight, progress: "step" } as const;
    if (at <= from || at > from + lost) observePoll(activity, { at: at * second, ...counts });
    segments.push(...settle(activity, decidableUntil(activity, at * second, settleNanos)));
  }
  return segments;
}

test("work that is decided without a poll after it is in doubt, all of it, and no other is", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 10, max: 20 }),
      fc.integer({ min: 1, max: 25 }),
      fc.integer({ min: 0, max: 3 }),
      (from, lost, inFlight) => {
        const segments = decided(60, from, lost, inFlight);
        for (const { doubt, from: start, to } of segments) {
          // Decided before the poll after the lost ones was read.
          const isUnread = start >= from * second && to <= (from + lost + 1) * second - settleNanos;
          if (isUnread) expect(doubt?.ratio).toBe(1);
          else expect(doubt?.reason === "unread_page" && to <= from * second).toBe(false);
        }
      },
    ),
    { numRuns: 60 },
  );
});
