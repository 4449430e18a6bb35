// What the first work of a server is taken for, while nothing is known of its requests: all of it, as of long ones; what the
// windows show no busy GPU for would not be execution of short ones, and is in doubt.
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  createActivity,
  observePoll,
  observeWindow,
  settle,
} from "../../../agent/correlate/activity/activity.ts";
import { second } from "../trace-replay.ts";

const windowNanos = second / 5;
/** Engines keep the GPU busy for most of the time they execute. */
const perBusyMax = 1.4;

/** What is decided of the first second in which a server made something. */
interface Decided {
  readonly busy: number;
  readonly active: number;
  readonly doubt: number;
}

function first(
  ratios: readonly number[],
  made: { input: number; requests: number; inFlight: number },
): Decided {
  const activity = createActivity({ from: 0, pollNanos: second });
  const idle = ratios.map(() => 0);
  [...ratios, ...idle].forEach((busyRatio, index) => {
    observeWindow(activity, { from: index * windowNanos, to: (index + 1) * windowNanos, busyRatio });
  });
  const { inFlight, input, requests } = made;
  const none = { inputTokens: 0, outputTokens: 0, inFlight: 0, requests: 0, progress: "step" } as const;
  observePoll(activity, { at: 0, ...none });
  observePoll(activity, { at: second, ...none, inputTokens: input, requests, inFlight });
  observePoll(activity, { at: 2 * second, ...none, inputTokens: input });
  let [active, doubt] = [0, 0];
  for (const { doubt: by, from, state, to } of settle(activity, second)) {
    if (state !== "active") continue;
    active += to - from;
    doubt += (to - from) * (by?.ratio ?? 0);
  }
  return { busy: ratios.reduce((sum, ratio) => sum + ratio * windowNanos, 0), active, doubt };
}

const shares = (min: number, max: number): fc.Arbitrary<number[]> =>
  fc.array(
    fc.integer({ min, max }).map((thousandths) => thousandths / 1000),
    { minLength: 5, maxLength: 5, size: "max" },
  );
const made = fc.record({
  input: fc.integer({ min: 20, max: 4000 }),
  requests: fc.integer({ min: 1, max: 4 }),
  inFlight: fc.integer({ min: 0, max: 2 }),
});

test("the first work is in doubt by what windows show no busy GPU for", () => {
  fc.assert(
    fc.property(shares(120, 1000), made, (ratios, what) => {
      const { active, busy, doubt } = first(ratios, what);
      expect(active).toBeGreaterThanOrEqual(0.9 * busy);
      expect(active - doubt).toBeLessThanOrEqual(perBusyMax * busy);
    }),
  );
});

test("the first work of an engine that fills its windows is hardly in doubt", () => {
  fc.assert(
    fc.property(shares(920, 1000), (ratios) => {
      const { active, doubt } = first(ratios, { input: 4000, requests: 1, inFlight: 2 });
      expect(active).toBeGreaterThan(0.95 * second);
      expect(doubt).toBeLessThanOrEqual(0.1 * active);
    }),
  );
});
