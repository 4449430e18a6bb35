// resting-names.ts: what is laid to rest comes back as it was, and the ledger is the same whether names rest or not.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { KeptSeries } from "../../../agent/meter/ledger/kept-series.ts";
import { RestingNames } from "../../../agent/meter/ledger/resting-names.ts";
import { Series } from "../../../agent/meter/ledger/series.ts";

const START = 1_793_491_200_000_000_000n;
const text = fc.string({ unit: "grapheme", maxLength: 8 });
const attributes = fc.dictionary(fc.constantFrom("tokenwatt.tenant", "b", "z"), text);

describe("RestingNames", () => {
  it("gives each series back once, with its number, start, total and last movement, whatever its names", () => {
    const one = fc.record({
      metric: fc.constantFrom("m", "n"),
      dimensions: attributes,
      amount: fc.maxSafeInteger().map(Math.abs),
      moved: fc.nat(1000).map(BigInt),
    });
    const same = ({ dimensions, metric }: { metric: string; dimensions: Record<string, string> }): string =>
      JSON.stringify([metric, Object.entries(dimensions).sort()]);
    fc.assert(
      fc.property(fc.uniqueArray(one, { selector: same, maxLength: 60 }), fc.nat(1000), (all, before) => {
        const resting = new RestingNames();
        const states = new Map<string, unknown>();
        for (const [index, { amount, dimensions, metric, moved }] of all.entries()) {
          const series = new Series(index + 1, "sum", metric, dimensions, START + BigInt(index));
          series.role = "kept";
          series.announced = index;
          series.movedAt = moved;
          series.addAmount(amount);
          expect(resting.put(series)).toBe(true);
          states.set(same({ metric, dimensions }), series.state());
        }
        expect([...resting.states()].map((state) => state.series)).toHaveLength(all.length);
        const forgotten = new Set(resting.forgetBefore(BigInt(before)));
        for (const [index, { dimensions, metric, moved }] of all.entries()) {
          const back = resting.take(metric, Object.fromEntries(Object.entries(dimensions).reverse()));
          expect(forgotten.has(index + 1)).toBe(moved < before);
          if (moved < before) {
            expect(back).toBeUndefined();
            continue;
          }
          expect(back?.state()).toEqual(states.get(same({ metric, dimensions })));
          expect(back?.movedAt).toBe(moved);
          expect(resting.take(metric, dimensions)).toBeUndefined();
        }
        expect(resting.size).toBe(0);
      }),
    );
  });
  it("gives histograms back as they were, whatever their bounds", () => {
    const finite = fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => value + 0);
    const one = fc.array(finite, { maxLength: 5 }).chain((bounds) =>
      fc.record({
        bounds: fc.constant(bounds),
        counts: fc.array(fc.maxSafeInteger(), { minLength: bounds.length + 1, maxLength: bounds.length + 1 }),
        sum: finite,
        count: fc.maxSafeInteger(),
      }),
    );
    fc.assert(
      fc.property(fc.array(one, { maxLength: 20 }), fc.infiniteStream(fc.boolean()), (all, takes) => {
        const resting = new RestingNames();
        const wanted = new Map<string, unknown>();
        for (const [index, histogram] of all.entries()) {
          const tenant = `t${index}`;
          const series = new Series(index + 1, "histogram", "h", { "tokenwatt.tenant": tenant }, START);
          series.announced = index;
          series.addHistogram(histogram);
          expect(resting.put(series)).toBe(true);
          wanted.set(tenant, series.state().total);
          const sum = new Series(1000 + index, "sum", "s", { "tokenwatt.tenant": tenant }, START);
          sum.announced = index;
          expect(resting.put(sum)).toBe(true);
          if (takes.next().value === true) expect(resting.take("s", sum.dimensions)?.total).toBe(0n);
        }
        for (const [tenant, total] of wanted) {
          expect(resting.take("h", { "tokenwatt.tenant": tenant })?.histogram).toEqual(total);
        }
      }),
    );
  });
  it("takes no sum the store could not hold, none that no snapshot carried, and no histogram that digits cannot say", () => {
    const resting = new RestingNames();
    const endless = new Series(1, "histogram", "h", {}, START);
    endless.announced = 1;
    endless.addHistogram({ bounds: [1], counts: [0, 1], sum: Number.POSITIVE_INFINITY, count: 1 });
    const large = new Series(2, "sum", "m", {}, START);
    large.announced = 1;
    for (let n = 0; n < 2100; n++) large.addAmount(2 ** 52);
    const silent = new Series(3, "sum", "n", {}, START);
    expect([endless, large, silent].map((series) => resting.put(series))).toEqual([false, false, false]);
    expect(resting.size).toBe(0);
  });
});

describe("KeptSeries", () => {
  it("books the same under the same numbers, whether names rest in between or not", () => {
    const step = fc.oneof(
      fc.record({ tenant: fc.constantFrom("a", "b", "c"), amount: fc.nat(100) }),
      fc.record({ rest: fc.boolean() }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const kept = [true, false].map((rests) => {
          let id = 0;
          const series = new KeptSeries(undefined, () => ++id);
          for (const [index, one] of steps.entries()) {
            const now = BigInt(index) * 60_000_000_000n;
            if ("tenant" in one) {
              const found = series.find("sum", "m", { "tokenwatt.tenant": one.tenant }, now);
              found.addAmount(one.amount);
              found.announced ??= index;
              found.changed = false;
            } else if (rests && one.rest) series.layToRest(now);
          }
          return series
            .states()
            .toSorted((first, second) => first.series - second.series)
            .map(({ dimensions, series: number, start, total }) => [number, dimensions, start, total]);
        });
        expect(kept[0]).toEqual(kept[1]);
      }),
    );
  });
  it("counts names that rest among those it holds", () => {
    let id = 0;
    const series = new KeptSeries(2, () => ++id);
    for (const tenant of ["a", "b"]) {
      const found = series.find("sum", "m", { "tokenwatt.tenant": tenant }, 0n);
      found.announced = 1;
      found.changed = false;
    }
    series.layToRest(300_000_000_000n);
    expect(series.find("sum", "m", { "tokenwatt.tenant": "c" }, 2n).dimensions).toEqual({
      "tokenwatt.tenant": "other",
    });
    expect(series.isFolded).toBe(true);
    expect(series.find("sum", "m", { "tokenwatt.tenant": "a" }, 3n).id).toBe(1);
  });
});
