// The curve of a server against servers whose plateau is known.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CapacityCurve } from "../../../agent/meter/money/capacity-curve.ts";

const minute = 60_000_000_000n;

/** Minutes of a server that makes `plateau` tokens at most, half of it with `half` requests running. */
function curveOf(
  plateau: number,
  half: number,
  batches: readonly number[],
  isMet: (running: number) => boolean = () => true,
  noise: (index: number) => number = () => 1,
  isQueued: (running: number) => boolean = () => false,
): { curve: CapacityCurve; end: bigint } {
  const curve = new CapacityCurve();
  batches.forEach((running, index) => {
    const rate = ((plateau * running) / (running + half)) * noise(index);
    curve.observeMinute({
      running,
      rate,
      isMet: isMet(running),
      isQueued: isQueued(running),
      at: BigInt(index + 1) * minute,
    });
  });
  return { curve, end: BigInt(batches.length) * minute };
}

const repeated = (batches: readonly number[], times: number): number[] =>
  Array.from({ length: times }, () => batches).flat();

describe("CapacityCurve.plateau()", () => {
  it("finds the plateau of a server that was seen near it, without a queue, through a few per cent of noise", () => {
    fc.assert(
      fc.property(
        fc.double({ min: 10, max: 1e5, noNaN: true }),
        fc.double({ min: 1, max: 40, noNaN: true }),
        fc.array(fc.double({ min: 0.97, max: 1.03, noNaN: true }), { minLength: 40, maxLength: 40 }),
        (plateau, half, noises) => {
          const batches = repeated([half / 2, half, 2 * half, 4 * half], 10);
          const { curve, end } = curveOf(plateau, half, batches, undefined, (index) => noises[index] ?? 1);
          const found = curve.plateau(end);
          expect(Math.abs((found?.rate ?? 0) / plateau - 1)).toBeLessThan(0.1);
          expect(found?.minutes).toBeCloseTo(40, 0);
          expect(found?.at).toBe(end);
        },
      ),
      { numRuns: 100 },
    );
  });
  it("does not guess a plateau that was never near, nor one from a single batch, nor from few minutes", () => {
    const far = curveOf(1000, 40, repeated([2, 4, 8, 16], 20));
    expect(far.curve.plateau(far.end)).toBeUndefined();
    const single = curveOf(1000, 4, repeated([32], 60));
    expect(single.curve.plateau(single.end)).toBeUndefined();
    const short = curveOf(1000, 4, repeated([4, 32], 3));
    expect(short.curve.plateau(short.end)).toBeUndefined();
  });
  it("ends at the batch at which the objectives are still met", () => {
    const { curve, end } = curveOf(1000, 8, repeated([4, 8, 16, 32, 64], 10), (running) => running <= 16);
    expect((curve.plateau(end)?.rate ?? 0) / ((1000 * 16) / (16 + 8))).toBeCloseTo(1, 1);
  });
  it("counts a batch that was seen for two minutes, and ten minutes in all, though the first of them faded", () => {
    const { curve, end } = curveOf(1000, 8, repeated([2, 4, 8, 16, 32], 2));
    expect((curve.plateau(end)?.rate ?? 0) / 1000).toBeCloseTo(1, 1);
  });
  it("ends at the batch beyond which requests wait, for no more of them run at a time", () => {
    const batches = repeated([4, 8, 16, 32], 10);
    const { curve, end } = curveOf(1000, 8, batches, undefined, undefined, (running) => running >= 32);
    expect((curve.plateau(end)?.rate ?? 0) / ((1000 * 32) / (32 + 8))).toBeCloseTo(1, 1);
    const next = new CapacityCurve();
    next.restore(curve.state());
    expect(next.plateau(end)).toEqual(curve.plateau(end));
  });
  it("lets old minutes fade, and goes on from what was stored", () => {
    const { curve, end } = curveOf(1000, 8, repeated([4, 8, 16, 32], 10));
    const next = new CapacityCurve();
    next.restore(JSON.parse(JSON.stringify(curve.state())));
    const later = end + 14n * 86_400n * 1_000_000_000n;
    expect(next.plateau(later)?.minutes).toBeCloseTo(20, 0);
    expect(next.plateau(later)?.rate).toBeCloseTo(curve.plateau(end)?.rate ?? 0, 6);
    expect(next.plateau(end + 200n * 86_400n * 1_000_000_000n)).toBeUndefined();
  });
});
