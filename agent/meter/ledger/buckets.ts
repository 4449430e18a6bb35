// What each series moved in each 15-minute UTC bucket, as absolute totals (METERING.md 8).
// Rows of an open bucket grow and may be stored again and again; a closed bucket changes only by a new revision.
import type {
  BucketColumn,
  BucketNumber,
  BucketQuality,
  BucketRow,
  ClosedBucket,
  Dimensions,
  Histogram,
  LateRow,
  LedgerBatch,
  UnixNanos,
} from "../../model.ts";
import { BUCKET_NANOS } from "../../model.ts";
import { AmountWriter } from "./columns.ts";
import { bucketOf, bucketOfEnd } from "./grid.ts";
import type { Booking } from "./ledger.ts";
import { RunningHistogram } from "./running-histogram.ts";
import { RunningTotal } from "./running-total.ts";
import type { OpenCell } from "./series.ts";

type Booked = Pick<Booking, "series" | "metric" | "dimensions">;
type Cells = Map<number, Cell>;

/** What one series moved in one bucket. */
class Cell extends RunningTotal implements OpenCell {
  /** The open bucket it is in. */
  readonly bucket: Cells;
  readonly series: number;
  readonly metric: string;
  readonly dimensions: Dimensions;
  /** Who remembers it, as long as its bucket is open. */
  holder: Booking["holder"] | undefined;
  #histogram: RunningHistogram | undefined;
  changed = true;

  constructor(bucket: Cells, { dimensions, metric, series }: Booked) {
    super();
    this.bucket = bucket;
    this.series = series;
    this.metric = metric;
    this.dimensions = dimensions;
  }

  /** Adds a safe integer. */
  add(moved: number): void {
    this.addAmount(moved);
    this.changed = true;
  }

  /** Adds a histogram. A source changed its bounds inside the bucket: the later ones stay, the earlier counts go. */
  addHistogram(moved: Histogram): void {
    if (this.#histogram?.addHistogram(moved) !== true) this.#histogram = new RunningHistogram(moved);
    this.changed = true;
  }

  /** What of a histogram moved; undefined of a sum. */
  get histogram(): Histogram | undefined {
    return this.#histogram?.histogram;
  }

  get isHistogram(): boolean {
    return this.#histogram !== undefined;
  }

  /** Continues from a stored row. */
  restore(amount: bigint | Histogram): void {
    if (typeof amount === "bigint") this.total = amount;
    else this.#histogram = new RunningHistogram(amount);
    this.changed = false;
  }
}

/** The buckets that are not closed yet. */
export class Buckets {
  readonly #open = new Map<BucketNumber, Cells>();
  /** Rows of closed buckets that were not handed out yet, and with them all that go out next. */
  #rows: BucketRow[] = [];
  /** The same of sums. */
  #columns: BucketColumn[] = [];
  readonly #amounts = new AmountWriter();
  /** What was booked at an instant of a closed bucket, by bucket and series. */
  #late = new Map<string, LateRow>();
  /** Everything that ends at or before this instant is in a closed bucket. */
  #closedUntil: UnixNanos = 0n;
  /** The end of the interval that was booked last, and its bucket: an interval has thousands of bookings. */
  #last: { readonly to: UnixNanos; readonly cells: Cells } | undefined;

  /**
   * Adds a booking to the bucket its interval ended in; a closed one takes nothing, the oldest open one does. A booking
   * with an instant of its own goes to the bucket of that instant, as a late row where it is closed.
   */
  book(booking: Booking): void {
    if (booking.at !== undefined && typeof booking.moved === "number") {
      this.#bookAt(booking, booking.at, booking.moved);
      return;
    }
    const cells = this.#openCellsOf(booking.to);
    let cell = booking.holder.cell as Cell | undefined;
    if (cell?.bucket !== cells) {
      cell = cellOf(cells, booking);
      cell.holder = booking.holder;
      booking.holder.cell = cell;
    }
    if (typeof booking.moved === "number") cell.add(booking.moved);
    else cell.addHistogram(booking.moved);
  }

  /** The bucket of an interval that ended at `to`; the oldest open one where that is closed. */
  #openCellsOf(to: UnixNanos): Cells {
    if (this.#last?.to === to) return this.#last.cells;
    const end = to > this.#closedUntil ? to : this.#closedUntil + 1n;
    const bucket = Number(bucketOfEnd(end) / BUCKET_NANOS);
    const cells = this.#cellsOf(bucket);
    this.#last = { to, cells };
    return cells;
  }

  #cellsOf(bucket: BucketNumber): Cells {
    let cells = this.#open.get(bucket);
    if (cells === undefined) {
      cells = new Map();
      this.#open.set(bucket, cells);
    }
    return cells;
  }

