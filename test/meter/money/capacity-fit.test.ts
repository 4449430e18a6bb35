// The costs of work and their bounds against an oracle: costs that are nearly as good, drawn at random.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { SeenWork, Work } from "../../../agent/meter/money/capacity-fit.ts";
import { fitCosts } from "../../../agent/meter/money/capacity-fit.ts";

const thousandth = fc.integer({ min: 1, max: 1000 }).map((value) => value / 1000);
const costs = fc.tuple(thousandth, thousandth, thousandth);
const amounts = fc.tuple(thousandth, thousandth, thousandth);

const taken = (work: Work, of: Work): number => work[0] * of[0] + work[1] * of[1] + work[2] * of[2];

/** Work that fills its seconds at these costs but for an error. */
function seenOf(of: Work, works: readonly Work[], errors: readonly number[], weight: number): SeenWork[] {
  return works.map((work, index) => {
    const seconds = taken(work, of) * (1 + (errors[index] ?? 0));
    return { perSecond: [work[0] / seconds, work[1] / seconds, work[2] / seconds], weight };
  });
}

describe("fitCosts()", () => {
  it("finds costs that are exact, and bounds that hold them however little was seen", () => {
    fc.assert(
      fc.property(
        costs,
        fc.array(amounts, { minLength: 1, maxLength: 12, size: "max" }),
        amounts,
        (of, works, asked) => {
          const fit = fitCosts(seenOf(of, works, [], 1e4));
          const truth = taken(asked, of);
          expect(fit?.secondsLeast(asked)).toBeLessThanOrEqual(truth * 1.001);
          expect(fit?.secondsMost(asked)).toBeGreaterThanOrEqual(truth * 0.999);
          expect(fit?.secondsLeast(asked)).toBeLessThanOrEqual((fit?.seconds(asked) ?? 0) + 1e-9);
          expect(fit?.secondsMost(asked)).toBeGreaterThanOrEqual((fit?.seconds(asked) ?? 0) - 1e-9);
        },
      ),
    );
  });
  it("has no costs of 0 or more outside of its bounds that explain what was seen about as well", () => {
    fc.assert(
      fc.property(
        costs,
        fc.array(amounts, { minLength: 4, maxLength: 12, size: "max" }),
        fc.array(fc.integer({ min: -100, max: 100 }), { minLength: 12, maxLength: 12 }),
        amounts,
        fc.array(costs, { minLength: 200, maxLength: 200 }),
        (of, works, errors, asked, others) => {
          const seen = seenOf(
            of,
            works,
            errors.map((one) => one / 1000),
            100,
          );
          const fit = fitCosts(seen);
          const missed = (by: Work): number =>
            seen.reduce((sum, { perSecond, weight }) => sum + weight * (1 - taken(perSecond, by)) ** 2, 0);
          const best = fitCosts(seen);
          if (best === undefined || fit === undefined) throw new Error("no fit");
          const [least, most] = [fit.secondsLeast(asked), fit.secondsMost(asked)];
          const bestOf: Work = [best.seconds([1, 0, 0]), best.seconds([0, 1, 0]), best.seconds([0, 0, 1])];
          for (const other of [
            ...others,
            ...others.map(
              ([a, s, d]): Work => [
                of[0] * (0.9 + 0.2 * a),
                of[1] * (0.9 + 0.2 * s),
                of[2] * (0.9 + 0.2 * d),
              ],
            ),
          ]) {
            if (missed(other) - missed(bestOf) > 2.6) continue;
            expect(taken(asked, other)).toBeGreaterThanOrEqual(least - 1e-6);
            expect(taken(asked, other)).toBeLessThanOrEqual(most + 1e-6);
          }
        },
      ),
      { numRuns: 60, endOnFailure: true },
    );
  });
  it("leaves the cost open that nothing tells from another", () => {
    // Prompts and outputs always in the same ratio: their sum is known, neither of them is.
    const works = [1, 2, 4, 8].map((batch): Work => [3, 1 / batch, 1]);
    const fit = fitCosts(seenOf([0.01, 0.1, 0.02], works, [], 1e4));
    expect(fit?.secondsLeast([3, 0, 1])).toBeGreaterThan(0.04);
    expect(fit?.secondsMost([3, 0, 1])).toBeLessThan(0.06);
    expect(fit?.secondsLeast([3, 0, 0])).toBeLessThan(0.001);
    expect(fit?.secondsMost([3, 0, 0])).toBeGreaterThan(0.045);
  });
  it("knows nothing of nothing", () => {
    expect(fitCosts([])).toBeUndefined();
  });
});
