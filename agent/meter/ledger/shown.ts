// The exported series as exporters see them, in columns by place. While none begins, ends or comes back, a beat copies the
// columns and touches what moved; only otherwise does it go over all series.
import type { Histogram, LedgerSnapshot, Nanos, SaidOnce, ShownSeries, UnixNanos } from "../../model.ts";
import type { SeriesChanges } from "./columns.ts";
import { Gathered } from "./gathered.ts";
import type { Series } from "./series.ts";
import { isStale } from "./series.ts";
import type { SeriesTable } from "./series-table.ts";
import { Snapshot } from "./snapshot.ts";

/** The zero before a new series' first value stands 1 ms after its start. */
const widthMin = 2_000_000n;

/** The beat a snapshot is taken for. */
export interface SnapshotBeat {
  readonly sequence: number;
  /** The instant it is shown under. */
  readonly time: UnixNanos;
  /** Now; it ages the gauges. */
  readonly at: Nanos;
}

/** The series to show: the ledger's. */
type SeriesSource = Pick<SeriesTable, "size" | "values">;

/** Lays out snapshots, each from the one before. */
export class Shown {
  #series: ShownSeries = { names: [], starts: new BigInt64Array(0) };
  #high = new Float64Array(0);
  #low = new Uint32Array(0);
  #histograms: readonly Histogram[] = [];
  /** Shown gauges. */
  #gauges: readonly Series[] = [];
  /** What something happened to since the last snapshot. */
  readonly #touched = new Gathered<Series>();
  /** Recorded series that may differ from what the store has. */
  readonly #changed = new Gathered<Series>();
  #said = new Map<number, SaidOnce>();
  #saidOf: (readonly [Series, SaidOnce])[] = [];
  #mustLayOut = true;

  /** Notes that something happened to a series. */
  touch(series: Series): void {
    if (series.isTouched) return;
    series.isTouched = true;
    this.#touched.add(series);
  }

  /** Series were given up that are shown. */
  layOutAgain(): void {
    this.#mustLayOut = true;
  }

  /** The snapshot of a beat; what ends in it has ended then. */
  take(table: SeriesSource, beat: SnapshotBeat): LedgerSnapshot {
    for (const gauge of this.#gauges) if (endsAsStale(gauge, beat.at)) this.touch(gauge);
    const touched = this.#touched;
    let isSteady = !this.#mustLayOut;
    for (let place = 0; place < touched.size; place++) {
      const series = touched.at(place);
      series.isTouched = false;
      isSteady &&= series.isSteady;
    }
    this.#said = new Map();
    this.#saidOf = [];
    if (isSteady && touched.size > 0) this.#follow();
    touched.clear();
    if (!isSteady) this.#layOut(table, beat);
    return new Snapshot({
      sequence: beat.sequence,
      time: beat.time,
      series: this.#series,
      values: { high: this.#high, low: this.#low, histograms: this.#histograms },
      said: this.#said,
    });
  }

  /** Hands out the recorded series that differ from what the store has, since the last call. */
  takeChanges(changes: SeriesChanges): void {
    for (let place = 0; place < this.#changed.size; place++) {
      const series = this.#changed.at(place);
      if (series.changed) series.handOut(changes);
    }
    this.#changed.clear();
  }

  /** The last snapshot never left: the next one says again what it said once. */
  sayAgain(): void {
    for (const [series, said] of this.#saidOf) {
      series.sayAgain(said);
      this.touch(series);
    }
    this.#saidOf = [];
  }

  /** The columns of the last snapshot but for what was touched. */
  #follow(): void {
    const touched = this.#touched;
    this.#high = this.#high.slice();
    this.#low = this.#low.slice();
    const histograms = [...this.#histograms];
    for (let place = 0; place < touched.size; place++) {
      const series = touched.at(place);
      this.#write(series, histograms);
      if (series.changed && series.isRecorded) this.#changed.add(series);
    }
    this.#histograms = histograms;
  }

  #layOut(table: SeriesSource, beat: SnapshotBeat): void {
    this.#mustLayOut = false;
    const names: Series[] = [];
    const starts = new BigInt64Array(table.size);
    this.#high = new Float64Array(table.size);
    this.#low = new Uint32Array(table.size);
    const histograms: Histogram[] = [];
    for (const series of table.values()) {
      endsAsStale(series, beat.at);
      const isShown = series.life !== "ended" && !series.isTooSoon(beat.time);
      series.place = isShown ? names.length : -1;
      if (isShown) {
        names.push(series);
        this.#announce(series, beat);
        if (series.kind === "histogram") this.#high[series.place] = histograms.length;
        this.#write(series, histograms);
        if (series.kind !== "gauge") starts[series.place] = series.start;
      }
      // What is not as it will be goes on being looked at.
      if (isShown ? !series.isSteady : series.life !== "ended") this.touch(series);
      if (series.changed && series.isRecorded) this.#changed.add(series);
    }
    this.#high = this.#high.subarray(0, names.length);
    this.#low = this.#low.subarray(0, names.length);
    this.#histograms = histograms;
    this.#gauges = names.filter(({ kind }) => kind === "gauge");
    const series = { names, starts: starts.subarray(0, names.length) };
    if (!isSame(series, this.#series)) this.#series = series;
  }

  /** Notes what is said of a series once; one that ends has ended with it. */
  #announce(series: Series, { sequence, time }: SnapshotBeat): void {
    const isNew = series.announced === undefined || series.announceAgain;
    const isCounted = series.kind !== "gauge";
    if (isNew) {
      series.announceAgain = false;
      series.announced = sequence;
      series.changed = true;
      if (isCounted && series.start > time - widthMin) series.start = time - widthMin;
    }
    const said = series.saidAt(time, isNew && isCounted);
    if (said === undefined) return;
    this.#said.set(series.place, said);
    this.#saidOf.push([series, said]);
    if (!said.ended) return;
    series.life = "ended";
    series.endedAt = time;
    series.changed = true;
  }

  #write(series: Series, histograms: Histogram[]): void {
    const { kind, place } = series;
    if (kind === "histogram") histograms[this.#high[place] ?? 0] = series.histogram;
    else if (kind === "gauge") this.#high[place] = series.seen.value;
    else {
      this.#high[place] = series.high;
      this.#low[place] = series.low;
    }
  }
}

/** Ends a gauge that had no new value for long; whether it does. */
function endsAsStale(series: Series, at: Nanos): boolean {
  if (series.kind !== "gauge" || series.life !== "live" || !isStale(series, at)) return false;
  series.life = "ending";
  return true;
}

function isSame(one: ShownSeries, other: ShownSeries): boolean {
  return (
    one.names.length === other.names.length &&
    one.names.every((name, place) => name === other.names[place] && one.starts[place] === other.starts[place])
  );
}
