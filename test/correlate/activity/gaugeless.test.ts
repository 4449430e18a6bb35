// Short requests on a GPU of their own behind a page without gauges: however many they are, they are executed for as long as the GPU
// is busy with them, not for all the time in which they come.
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  createActivity,
  decidableUntil,
  observePoll,
  observeWindow,
  settle,
} from "../../../agent/correlate/activity/activity.ts";
import { second } from "../trace-replay.ts";

const windowNanos = second / 5;
const [seconds, hostMs] = [240, 2];

/** Seconds executed and found of requests of `busyMs` each, `rate` a second by chance, in the last two thirds of four minutes. */
function measured(draws: () => number, rate: number, busyMs: number, pollSeconds: number) {
  const activity = createActivity({ from: 0, pollNanos: pollSeconds * second });
  let [ended, executed, found, decided] = [0, 0, 0, 0];
  for (let at = 0; at < seconds; at++) {
    for (let part = 0; part < 5; part++) {
      let requests = 0;
      // By chance, and as many as one after the other have room for.
      for (let slot = 0; slot < 20; slot++) if (draws() < rate / 100) requests++;
      requests = Math.min(requests, Math.floor(200 / (busyMs + hostMs)));
      ended += requests;
      if (at >= seconds / 3) executed += (requests * (busyMs + hostMs)) / 1000;
      const from = at * second + part * windowNanos;
      observeWindow(activity, { from, to: from + windowNanos, busyRatio: (requests * busyMs) / 200 });
    }
    if ((at + 1) % pollSeconds === 0)
      observePoll(activity, {
        ...{ at: (at + 1) * second, inputTokens: 280 * ended, outputTokens: 3 * ended },
        ...{ progress: "step", requests: rate * pollSeconds },
      });
    for (const { from, state, to } of settle(
      activity,
      decidableUntil(activity, (at + 1) * second, 20 * second),
    )) {
      if (state === "active" && from >= (seconds / 3) * second) found += (to - from) / second;
      decided = to / second;
    }
  }
  return { executed: (executed * (decided - seconds / 3)) / (seconds - seconds / 3), found };
}

test("short requests behind a page without gauges are executed while the GPU is busy", () => {
  fc.assert(
    fc.property(
      fc.noShrink(fc.integer()),
      fc.integer({ min: 3, max: 40 }),
      fc.integer({ min: 8, max: 16 }),
      fc.constantFrom(1, 5),
      (seed, rate, busyMs, pollSeconds) => {
        let state = seed >>> 0;
        const draws = (): number => {
          state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
          return state / 2 ** 32;
        };
        const { executed, found } = measured(draws, rate, busyMs, pollSeconds);
        expect(found / executed).toBeGreaterThan(0.6);
        expect(found / executed).toBeLessThan(1.4);
      },
    ),
    { numRuns: 60 },
  );
});
