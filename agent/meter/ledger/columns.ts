// What a beat moved as columns of numbers: thousands of series move at every beat, and an object for each would live just
// long enough to be carried into the old generation. The columns that are written are used again; what is handed out is a
// copy of the exact length, which can be given to another thread.
import type { AmountColumn, BucketColumn, BucketNumber, Histogram, SeriesState } from "../../model.ts";

const ROOM_AT_FIRST = 256;

/** Sums by series, in the order they were written. */
class AmountWriter {
  #series = new Float64Array(ROOM_AT_FIRST);
  #amounts = new BigInt64Array(ROOM_AT_FIRST);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** Adds an amount of at most 64 bits. */
  write(series: number, amount: bigint): void {
    if (this.#length === this.#series.length) {
      this.#series = grown(this.#series, new Float64Array(2 * this.#length));
      this.#amounts = grown(this.#amounts, new BigInt64Array(2 * this.#length));
    }
    this.#series[this.#length] = series;
    this.#amounts[this.#length++] = amount;
  }

  /** What was written since the last call. */
  take(): AmountColumn {
    const length = this.#length;
    this.#length = 0;
    return { series: this.#series.slice(0, length), amounts: this.#amounts.slice(0, length) };
  }
}

/** Sums by bucket and series. */
export class BucketWriter {
  readonly #amounts = new AmountWriter();
  #buckets = new Float64Array(ROOM_AT_FIRST);

  /** Adds an amount of at most 64 bits. */
  write(bucket: BucketNumber, series: number, amount: bigint): void {
    const { length } = this.#amounts;
    if (length === this.#buckets.length) this.#buckets = grown(this.#buckets, new Float64Array(2 * length));
    this.#buckets[length] = bucket;
    this.#amounts.write(series, amount);
  }

  /** What was written since the last call. */
  take(): BucketColumn {
    const buckets = this.#buckets.slice(0, this.#amounts.length);
    return { ...this.#amounts.take(), buckets };
  }
}

/** The series that changed in a beat: with their names once, from then on as numbers. */
export class SeriesChanges {
  readonly #totals = new AmountWriter();
  #named: SeriesState[] = [];
  #histograms: (readonly [series: number, total: Histogram])[] = [];

  /** A series with its name. */
  writeNamed(state: SeriesState): void {
    this.#named.push(state);
  }

  /** The total of a sum whose name is known. */
  writeTotal(series: number, total: bigint): void {
    this.#totals.write(series, total);
  }

  /** The total of a histogram whose name is known. */
  writeHistogram(series: number, total: Histogram): void {
    this.#histograms.push([series, total]);
  }

  /** What was written since the last call. */
  take(): {
    readonly series: readonly SeriesState[];
    readonly totals: AmountColumn;
    readonly histograms: readonly (readonly [series: number, total: Histogram])[];
  } {
    const taken = { series: this.#named, totals: this.#totals.take(), histograms: this.#histograms };
    this.#named = [];
    this.#histograms = [];
    return taken;
  }
}

/** Whether an amount is too large for a column, which would wrap it around; the database rejects it with an error. */
export function isTooLarge(amount: bigint): boolean {
  return BigInt.asIntN(64, amount) !== amount;
}

function grown<Column extends { set(from: Column): void }>(column: Column, room: Column): Column {
  room.set(column);
  return room;
}
