// What servers on one GPU cost is found from their work and their turns, and it is said how well: against worlds whose
// costs are known.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { TurnWatts } from "../../../agent/correlate/energy/turn-watts.ts";
import type { Work } from "../../../agent/correlate/energy/work-columns.ts";
import { WorkFit, workIn } from "../../../agent/correlate/energy/work-fit.ts";
import { SmShare } from "../../../agent/correlate/sm-share.ts";
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
        expect(found?.error).toBeLessThan(0.08);
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
  const names = ["one", "two", "three", "four"] as const;
  const thousandths = (least: number, most: number): fc.Arbitrary<number> =>
    fc.integer({ min: least, max: most }).map((part) => part / 1000);
  /** Servers of some watts, and who works in each stretch: not always all of them. */
  const worlds = fc.integer({ min: 2, max: 4 }).chain((count) =>
    fc.record({
      watts: fc.array(thousandths(50_000, 600_000), { minLength: count, maxLength: count }),
      sets: fc.array(fc.integer({ min: 1, max: 2 ** count - 1 }), {
        ...{ minLength: 40, maxLength: 90, size: "max" },
      }),
      noise: fc.array(thousandths(-50, 50), { minLength: 90, maxLength: 90, size: "max" }),
    }),
  );
  const turnsOf = (set: number, count: number, busy = 1): Map<string, number> => {
    const working = names.slice(0, count).filter((_, place) => (set & (1 << place)) > 0);
    return new Map(working.map((name) => [name, busy / working.length]));
  };
  const drawn = (turns: ReadonlyMap<string, number>, watts: readonly number[]): number =>
    [...turns].reduce(
      (sum, [name, ratio]) => sum + ratio * (watts[names.indexOf(name as (typeof names)[number])] as number),
      0,
    );

  test("shares() are those of the watts of each, or said to be less sure than they are off", () => {
    fc.assert(
      fc.property(worlds, ({ noise, sets, watts }) => {
        const fit = new TurnWatts();
        sets.forEach((set, index) => {
          const turns = turnsOf(set, watts.length);
          fit.observe(turns, drawn(turns, watts) * (1 + (noise[index] as number)), 1);
        });
        const all = turnsOf(2 ** watts.length - 1, watts.length);
        const isKnown = [...all.keys()].every((_, place) => sets.some((set) => (set & (1 << place)) > 0));
        const found = fit.shares(all);
        if (!isKnown) return;
        const sum = drawn(all, watts);
        const given = [...(found?.weights.values() ?? [])].reduce((total, weight) => total + weight, 0);
        for (const [name, ratio] of all) {
          const wanted = drawn(new Map([[name, ratio]]), watts) / sum;
          const share = (found?.weights.get(name) ?? 0) / given;
          expect(Math.abs(share - wanted)).toBeLessThan(0.02 + 4 * (found?.error ?? 0));
        }
        const wasAlone = [...all.keys()].every(
          (_, place) => sets.filter((set) => set === 1 << place).length >= 3,
        );
        if (wasAlone) expect(found?.error).toBeLessThan(0.08);
      }),
      { numRuns: 100 },
    );
  });

  test("shares() are equal, and said to be a guess, of servers that only ever work together", () => {
    const fit = new TurnWatts();
    const both = turnsOf(3, 2, 0.96);
    for (let index = 0; index < 300; index++) fit.observe(both, 250 + (index % 5) * 20, 1);
    const found = fit.shares(both);
    expect(found?.weights.get("one")).toBeCloseTo(found?.weights.get("two") ?? -1);
    expect(found?.error).toBeGreaterThan(0.15);
  });

  test("shares() remember who was alone however long others stay beside it since", () => {
    const fit = new TurnWatts();
    for (let index = 0; index < 5; index++) fit.observe(turnsOf(1, 2), 400 + (index % 2), 0.2);
    for (let index = 0; index < 20_000; index++) fit.observe(turnsOf(3, 2), 280 + (index % 3) * 10, 1);
    const found = fit.shares(turnsOf(3, 2));
    expect(found?.weights.get("one")).toBeGreaterThan(190);
    expect(found?.weights.get("two")).toBeLessThan(100);
    expect(found?.error).toBeLessThan(0.12);
  });

  test("shares() of servers that come and go are those of the ones that were seen since", () => {
    const many = Array.from({ length: 9 }, (_, place) => `server-${place}`);
    const watts = (name: string): number => 100 + 50 * many.indexOf(name);
    const name = fc.constantFrom(...many);
    fc.assert(
      fc.property(
        fc.array(fc.uniqueArray(name, { minLength: 1, maxLength: 8, size: "max" }), {
          ...{ minLength: 20, maxLength: 60, size: "max" },
        }),
        fc.uniqueArray(name, { minLength: 2, maxLength: 3 }),
        (before, since) => {
          const fit = new TurnWatts();
          const observe = (working: readonly string[]): void => {
            const turns = new Map(working.map((one) => [one, 1 / working.length]));
            fit.observe(turns, working.reduce((sum, one) => sum + watts(one), 0) / working.length, 1);
            fit.shares(turns);
          };
          for (const working of before) observe(working);
          observe(since);
          for (let round = 0; round < 4; round++) for (const one of since) observe([one]);
          const found = fit.shares(new Map(since.map((one) => [one, 1])));
          const sum = since.reduce((all, one) => all + watts(one), 0);
          const given = [...(found?.weights.values() ?? [])].reduce((all, weight) => all + weight, 0);
          for (const one of since)
            expect(Math.abs((found?.weights.get(one) ?? 0) / given - watts(one) / sum)).toBeLessThan(0.03);
        },
      ),
      { numRuns: 100 },
    );
  });

  test("shares() of a server that just came are the mean of the others, and said to be a guess", () => {
    const fit = new TurnWatts();
    for (let index = 0; index < 100; index++) fit.observe(new Map([["one", 1]]), 300 + (index % 3), 1);
    const both = turnsOf(3, 2);
    expect(fit.shares(both)).toBeUndefined();
    fit.observe(both, 300, 0.1);
    expect(fit.shares(both)?.weights.get("two")).toBeGreaterThan(50);
    const other = new TurnWatts();
    const onlyOne = new Map([
      ["one", 1],
      ["two", 0],
    ]);
    for (let index = 0; index < 100; index++) other.observe(onlyOne, 300 + (index % 3), 1);
    expect(other.shares(both)?.weights.get("two")).toBeCloseTo(150, 0);
    expect(other.shares(both)?.error).toBeGreaterThan(0.1);
  });

  test("shares() take turns near the usual ones for those: a prompt moves a window's turns a little, and its watts", () => {
    const fit = new TurnWatts();
    for (let index = 0; index < 200; index++) {
      const samples = ["one", "two"].map((server, place) => ({ server, at: 2 * index + place, ratio: 0.48 }));
      fit.observeReading(samples, second, 0.96);
      const more = 0.01 * ([0, 1, -1, 2, -2][index % 5] as number);
      const turns = new Map([
        ["one", 0.48 + more],
        ["two", 0.48 - more],
      ]);
      fit.observeWindow(turns, 300 + 5000 * more);
    }
    const found = fit.shares(turnsOf(3, 2));
    const [one, two] = [found?.weights.get("one") ?? 0, found?.weights.get("two") ?? 0];
    expect(Math.abs(one / (one + two) - 0.5)).toBeLessThan(found?.error ?? 0);
    expect(found?.error).toBeGreaterThan(0.1);
  });

  test("shares() go by windows of samples, but not of a driver that credits the mean since the last reading", () => {
    const teach = (later: number): TurnWatts => {
      const fit = new TurnWatts();
      for (let index = 0; index < 60; index++) {
        const at = index * second;
        const samples = [
          { server: "one", at, ratio: 0.5 },
          { server: "two", at: at + later, ratio: 0.45 },
        ];
        fit.observeReading(samples, second, 0.98);
        const one = index % 7 === 0 ? 0.9 : 0.5;
        fit.observeWindow(
          new Map([
            ["one", one],
            ["two", 1 - one],
          ]),
          one * 400 + (1 - one) * 100,
        );
      }
      return fit;
    };
    const { weights, error } = teach(200_000_000).shares(turnsOf(3, 2)) ?? {};
    expect(weights?.get("one")).toBeCloseTo(200, -1);
    expect(weights?.get("two")).toBeCloseTo(50, -1);
    expect(error).toBeLessThan(0.15);
    expect(teach(0).shares(turnsOf(3, 2))).toBeUndefined();
  });

  test("shares() know that one second alone is not like another", () => {
    const offs = fc.tuple(thousandths(-200, 200), thousandths(-200, 200));
    fc.assert(
      fc.property(offs, thousandths(100_000, 500_000), thousandths(100_000, 500_000), (off, one, two) => {
        const fit = new TurnWatts();
        fit.observe(turnsOf(1, 2), one * (1 + off[0]), 1);
        fit.observe(turnsOf(2, 2), two * (1 + off[1]), 1);
        for (let index = 0; index < 120; index++) fit.observe(turnsOf(3, 2), (one + two) / 2, 1);
        const { weights, error } = fit.shares(turnsOf(3, 2)) ?? { error: 0 };
        const [first, second] = [weights?.get("one") ?? 0, weights?.get("two") ?? 0];
        expect(Math.abs(first / (first + second) - one / (one + two))).toBeLessThan(2 * error);
      }),
    );
  });

  test("samples that are means of windows one process is credited with are not taken for windows", () => {
    const readings = fc.array(
      fc.array(fc.tuple(fc.boolean(), thousandths(1150, 1230)), { minLength: 5, maxLength: 5 }),
      {
        ...{ minLength: 60, maxLength: 60, size: "max" },
      },
    );
    fc.assert(
      fc.property(readings, (all) => {
        const fit = new TurnWatts();
        all.forEach((windows, index) => {
          const shares = [true, false].flatMap((isOne) => {
            const own = windows.flatMap(([credited, gain], at) => (credited === isOne ? [{ gain, at }] : []));
            const last = own.at(-1);
            if (last === undefined) return [];
            const ratio = own.reduce((sum, { gain }) => sum + (0.96 * gain) / windows.length, 0);
            return [{ server: isOne ? "one" : "two", at: index * second + last.at * 200_000_000, ratio }];
          });
          fit.observeReading(shares, second, 0.96);
          for (const { server, ratio } of shares)
            fit.observeWindow(
              new Map([
                [server, ratio],
                [server === "one" ? "two" : "one", Math.max(0, 0.96 - ratio)],
              ]),
              300,
            );
        });
        expect(fit.shares(turnsOf(3, 2))).toBeUndefined();
      }),
      { numRuns: 50 },
    );
  });
});

describe("SmShare", () => {
  test("weights() are means over the time each server worked, not over all", () => {
    const share = new SmShare();
    for (let at = 1; at <= 30; at++) {
      if (at % 3 === 0) share.noteWork(at * second, second, ["one", "two", "three"], [0.3, 0.3, 0.4]);
      else share.noteWork(at * second, second, ["one", "two"], [0.3, 0.3]);
    }
    const weights = share.weights(30 * second);
    expect(weights?.get("one")).toBeCloseTo(0.3);
    expect(weights?.get("three")).toBeCloseTo(0.4);
  });
});
