// buckets.ts: what a series remembers of its open bucket saves a look-up and changes nothing, whatever buckets are open,
// closed and opened again; and nothing that is closed is held.
import fc from "fast-check";
import { expect, test } from "vitest";
import { Buckets, endOf } from "../../../agent/meter/ledger/buckets.ts";
import type { Booking } from "../../../agent/meter/ledger/ledger.ts";
import { BUCKET_NANOS } from "../../../agent/model.ts";

const QUARTER = BUCKET_NANOS / 4n;
const instant = fc.integer({ min: 1, max: 24 }).map((quarter) => BigInt(quarter) * QUARTER);
const histogram = fc
  .nat(9)
  .map((count) => ({ bounds: count % 2 ? [1] : [1, 2], counts: [count, 0], sum: count, count }));

const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("book" as const),
      series: fc.nat(3),
      moved: fc.nat(1000),
      histogram,
      to: instant,
      at: fc.option(instant, { nil: undefined, freq: 4 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constantFrom("end" as const, "closeUntil" as const), at: instant }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("reopen" as const), at: instant }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("take" as const) }) },
);

test("Buckets add what they are given to the same rows with and without a series that remembers its cell", () => {
  fc.assert(
    fc.property(fc.array(step, { size: "max", maxLength: 60 }), (steps) => {
      const [remembering, forgetful] = [new Buckets(), new Buckets()];
      const holders = Array.from({ length: 4 }, (): Booking["holder"] => ({ cell: undefined }));
      const both = <T>(run: (buckets: Buckets) => T): T => {
        const [one, other] = [run(remembering), run(forgetful)];
        expect(one).toEqual(other);
        return one;
      };
      for (const one of steps) {
        if (one.kind === "book") {
          // The last of them counts latencies.
          const moved = one.series === 3 ? one.histogram : one.moved;
          const booking = { series: one.series, metric: "m", dimensions: {}, moved, to: one.to, at: one.at };
          remembering.book({ ...booking, holder: holders[one.series] as Booking["holder"] });
          forgetful.book({ ...booking, holder: { cell: undefined } });
        } else if (one.kind === "end") {
          for (const bucket of both((buckets) => buckets.ended(one.at)))
            both((buckets) => buckets.close(bucket));
        } else if (one.kind === "closeUntil") {
          for (const bucket of both((buckets) => buckets.ended(one.at)))
            both((buckets) => buckets.close(bucket));
          both((buckets) => buckets.closeUntil(one.at));
        } else if (one.kind === "reopen") both((buckets) => buckets.reopen(one.at));
        else both((buckets) => [buckets.takeRows(), buckets.takeLate()]);
      }
      both((buckets) => [buckets.takeRows(), buckets.takeLate()]);
      for (const bucket of both((buckets) => buckets.ended(endOf(99)))) {
        both((buckets) => [[...buckets.amounts(bucket, "m")], [...buckets.histograms(bucket)]]);
        both((buckets) => buckets.close(bucket));
      }
      expect(holders.every(({ cell }) => cell === undefined)).toBe(true);
    }),
    { numRuns: 300 },
  );
});
