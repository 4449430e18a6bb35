// Energy counters that power does not bear out, and what a counter moved while nothing was read.
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Correlator } from "../../../agent/correlate/correlator.ts";
import { CounterCheck } from "../../../agent/correlate/energy/check.ts";
import { EnergyMeter } from "../../../agent/correlate/energy/meter.ts";
import type { GpuInfo, SettledInterval } from "../../../agent/model.ts";

const second = 1_000_000_000;

function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state ^ (state >>> 15), 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** A GPU that draws `watts` for `seconds`, whose counter moves as if it drew `countedWatts`. */
function metered(seconds: number, watts: number, countedWatts: (second: number) => number): EnergyMeter {
  const meter = new EnergyMeter({ limitWatts: 700 });
  let counter = 5_000_000;
  for (let at = 0; at <= seconds; at++) {
    if (at > 0) counter += Math.round(countedWatts(at) * 1000);
    meter.take({ gpu: "g", at: at * second, energyMillijoules: counter, powerWatts: watts }, true);
  }
  return meter;
}

describe("EnergyMeter", () => {
  test("replaces a counter that stands still after 10 s, and says so", () => {
    const meter = metered(120, 300, () => 0);
    expect(meter.totals.counterDoubt).toBe("stands_still");
    expect(meter.totals.integratedMillijoules).toBeGreaterThanOrEqual(110 * 300_000);
    expect(meter.curve.method(60 * second, 61 * second)).toBe("integrated");
  });

  test("replaces a counter that counts another boundary after five minutes", () => {
    const meter = metered(420, 300, () => 620);
    expect(meter.totals.counterDoubt).toBe("disagrees");
    expect(meter.totals.counterRatio).toBeCloseTo(620 / 300, 2);
    const { acceptedMillijoules, integratedMillijoules, rejectedMillijoules } = meter.totals;
    expect(acceptedMillijoules).toBe(300 * 620_000 - 620_000);
    expect(integratedMillijoules + acceptedMillijoules).toBe(meter.curve.totalMillijoules);
    expect(acceptedMillijoules + rejectedMillijoules).toBe(420 * 620_000);
  });

  test("believes it again after five minutes of agreement", () => {
    const meter = metered(1200, 300, (at) => (at <= 400 ? 620 : 300));
    expect(meter.totals.counterDoubt).toBeUndefined();
    expect(meter.curve.method(1190 * second, 1191 * second)).toBe("counter");
  });

  test("never doubts a true counter for what happened while nothing was read", () => {
    const stretch = fc.record({
      read: fc.integer({ min: 1, max: 90 }),
      watts: fc.integer({ min: 60, max: 650 }),
      gap: fc.integer({ min: 2, max: 400 }),
      gapWatts: fc.integer({ min: 60, max: 650 }),
    });
    fc.assert(
      fc.property(fc.array(stretch, { minLength: 1, maxLength: 12 }), (stretches) => {
        const meter = new EnergyMeter({ limitWatts: 700 });
        let [at, counter] = [0, 5_000_000];
        const read = (watts: number, observed: boolean): void =>
          meter.take({ gpu: "g", at: at * second, energyMillijoules: counter, powerWatts: watts }, observed);
        for (const { read: seconds, watts, gap, gapWatts } of stretches) {
          read(watts, at === 0);
          for (let done = 0; done < seconds; done++) {
            at++;
            counter += watts * 1000;
            read(watts, true);
            const { counterDoubt, counterRatio = 1 } = meter.totals;
            expect(counterDoubt).toBeUndefined();
            expect(Math.abs(counterRatio - 1)).toBeLessThan(0.01);
          }
          at += gap;
          counter += gapWatts * gap * 1000;
        }
      }),
    );
  });

  /** Six hours of a load that comes and goes, its power a 1 s average read every few seconds. */
  function pulsing(pollSeconds: number, counts: number, on: () => number, off: () => number): EnergyMeter {
    const meter = new EnergyMeter({ limitWatts: 700 });
    let [counter, changes, isOn] = [5_000_000, 0, false];
    for (let at = 0; at <= 6 * 3600; at++) {
      if (at >= changes) {
        isOn = !isOn;
        changes = at + (isOn ? on() : off());
      }
      const powerWatts = isOn ? 600 : 120;
      counter += powerWatts * 1000 * counts;
      if (at % pollSeconds === 0)
        meter.take({ gpu: "g", at: at * second, energyMillijoules: Math.round(counter), powerWatts }, true);
    }
    return meter;
  }

  test("does not replace a true counter by power that is read too seldom to know better", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(1, 2, 5, 15, 30),
        fc.integer({ min: 2, max: 90 }),
        fc.nat(),
        (poll, period, seed) => {
          const random = randomFrom(seed);
          const spell = (): number => 1 + Math.floor(random() * period);
          expect(pulsing(poll, 1, spell, spell).totals.counterDoubt).toBeUndefined();
        },
      ),
      { numRuns: 40 },
    );
  });

  test.each([1, 5, 15, 30])("still finds a counter of the whole module at readings %s s apart", (poll) => {
    const random = randomFrom(7);
    const spell = (): number => 1 + Math.floor(random() * 20);
    expect(pulsing(poll, 1.9, spell, spell).totals.counterDoubt).toBe("disagrees");
  });

  test("leaves an idle or quiet counter alone", () => {
    expect(metered(120, 3, () => 0).totals.counterDoubt).toBeUndefined();
    expect(metered(900, 300, () => 340).totals.counterDoubt).toBeUndefined();
  });
});

