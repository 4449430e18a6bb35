import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Floor } from "../../../agent/correlate/energy/floor.ts";
import { EnergyMeter } from "../../../agent/correlate/energy/meter.ts";
import type { GpuSample } from "../../../agent/model.ts";
import { ringOf } from "../../tools/rings.ts";
import { second } from "../scene.ts";

type Fields = Partial<Omit<GpuSample, "gpu" | "at">>;

function metered(
  readings: readonly (Fields & { readonly t: number; readonly gap?: boolean })[],
): EnergyMeter {
  const meter = new EnergyMeter({ limitWatts: 700 });
  for (const { t, gap, ...fields } of readings)
    meter.take({ gpu: "g", at: Math.round(t * second), ...fields }, gap !== true);
  meter.closeEarly();
  return meter;
}

const nothingKnown = {
  ...{ workIn: () => undefined, executed: undefined },
  floor: { watts: 0, isGuessed: true },
};
const none = { acceptedMillijoules: 0, integratedMillijoules: 0, rejectedMillijoules: 0, resets: 0 };

describe("EnergyMeter", () => {
  test("accepts a plausible counter to the millijoule, its first value as base", () => {
    const meter = metered(
      [0, 0.4, 1.1, 1.7, 2.3].map((t) => ({ t, energyMillijoules: 900_000 + t * 300_001 })),
    );
    expect(meter.totals).toMatchObject({ ...none, acceptedMillijoules: Math.round(2.3 * 300_001) });
    expect(meter.curve.method(0, 2 * second)).toBe("counter");
  });

  test("refuses what the board cannot have used, and integrates power instead", () => {
    const meter = metered([
      { t: 0, energyMillijoules: 0, powerWatts: 200 },
      { t: 1, energyMillijoules: 200_000, powerWatts: 200 },
      { t: 2, energyMillijoules: 22_000_000, powerWatts: 250 },
      { t: 3, energyMillijoules: 22_300_000, powerWatts: 300 },
    ]);
    expect(meter.totals).toMatchObject({
      acceptedMillijoules: 500_000,
      integratedMillijoules: 250_000,
      rejectedMillijoules: 21_800_000,
    });
    expect(meter.curve.at(2 * second) - meter.curve.at(second)).toBe(250_000);
    expect(meter.curve.method(second, 2 * second)).toBe("integrated");
  });

  test("judges at exactly 1.2 x limit x (dt + 0.2 s)", () => {
    const most = 1.2 * 700 * 1.2 * 1000;
    const of = (energyMillijoules: number) =>
      metered([
        { t: 0, energyMillijoules: 0 },
        { t: 1, energyMillijoules },
      ]).totals.acceptedMillijoules;
    expect(of(most)).toBe(most);
    expect(of(most + 1)).toBe(0);
  });

  test("sits out a counter that falls for two readings and comes back", () => {
    const values = [22e6, 22.1e6, 200_000, 300_000, 22.4e6, 22.5e6];
    const meter = metered(values.map((value, t) => ({ t, energyMillijoules: value, powerWatts: 90 })));
    expect(meter.totals).toMatchObject({ ...none, acceptedMillijoules: 500_000 });
  });

  test("takes a fall that stays for a reset: power meanwhile, nothing of the new value", () => {
    const values = [22e6, 22.1e6, 200_000, 300_000, 400_000, 500_000];
    const meter = metered(values.map((value, t) => ({ t, energyMillijoules: value, powerWatts: 90 })));
    expect(meter.totals).toMatchObject({
      acceptedMillijoules: 200_000,
      integratedMillijoules: 3 * 90_000,
      rejectedMillijoules: 0,
      resets: 1,
    });
  });

  test("counts the whole new value after a new epoch, within what is plausible", () => {
    const meter = metered([
      { t: 0, energyMillijoules: 9e9, energyEpoch: "boot 1" },
      { t: 1, energyMillijoules: 60_000, energyEpoch: "boot 2" },
      { t: 2, energyMillijoules: 160_000, energyEpoch: "boot 2" },
    ]);
    expect(meter.totals).toMatchObject({ ...none, acceptedMillijoules: 160_000 });
  });

  test("integrates the 1 s average where no counter is, else instant power, and says which", () => {
    const average = metered([0, 1, 2].map((t) => ({ t, powerWatts: 150, powerInstantWatts: 900 })));
    expect(average.totals).toMatchObject({ ...none, integratedMillijoules: 300_000 });
    expect(average.curve.method(0, second)).toBe("integrated");
    const instant = metered([0, 1, 2].map((t) => ({ t, powerInstantWatts: 100 + 100 * t })));
    expect(instant.hasWaiting).toBe(true);
    instant.decideWaiting(2 * second, nothingKnown);
    // The last tenth of each second as it was read, the rest as both ends of it.
    expect(instant.totals.integratedMillijoules).toBe(155_000 + 255_000);
    expect(instant.curve.method(0, second)).toBe("integrated_instant");
    expect(metered([{ t: 0 }, { t: 1 }]).curve.method(0, second)).toBe("none");
  });

  test("changes to power when the counter stops, and back when it returns", () => {
    const readings = [0, 1, 2, 3, 4, 5, 6, 7].map((t) => ({
      t,
      powerWatts: 100,
      ...(t < 2 || t > 5 ? { energyMillijoules: 1_000_000 + t * 110_000 } : {}),
    }));
    const { totals } = metered(readings);
    expect(totals.acceptedMillijoules).toBe(220_000);
    expect(totals.integratedMillijoules).toBe(500_000);
  });

  test("bridges a gap with the counter, and leaves the energy before it where it was", () => {
    const meter = metered([
      { t: 0, energyMillijoules: 0 },
      { t: 0.5, energyMillijoules: 40_000 },
      { t: 60, energyMillijoules: 6_040_000, gap: true },
      { t: 61, energyMillijoules: 6_140_000 },
    ]);
    expect(meter.curve.at(0.5 * second)).toBe(40_000);
    expect(meter.curve.at(60 * second)).toBe(6_040_000);
    expect(meter.totals).toMatchObject({ ...none, acceptedMillijoules: 6_140_000 });
  });

  test("follows the power ring inside a second, scaled to the counter", () => {
    const ring = Array.from({ length: 50 }, (_, index) => ({
      at: Math.round((1 + (index + 1) / 50) * second),
      value: index < 25 ? 100 : 300,
    }));
    const meter = metered([
      { t: 0, energyMillijoules: 0, powerRing: ringOf([{ at: 0, value: 100 }]) },
      { t: 1, energyMillijoules: 100_000, powerRing: ringOf([{ at: second, value: 100 }]) },
      { t: 2, energyMillijoules: 340_000, powerRing: ringOf(ring) },
    ]);
    expect(meter.curve.at(1.5 * second) - meter.curve.at(second)).toBe(60_000);
    expect(meter.curve.at(2 * second)).toBe(340_000);
  });

  test("follows the power ring inside a second that decides the one before it", () => {
    const meter = new EnergyMeter({ limitWatts: 700 });
    meter.isPlaced = true;
    const ring = Array.from({ length: 50 }, (_, index) => ({
      at: second + (index + 1) * 20_000_000,
      value: index < 25 ? 100 : 300,
    }));
    const first = { powerWatts: 100, powerRing: ringOf([{ at: second, value: 100 }]) };
    meter.take({ gpu: "g", at: 0, powerWatts: 100, energyMillijoules: 0 }, true);
    meter.take({ gpu: "g", at: second, energyMillijoules: 100_000, ...first }, true);
    expect(meter.waitingUntil(second)).toBe(second);
    expect(meter.hasWaiting).toBe(true);
    meter.take({ gpu: "g", at: 2 * second, energyMillijoules: 340_000, powerRing: ringOf(ring) }, true);
    expect(meter.hasWaiting).toBe(false);
    expect(meter.curve.at(1.5 * second) - meter.curve.at(second)).toBe(60_000);
  });

  test("joins instant readings near each other by lines, in no doubt", () => {
    const wattsAt = (step: number): number => (step % 10 < 3 ? 600 : 100);
    const readings = Array.from({ length: 51 }, (_, step) => ({
      t: step / 5,
      powerInstantWatts: wattsAt(step),
    }));
    const meter = metered(readings);
    expect(meter.hasWaiting).toBe(false);
    expect(meter.takeDoubt(Infinity)).toBe(0);
    for (let step = 0; step < 50; step++) {
      const found = meter.curve.at(((step + 1) * second) / 5) - meter.curve.at((step * second) / 5);
      expect(Math.abs(found - 100 * (wattsAt(step) + wattsAt(step + 1)))).toBeLessThanOrEqual(2);
    }
  });

  test("never falls and adds up for any readings", () => {
    const value = fc.oneof(
      fc.double({ min: 0, max: 2e6, noNaN: true }),
      fc.constantFrom(Number.NaN, -5, 1e300, Infinity, 2 ** 60),
    );
    const reading = fc.record(
      {
        t: fc.double({ min: 0.01, max: 3, noNaN: true }),
        gap: fc.boolean(),
        energyMillijoules: value,
        powerWatts: value,
        powerInstantWatts: value,
        energyEpoch: fc.constantFrom("a", "b"),
        powerRing: fc.array(fc.record({ at: value, value }), { maxLength: 4 }).map(ringOf),
      },
      { requiredKeys: ["t", "gap"] },
    );
    fc.assert(
      fc.property(fc.array(reading, { maxLength: 40 }), fc.infiniteStream(fc.nat(9)), (readings, work) => {
        let t = 0;
        const meter = metered(
          readings.map((entry) => {
            t += entry.t;
            return { ...entry, t };
          }),
        );
        meter.decideWaiting((t / 2) * second, {
          ...nothingKnown,
          workIn: () => [(work.next().value as number) / 9, 0],
        });
        meter.decideWaiting(Infinity, nothingKnown);
        expect(meter.decidedUntil).toBe(meter.readUntil);
        expect(meter.takeDoubt(Infinity)).toBeGreaterThanOrEqual(0);
        const { acceptedMillijoules, integratedMillijoules, rejectedMillijoules } = meter.totals;
        expect(meter.curve.totalMillijoules).toBe(acceptedMillijoules + integratedMillijoules);
        expect(rejectedMillijoules).toBeGreaterThanOrEqual(0);
        let before = 0;
        for (let at = 0; at < t; at += t / 97) {
          const now = meter.curve.at(Math.round(at * second));
          expect(Number.isSafeInteger(now) && now >= before).toBe(true);
          before = now;
        }
      }),
    );
  });

  test("loses nothing of windows that wait, and changes nothing that is decided, whenever they are decided", () => {
    const reading = fc.record(
      {
        t: fc.integer({ min: 50, max: 6000 }).map((t) => t / 1000),
        gap: fc.constantFrom(false, false, false, true),
        isPlaced: fc.constantFrom(true, true, false),
        decides: fc.option(fc.integer({ min: 0, max: 3000 }), { nil: undefined }),
        executed: fc.option(fc.tuple(fc.integer({ min: 0, max: 100 }), fc.integer({ min: 0, max: 100 })), {
          nil: undefined,
        }),
        watts: fc.integer({ min: 0, max: 900 }),
        counts: fc.constantFrom(true, true, true, false),
      },
      { requiredKeys: ["t", "gap", "isPlaced", "decides", "executed", "watts", "counts"] },
    );
    const readings = fc.array(reading, { minLength: 10, maxLength: 60, size: "max" });
    fc.assert(
      fc.property(readings, fc.integer({ min: 0, max: 200 }), fc.boolean(), (entries, watts, isGuessed) => {
        const meter = new EnergyMeter({ limitWatts: 700 });
        const settled: [number, number][] = [];
        let [t, counter] = [0, 0];
        const adds = (): void => {
          const { acceptedMillijoules, integratedMillijoules } = meter.totals;
          expect(meter.curve.totalMillijoules).toBe(acceptedMillijoules + integratedMillijoules);
          for (const [at, known] of settled) expect(meter.curve.at(at)).toBe(known);
        };
        for (const entry of entries) {
          t += entry.t;
          counter += Math.round(entry.watts * entry.t * 1000);
          meter.isPlaced = entry.isPlaced;
          const at = Math.round(t * second);
          const energy = entry.counts ? { energyMillijoules: counter } : {};
          meter.take({ gpu: "g", at, powerWatts: entry.watts, ...energy }, !entry.gap);
          if (entry.decides !== undefined) {
            const until = at - entry.decides * 1e6;
            meter.decideWaiting(until, {
              ...nothingKnown,
              floor: { watts, isGuessed },
              executed: (from, to) => {
                if (entry.executed === undefined) return undefined;
                const [one, other] = entry.executed.map((part) => from + ((to - from) * part) / 100);
                const [start, end] = [one as number, other as number].sort((left, right) => left - right);
                return start === end ? [] : [{ from: start as number, to: end as number }];
              },
            });
            const decided = meter.decidedUntil ?? 0;
            expect(decided >= Math.min(until, meter.readUntil ?? 0)).toBe(true);
            for (const x of [decided, decided - 0.3 * second, decided - second])
              if (x > 0) settled.push([x, meter.curve.at(x)]);
          }
          adds();
        }
        meter.closeEarly();
        meter.decideWaiting(Infinity, nothingKnown);
        adds();
        expect(meter.decidedUntil).toBe(meter.readUntil);
      }),
      { numRuns: 40 },
    );
  });

  test("hands the counter on as it stood before windows that wait: a restart finds them unbooked", () => {
    const meter = new EnergyMeter({ limitWatts: 700 });
    meter.isPlaced = true;
    for (const t of [0, 5, 10, 12])
      meter.take({ gpu: "g", at: t * second, energyMillijoules: 7 + t * 100_000 }, true);
    expect(meter.counterAt(0)).toEqual({ millijoules: 7 });
    meter.decideWaiting(2 * second, nothingKnown);
    expect(meter.decidedUntil).toBe(5 * second);
    expect(meter.counterAt(2 * second)).toEqual({ millijoules: 200_007 });
    expect(meter.counterAt(5 * second)).toEqual({ millijoules: 500_007 });
  });

  test("takes no moment in which the counter stood still for what a board draws at rest", () => {
    const meter = new EnergyMeter({ limitWatts: 700 });
    meter.isPlaced = true;
    for (const [t, millijoules] of [
      [0, 0],
      [5, 500_000],
      [5.02, 500_000],
    ] as const)
      meter.take({ gpu: "g", at: t * second, energyMillijoules: millijoules }, true);
    meter.closeEarly();
    expect(meter.readUntil).toBe(5.02 * second);
    expect(meter.leastWaitingWatts(10 * second)).toBe(100);
  });
});

