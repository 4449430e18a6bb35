// Pages that do not say how many requests are in flight, on a GPU that is read now and then: what is measured of requests that come by
// chance, against how long any was there.
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  createActivity,
  observePoll,
  observeWindow,
  settle,
} from "../../../agent/correlate/activity/activity.ts";
import type { Ended } from "../../../agent/correlate/activity/evidence.ts";
import { hitRate } from "../../../agent/correlate/activity/ungauged.ts";
import { Random } from "../../simulator/random.ts";
import { second } from "../trace-replay.ts";

const [seconds, pollSeconds] = [600, 5];

/** Requests by chance on a GPU that they keep busy for `level` of their time, read each `everySeconds`: what was found, and what was. */
function measured(
  { level, ms, seed }: { readonly level: number; readonly ms: number; readonly seed: number },
  everySeconds: number,
  hasDurations: boolean,
): { readonly found: number; readonly doubted: number; readonly executed: number } {
  const random = new Random(seed);
  const activity = createActivity({ from: 0, pollNanos: pollSeconds * second });
  const there = new Uint8Array(seconds * 1000);
  const ended: Ended[] = [];
  for (let at = random.wait(3000); at + 2 * ms < seconds * 1000; at += random.wait(3000)) {
    const took = Math.round(ms * random.between(0.5, 1.5));
    there.fill(1, Math.floor(at), Math.floor(at) + took);
    const place = Math.ceil((at + took) / 1000 / pollSeconds);
    const before = ended[place] ?? { requests: 0, nanos: 0, firstTokens: 0, firstTokenNanos: 0 };
    const nanos = before.nanos + took * 1e6;
    ended[place] = { ...before, requests: before.requests + 1, nanos, isExecution: true, isPhased: true };
  }
  const sum = (from: number, to: number): number =>
    there.subarray(from, to).reduce((all, one) => all + one, 0);
  let [found, doubted, tokens] = [0, 0, 0];
  for (let at = everySeconds; at <= seconds; at += everySeconds) {
    const busyRatio = (level * sum(at * 1000 - 200, at * 1000)) / 200;
    observeWindow(activity, {
      from: (at - everySeconds) * second,
      to: at * second,
      busyRatio,
      sampled: true,
    });
    if (at % pollSeconds !== 0) continue;
    const { nanos, requests } = ended[at / pollSeconds] ?? nothing;
    tokens += Math.round(nanos / 1e7);
    const told = hasDurations && requests > 0 ? { ended: ended[at / pollSeconds] } : {};
    const poll = { at: at * second, inputTokens: 50 * tokens, outputTokens: tokens, requests, ...told };
    observePoll(activity, { ...poll, progress: "step" });
    for (const { doubt, from, state, to } of settle(activity, (at - 10) * second)) {
      if (state !== "active") continue;
      found += to - from;
      doubted += (to - from) * (doubt?.ratio ?? 0);
    }
  }
  return { found: found / second, doubted: doubted / second, executed: sum(0, (seconds - 10) * 1000) / 1000 };
}
const nothing: Ended = { requests: 0, nanos: 0, firstTokens: 0, firstTokenNanos: 0, isExecution: true };

const some = fc.record({
  level: fc.constantFrom(0.15, 0.3, 0.9),
  ms: fc.integer({ min: 500, max: 900 }),
  seed: fc.nat(1e6),
});

test("of a page without gauges that sums durations these say how long any request was there, however seldom the GPU is read", () => {
  for (const everySeconds of [1, 5])
    fc.assert(
      fc.property(some, (given) => {
        const { executed, found } = measured(given, everySeconds, true);
        expect(found / executed).toBeGreaterThan(0.7);
        expect(found / executed).toBeLessThan(1.25);
      }),
      { numRuns: 15 },
    );
});

test("without durations either, readings say it by how often they catch work, and how far off that is", () => {
  fc.assert(
    fc.property(some, (given) => {
      const { doubted, executed, found } = measured(given, 5, false);
      expect(Math.abs(found - executed)).toBeLessThan(doubted);
      expect(found).toBeLessThan(2 * executed);
    }),
    { numRuns: 15 },
  );
});

test("hitRate() is the share of the time in execution, to two of its errors", () => {
  const random = new Random(7);
  let covered = 0;
  for (let run = 0; run < 500; run++) {
    const [share, readings] = [random.between(0.1, 0.9), random.whole(5, 200)];
    const hits = Array.from({ length: readings }, () => (random.next() < share ? 1 : 0)).reduce<number>(
      (all, one) => all + one,
      0,
    );
    const rate = hitRate({ hits, readings });
    if (Math.abs(rate.share - share) <= 2 * rate.error * rate.share) covered++;
  }
  expect(covered / 500).toBeGreaterThan(0.9);
});
