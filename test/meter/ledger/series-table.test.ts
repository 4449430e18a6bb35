// A table of series against a map by their names as texts, with hashes that tell few of them apart.
import fc from "fast-check";
import { expect, test } from "vitest";
import { Series } from "../../../agent/meter/ledger/series.ts";
import { SeriesTable } from "../../../agent/meter/ledger/series-table.ts";
import type { Dimensions } from "../../../agent/model.ts";

const attribute = fc.constantFrom("tenant", "model", "kind", "toString");
const dimensions = fc.dictionary(attribute, fc.constantFrom("", "a", "b", "c"), { noNullPrototype: false });
const name = fc.record({ metric: fc.constantFrom("tokens", "requests"), dimensions });
const step = fc.record({ what: fc.constantFrom("put", "put", "remove", "clear"), name });
const history = fc.array(step, { maxLength: 60, size: "max" });

function textOf(metric: string, attributes: Dimensions): string {
  return JSON.stringify([metric, ...Object.entries(attributes).sort(([a], [b]) => (a < b ? -1 : 1))]);
}

/** Of many names the same, and the last number among them: behind it is 0. */
const few = (metric: string, attributes: Dimensions): number =>
  0x3fff_ffff - ((metric.length + (attributes["model"]?.length ?? 0)) % 2);

test("holds the series that a map by their texts holds, whatever hashes are alike", () => {
  fc.assert(
    fc.property(history, fc.boolean(), fc.integer(), (steps, isOwnHash, seed) => {
      const table = isOwnHash ? new SeriesTable(seed) : new SeriesTable(0, few);
      const texts = new Map<string, Series>();
      let id = 0;
      for (const { name, what } of steps) {
        const text = textOf(name.metric, name.dimensions);
        if (what === "put") {
          const series = new Series(++id, "sum", name.metric, name.dimensions, 0n);
          table.put(series);
          texts.set(text, series);
        } else if (what === "remove") {
          table.remove(name);
          texts.delete(text);
        } else if (texts.size > 8) {
          table.clear();
          texts.clear();
        }
        expect(table.size).toBe(texts.size);
        expect(new Set(table.values())).toEqual(new Set(texts.values()));
        for (const one of steps) {
          const backwards = Object.fromEntries(Object.entries(one.name.dimensions).reverse());
          const found = texts.get(textOf(one.name.metric, backwards));
          expect(table.get(one.name.metric, backwards)).toBe(found);
        }
      }
    }),
    { numRuns: 200 },
  );
});

test("finds each of many names that differ in a digit", () => {
  const table = new SeriesTable();
  const names = Array.from({ length: 20_000 }, (_, index) => ({
    tenant: `team-${index % 200}`,
    model: `org/model-${Math.floor(index / 200)}`,
  }));
  for (const [id, dimensions] of names.entries()) table.put(new Series(id, "sum", "tokens", dimensions, 0n));
  expect(table.size).toBe(names.length);
  const found = names.map((dimensions) => table.get("tokens", { ...dimensions })?.id);
  expect(found).toEqual(names.map((_, id) => id));
});
