// Requests at a time by chance, against the mean of a Poisson number that is not 0.
import fc from "fast-check";
import { expect, test } from "vitest";
import { atATimeByChance } from "../../../agent/correlate/activity/at-a-time.ts";

test("atATimeByChance() is the mean of those there while any is, and 1 of hardly any", () => {
  fc.assert(
    fc.property(fc.double({ min: 0, max: 30, noNaN: true }), (load) => {
      let [some, sum, chance] = [0, 0, Math.exp(-load)];
      for (let count = 1; count < 200; count++) {
        chance *= load / count;
        some += chance;
        sum += count * chance;
      }
      const mean = some > 1e-200 ? sum / some : 1;
      expect(atATimeByChance(load)).toBeCloseTo(mean, 6);
    }),
  );
  for (const load of [0, Number.MIN_VALUE, 1e-300, 1e-17, 1e-9])
    expect(atATimeByChance(load)).toBeCloseTo(1, 6);
});