test("CounterCheck doubts exactly what differs by more than 15 % for five minutes in a row", () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: 0.5, max: 1.6, noNaN: true }), { minLength: 1, maxLength: 15 }),
      (ratios) => {
        const check = new CounterCheck();
        let off = 0;
        let agreed = 0;
        let doubted = false;
        for (const ratio of ratios) {
          for (let index = 0; index < 60; index++)
            check.addWindow(second, { counted: 300_000 * ratio, integrated: 300_000 });
          const isOff = Math.abs(ratio - 1) > 0.15;
          off = isOff ? off + 1 : 0;
          agreed = isOff ? 0 : agreed + 1;
          if (off >= 5) doubted = true;
          else if (agreed >= 5) doubted = false;
          expect(check.doubt !== undefined).toBe(doubted);
          expect(check.ratio).toBeCloseTo(ratio, 6);
          if (Math.abs(ratio - 0.8) > 1e-9 && Math.abs(ratio - 1.25) > 1e-9)
            expect(check.suspect).toBe(doubted || ratio < 0.8 || ratio > 1.25);
        }
      },
    ),
  );
});

test("CounterCheck knows a counter that moves with the module by the module's power", () => {
  const check = new CounterCheck();
  const minute = (counted: number, module?: number): void => {
    for (let index = 0; index < 60; index++)
      check.addWindow(second, { counted, integrated: 300_000, ...(module === undefined ? {} : { module }) });
  };
  minute(620_000, 600_000);
  expect(check.scope).toBe("module");
  minute(620_000);
  expect(check.scope).toBeUndefined();
  minute(300_000, 600_000);
  expect(check.scope).toBeUndefined();
});

describe("absence", () => {
  const info: GpuInfo = { uuid: "GPU-1", index: 0, name: "x", weight: 1, powerLimitWatts: 700 };
  const sum = (intervals: readonly SettledInterval[], state: "unobserved" | "all"): number =>
    intervals
      .flatMap(({ gpus }) => gpus)
      .flatMap(({ millijoules }) => (state === "all" ? Object.values(millijoules) : [millijoules.unobserved]))
      .reduce((total, one) => total + one, 0);

  /** Meters `[from, to]` seconds of a GPU at 200 W; the counter is that of the host, mJ since second 0. */
  function run(
    from: number,
    to: number,
    counters: ConstructorParameters<typeof Correlator>[0]["counters"] = {},
    counterAt = (at: number): number => 7_000_000 + at * 200_000,
  ): {
    readonly intervals: readonly SettledInterval[];
    readonly counters: ReturnType<Correlator["counters"]>;
    readonly settled: number;
  } {
    const correlator = new Correlator({
      origin: from * second,
      intervalNanos: second,
      gpuPollMs: 1000,
      counters,
      strict: true,
    });
    correlator.setGpus([info], from * second);
    const intervals: SettledInterval[] = [];
    for (let at = from + 0.3; at <= to; at++) {
      correlator.acceptGpu({
        gpu: "GPU-1",
        at: Math.round(at * second),
        energyMillijoules: Math.round(counterAt(at)),
        energyEpoch: "boot",
        powerWatts: 200,
        utilizationRatio: 0,
        processes: [],
      });
      intervals.push(...correlator.settle(Math.round(at * second)));
    }
    return { intervals, counters: correlator.counters(), settled: correlator.settledUntil / second };
  }

  test("what the counter moved since the last settled interval is booked as unobserved, to the millijoule", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 5, max: 30 }),
        fc.integer({ min: 1, max: 5000 }),
        fc.integer({ min: 5, max: 20 }),
        (first, gap, second_) => {
          const before = run(0, first);
          const from = before.settled + gap;
          const resumed = Object.fromEntries(
            Object.entries(before.counters).map(([gpu, counter]) => [
              gpu,
              { ...counter, at: before.settled * second },
            ]),
          );
          const after = run(from, from + second_, resumed);
          const booked = sum(before.intervals, "all") + sum(after.intervals, "all");
          // Everything the counter moved from the first reading to the end of the last settled interval.
          const end = 7_000_000 + after.settled * 200_000;
          expect(Math.abs(booked - (end - (7_000_000 + 0.3 * 200_000)))).toBeLessThanOrEqual(2);
          expect(Math.abs(sum(after.intervals, "unobserved") - (gap + 0.3) * 200_000)).toBeLessThanOrEqual(2);
        },
      ),
      { numRuns: 25 },
    );
  });

  test("a movement no board can have made, or one of another boot, is not booked", () => {
    const before = run(0, 10);
    const counter = before.counters["GPU-1"];
    if (counter === undefined) throw new Error("no counter to persist");
    const at = before.settled * second;
    const absurd = run(100, 110, { "GPU-1": { ...counter, at } }, (now) => 900_000_000 + now * 200_000);
    expect(sum(absurd.intervals, "unobserved")).toBe(0);
    expect(
      absurd.intervals.reduce((total, { gpus }) => total + (gpus[0]?.rejectedMillijoules ?? 0), 0),
    ).toBeGreaterThan(0);
    const other = run(100, 110, { "GPU-1": { ...counter, epoch: "another boot", at } });
    expect(sum(other.intervals, "unobserved")).toBe(0);
  });
});
