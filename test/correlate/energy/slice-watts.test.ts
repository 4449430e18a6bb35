// What MIG instances draw for their activity, against a board whose instances draw known watts.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SliceWatts } from "../../../agent/correlate/energy/slice-watts.ts";
import { Random } from "../../simulator/random.ts";

const floorWatts = 120;

interface World {
  readonly watts: readonly number[];
  readonly seed: number;
  readonly seconds: number;
  /** How much of what each draws is by chance, for its prompts and steps differ. */
  readonly noise: number;
  /** Instances work in the same proportion all the time. */
  readonly isEven?: boolean;
}

/** What was drawn, and what is found of the last seconds. */
function run({ isEven, noise, seconds, seed, watts }: World) {
  const random = new Random(seed);
  const slices = new SliceWatts();
  const found = watts.map(() => 0);
  const truth = watts.map(() => 0);
  const doubts = watts.map(() => 0);
  for (let second = 0; second < seconds; second++) {
    const even = random.next();
    const activity = new Map(watts.map((_, at) => [`m${at}`, isEven ? even / 3 : random.next() / 3]));
    const drawn = watts.map(
      (own, at) => own * (activity.get(`m${at}`) ?? 0) * (1 + noise * (2 * random.next() - 1)),
    );
    const all = drawn.reduce((sum, joules) => sum + joules, 0);
    if (second >= seconds - 40) {
      const { doubts: ratios, joules } = slices.shares(activity);
      const parts = [...joules.values()].reduce((sum, part) => sum + part, 0);
      watts.forEach((_, at) => {
        const own = (all * (joules.get(`m${at}`) ?? 0)) / parts;
        found[at] = (found[at] ?? 0) + own;
        truth[at] = (truth[at] ?? 0) + (drawn[at] ?? 0);
        doubts[at] = (doubts[at] ?? 0) + own * (ratios.get(`m${at}`) ?? 0);
      });
    }
    slices.observe(activity, 1, all + floorWatts, floorWatts, false);
  }
  return { found, truth, doubts };
}

describe("SliceWatts", () => {
  const world = fc.record({
    watts: fc.array(fc.integer({ min: 150, max: 900 }), { minLength: 2, maxLength: 5 }),
    seed: fc.integer({ min: 1, max: 1e6 }),
    noise: fc.double({ min: 0, max: 0.3, noNaN: true }),
  });

  test("finds what each instance draws, within what it says and a hundredth of the whole", () => {
    fc.assert(
      fc.property(world, (given) => {
        const { doubts, found, truth } = run({ ...given, seconds: 160 });
        const all = truth.reduce((sum, joules) => sum + joules, 0);
        truth.forEach((joules, at) => {
          expect(Math.abs((found[at] ?? 0) - joules)).toBeLessThanOrEqual(
            1.5 * (doubts[at] ?? 0) + 0.02 * all,
          );
          // A fit that says all may be otherwise is right and worth nothing.
          expect(doubts[at] ?? 0).toBeLessThanOrEqual(0.35 * joules + 0.02 * all);
        });
      }),
      { numRuns: 50 },
    );
  });

  test("says that it does not know them where all work in one proportion, or before it saw enough", () => {
    fc.assert(
      fc.property(world, fc.boolean(), (given, isEven) => {
        fc.pre(Math.max(...given.watts) < 2.5 * Math.min(...given.watts));
        const { doubts, found, truth } = run({ ...given, noise: 0.1, seconds: isEven ? 160 : 8, isEven });
        truth.forEach((joules, at) => {
          expect(Math.abs((found[at] ?? 0) - joules)).toBeLessThanOrEqual(
            1.6 * (doubts[at] ?? 0) + 0.1 * joules,
          );
        });
      }),
      { numRuns: 50 },
    );
  });
});
