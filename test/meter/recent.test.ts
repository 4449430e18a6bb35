// The last minute and hour against an oracle that keeps every interval: what a ring says is the sum of what lies in its cells.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { kpis } from "../../agent/meter/figures/kpis.ts";
import { Recent, WHOLE_HOST } from "../../agent/meter/figures/recent.ts";
import type { SettledInterval } from "../../agent/model.ts";
import { intervalOf, moved, SECOND } from "./fixtures.ts";

const steps = fc.array(
  fc.record({
    seconds: fc.oneof(
      fc.constant(1),
      fc.double({ min: 0.05, max: 4, noNaN: true }),
      fc.integer({ min: 5, max: 200 }),
    ),
    active: fc.double({ min: 0, max: 1, noNaN: true }),
    output: fc.nat({ max: 5000 }),
    late: fc.boolean(),
    gateway: fc.boolean(),
  }),
  { minLength: 1, maxLength: 120 },
);

interface Told {
  readonly interval: SettledInterval;
  readonly output: number;
}

function intervalsOf(
  all: readonly (typeof steps extends fc.Arbitrary<infer T> ? T : never)[number][],
): Told[] {
  let at = 0;
  return all.map(({ active, gateway, late, output, seconds }) => {
    const from = at;
    at += seconds;
    const increments = [
      moved({ tokens: { output }, late }),
      ...(gateway ? [moved({ family: "gateway", tokens: { output: 7 * output } })] : []),
    ];
    const interval = intervalOf({
      from,
      to: at,
      seconds: { token_active: active * seconds, parked: (1 - active) * seconds },
      joules: { token_active: 300 * active * seconds },
      increments,
    });
    return { interval, output: late ? 0 : output };
  });
}

describe("Recent", () => {
  test("counts the tokens of a server on the GPUs that it has now", () => {
    const recent = new Recent();
    const onGpus = (at: number, ...uuids: string[]): void => {
      const increments = [moved({ tokens: { output: 120 } })];
      const seconds = { token_active: 1 };
      const one = intervalOf({ from: at, to: at + 1, seconds, joules: {}, increments });
      const gpus = ["GPU-1", "GPU-2", "GPU-3"].flatMap((gpu) =>
        one.gpus.map((row) => ({ ...row, gpu, residents: uuids.includes(gpu) ? row.residents : [] })),
      );
      recent.addInterval({ ...one, gpus });
    };
    const outputs = (): unknown =>
      ["GPU-1", "GPU-2", "GPU-3"].map((gpu) => recent.sums("minute", gpu)?.output);
    onGpus(0, "GPU-1", "GPU-2");
    expect(outputs()).toEqual([60, 60, 0]);
    onGpus(1, "GPU-3");
    onGpus(2, "GPU-3");
    expect([recent.homesOf("s"), outputs()]).toEqual([["GPU-3"], [60, 60, 240]]);
    onGpus(3);
    expect(recent.homesOf("s")).toEqual(["GPU-3"]);
  });

  test.each([
    ["minute", 1 * SECOND, 60],
    ["hour", 30 * SECOND, 120],
  ] as const)("sums the %s as a sum over all intervals does", (ring, cellNanos, cells) => {
    fc.assert(
      fc.property(steps, (all) => {
        const told = intervalsOf(all);
        const recent = new Recent();
        for (const { interval } of told) recent.addInterval(interval);
        const cellOf = (to: number): number => Math.floor((to - 1) / cellNanos);
        const newest = cellOf(told.at(-1)?.interval.to ?? 0);
        const inside = told.filter(({ interval }) => cellOf(interval.to) > newest - cells);
        const sum = (of: (one: Told) => number): number => inside.reduce((whole, one) => whole + of(one), 0);
        for (const key of ["GPU-1", WHOLE_HOST]) {
          const sums = recent.sums(ring, key);
          expect(sums?.seconds.token_active).toBeCloseTo(
            sum((one) => (one.interval.gpus[0]?.nanos.token_active ?? 0) / 1e9),
            1,
          );
          expect(sums?.joules.token_active).toBeCloseTo(
            sum((one) => (one.interval.gpus[0]?.millijoules.token_active ?? 0) / 1e3),
            0,
          );
          expect(sums?.elapsed).toBeCloseTo(
            sum(({ interval: { from, to } }) => (to - from) / 1e9),
            1,
          );
          expect(sums?.output).toBe(sum(({ output }) => output));
        }
        // Cell by cell it is the same again.
        const byCell = Array.from(
          { length: cells },
          (_, back) => recent.sums(ring, "GPU-1", newest - back)?.output ?? 0,
        );
        expect(byCell.reduce((whole, one) => whole + one, 0)).toBe(sum(({ output }) => output));
      }),
      { numRuns: 60 },
    );
  });

  test("names who held a GPU in the last minute, and forgets it after", () => {
    const recent = new Recent();
    recent.addInterval(intervalOf({ from: 0, to: 1, seconds: { token_active: 1 } }));
    expect(recent.homesOf("s")).toEqual(["GPU-1"]);
    expect(recent.links()).toContainEqual({
      what: "server",
      gpu: "GPU-1",
      name: ["s"],
      seconds: 1,
      joules: 0,
      ofSeconds: 1,
    });
    recent.addInterval(intervalOf({ from: 1, to: 90, seconds: { free: 89 }, residents: [] }));
    expect(recent.links()).toEqual([]);
  });

  test("gives a server its share of the time it was known, whatever the time it was not", () => {
    const seconds = fc.double({ min: 0.01, max: 5, noNaN: true });
    fc.assert(
      fc.property(seconds, seconds, seconds, (active, parked, unknown) => {
        const recent = new Recent();
        const interval = intervalOf({ from: 0, to: 15, increments: [moved()] });
        const nanos = {
          token_active: active * 1e9,
          stalled: 0,
          parked: parked * 1e9,
          unknown: unknown * 1e9,
        };
        recent.addInterval({ ...interval, servers: interval.servers.map((one) => ({ ...one, nanos })) });
        const sums = recent.sums("minute", "s") ?? expect.fail("no row");
        const share = kpis({
          gpuNanos: sums.seconds,
          gpuMillijoules: sums.joules,
          unknownNanos: sums.unknown,
        }).tokenActiveUtilization;
        expect(share).toBeCloseTo(active / (active + parked), 4);
      }),
    );
  });

  test("has one currency, or none where amounts of several were booked", () => {
    const recent = new Recent();
    const interval = intervalOf({ from: 0, to: 1, seconds: { token_active: 1 } });
    const cost = (currency: string) => ({
      metric: "tokenwatt.cost",
      dimensions: { "tokenwatt.currency": currency, "tokenwatt.server.id": "s" },
      amount: 2e9,
    });
    recent.addInterval(interval, [cost("USD"), cost("USD")]);
    expect(recent.currency).toBe("USD");
    expect(recent.sums("minute", "s")?.cost).toBe(4);
    recent.addInterval(interval, [cost("EUR")]);
    expect(recent.currency).toBeNull();
  });
});
