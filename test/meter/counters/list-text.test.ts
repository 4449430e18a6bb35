import * as fc from "fast-check";
import { expect, test } from "vitest";
import { listText } from "../../../agent/meter/counters/list-text.ts";

test("listText() is the JSON of the list", () => {
  fc.assert(
    fc.property(fc.array(fc.jsonValue()), (items) => {
      expect(listText(items, JSON.stringify)).toBe(JSON.stringify(items));
    }),
  );
});
