// How the ledger reads a beat's batch: what moved of series that it knows by name comes as columns of numbers.
import type { AmountColumn, BucketColumn, BucketRow, Histogram, LedgerBatch } from "../../model.ts";

/** Of a batch without any. */
export const NO_TOTALS: AmountColumn = { series: new Float64Array(0), amounts: new BigInt64Array(0) };
const NO_ROWS: BucketColumn = { ...NO_TOTALS, buckets: new Float64Array(0) };

/** The totals of a batch, one after the other. */
export function* totalsOf(
  batch: LedgerBatch,
): Generator<readonly [series: number, total: bigint | Histogram]> {
  const { amounts, series } = batch.totals ?? NO_TOTALS;
  for (let place = 0; place < amounts.length; place++) yield [series[place] ?? 0, amounts[place] ?? 0n];
  yield* batch.histograms ?? [];
}

/** The rows of a batch, one after the other. */
export function* rowsOf({ amounts: column = NO_ROWS, rows }: LedgerBatch): Generator<BucketRow> {
  const { amounts, buckets, series } = column;
  for (let place = 0; place < amounts.length; place++) {
    const [bucket, amount] = [buckets[place] ?? 0, amounts[place] ?? 0n];
    yield { bucket, series: series[place] ?? 0, revision: 0, amount };
  }
  yield* rows;
}
