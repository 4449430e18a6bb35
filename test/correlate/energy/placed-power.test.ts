import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { PlacedWindow, Stretch } from "../../../agent/correlate/energy/placed-power.ts";
import { PlacedPower } from "../../../agent/correlate/energy/placed-power.ts";
import type { PowerSteps } from "../../../agent/correlate/energy/power-steps.ts";
import { second } from "../scene.ts";

const limitWatts = 700;

function windowOf(
  from: number,
  to: number,
  millijoules: number,
  watts: number,
  isGuessed: boolean,
): PlacedWindow {
  return { from, to, millijoules, limitWatts, floor: { watts, isGuessed }, isTeaching: true };
}

/** Millijoules of steps inside some stretches. */
function joulesIn(steps: PowerSteps, stretches: readonly Stretch[]): number {
  let sum = 0;
  for (let at = 0; at < steps.length; at++)
    for (const { from, to } of stretches)
      sum += steps.watts(at) * Math.max(0, Math.min(to, steps.to(at)) - Math.max(from, steps.from(at)));
  return sum / 1e6;
}

/** Pieces of execution in a window, drawn as lengths of pauses and pieces in thousandths of it. */
const pieces = fc.array(fc.tuple(fc.integer({ min: 1, max: 400 }), fc.integer({ min: 1, max: 400 })), {
  size: "max",
  minLength: 1,
  maxLength: 6,
});

/** The same where a window has a tenth of execution or more: of less, a floor that is guessed says nothing. */
const longPieces = fc.array(fc.tuple(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 100, max: 300 })), {
  size: "max",
  minLength: 1,
  maxLength: 3,
});

function executedIn(from: number, length: number, drawn: readonly (readonly [number, number])[]): Stretch[] {
  const stretches: Stretch[] = [];
  let reached = 0;
  for (const [pause, piece] of drawn) {
    const start = reached + pause;
    reached = Math.min(1000, start + piece);
    if (start < reached)
      stretches.push({ from: from + (start * length) / 1000, to: from + (reached * length) / 1000 });
  }
  return stretches;
}

function total(stretches: readonly Stretch[]): number {
  return stretches.reduce((sum, { from, to }) => sum + to - from, 0);
}

describe("PlacedPower", () => {
  test("leaves the joules of a window as they are, and none of them below the floor", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(pieces, fc.integer({ min: 0, max: 700 })), {
          size: "max",
          minLength: 1,
          maxLength: 8,
        }),
        fc.integer({ min: 1, max: 30 }),
        fc.integer({ min: 40, max: 150 }),
        fc.boolean(),
        (windows, seconds, floorWatts, isGuessed) => {
          const placed = new PlacedPower();
          const length = seconds * second;
          windows.forEach(([drawn, watts], index) => {
            const from = index * length;
            const to = from + length;
            const window = windowOf(from, to, watts * seconds * 1000, floorWatts, isGuessed);
            const executed = executedIn(from, length, drawn);
            const steps = placed.place(window, executed);
            if (steps === undefined) return;
            expect(steps.covered()).toBe(length);
            expect(Math.abs(joulesIn(steps, [{ from, to }]) - watts * seconds * 1000)).toBeLessThanOrEqual(1);
            for (let at = 0; at < steps.length; at++) {
              expect(steps.watts(at)).toBeGreaterThanOrEqual(isGuessed ? 0 : floorWatts);
            }
          });
        },
      ),
    );
  });

  test("gives execution what it drew, however long the windows are, and what is guessed of the floor after some of them", () => {
    fc.assert(
      fc.property(
        fc.array(longPieces, { size: "max", minLength: 30, maxLength: 30 }),
        fc.integer({ min: 1, max: 30 }),
        fc.integer({ min: 100, max: 150 }),
        fc.integer({ min: 150, max: 400 }),
        fc.boolean(),
        (windows, seconds, floorWatts, watts, isGuessed) => {
          const placed = new PlacedPower();
          const length = seconds * second;
          let [found, wanted] = [0, 0];
          windows.forEach((drawn, index) => {
            const from = index * length;
            const executed = executedIn(from, length, drawn);
            const amount = total(executed);
            const millijoules = (floorWatts * length + watts * amount) / 1e6;
            const given = isGuessed ? 126 : floorWatts;
            const steps = placed.place(
              windowOf(from, from + length, millijoules, given, isGuessed),
              executed,
            );
            if (index < 15) return;
            wanted += ((floorWatts + watts) * amount) / 1e6;
            found += steps === undefined ? millijoules : joulesIn(steps, executed);
          });
          expect(Math.abs(found / wanted - 1)).toBeLessThanOrEqual(isGuessed ? 0.15 : 1e-9);
        },
      ),
    );
  });

  test("gives each stretch by how busy it was, where that is all that is known of it, and learns nothing of it", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 100 }), { minLength: 5, maxLength: 25 }),
        fc.integer({ min: 60, max: 150 }),
        fc.integer({ min: 20, max: 500 }),
        (percents, floorWatts, watts) => {
          const length = second / 5;
          const busy = percents.map((percent, index) => ({
            from: index * length,
            to: (index + 1) * length,
            ratio: percent / 100,
          }));
          const joulesOf = (ratio: number): number => ((floorWatts + ratio * watts) * length) / 1e6;
          const millijoules = busy.reduce((sum, { ratio }) => sum + joulesOf(ratio), 0);
          const to = busy.length * length;
          const window = { ...windowOf(0, to, millijoules, floorWatts, false), isTeaching: false };
          const steps = new PlacedPower().place(window, busy);
          if (steps === undefined) return;
          for (const stretch of busy)
            expect(joulesIn(steps, [stretch])).toBeCloseTo(joulesOf(stretch.ratio), 3);
        },
      ),
    );
  });

  test("leaves to the rest of a window what no execution ever drew", () => {
    const placed = new PlacedPower();
    const half = (from: number): Stretch[] => [{ from, to: from + 5 * second }];
    for (let index = 0; index < 10; index++)
      placed.place(
        windowOf(10 * index * second, 10 * (index + 1) * second, 2_000_000, 100, false),
        half(10 * index * second),
      );
    const from = 100 * second;
    const steps = placed.place(windowOf(from, from + 10 * second, 5_000_000, 100, false), half(from));
    // It drew 200 W above the floor so far: 300 W and no more.
    expect(joulesIn(steps as PowerSteps, half(from))).toBeCloseTo(2_000_000, 0);
  });

  test("takes no moment in which a counter stood still for what a board draws at rest", () => {
    const placed = new PlacedPower();
    placed.place(windowOf(0, second / 50, 0, 126, true), []);
    const executed = [{ from: 5 * second, to: 6 * second }];
    const steps = placed.place(windowOf(second, 11 * second, 1_660_000, 126, true), executed);
    expect(joulesIn(steps as PowerSteps, executed)).toBeCloseTo(526_000, -1);
  });

  test("says nothing of a window of which it is not known what was executed", () => {
    const window = windowOf(0, 10 * second, 2_000_000, 100, false);
    expect(new PlacedPower().place(window, undefined)).toBeUndefined();
    expect(new PlacedPower().place(window, [])).toBeUndefined();
  });
});
