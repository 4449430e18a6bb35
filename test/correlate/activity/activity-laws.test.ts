// Laws of the activity estimator that hold for any input: exact cover, wall time, bounded memory, order of arrival.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  createActivity,
  decidableUntil,
  observePoll,
  observeWindow,
  settle,
} from "../../../agent/correlate/activity/activity.ts";
import type { ActivitySegment } from "../../../agent/correlate/activity/evidence.ts";
import { observePeer } from "../../../agent/correlate/activity/others.ts";
import type { ServerPoll } from "../../../agent/model.ts";
import { second } from "../trace-replay.ts";

describe("laws for any input", () => {
  const scenario = fc.record({
    windows: fc.array(
      fc.record({
        length: fc.integer({ min: 1, max: 400 }),
        gap: fc.integer({ min: 0, max: 900 }),
        busy: fc.constantFrom(0, 0, 0.05, 0.5, 1),
      }),
      { maxLength: 150 },
    ),
    polls: fc.array(
      fc.record({
        after: fc.integer({ min: 1, max: 6000 }),
        tokens: fc.constantFrom(0, 0, 5, 5000),
        inFlight: fc.option(fc.integer({ min: 0, max: 2 }), { nil: undefined }),
        active: fc.integer({ min: 0, max: 7000 }),
      }),
      { maxLength: 30 },
    ),
    peers: fc.array(fc.tuple(fc.integer({ min: 0, max: 30_000 }), fc.integer({ min: 1, max: 5000 })), {
      maxLength: 4,
    }),
    progress: fc.constantFrom("step" as const, "finish" as const, "estimate" as const),
    timed: fc.boolean(),
    ticks: fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 40 }),
  });

  const build = (input: typeof scenario extends fc.Arbitrary<infer T> ? T : never) => {
    let at = 0;
    const windows = input.windows.map(({ length, gap, busy }) => {
      const from = at + gap;
      at = from + length;
      return { from: from * 1_000_000, to: at * 1_000_000, busyRatio: busy };
    });
    let [t, outputTokens, activeNanos] = [0, 0, 0];
    const polls = input.polls.map(({ after, tokens, inFlight, active }): ServerPoll => {
      t += after;
      outputTokens += tokens;
      activeNanos += active * 1_000_000;
      const base = { at: t * 1_000_000, inputTokens: 0, outputTokens, progress: input.progress };
      return {
        ...base,
        ...(inFlight === undefined ? {} : { inFlight }),
        ...(input.timed ? { activeNanos } : {}),
      };
    });
    return { windows, polls };
  };

  test("settle() covers the time exactly, in order, with active within wall time", () => {
    fc.assert(
      fc.property(scenario, (input) => {
        const { windows, polls } = build(input);
        const state = createActivity({ from: 0, pollNanos: second });
        for (const [from, length] of input.peers)
          observePeer(state, from * 1_000_000, (from + length) * 1_000_000);
        const segments: ActivitySegment[] = [];
        let now = 0;
        for (const tick of input.ticks) {
          const before = now;
          now += tick * 1_000_000;
          for (const window of windows)
            if (window.to > before && window.to <= now) observeWindow(state, window);
          for (const poll of polls) if (poll.at > before && poll.at <= now) observePoll(state, poll);
          const until = decidableUntil(state, now, 2 * second);
          expect(until).toBeLessThanOrEqual(now);
          expect(until).toBeGreaterThanOrEqual(Math.min(now, now - 2 * second));
          segments.push(...settle(state, until));
        }
        let reached = 0;
        for (const segment of segments) {
          expect(Number.isInteger(segment.from) && Number.isInteger(segment.to)).toBe(true);
          expect(segment.from).toBe(reached);
          expect(segment.to).toBeGreaterThan(segment.from);
          reached = segment.to;
        }
        expect(reached).toBe(state.decidedUntil);
        expect(state.windows.length + state.polls.length + state.peers.length).toBeLessThanOrEqual(3072);
      }),
    );
  });

  test("settle() does not depend on whether windows or polls arrived first", () => {
    fc.assert(
      fc.property(scenario, (input) => {
        const { windows, polls } = build(input);
        const [left, right] = [0, 1].map(() => createActivity({ from: 0, pollNanos: second }));
        if (left === undefined || right === undefined) return;
        for (const window of windows) observeWindow(left, window);
        for (const poll of polls) observePoll(left, poll);
        for (const poll of polls) observePoll(right, poll);
        for (const window of windows) observeWindow(right, window);
        expect(settle(left, 60 * second)).toEqual(settle(right, 60 * second));
      }),
    );
  });
});
