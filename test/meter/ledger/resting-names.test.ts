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
  it("takes no histogram, and no sum the store could not hold", () => {
    const resting = new RestingNames();
    const histogram = new Series(1, "histogram", "h", {}, START);
    histogram.announced = 1;
    const large = new Series(2, "sum", "m", {}, START);
    large.announced = 1;
    for (let n = 0; n < 2100; n++) large.addAmount(2 ** 52);
    expect([
      resting.put(histogram),
      resting.put(large),
      resting.put(new Series(3, "sum", "n", {}, START)),
    ]).toEqual([false, false, false]);
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
            const now = BigInt(index);
            if ("tenant" in one) {
              const found = series.find("sum", "m", { "tokenwatt.tenant": one.tenant }, now);
              found.addAmount(one.amount);
              found.announced ??= index;
              found.changed = false;
            } else if (rests && one.rest) series.forgetBefore(0n, now);
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
    series.forgetBefore(0n, 1n);
    expect(series.find("sum", "m", { "tokenwatt.tenant": "c" }, 2n).dimensions).toEqual({
      "tokenwatt.tenant": "other",
    });
    expect(series.isFolded).toBe(true);
    expect(series.find("sum", "m", { "tokenwatt.tenant": "a" }, 3n).id).toBe(1);
  });
});
