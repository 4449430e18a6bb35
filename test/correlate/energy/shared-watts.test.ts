// What servers on one GPU cost is found from their work and their turns, and it is said how well: against worlds whose
// costs are known.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { TurnWatts } from "../../../agent/correlate/energy/turn-watts.ts";
import type { Work } from "../../../agent/correlate/energy/work-fit.ts";
import { WorkFit, workIn } from "../../../agent/correlate/energy/work-fit.ts";
import type { TokenStep } from "../../../agent/correlate/token-step.ts";

const second = 1_000_000_000;

describe("WorkFit", () => {
  const cost = fc.record({
    prompt: fc.double({ min: 0.001, max: 0.05, noNaN: true }),
    step: fc.double({ min: 0.05, max: 5, noNaN: true }),
  });
  const loads = fc.array(fc.tuple(fc.nat(4000), fc.nat(100), fc.nat(4000), fc.nat(100)), {
    minLength: 60,
    maxLength: 120,
  });
  test("shares() gives each server what its work cost", () => {
    const joulesOf = ([prompt, steps]: Work, per: { prompt: number; step: number }): number =>
      prompt * per.prompt + steps * per.step;
    fc.assert(
      fc.property(cost, cost, loads, (one, two, all) => {
        const fit = new WorkFit();
        fit.observeWindow(second, 0.3);
        for (const [onePrompt, oneSteps, twoPrompt, twoSteps] of all) {
          const works: readonly [Work, Work] = [
            [onePrompt, oneSteps],
            [twoPrompt, twoSteps],
          ];
          const joules = joulesOf(works[0], one) + joulesOf(works[1], two);
          fit.observe(
            new Map([
              ["one", works[0]],
              ["two", works[1]],
            ]),
            joules,
          );
        }
        const asked: readonly [Work, Work] = [
          [500, 40],
          [300, 20],
        ];
        const found = fit.shares(
          new Map([
            ["one", asked[0]],
            ["two", asked[1]],
          ]),
        );
        const wanted = [joulesOf(asked[0], one), joulesOf(asked[1], two)] as const;
        const near = 0.02 * (wanted[0] + wanted[1]);
        expect(Math.abs((found?.joules.get("one") ?? -1) - wanted[0])).toBeLessThan(near);
        expect(Math.abs((found?.joules.get("two") ?? -1) - wanted[1])).toBeLessThan(near);
        expect(found?.error).toBeLessThan(0.05);
      }),
      { numRuns: 40 },
    );
  });

  test("shares() says nothing where the GPU is full whenever it works, nor of servers it never saw", () => {
    const fit = new WorkFit();
    fit.observeWindow(100 * second, 1);
    const work = new Map<string, Work>([
      ["one", [0, 10]],
      ["two", [0, 5]],
    ]);
    for (let index = 0; index < 40; index++) fit.observe(work, 100);
    expect(fit.shares(work)).toBeUndefined();
    fit.observeWindow(20 * second, 0.2);
    expect(fit.shares(work)).toBeDefined();
    expect(fit.shares(new Map<string, Work>([["three", [0, 1]]]))).toBeUndefined();
  });
});

describe("workIn()", () => {
  const step: TokenStep = {
    from: 0,
    to: 4 * second,
    inputTokens: 400,
    outputTokens: 80,
    requests: 0,
    inFlightFrom: 2,
    inFlightTo: 2,
    progress: "step",
    isDoubted: false,
  };
  test("takes the part of a step inside, and knows nothing of time no step covers", () => {
    const [prompt, steps] = workIn([step], second, 3 * second) ?? [];
    expect(prompt).toBeCloseTo(200);
    expect(steps).toBeCloseTo(40 * (1 / 2 + 0.01));
    expect(workIn([step], 3 * second, 5 * second)).toBeUndefined();
    expect(workIn([{ ...step, isDoubted: true }], second, 2 * second)).toBeUndefined();
    expect(workIn([{ ...step, progress: "finish" }], second, 2 * second)).toBeUndefined();
  });
});

describe("TurnWatts", () => {
  const both = new Set(["cool", "hot"]);
  test("watts() finds what each draws while it has the GPU", () => {
    const watts = fc.double({ min: 50, max: 300, noNaN: true });
    const shares = fc.array(
      fc.nat(1000).map((part) => part / 1000),
      { minLength: 60, maxLength: 100 },
    );
    fc.assert(
      fc.property(watts, watts, shares, (hot, cool, ratios) => {
        const turns = new TurnWatts();
        // Now and then one of the two rests.
        const seen = ratios.flatMap((ratio, index) => (index % 3 === 0 ? [ratio, 0.1, 0.9] : [ratio]));
        seen.forEach((ratio, index) => {
          const at = index * second;
          turns.observeReading([
            { server: "hot", at, ratio },
            { server: "cool", at: at + 1, ratio },
          ]);
          turns.observe({ server: "hot", at, ratio }, "cool", 1 - ratio, ratio * hot + (1 - ratio) * cool);
        });
        const found = turns.watts(both);
        const near = 0.12 * (hot + cool);
        expect(Math.abs((found?.watts.get("hot") ?? -1) - hot)).toBeLessThan(near);
        expect(Math.abs((found?.watts.get("cool") ?? -1) - cool)).toBeLessThan(near);
      }),
      { numRuns: 40 },
    );
  });

  test("watts() are equal, and said to be a guess, where no sample tells the two apart", () => {
    const turns = new TurnWatts();
    for (let index = 0; index < 60; index++) {
      const at = index * second;
      turns.observeReading([
        { server: "hot", at, ratio: 0.5 },
        { server: "cool", at: at + 1, ratio: 0.5 },
      ]);
      turns.observe({ server: "hot", at, ratio: 0.5 }, "cool", 0.49, 250 + (index % 5) * 20);
    }
    const found = turns.watts(both);
    expect(found?.watts.get("hot")).toBeCloseTo(found?.watts.get("cool") ?? -1);
    expect(found?.error).toBeGreaterThan(0.3);
  });

  test("watts() say nothing of a driver that credits the mean since the last reading", () => {
    const turns = new TurnWatts();
    for (let index = 0; index < 60; index++) {
      const at = index * second;
      turns.observeReading([
        { server: "hot", at, ratio: 0.66 },
        { server: "cool", at, ratio: 0.33 },
      ]);
      turns.observe({ server: "hot", at, ratio: 0.66 }, "cool", 0.33, 250);
    }
    expect(turns.watts(both)).toBeUndefined();
  });
});
