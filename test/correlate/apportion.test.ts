import fc from "fast-check";
import { expect, test } from "vitest";
import { apportion } from "../../agent/correlate/apportion.ts";
import { sum } from "./scene.ts";

const weight = fc.oneof(
  fc.double({ min: 0, max: 10, noNaN: true }),
  fc.constantFrom(0, Number.NaN, -1, Infinity),
);

test("apportion() gives integers that sum exactly, whatever the weights and however often", () => {
  const totals = fc.array(fc.nat({ max: 10 ** 12 }), { minLength: 1, maxLength: 30 });
  fc.assert(
    fc.property(totals, fc.array(weight, { minLength: 1, maxLength: 8 }), (amounts, weights) => {
      const remainders = new Map<string, number>();
      const claims = weights.map((value, index) => ({ key: `s${index}`, weight: value }));
      for (const total of amounts) {
        const given = apportion(total, claims, remainders);
        expect(sum(given)).toBe(total);
        for (const amount of given) expect(Number.isSafeInteger(amount) && amount >= 0).toBe(true);
      }
    }),
  );
});

test("apportion() carries remainders, so that nobody is favoured for long", () => {
  const remainders = new Map<string, number>();
  const got = [0, 0, 0];
  for (let turn = 0; turn < 3000; turn++)
    apportion(
      1,
      ["a", "b", "c"].map((key) => ({ key, weight: 1 })),
      remainders,
    ).forEach((amount, index) => {
      got[index] = (got[index] as number) + amount;
    });
  for (const amount of got) expect(Math.abs(amount - 1000)).toBeLessThanOrEqual(1);
});

test("apportion() gives nothing to a claimant without weight", () => {
  const claims = [
    { key: "a", weight: 0 },
    { key: "b", weight: 2 },
  ];
  expect(apportion(7, claims, new Map([["a", 0.9]]))).toEqual([0, 7]);
});
