// running-total.ts against bigint: exact at every size, in words and in a column.
import fc from "fast-check";
import { expect, test } from "vitest";
import { AmountWriter } from "../../../agent/meter/ledger/columns.ts";
import { numberOf, RunningTotal } from "../../../agent/meter/ledger/running-total.ts";

const amount = fc.oneof(
  fc.maxSafeInteger(),
  fc.integer({ min: -9, max: 9 }),
  fc.constantFrom(2 ** 32, -(2 ** 32)),
);

test("RunningTotal is the sum of what was added, in words, as a bigint and as the nearest double", () => {
  fc.assert(
    fc.property(
      fc.bigInt({ min: -(2n ** 66n), max: 2n ** 66n }),
      fc.array(fc.record({ amount, isRead: fc.boolean() }), { maxLength: 30 }),
      (start, steps) => {
        const running = new RunningTotal();
        running.total = start;
        let wanted = start;
        for (const { amount: added, isRead } of steps) {
          running.addAmount(added);
          wanted += BigInt(added);
          if (isRead) expect(running.total).toBe(wanted);
        }
        expect(running.total).toBe(wanted);
        expect(numberOf(running.high, running.low)).toBe(Number(wanted));
        expect(running.isTooLarge).toBe(BigInt.asIntN(64, wanted) !== wanted);
        expect(running.low).toBeGreaterThanOrEqual(0);
        const columns = new AmountWriter();
        columns.write(3, running);
        const { high, low, series } = columns.take();
        expect([...series]).toEqual([3]);
        expect((BigInt(high[0] ?? 0) << 32n) + BigInt(low[0] ?? 0)).toBe(BigInt.asIntN(64, wanted));
      },
    ),
  );
});
