// How the ledger reads a beat's batch: what moved of series that it knows by name comes as columns of numbers.
import type { AmountColumn, BucketRow, Histogram, LedgerBatch } from "../../model.ts";

/** Of a batch without any. */
export const NO_TOTALS: AmountColumn = {
  series: new Float64Array(0),
  high: new Int32Array(0),
  low: new Uint32Array(0),
};

/** The sum at a place of a column. */
export function sumAt({ high, low }: Pick<AmountColumn, "high" | "low">, place: number): bigint {
  return (BigInt(high[place] ?? 0) << 32n) + BigInt(low[place] ?? 0);
}

/** The totals of a batch, one after the other. */
export function* totalsOf(
  batch: LedgerBatch,
): Generator<readonly [series: number, total: bigint | Histogram]> {
  const totals = batch.totals ?? NO_TOTALS;
  for (let place = 0; place < totals.series.length; place++)
    yield [totals.series[place] ?? 0, sumAt(totals, place)];
  yield* batch.histograms ?? [];
}

/** The rows of a batch, one after the other. */
export function* rowsOf({ amounts = [], rows }: LedgerBatch): Generator<BucketRow> {
  for (const column of amounts) {
    const { bucket, series } = column;
    for (let place = 0; place < series.length; place++)
      yield { bucket, series: series[place] ?? 0, revision: 0, amount: sumAt(column, place) };
  }
  yield* rows;
}
