// grid.ts: parts sum to the whole, states fill each part exactly, tokens stay whole.
import * as fc from "fast-check";
import { expect, it } from "vitest";
import { splitAtEdges } from "../../../agent/meter/ledger/grid.ts";
import type { Posting } from "../../../agent/model.ts";

const EDGE = 1_793_491_200_000_000_000n;
const posting = (metric: string, state: string, amount: number): Posting => ({
  metric,
  dimensions: { "hw.id": "g", "tokenwatt.gpu.state": state },
  amount,
});
const sum = (postings: readonly unknown[], metric: string): number =>
  (postings as readonly Posting[]).reduce(
    (total, one) => total + (one.metric === metric ? one.amount : 0),
    0,
  );

it("splitAtEdges() fills each bucket with exactly the time it has, over any number of edges, and loses nothing", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 3_000_000 }),
      fc.integer({ min: 1, max: 3_000_000 }),
      fc.array(fc.nat(1000), { minLength: 1, maxLength: 6 }),
      fc.array(fc.nat(9), { minLength: 1, maxLength: 7 }),
      (before, after, weights, joules) => {
        const [from, to] = [EDGE - BigInt(before) * 1_000_000n, EDGE + BigInt(after) * 1_000_000n];
        const length = Number(to - from);
        // Six states that sum to the interval exactly.
        const all = weights.reduce((total, weight) => total + weight, 1);
        const amounts = weights.map((weight) => Math.floor((length / all) * weight));
        amounts.push(length - amounts.reduce((total, amount) => total + amount, 0));
        const postings = [
          ...amounts.map((amount, state) => posting("tokenwatt.gpu.time", String(state), amount)),
          ...joules.map((amount, state) => posting("tokenwatt.gpu.energy", String(state), amount)),
          posting("tokenwatt.tokens", "", 7),
        ];
        const parts = splitAtEdges(postings, from, to);
        let at = from;
        for (const part of parts) {
          expect(sum(part.postings, "tokenwatt.gpu.time")).toBe(Number(part.end - at));
          expect((part.end - 1n) / 900_000_000_000n).toBe(at / 900_000_000_000n);
          at = part.end;
        }
        expect(at).toBe(to);
        const joined = parts.flatMap((part) => part.postings);
        for (const [state, amount] of joules.entries()) {
          const mine = joined.filter((one) => one.dimensions["tokenwatt.gpu.state"] === String(state));
          expect(sum(mine, "tokenwatt.gpu.energy")).toBe(amount);
        }
        expect(sum(parts.at(-1)?.postings ?? [], "tokenwatt.tokens")).toBe(7);
      },
    ),
  );
});

it("splitAtEdges() hands an interval inside one bucket through as it is, an end on the grid included", () => {
  const postings = [posting("tokenwatt.gpu.time", "free", 5)];
  expect(splitAtEdges(postings, EDGE - 1_000_000_000n, EDGE)).toEqual([{ end: EDGE, postings }]);
});
