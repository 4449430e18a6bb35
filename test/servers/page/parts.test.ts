// Series summed by part, place by place, against sums by key.
import { array, assert, constantFrom, integer, property, record, subarray } from "fast-check";
import { describe, expect, test } from "vitest";
import type { Labels } from "../../../agent/servers/page/labels.ts";
import { partsOf, sumParts } from "../../../agent/servers/page/parts.ts";

const labels = record(
  { model: constantFrom("a", "b"), team: constantFrom("x", "y", "z"), source: constantFrom("1", "2") },
  { requiredKeys: [] },
);
const samples = array(record({ name: constantFrom("n"), labels, value: integer({ min: 0, max: 1000 }) }));

describe("sumParts()", () => {
  test("gives every part what its series that pass sum to, and the first of them", () => {
    const conditions = constantFrom(undefined, ({ source }: Labels) => source === "1");
    assert(
      property(samples, subarray(["team", "source", "other"]), conditions, (list, without, when) => {
        const wanted = new Map<string, { sum: number; first: number }>();
        for (const [place, sample] of list.entries()) {
          if (when !== undefined && !when(sample.labels)) continue;
          const named = Object.entries(sample.labels).filter(([name]) => !without.includes(name));
          const key = named
            .sort()
            .map((pair) => pair.join("\u0000"))
            .join("\u0000");
          const known = wanted.get(key) ?? { sum: 0, first: place };
          wanted.set(key, { ...known, sum: known.sum + sample.value });
        }
        const parts = partsOf(list, without);
        const { places, sums } = sumParts(list, parts, when);
        const found = parts.keys.flatMap((key, part) =>
          places[part] === -1 ? [] : [[key, { sum: sums[part], first: places[part] }] as const],
        );
        expect(new Map(found)).toEqual(wanted);
        expect(partsOf(list, without)).toBe(parts);
      }),
    );
  });
});
