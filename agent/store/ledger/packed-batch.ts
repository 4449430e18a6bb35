// A beat's batch as it goes to the ledger's thread: what moved of series that the thread knows goes as two columns of numbers.
// Thousands of series move at every beat; as objects with their names they would be copied, held and looked up each time.
import type { BucketRow, Histogram, LedgerBatch, SeriesState } from "../../model.ts";

/** Series by number and what they stand at. */
interface Column {
  readonly series: Float64Array;
  readonly amounts: BigInt64Array;
}

/** A batch in few objects: the same as its `LedgerBatch` once unpacked. */
export interface PackedBatch extends Omit<LedgerBatch, "rows"> {
  /** Totals of series whose name, start and end the thread knows already. */
  readonly totals: Column;
  readonly histograms: readonly (readonly [series: number, total: Histogram])[];
  /** Rows of sums, in their first revision. */
  readonly amounts: Column & { readonly buckets: Float64Array };
  /** Every other row. */
  readonly rows: readonly BucketRow[];
}

/** Packs the batches of one ledger for one thread: remembers what the thread knows. */
export class BatchPacker {
  /** What was sent last of a series. */
  readonly #sent = new Map<number, SeriesState>();

  pack(batch: LedgerBatch): PackedBatch {
    const series: SeriesState[] = [];
    const histograms: (readonly [number, Histogram])[] = [];
    const totals = new ColumnWriter(batch.series.length);
    for (const one of batch.series) {
      const total = typeof one.total === "string" ? BigInt(one.total) : one.total;
      if (!sameName(this.#sent.get(one.series), one) || tooLarge(total)) {
        this.#sent.set(one.series, one);
        series.push(one);
      } else if (typeof total === "bigint") totals.writeAmount(one.series, total);
      else histograms.push([one.series, total]);
    }
    for (const one of batch.removed) this.#sent.delete(one);
    return { ...batch, series, totals: totals.column(), histograms, ...packRows(batch.rows) };
  }
}

/** Whether nothing but the total differs from what was sent. */
function sameName(sent: SeriesState | undefined, one: SeriesState): boolean {
  return (
    sent?.start === one.start &&
    sent.announced === one.announced &&
    sent.ended === one.ended &&
    sent.role === one.role
  );
}

function packRows(all: readonly BucketRow[]): Pick<PackedBatch, "amounts" | "rows"> {
  const rows: BucketRow[] = [];
  const amounts = new ColumnWriter(all.length);
  const buckets = new Float64Array(all.length);
  for (const row of all) {
    const { amount, bucket, revision, series } = row;
    if (typeof amount === "bigint" && revision === 0 && !tooLarge(amount)) {
      buckets[amounts.length] = bucket;
      amounts.writeAmount(series, amount);
    } else rows.push(row);
  }
  return { rows, amounts: { ...amounts.column(), buckets: buckets.slice(0, amounts.length) } };
}

class ColumnWriter {
  readonly #series: Float64Array;
  readonly #amounts: BigInt64Array;
  length = 0;

  constructor(lengthMax: number) {
    this.#series = new Float64Array(lengthMax);
    this.#amounts = new BigInt64Array(lengthMax);
  }

  writeAmount(series: number, amount: bigint): void {
    this.#series[this.length] = series;
    this.#amounts[this.length++] = amount;
  }

  /** What was added, without the room that was not needed: a view would be copied to the thread with all of it. */
  column(): Column {
    return { series: this.#series.slice(0, this.length), amounts: this.#amounts.slice(0, this.length) };
  }
}

/** The totals of a packed batch, one after the other. */
export function* totalsOf(
  batch: PackedBatch,
): Generator<readonly [series: number, total: bigint | Histogram]> {
  const { amounts, series } = batch.totals;
  for (let place = 0; place < amounts.length; place++) yield [series[place] ?? 0, amounts[place] ?? 0n];
  yield* batch.histograms;
}

/** The rows of a packed batch, one after the other. */
export function* rowsOf({ amounts: column, rows }: PackedBatch): Generator<BucketRow> {
  const { amounts, buckets, series } = column;
  for (let place = 0; place < amounts.length; place++) {
    const [bucket, amount] = [buckets[place] ?? 0, amounts[place] ?? 0n];
    yield { bucket, series: series[place] ?? 0, revision: 0, amount };
  }
  yield* rows;
}

/** A column would wrap it around; the database rejects it with an error. */
function tooLarge(amount: bigint | Histogram): boolean {
  return typeof amount === "bigint" && BigInt.asIntN(64, amount) !== amount;
}
