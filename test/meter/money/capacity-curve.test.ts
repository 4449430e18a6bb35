// The curve of a server against servers whose costs and limit are known: what is told holds the truth between its bounds.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { ServedMix } from "../../../agent/meter/money/capacity-curve.ts";
import { CapacityCurve } from "../../../agent/meter/money/capacity-curve.ts";

const minute = 60_000_000_000n;

/** Seconds of a prompt token, a decode step and an output token. */
interface Costs {
  readonly prompt: number;
  readonly step: number;
  readonly output: number;
}

interface Seen {
  readonly running: number;
  /** Prompt tokens per output token. */
  readonly mix?: number;
  readonly isMet?: boolean;
  readonly isQueued?: boolean;
  readonly cacheRatio?: number;
  /** What the gauge reads over what ran. */
  readonly misread?: number;
}

const chat: Costs = { prompt: 1e-4, step: 0.02, output: 5e-4 };

/** Tokens per second of a mix at a batch. */
function rateAt({ output, prompt, step }: Costs, running: number, mix = 2): number {
  return (1 + mix) / (prompt * mix + step / running + output);
}

function curveOf(costs: Costs, seen: readonly Seen[]): { curve: CapacityCurve; end: bigint } {
  const curve = new CapacityCurve();
  seen.forEach(({ cacheRatio, isMet = true, isQueued = false, misread = 1, mix = 2, running }, index) => {
    const outputs = 30 / (costs.prompt * mix + costs.step / running + costs.output);
    curve.observeMinute({
      ...{ prompts: outputs * mix, outputs, seconds: 30, cacheRatio, isMet },
      running: running * misread,
      queued: isQueued ? { running, runningMost: running } : undefined,
      at: BigInt(index + 1) * minute,
    });
  });
  return { curve, end: BigInt(seen.length) * minute };
}

const mixOf = (mix: number): ServedMix => ({ prompts: mix, outputs: 1, tokens: 1 + mix });
const repeated = (batches: readonly number[], times: number, more: Partial<Seen> = {}): Seen[] =>
  Array.from({ length: times }, () => batches.map((running) => ({ running, ...more }))).flat();

const thousandths = (min: number, max: number): fc.Arbitrary<number> =>
  fc.integer({ min: Math.round(1000 * min), max: Math.round(1000 * max) }).map((value) => value / 1000);