  /** Moves the end of what is closed. */
  #setClosedUntil(time: UnixNanos): void {
    this.#closedUntil = time;
    this.#last = undefined;
  }

  /** Late rows since the last call. */
  takeLate(): readonly LateRow[] {
    const late = [...this.#late.values()];
    this.#late = new Map();
    return late;
  }

  #bookAt(booking: Booking, at: UnixNanos, moved: number): void {
    const bucket = Number(bucketOf(at) / BUCKET_NANOS);
    if (endOf(bucket) > this.#closedUntil) {
      cellOf(this.#cellsOf(bucket), booking).add(moved);
      return;
    }
    const key = `${bucket} ${booking.series}`;
    const amount = (this.#late.get(key)?.amount ?? 0n) + BigInt(moved);
    this.#late.set(key, { bucket, series: booking.series, amount });
  }

  /** Opens the buckets from `time` on again: the wall clock was stepped back. Returns the first, undefined where none was closed. */
  reopen(time: UnixNanos): BucketNumber | undefined {
    const from = bucketOf(time);
    if (from >= this.#closedUntil) return undefined;
    for (let at = from; at < this.#closedUntil; at += BUCKET_NANOS) {
      const bucket = Number(at / BUCKET_NANOS);
      this.#cellsOf(bucket);
    }
    this.#setClosedUntil(from);
    return Number(from / BUCKET_NANOS);
  }

  /** Numbers of the open buckets that end at or before `time`, oldest first. */
  ended(time: UnixNanos): readonly BucketNumber[] {
    return [...this.#open.keys()].filter((bucket) => endOf(bucket) <= time).sort((a, b) => a - b);
  }

  /** Every amount of one metric in one open bucket. */
  *amounts(bucket: BucketNumber, metric: string): Generator<readonly [Dimensions, bigint]> {
    for (const cell of this.#open.get(bucket)?.values() ?? []) {
      if (cell.metric === metric && !cell.isHistogram) yield [cell.dimensions, cell.total];
    }
  }

  /** Every histogram in one open bucket. */
  *histograms(bucket: BucketNumber): Generator<readonly [string, Dimensions, Histogram]> {
    for (const cell of this.#open.get(bucket)?.values() ?? []) {
      if (cell.histogram !== undefined) yield [cell.metric, cell.dimensions, cell.histogram];
    }
  }

  /** Closes a bucket: its last rows go out with the next `takeRows()`. */
  close(bucket: BucketNumber, figures: Readonly<Record<string, unknown>> = {}): ClosedBucket {
    const cells: Cells = this.#open.get(bucket) ?? new Map();
    const quality = qualityOf(cells.values());
    this.#write(bucket, cells);
    this.#open.delete(bucket);
    this.#last = undefined;
    for (const cell of cells.values()) if (cell.holder?.cell === cell) cell.holder.cell = undefined;
    if (endOf(bucket) > this.#closedUntil) this.#setClosedUntil(endOf(bucket));
    return { bucket, revision: 0, quality, figures };
  }

  /** From now on nothing is added to a bucket that ended at or before `time`, whether anything was booked in it or not. */
  closeUntil(time: UnixNanos): void {
    if (bucketOf(time) > this.#closedUntil) this.#setClosedUntil(bucketOf(time));
  }

  /** Rows that changed since the last call, absolute. */
  takeRows(): Required<Pick<LedgerBatch, "rows" | "amounts">> {
    for (const [bucket, cells] of this.#open) this.#write(bucket, cells);
    const [rows, amounts] = [this.#rows, this.#columns];
    this.#rows = [];
    this.#columns = [];
    return { rows, amounts };
  }

  #write(bucket: BucketNumber, cells: ReadonlyMap<number, Cell>): void {
    // Not iterated: V8 makes an object for each step, at every beat for thousands of cells.
    cells.forEach((cell) => {
      if (!cell.changed) return;
      cell.changed = false;
      const { histogram, series } = cell;
      if (histogram === undefined && !cell.isTooLarge) this.#amounts.write(series, cell);
      else this.#rows.push({ bucket, series, revision: 0, amount: histogram ?? cell.total });
    });
    if (this.#amounts.length > 0) this.#columns.push({ bucket, ...this.#amounts.take() });
  }

  /** Continues the open buckets of an earlier run. Rows of series that `seriesOf` does not know are left out. */
  restore(
    rows: readonly BucketRow[],
    closedUntil: UnixNanos,
    seriesOf: (series: number) => { readonly metric: string; readonly dimensions: Dimensions } | undefined,
  ): void {
    this.#setClosedUntil(closedUntil);
    for (const row of rows) {
      // Rows of series that began again are no longer added to, and their bucket closes all the same.
      const cells = this.#cellsOf(row.bucket);
      const series = seriesOf(row.series);
      if (series !== undefined) cellOf(cells, { ...series, series: row.series }).restore(row.amount);
    }
  }
}

function cellOf(cells: Cells, booking: Booked): Cell {
  let cell = cells.get(booking.series);
  if (cell === undefined) {
    cell = new Cell(cells, booking);
    cells.set(booking.series, cell);
  }
  return cell;
}

/** End of a bucket, exclusive. */
export function endOf(bucket: BucketNumber): UnixNanos {
  return (BigInt(bucket) + 1n) * BUCKET_NANOS;
}

function qualityOf(cells: Iterable<Cell>): BucketQuality {
  let [observedNanos, expectedNanos, estimatedMillijoules, millijoules, resets] = [0n, 0n, 0n, 0n, 0n];
  for (const { metric, dimensions, total: amount } of cells) {
    if (metric === "tokenwatt.gpu.time") {
      expectedNanos += amount;
      if (dimensions["tokenwatt.gpu.state"] !== "unobserved") observedNanos += amount;
    } else if (metric === "tokenwatt.gpu.energy") {
      millijoules += amount;
      if (dimensions["tokenwatt.method"] !== "counter") estimatedMillijoules += amount;
    } else if (metric === "tokenwatt.counter_resets") resets += amount;
  }
  return { observedNanos, expectedNanos, estimatedMillijoules, millijoules, resets: Number(resets) };
}
