// A list of postings that writes over its own says the same as one that makes each anew.
import {
  array,
  assert,
  bigInt,
  boolean,
  constant,
  constantFrom,
  integer,
  oneof,
  property,
  record,
} from "fast-check";
import { describe, expect, test } from "vitest";
import { PostingList } from "../../agent/meter/posting-list.ts";

const sets = constantFrom({ a: "1" }, { a: "2", b: "3" }, { "tokenwatt.tenant": "t" });
const own = record({ at: bigInt(0n, 9n), takesBack: constant(true as const) }, { requiredKeys: [] });
const amount = record({
  isHistogram: boolean(),
  dimensions: sets,
  amount: integer({ min: 0, max: 99 }),
  kept: oneof(constant(undefined), constant(false as const), sets),
  own: oneof(constant(undefined), own),
});
const histogram = { bounds: [1], counts: [1, 2], sum: 3, count: 3 };

describe("PostingList", () => {
  test("says the same interval after interval whether its postings are reused or not", () => {
    const reused = new PostingList("reused");
    assert(
      property(array(array(amount, { maxLength: 30 }), { maxLength: 6 }), (intervals) => {
        for (const interval of intervals) {
          const fresh = new PostingList();
          for (const list of [fresh, reused]) {
            list.begin();
            for (const [place, one] of interval.entries()) {
              const kept = one.kept === false ? undefined : one.kept;
              if (one.isHistogram) list.addHistogram(`h${place}`, one.dimensions, histogram, kept);
              else list.addAmount(`m${place}`, one.dimensions, one.amount, one.kept, one.own);
            }
            list.addAll([{ metric: "last", dimensions: {}, amount: 1 }]);
          }
          expect(reused.all).toEqual(fresh.all);
          expect(fresh.all).toHaveLength(interval.length + 1);
          for (const [place, one] of interval.entries()) {
            const posting = fresh.all[place];
            expect(posting).toMatchObject({ dimensions: one.dimensions });
            if (posting === undefined || "histogram" in posting) continue;
            expect([posting.amount, posting.kept]).toEqual([one.amount, one.kept]);
            expect([posting.at, posting.takesBack]).toEqual([one.own?.at, one.own?.takesBack]);
          }
        }
      }),
    );
  });
});
