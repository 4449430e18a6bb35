// running-histogram.ts against sums that are new objects: what is shown is the sum, and never changes once it was shown.
import fc from "fast-check";
import { expect, test } from "vitest";
import { addHistograms } from "../../../agent/meter/counters/histograms.ts";
import { RunningHistogram } from "../../../agent/meter/ledger/running-histogram.ts";
import type { Histogram } from "../../../agent/model.ts";

const BOUNDS = [[0.1, 1], [0.1, 1, 10], []] as const;

const histogram = fc
  .record({
    bounds: fc.constantFrom(...BOUNDS),
    counts: fc.array(fc.nat(50), { minLength: 4, maxLength: 4 }),
    sum: fc.nat(1000),
  })
  .map(({ bounds, counts, sum }): Histogram => {
    const own = counts.slice(0, bounds.length + 1);
    return { bounds, counts: own, sum: sum / 1000, count: own.reduce((all, each) => all + each, 0) };
  });

test("RunningHistogram is the sum of what was added, takes no other bounds, and keeps what it showed", () => {
  fc.assert(
    fc.property(
      histogram,
      fc.array(fc.record({ moved: histogram, isShown: fc.boolean(), isEmptied: fc.nat(9) }), {
        size: "max",
        maxLength: 20,
      }),
      (first, steps) => {
        let running = new RunningHistogram(first);
        let wanted = first;
        const shown: [Histogram, string][] = [[first, JSON.stringify(first)]];
        for (const { isEmptied, isShown, moved } of steps) {
          const sum = addHistograms(wanted, moved);
          expect(running.addHistogram(moved)).toBe(sum !== undefined);
          shown.push([moved, JSON.stringify(moved)]);
          wanted = sum ?? wanted;
          if (isEmptied === 0) {
            running = running.emptied();
            wanted = { ...wanted, counts: wanted.counts.map(() => 0), sum: 0, count: 0 };
          }
          if (!isShown) continue;
          expect(running.histogram).toEqual(wanted);
          expect(running.histogram).toBe(running.histogram);
          shown.push([running.histogram, JSON.stringify(wanted)]);
        }
        expect(running.histogram).toEqual(wanted);
        for (const [one, text] of shown) expect(JSON.stringify(one)).toBe(text);
      },
    ),
  );
});
