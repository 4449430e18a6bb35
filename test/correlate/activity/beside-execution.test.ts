import fc from "fast-check";
import { expect, test } from "vitest";
import {
  createActivity,
  observePoll,
  observeWindow,
  preview,
  settle,
} from "../../../agent/correlate/activity/activity.ts";
import type { Activity } from "../../../agent/correlate/activity/evidence.ts";
import { observePeer } from "../../../agent/correlate/activity/others.ts";
import { second } from "../scene.ts";

const [windowSeconds, windows] = [10, 6];

/** A server that executes for `busy` seconds of each window of 10 s, polled each second; the GPU works for `more` beside it. */
function observed(busy: number, more: number, sampled: boolean): Activity {
  const state = createActivity({ from: 0, pollNanos: second });
  let outputTokens = 0;
  for (let at = 0; at <= windowSeconds * windows; at++) {
    const inside = at % windowSeconds;
    const inFlight = inside > 0 && inside <= busy ? 4 : 0;
    if (inside > 1 && inside <= busy + 1) outputTokens += 100;
    observePoll(state, { at: at * second, inputTokens: 0, outputTokens, inFlight, progress: "step" });
  }
  for (let at = 0; at < windowSeconds * windows; at += windowSeconds) {
    const busyRatio = Math.min(1, (busy + more) / windowSeconds);
    const window = { from: at * second, to: (at + windowSeconds) * second, busyRatio };
    observeWindow(state, sampled ? { ...window, sampled } : window);
  }
  return state;
}

/** Seconds in which nothing of the server's accounts for what the windows show. */
function unexplained(state: Activity): number {
  return settle(state, windowSeconds * windows * second)
    .filter((segment) => segment.state !== "active" && segment.accounted !== true)
    .reduce((sum, { from, to }) => sum + (to - from) / second, 0);
}

test("what a window shows beside the execution that it is, is that execution: no work that nothing explains", () => {
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 7 }), fc.boolean(), (busy, sampled) => {
      expect(unexplained(observed(busy, 0, sampled))).toBeLessThanOrEqual(1);
    }),
  );
});

test("a window that shows much more than was executed is not explained by it", () => {
  expect(unexplained(observed(2, 8, false))).toBeGreaterThan(5 * windows);
});

test("preview() says what settle() will, and decides nothing", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 60 }), (busy, until) => {
      const state = observed(busy, 0, false);
      const seen = preview(state, until * second);
      expect(preview(state, until * second)).toEqual(seen);
      expect(settle(state, until * second)).toEqual(seen);
      expect(preview(state, until * second)).toEqual([]);
    }),
  );
});

test("work beside others that spills over a poll that read nothing in flight is not the server's", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 15 }), fc.boolean(), (spilled, thin) => {
      const state = createActivity({ from: 0, pollNanos: second });
      for (let at = 0; at <= 4; at++)
        observePoll(state, {
          ...{ at: at * second, inputTokens: 0, outputTokens: at > 1 ? 50 : 0 },
          ...{ inFlight: 0, progress: "step" },
        });
      observePeer(state, 0, 4 * second, false, thin);
      for (let place = 0; place < 200; place++) {
        const busyRatio = place < 100 + spilled ? 0.6 : 0;
        observeWindow(state, { from: (place * second) / 50, to: ((place + 1) * second) / 50, busyRatio });
      }
      for (const segment of settle(state, 4 * second))
        if (segment.from >= 2 * second) expect(segment.state).not.toBe("active");
    }),
  );
});