describe("Floor", () => {
  const at100 = (from: number, to: number): number => ((to - from) * 100) / 1e6;

  test("is assumed until 5 s of parked time exist: by what there is of it, else by the limit and the lowest second", () => {
    const floor = new Floor();
    expect(floor.watts(700)).toBe(0);
    floor.observe(380);
    floor.observe(500);
    expect(floor.watts(700)).toBeCloseTo(126, 9);
    expect(floor.watts(undefined)).toBe(380);
    floor.observe(90);
    expect(floor.watts(700)).toBe(90);
    floor.parked(0, 4.9 * second, at100);
    expect([floor.watts(700), floor.assumed]).toEqual([100, true]);
    floor.parked(4.9 * second, 5 * second, at100);
    expect([floor.watts(700), floor.assumed]).toEqual([100, false]);
  });

  test("leaves out the first 2 s after work", () => {
    const floor = new Floor();
    floor.worked(10 * second);
    floor.parked(10 * second, 12 * second, () => 1e9);
    floor.parked(11 * second, 17 * second, at100);
    expect(floor.watts(700)).toBeCloseTo(100, 9);
    expect(floor.state().parkedNanos).toBe(5 * second);
  });

  test("remembers 60 s and survives a restart", () => {
    const floor = new Floor();
    for (let t = 0; t < 200; t++)
      floor.parked(t * second, (t + 1) * second, () => (t < 100 ? 300_000 : 100_000));
    expect(floor.watts(700)).toBeCloseTo(100, 9);
    const restored = new Floor(floor.state());
    expect(restored.watts(700)).toBeCloseTo(100, 9);
    expect(restored.state().parkedNanos).toBeLessThanOrEqual(60 * second);
    expect(new Floor({ parkedNanos: Number.NaN, millijoules: -1 }).watts(700)).toBe(0);
  });
});
