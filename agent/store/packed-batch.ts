// A beat's batch as it goes to the ledger's thread: what moved of series that the thread knows goes as two columns of numbers.
// Thousands of series move at every beat; as objects with their names they would be copied, held and looked up each time.
import type { BucketRow, Histogram, LedgerBatch, SeriesState } from "../model.ts";

/** Series by number and what they stand at. */
interface Column {
  readonly series: Float64Array;
  readonly amounts: BigInt64Array;
}

/** A batch in few objects: the same as its `LedgerBatch` once unpacked. */
export interface PackedBatch extends Omit<LedgerBatch, "rows"> {
  /** Totals of series whose name, start and end the thread was told before. */
  readonly totals: Column;
  readonly histograms: readonly (readonly [series: number, total: Histogram])[];
  /** Rows of sums, in their first revision. */
  readonly amounts: Column & { readonly buckets: Float64Array };
  /** Every other row. */
  readonly rows: readonly BucketRow[];
}

/** Packs the batches of one ledger for one thread: remembers what the thread was told. */
export class BatchPacker {
  /** What was told last of a series beside its total. */
  readonly #told = new Map<number, string>();

  pack(batch: LedgerBatch): PackedBatch {
    const named: SeriesState[] = [];
    const totals: (readonly [number, bigint])[] = [];
    const histograms: (readonly [number, Histogram])[] = [];
    for (const one of batch.series) {
      const told = `${one.start} ${one.announced} ${one.ended ?? ""}`;
      const total = typeof one.total === "string" ? BigInt(one.total) : one.total;
      if (this.#told.get(one.series) !== told || tooLarge(total)) {
        this.#told.set(one.series, told);
        named.push(one);
      } else if (typeof total === "bigint") totals.push([one.series, total]);
      else histograms.push([one.series, total]);
    }
    for (const series of batch.removed) this.#told.delete(series);
    const isPlain = ({ amount, revision }: BucketRow): boolean =>
      typeof amount === "bigint" && revision === 0 && !tooLarge(amount);
    const plain = batch.rows.filter(isPlain);
    return {
      ...batch,
      series: named,
      totals: column(totals),
      histograms,
      amounts: {
        ...column(plain.map(({ amount, series }) => [series, amount as bigint])),
        buckets: Float64Array.from(plain, ({ bucket }) => bucket),
      },
      rows: batch.rows.filter((row) => !isPlain(row)),
    };
  }
}

/** The totals of a packed batch, one after the other. */
export function* totalsOf(
  batch: PackedBatch,
): Generator<readonly [series: number, total: bigint | Histogram]> {
  const { amounts, series } = batch.totals;
  for (const [index, total] of amounts.entries()) yield [series[index] ?? 0, total];
  yield* batch.histograms;
}

/** The rows of a packed batch, one after the other. */
export function* rowsOf({ amounts, rows }: PackedBatch): Generator<BucketRow> {
  for (const [index, amount] of amounts.amounts.entries()) {
    yield { bucket: amounts.buckets[index] ?? 0, series: amounts.series[index] ?? 0, revision: 0, amount };
  }
  yield* rows;
}

function column(pairs: readonly (readonly [number, bigint])[]): Column {
  return {
    series: Float64Array.from(pairs, ([series]) => series),
    amounts: BigInt64Array.from(pairs, ([, amount]) => amount),
  };
}

/** A column would wrap it around; the database refuses it aloud. */
function tooLarge(amount: bigint | Histogram): boolean {
  return typeof amount === "bigint" && BigInt.asIntN(64, amount) !== amount;
}
