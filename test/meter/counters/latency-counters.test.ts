// Remembered latencies are written over in place: what a reading showed, and what was told of it, never changes by that.
import fc from "fast-check";
import { expect, test } from "vitest";
import { LatencyCounters } from "../../../agent/meter/counters/latency-counters.ts";
import type { Histogram, Latencies } from "../../../agent/model.ts";

const [FEW, MANY] = [[0.1, 1] as const, [0.1, 1, 10] as const];

/** What came in a bucket of each of two families between two pages; a family may change its bounds, or be left out. */
const page = fc.record({
  added: fc.array(fc.nat(5), { minLength: 4, maxLength: 4 }),
  bounds: fc.constantFrom(FEW, FEW, FEW, MANY),
  shown: fc.boolean(),
});

function frozen(bounds: readonly number[], counts: readonly number[]): Histogram {
  const count = counts.reduce((sum, one) => sum + one, 0);
  return Object.freeze({ bounds, counts: Object.freeze(counts), sum: count / 2, count });
}

test("each page adds what it has more than the one before, and changes no other page", () => {
  fc.assert(
    fc.property(fc.array(page, { minLength: 1, maxLength: 12 }), (pages) => {
      let counters = new LatencyCounters();
      let before: Histogram | undefined;
      const total = [0, 0, 0, 0];
      for (const { added, bounds, shown } of pages) {
        for (const [bucket, more] of added.entries()) total[bucket] = (total[bucket] ?? 0) + more;
        const current = frozen(bounds, total.slice(0, bounds.length + 1));
        const latencies: Latencies = shown ? { time_to_first_token: current } : {};
        const { moved } = counters.take(latencies, before === undefined ? "base" : "same", false);
        const goesOn = shown && before?.bounds === bounds;
        const counts = current.counts.map((count, bucket) => count - (before?.counts[bucket] ?? 0));
        const count = counts.reduce((sum, one) => sum + one, 0);
        const expected = goesOn && count > 0 ? { bounds, counts, sum: count / 2, count } : undefined;
        expect(moved.time_to_first_token).toEqual(expected);
        if (shown) before = current;
        expect(counters.histograms).toEqual(before === undefined ? {} : { time_to_first_token: before });
        // As after a restart: what was stored goes on and is nobody else's.
        if (added[0] === 0) counters = new LatencyCounters(Object.freeze({ ...counters.histograms }));
      }
    }),
  );
});

test("a run that begins at zero leaves what was told of the run before", () => {
  const counters = new LatencyCounters();
  const first = frozen(FEW, [1, 2, 3]);
  const { moved } = counters.take({ queue_time: first }, "whole", true);
  expect(moved.queue_time).toEqual(first);
  counters.beginAtZero();
  expect(moved.queue_time?.counts).toEqual([1, 2, 3]);
  expect(counters.take({ queue_time: first }, "same", false).moved.queue_time).toEqual(first);
});
