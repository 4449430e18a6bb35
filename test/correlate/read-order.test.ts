import fc from "fast-check";
import { expect, test } from "vitest";
import { ReadOrder } from "../../agent/correlate/read-order.ts";

test("ReadOrder.lastOf() is the one noted last of those that are meant and were not left out", () => {
  const name: fc.Arbitrary<string> = fc.constantFrom("a", "b", "c", "d", "e");
  const event = fc.record({ name, isGone: fc.boolean() });
  fc.assert(
    fc.property(fc.array(event, { maxLength: 40 }), fc.uniqueArray(name), (events, meant) => {
      const order = new ReadOrder<string>();
      const notedAt = new Map<string, number>();
      events.forEach((next, at) => {
        if (next.isGone) order.leaveOut(next.name);
        else order.noteRead(next.name);
        notedAt.set(next.name, next.isGone ? -1 : at);
      });
      const there = meant.filter((one) => (notedAt.get(one) ?? -1) >= 0);
      there.sort((left, right) => (notedAt.get(right) as number) - (notedAt.get(left) as number));
      expect(order.lastOf((one) => meant.includes(one))).toBe(there[0]);
    }),
  );
});
