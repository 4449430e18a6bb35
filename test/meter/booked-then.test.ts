// What was answered for an instant is answered for ever: over changes, restarts and anything asked in between.
import fc from "fast-check";
import { expect, test } from "vitest";
import { BookedThen } from "../../agent/meter/booked-then.ts";

const DAY = 86_400_000_000_000n;

test("BookedThen answers for an instant what it answered when that instant was booked", () => {
  const step = fc.record({
    after: fc.integer({ min: 0, max: 3 }),
    late: fc.integer({ min: 0, max: 2 }),
    value: fc.constantFrom("one", "two", "three"),
    restart: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      let then = new BookedThen();
      let disk = new Map<string, string>();
      const answered = new Map<bigint, string>();
      let now = 1000n;
      for (const { after, late, restart, value } of steps) {
        now += BigInt(after);
        const asked = now - BigInt(late);
        const answer = then.valueAt("model", { value }, now, asked).value;
        expect(answer).toBe(answered.get(asked) ?? answer);
        answered.set(asked, answer);
        // What is counted now is booked by what holds now, unless that instant was booked before.
        const rows = then.takeChanges();
        for (const { key, value: stored } of rows) disk.set(key, stored);
        if (!restart) continue;
        now++;
        then = new BookedThen();
        for (const [key, stored] of disk) then.restore({ key, value: stored });
        disk = new Map(disk);
      }
      for (const [asked, answer] of answered)
        expect(then.valueAt("model", { value: "four" }, now + 1n, asked).value).toBe(answer);
    }),
  );
});

test("BookedThen books what is new under the new value, and forgets what nothing can take back", () => {
  const then = new BookedThen();
  expect(then.valueAt("m", "a", 10n, 10n)).toBe("a");
  expect(then.valueAt("m", "b", 20n, 15n)).toBe("b");
  expect(then.valueAt("m", "b", 21n, 9n)).toBe("a");
  for (let change = 0n; change < 500n; change++)
    then.valueAt("m", String(change), 40n * DAY + change, 40n * DAY + change);
  const [row] = then.takeChanges();
  expect((JSON.parse(row?.value ?? "") as unknown[]).length).toBe(200);
  expect(then.takeChanges()).toEqual([]);
});
