// Who has the GPU for how long while several work: against servers that take as much of it as they can use, by turns.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { OwnPower } from "../../../agent/correlate/energy/own-power.ts";
import { second } from "../scene.ts";

/** What each of two has of a GPU: as much as alone while there is room, else no longer than its turns take. */
function fairly(one: number, two: number): readonly [number, number] {
  if (one + two <= 1) return [one, two];
  if (one < 0.5) return [one, 1 - one];
  return two < 0.5 ? [1 - two, two] : [0.5, 0.5];
}

const wanted = fc.double({ min: 0.05, max: 1, noNaN: true });

describe("OwnPower", () => {
  test("turns() give one that was never alone what the other leaves, never further off than equal turns", () => {
    fc.assert(
      fc.property(wanted, wanted, fc.integer({ min: 2, max: 300 }), (one, two, seconds) => {
        const power = new OwnPower();
        const equal = power.turns(["one", "two"]).get("one") ?? 0;
        expect(equal).toBe(0.5);
        for (let at = 0; at < 10; at++) power.observeAlone("one", second, one * second, 1000);
        const [had, others] = fairly(one, two);
        for (let at = 0; at < seconds; at++)
          power.observeTogether(["one", "two"], second, (had + others) * second);
        const share = had / (had + others);
        const found = power.turns(["one", "two"]).get("one") ?? 0;
        expect(Math.abs(found - share)).toBeLessThanOrEqual(Math.abs(equal - share) + 1e-9);
        // Exact where nobody waits for the other, and where the one that is known has less than its turns.
        if (had + others < 0.8 || one < 0.5) expect(found).toBeCloseTo(share, 6);
      }),
    );
  });

  test("turns() know nothing of two of whom none was alone", () => {
    const power = new OwnPower();
    for (let at = 0; at < 10; at++) power.observeTogether(["one", "two"], second, 0.3 * second);
    expect([...power.turns(["one", "two"]).values()]).toEqual([0.5, 0.5]);
  });
});
