// What the work of servers costs is found from whole windows of energy, and it is said how well: against worlds whose costs are known.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { WindowFit } from "../../../agent/correlate/energy/window-fit.ts";
import type { Work } from "../../../agent/correlate/energy/work-columns.ts";

/** So many decode steps of each. */
function workOf(one: number, two: number): ReadonlyMap<string, Work> {
  return new Map<string, Work>([
    ["one", [0, one]],
    ["two", [0, two]],
  ]);
}

/** The share of the first of two. */
function shareOf(joules: ReadonlyMap<string, number> | undefined): number {
  const [one, two] = [joules?.get("one") ?? 0, joules?.get("two") ?? 0];
  return one / (one + two);
}

describe("WindowFit", () => {
  test("shares() err by as much as is said, however noisy windows are", () => {
    const noise = fc.array(fc.integer({ min: -1000, max: 1000 }), {
      ...{ minLength: 60, maxLength: 60, size: "max" },
    });
    const works = fc.array(fc.tuple(fc.nat(60), fc.nat(60)), { minLength: 60, maxLength: 60, size: "max" });
    const runs: number[] = [];
    fc.assert(
      fc.property(
        noise,
        works,
        fc.integer({ min: 20, max: 80 }),
        fc.boolean(),
        (off, all, percent, isLoud) => {
          const fit = new WindowFit();
          const costs = [percent / 50, (100 - percent) / 50] as const;
          all.forEach(([one, two], index) => {
            const more = (isLoud ? 0.018 : 0.006) * (off[index] as number);
            const turns = new Map(Object.entries({ one, two }));
            const joules = one * costs[0] + two * costs[1] + more;
            fit.observe({ work: workOf(one, two), turns, seconds: 10, joules });
          });
          const { error = 0, joules } = fit.shares(workOf(1, 1)) ?? {};
          runs.push((shareOf(joules) - percent / 100) / error);
        },
      ),
      { numRuns: 200, seed: 20_261_130 },
    );
    expect(runs.filter((off) => Math.abs(off) <= 2).length / runs.length).toBeGreaterThan(0.9);
    const spread = Math.sqrt(runs.reduce((sum, off) => sum + off * off, 0) / runs.length);
    expect(spread).toBeGreaterThan(0.5);
  });

  test("shares() of servers whose work never tells them apart are those of equal watts, give or take all", () => {
    const fit = new WindowFit();
    const turns = new Map(Object.entries({ one: 5, two: 5 }));
    for (let index = 0; index < 30; index++)
      fit.observe({ work: workOf(100, 20), turns, seconds: 10, joules: 500 });
    const { error = 0, joules } = fit.shares(workOf(100, 20)) ?? {};
    expect(shareOf(joules)).toBeCloseTo(0.5, 1);
    expect(error).toBeGreaterThan(0.2);
    expect(error).toBeLessThan(0.5);
  });

  test("shares() say nothing of a server that was never seen at work", () => {
    const fit = new WindowFit();
    const turns = new Map(Object.entries({ one: 5, two: 0 }));
    for (let index = 1; index < 9; index++)
      fit.observe({ work: workOf(10 * index, 0), turns, seconds: 10, joules: 500 });
    expect(fit.shares(workOf(10, 0))?.joules.get("two")).toBe(0);
    expect(fit.shares(workOf(10, 1))).toBeUndefined();
    expect(fit.shares(new Map<string, Work>([["three", [0, 1]]]))).toBeUndefined();
  });
});
