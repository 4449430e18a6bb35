// packed-batch.ts: nothing of a batch is lost on its way to the ledger's thread, and names go there once.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { BucketRow, LedgerBatch, SeriesState } from "../../../agent/model.ts";
import { BatchPacker, rowsOf, totalsOf } from "../../../agent/store/ledger/packed-batch.ts";

const histogram = fc.record({
  bounds: fc.constant([1, 2]),
  counts: fc.array(fc.nat(), { minLength: 3, maxLength: 3 }),
  sum: fc.nat(),
  count: fc.nat(),
});
const amount = fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 70n }), histogram);
const series: fc.Arbitrary<SeriesState> = fc
  .record({
    series: fc.integer({ min: 1, max: 5 }),
    start: fc.constantFrom("10", "20"),
    total: fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 70n }).map(String), histogram),
    announced: fc.constantFrom(1, 2),
    ended: fc.constantFrom(undefined, "30"),
  })
  .map(({ ended, ...one }) => ({
    ...one,
    metric: "tokenwatt.tokens",
    dimensions: { "tokenwatt.server.id": `server-${one.series}` },
    ...(ended === undefined ? {} : { ended }),
  }));
const row: fc.Arbitrary<BucketRow> = fc.record({
  bucket: fc.nat(3),
  series: fc.integer({ min: 1, max: 5 }),
  amount,
  revision: fc.nat(1),
});
const batches = fc.array(
  fc.record({
    series: fc.uniqueArray(series, { selector: (one) => one.series }),
    rows: fc.array(row),
    removed: fc.uniqueArray(fc.integer({ min: 1, max: 5 })),
  }),
);

function batchOf(parts: Pick<LedgerBatch, "series" | "rows" | "removed">): LedgerBatch {
  return { sequence: 1, time: "1", state: [], closed: [], audit: [], ...parts };
}

function byPlace(rows: Iterable<BucketRow>): BucketRow[] {
  return [...rows].toSorted((a, b) => a.bucket - b.bucket || a.series - b.series);
}

describe("BatchPacker.pack()", () => {
  it("carries every row", () => {
    fc.assert(
      fc.property(fc.uniqueArray(row, { selector: (one) => `${one.bucket} ${one.series}` }), (rows) => {
        const packed = new BatchPacker().pack(batchOf({ series: [], rows, removed: [] }));
        expect(byPlace(rowsOf(packed))).toEqual(byPlace(rows));
      }),
    );
  });

  it("lets the other side know every series as it stands", () => {
    fc.assert(
      fc.property(batches, (all) => {
        const packer = new BatchPacker();
        const known = new Map<number, SeriesState>();
        for (const parts of all) {
          const packed = packer.pack(batchOf(parts));
          for (const one of packed.series) known.set(one.series, one);
          for (const [number, total] of totalsOf(packed)) {
            const before = known.get(number) as SeriesState;
            known.set(number, { ...before, total: typeof total === "bigint" ? String(total) : total });
          }
          for (const one of parts.series) expect(known.get(one.series)).toEqual(one);
          for (const number of parts.removed) known.delete(number);
        }
      }),
    );
  });

  it("gives a name once", () => {
    const one = { series: 1, metric: "m", dimensions: {}, start: "1", total: "5", announced: 1 };
    const packer = new BatchPacker();
    expect(packer.pack(batchOf({ series: [one], rows: [], removed: [] })).series).toEqual([one]);
    const later = packer.pack(batchOf({ series: [{ ...one, total: "7" }], rows: [], removed: [] }));
    expect(later.series).toEqual([]);
    expect([...totalsOf(later)]).toEqual([[1, 7n]]);
  });
});
