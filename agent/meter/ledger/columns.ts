// What a beat moved as columns of numbers: thousands of series move at every beat, and an object for each would live just
// long enough to be carried into the old generation. The columns that are written are used again; what is handed out is a
// copy of the exact length, which the store reads while the next beat is written.
import type { AmountColumn, BucketColumn, BucketNumber, Histogram, SeriesState } from "../../model.ts";
import type { RunningTotal } from "./running-total.ts";

const ROOM_AT_FIRST = 256;
/** Where the lower word of an integer of 64 bits lies on this machine. */
const LOW = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1 ? 0 : 1;

/** Sums by series, in the order they were written. */
class AmountWriter {
  #series = new Float64Array(ROOM_AT_FIRST);
  #amounts = new BigInt64Array(ROOM_AT_FIRST);
  /** The same memory by words: a bigint for each would be an object. */
  #words = new Uint32Array(this.#amounts.buffer);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** Adds a total that is not too large. */
  write(series: number, total: RunningTotal): void {
    if (this.#length === this.#series.length) {
      this.#series = grown(this.#series, new Float64Array(2 * this.#length));
      this.#amounts = grown(this.#amounts, new BigInt64Array(2 * this.#length));
      this.#words = new Uint32Array(this.#amounts.buffer);
    }
    const place = 2 * this.#length;
    this.#series[this.#length++] = series;
    this.#words[place + LOW] = total.low;
    this.#words[place + 1 - LOW] = total.high;
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

  /** Adds an amount that is not too large. */
  write(bucket: BucketNumber, series: number, amount: RunningTotal): void {
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
  writeTotal(series: number, total: RunningTotal): void {
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

function grown<Column extends { set(from: Column): void }>(column: Column, room: Column): Column {
  room.set(column);
  return room;
}
