import fc from "fast-check";
import { expect, test } from "vitest";
import { apportion, Claims } from "../../agent/correlate/apportion.ts";
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
      const claims = new Claims();
      weights.forEach((value, index) => {
        claims.add(`s${index}`, value);
      });
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
    apportion(1, new Claims().add("a", 1).add("b", 1).add("c", 1), remainders).forEach((amount, index) => {
      got[index] = (got[index] as number) + amount;
    });
  for (const amount of got) expect(Math.abs(amount - 1000)).toBeLessThanOrEqual(1);
});

test("apportion() gives nothing to a claimant without weight", () => {
  const claims = new Claims().add("a", 0).add("b", 2);
  expect(apportion(7, claims, new Map([["a", 0.9]]))).toEqual([0, 7]);
});

test("apportion() answers where it is told to, whatever was there before", () => {
  const into = [5, 5, 5];
  expect(apportion(7, new Claims().add("a", 0).add("b", 2), new Map(), into)).toBe(into);
  expect(into).toEqual([0, 7]);
  expect(apportion(3, new Claims().add("a", 1), new Map(), into)).toEqual([3]);
  expect(apportion(3, new Claims(), new Map(), into)).toEqual([]);
});
