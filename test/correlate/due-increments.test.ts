// Increments that wait for their interval, against a plain list: each is handed out once, with the first interval it is due in.
import fc from "fast-check";
import { expect, test } from "vitest";
import { DueIncrements } from "../../agent/correlate/due-increments.ts";
import type { TokenIncrement } from "../../agent/model.ts";

const instant = fc.nat(20);
const step = fc.oneof(
  fc.record({ add: fc.array(instant, { maxLength: 4 }) }),
  fc.record({
    until: fc.option(instant, { nil: undefined }),
    latest: fc.oneof(instant, fc.constant(Infinity)),
  }),
);

test("each is taken once, where its poll ended by then or after the latest instant there can be", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const waiting = new DueIncrements();
      let all: TokenIncrement[] = [];
      let made = 0;
      for (const one of steps) {
        if ("add" in one) {
          const increments = one.add.map((at) => ({ at, resets: made++ }) as TokenIncrement);
          waiting.add(increments);
          all.push(...increments);
          continue;
        }
        const { latest, until } = one;
        const isDue = ({ at }: TokenIncrement): boolean => until === undefined || at <= until || at > latest;
        expect(waiting.take(until, latest)).toEqual(all.filter(isDue));
        all = all.filter((increment) => !isDue(increment));
        expect(waiting.isEmpty).toBe(all.length === 0);
      }
    }),
  );
});
