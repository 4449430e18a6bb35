// What a beat moved as columns of numbers: thousands of series move at every beat, and an object for each would live just
// long enough to be carried into the old generation. The columns that are written are used again; what is handed out is a
// copy of the exact length, which the store reads while the next beat is written.
import type { AmountColumn, Histogram, SeriesState } from "../../model.ts";
import type { RunningTotal } from "./running-total.ts";

const ROOM_AT_FIRST = 256;

/** Sums by series, in the order they were written. */
export class AmountWriter {
  #series = new Float64Array(ROOM_AT_FIRST);
  #high = new Int32Array(ROOM_AT_FIRST);
  #low = new Uint32Array(ROOM_AT_FIRST);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** Adds a total that is not too large. */
  write(series: number, total: RunningTotal): void {
    if (this.#length === this.#series.length) {
      this.#series = grown(this.#series, new Float64Array(2 * this.#length));
      this.#high = grown(this.#high, new Int32Array(2 * this.#length));
      this.#low = grown(this.#low, new Uint32Array(2 * this.#length));
    }
    const place = this.#length++;
    this.#series[place] = series;
    this.#high[place] = total.high;
    this.#low[place] = total.low;
  }

  /** What was written since the last call. */
  take(): AmountColumn {
    const length = this.#length;
    this.#length = 0;
    return {
      series: this.#series.slice(0, length),
      high: this.#high.slice(0, length),
      low: this.#low.slice(0, length),
    };
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