describe("CapacityCurve.plateau()", () => {
  it("holds the true limit between its bounds, wherever that is beyond what was seen, through a misread gauge", () => {
    let [told, held] = [0, 0];
    fc.assert(
      fc.property(
        fc.record({
          batch: fc.integer({ min: 8, max: 400 }),
          bend: thousandths(10, 200),
          promptPart: thousandths(0, 3),
          mix: thousandths(0.1, 10),
          share: thousandths(0.1, 1),
        }),
        fc.array(thousandths(0.85, 1.15), { minLength: 60, maxLength: 60 }),
        ({ batch, bend, mix, promptPart, share }, misreads) => {
          const step = 0.015;
          const output = step / bend;
          const costs = { step, output, prompt: (promptPart * output) / mix };
          const most = Math.max(1, batch * share);
          const seen = misreads.map((misread, index) => ({
            ...{ mix, misread },
            running: Math.max(1, (most * (1 + (index % 6))) / 6),
          }));
          const { curve, end } = curveOf(costs, seen);
          const found = curve.plateau(end, mixOf(mix));
          if (found === undefined) return;
          told++;
          const truth = rateAt(costs, batch, mix);
          expect(found.rateMost).toBeLessThanOrEqual(3 * found.rateLeast);
          expect(found.rate).toBeCloseTo((found.rateLeast + found.rateMost) / 2, 6);
          if (found.rateLeast <= truth && truth <= found.rateMost) held++;
        },
      ),
      { numRuns: 300 },
    );
    expect(told).toBeGreaterThan(100);
    expect(held).toBeGreaterThanOrEqual(0.9 * told);
  });
  it("is narrow where requests wait, for no more of them run at a time", () => {
    const seen = [...repeated([4, 8, 16], 10), ...repeated([32], 10, { isQueued: true })];
    const { curve, end } = curveOf(chat, seen);
    const found = curve.plateau(end, mixOf(2));
    expect((found?.rate ?? 0) / rateAt(chat, 32)).toBeCloseTo(1, 1);
    expect((found?.rateMost ?? 0) / (found?.rateLeast ?? 1)).toBeLessThan(1.3);
    expect(found?.isLimitSeen).toBe(true);
    const next = new CapacityCurve();
    next.restore(JSON.parse(JSON.stringify(curve.state())));
    expect(next.plateau(end, mixOf(2))).toEqual(found);
  });
  it("does not take a queue of another mix for the limit, nor one of a small batch", () => {
    const of = (more: Partial<Seen>, batch: number): boolean | undefined => {
      const seen = [...repeated([8, 16, 32, 64], 10), ...repeated([batch], 10, { isQueued: true, ...more })];
      const { curve, end } = curveOf(chat, seen);
      return curve.plateau(end, mixOf(2))?.isLimitSeen;
    };
    expect(of({}, 60)).toBe(true);
    expect(of({ mix: 30 }, 60)).toBe(false);
    expect(of({}, 8)).toBe(false);
  });
  it("ends at the batch at which the objectives are still met, and tells nothing where none is", () => {
    const met = (most: number): Seen[] =>
      repeated([4, 8, 16, 32, 64], 10).map((one) => ({ ...one, isMet: one.running <= most }));
    const { curve, end } = curveOf(chat, met(16));
    const found = curve.plateau(end, mixOf(2));
    expect(found?.rateLeast).toBeLessThan(rateAt(chat, 16));
    expect(found?.rateMost).toBeLessThan(1.2 * rateAt(chat, 32));
    expect(found?.isLimitSeen).toBe(true);
    const never = curveOf(chat, met(0));
    expect(never.curve.plateau(never.end, mixOf(2))).toBeUndefined();
  });
  it("goes no further than the KV cache does", () => {
    const bounded = curveOf(chat, repeated([5, 10, 20], 12, { cacheRatio: 0.6 }));
    const open = curveOf(chat, repeated([5, 10, 20], 12));
    const most = (one: typeof open): number => one.curve.plateau(one.end, mixOf(2))?.rateMost ?? Infinity;
    expect(most(bounded)).toBeLessThan(most(open));
    expect(most(bounded)).toBeGreaterThan(rateAt(chat, 20 / 0.6));
  });
  it("tells a mix by what was seen of others, where these tell prompts from outputs", () => {
    const seen = [1, 4, 12].flatMap((mix) => repeated([8, 16, 32, 64], 6, { mix }));
    const { curve, end } = curveOf({ ...chat, prompt: 1e-3 }, seen);
    const found = curve.plateau(end, mixOf(6));
    const truth = rateAt({ ...chat, prompt: 1e-3 }, 64, 6);
    expect(found?.rateLeast).toBeLessThan(truth);
    expect(found?.rateLeast).toBeGreaterThan(0.85 * truth);
  });
  it("does not guess from a single batch, from far below, from few minutes, or without a mix", () => {
    for (const seen of [repeated([32], 60), repeated([0.2, 0.3, 0.4], 20), repeated([4, 32], 3)]) {
      const { curve, end } = curveOf(chat, seen);
      expect(curve.plateau(end, mixOf(2))).toBeUndefined();
    }
    const { curve, end } = curveOf(chat, repeated([8, 16, 32, 64], 10));
    expect(curve.plateau(end, { prompts: 0, outputs: 0, tokens: 0 })).toBeUndefined();
  });
  it("knows servers without output by their prompts", () => {
    const curve = new CapacityCurve();
    repeated([2, 4, 8, 16], 10).forEach(({ running }, index) => {
      const prompts = 30 / (0.001 + 0.004 / running);
      curve.observeMinute({
        ...{
          prompts,
          running,
          outputs: 0,
          seconds: 30,
          cacheRatio: undefined,
          isMet: true,
          queued: undefined,
        },
        at: BigInt(index) * minute,
      });
    });
    const found = curve.plateau(40n * minute, { prompts: 1, outputs: 0, tokens: 1 });
    expect(found?.rateLeast).toBeLessThan(1000);
    expect(found?.rateMost).toBeGreaterThan(1000);
  });
  it("lets old minutes fade, and forgets the lightest point where there are too many", () => {
    const { curve, end } = curveOf(chat, repeated([4, 8, 16, 32, 64], 10));
    const later = end + 14n * 86_400n * 1_000_000_000n;
    expect(curve.plateau(later, mixOf(2))?.minutes).toBeCloseTo(25, 0);
    expect(curve.plateau(end + 200n * 86_400n * 1_000_000_000n, mixOf(2))).toBeUndefined();
    const many = Array.from({ length: 600 }, (_, index) => ({
      running: 1.3 ** (index % 30),
      mix: 0.1 * 4 ** (index % 7),
    }));
    expect(curveOf({ ...chat, output: 1e-9 }, many).curve.state().length).toBeLessThanOrEqual(96);
  });
});
