// The law: what was gathered since it was emptied last, in its order, as a list that is made anew each time would have it;
// and nothing that was let go of is held.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Gathered } from "../../../agent/meter/ledger/gathered.ts";

test("Gathered has what a new list would have", () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.constant("clear" as const), fc.record({ is: fc.nat() }))), (steps) => {
      const gathered = new Gathered<object>();
      let expected: object[] = [];
      for (const step of steps) {
        if (step === "clear") {
          gathered.clear();
          expected = [];
        } else {
          gathered.add(step);
          expected.push(step);
        }
        expect(Array.from({ length: gathered.size }, (_, place) => gathered.at(place))).toEqual(expected);
      }
    }),
  );
});

test("Gathered.clear() lets go of the items", async () => {
  setFlagsFromString("--expose-gc");
  const gathered = new Gathered<object>();
  const weak = ((): WeakRef<object> => {
    const item = {};
    gathered.add(item);
    return new WeakRef(item);
  })();
  gathered.clear();
  await new Promise((resolve) => setImmediate(resolve));
  (runInNewContext("gc") as () => void)();
  expect(weak.deref()).toBeUndefined();
});
