// Running totals of every series, and the snapshots exporters may see (METERING.md 1 rule 3, 5 and 8).
// A series starts at the end of the last committed interval before its first increment, and its total never falls.
// The state goes out as plain data with every commit and comes back in after a restart.

import type {
  AnyPosting,
  Dimensions,
  Gauge,
  Histogram,
  HistogramPosting,
  LedgerBatch,
  LedgerRestored,
  LedgerSnapshot,
  Nanos,
  Posting,
  SeriesState,
  UnixNanos,
} from "../../model.ts";
import type { Resting } from "./at-rest.ts";
import { restingSince, takeResting } from "./at-rest.ts";
import { BeatTimes } from "./beat-times.ts";
import { SeriesChanges } from "./columns.ts";
import { ExportedSeries, foldedMetric } from "./exported-series.ts";
import { bucketOf } from "./grid.ts";
import { KeptSeries } from "./kept-series.ts";
import type { OpenCell } from "./series.ts";
import { Series } from "./series.ts";
import { Shown } from "./shown.ts";

/** What a ledger is built with. */
export interface LedgerOptions {
  /** Agent time of an instant (`Clock.unixNanos`). */
  readonly unixNanos: (at: Nanos) => UnixNanos;
  /** Series held at most, ended ones included; over it names fold into `other`. */
  readonly seriesMax?: number;
  readonly tenantsMax?: number;
  /** Names the ledger keeps beside the exported series, in memory; over it even the ledger folds, and counts it. */
  readonly keptMax?: number;
  /** Another one in each process (series-table.ts). */
  readonly hashSeed?: number;
  /** Tenants that always keep their name. */
  readonly tenants?: readonly string[];
  /** Called with every booking after folding, for the buckets. */
  readonly onBooked?: (booking: Booking) => void;
}

/** What changed since the last call, for the store. */
export type LedgerChanges = Pick<
  LedgerBatch,
  "sequence" | "time" | "series" | "totals" | "histograms" | "removed"
>;

/** A ledger as plain data. */
export type LedgerState = Pick<LedgerRestored, "sequence" | "time" | "nextSeries" | "series">;

/** One booking, after folding; it holds while it is handed over, the next one is written over it. */
export interface Booking {
  readonly series: number;
  /** Where the buckets remember what they add it to; the same for all bookings of a series. */
  readonly holder: { cell: OpenCell | undefined };
  readonly metric: string;
  readonly dimensions: Dimensions;
  readonly moved: number | Histogram;
  /** End of the interval it belongs to. */
  readonly to: UnixNanos;
  /** The instant it belongs to, where that is not the interval's. */
  readonly at?: UnixNanos | undefined;
}

/** As long as usage of a bucket is taken its rows are found under the same number. */
const keptNanos = 36n * 86_400_000_000_000n;

/** The series table. The only place where totals live. */
export class Ledger {
  readonly #unixNanos: (at: Nanos) => UnixNanos;
  readonly #onBooked: LedgerOptions["onBooked"];
  readonly #exported: ExportedSeries;
  /** Series of the ledger alone: under every name, whatever the caps on what is exported. */
  readonly #kept: KeptSeries;
  readonly #booking: { -readonly [K in keyof Booking]: Booking[K] } = {
    ...{
      series: 0,
      holder: { cell: undefined },
      metric: "",
      dimensions: {},
      moved: 0,
      to: 0n,
      at: undefined,
    },
  };
  /** End of the interval whose names are being looked up. */
  #bookedUntil: UnixNanos = 0n;
  /** The exported series as exporters see them. */
  readonly #shown = new Shown();
  /** Series that were given up, as they stood. */
  #last: SeriesState[] = [];
  readonly #changes = new SeriesChanges();
  #sequence = 0;
  #nextSeries = 1;
  /** End of the last committed interval. */
  #time: UnixNanos;
  #beats = new BeatTimes(0n);
  #bucket: UnixNanos;

  /** An empty ledger, or the one of `state`; `start` is the first instant that is metered. */
  constructor(start: UnixNanos, options: LedgerOptions, state?: LedgerState) {
    this.#unixNanos = options.unixNanos;
    this.#onBooked = options.onBooked;
    this.#time = start;
    const nextId = (): number => this.#nextSeries++;
    const onFolded = (cap: string): void => this.#countFolded(cap, this.#bookedUntil);
    this.#exported = new ExportedSeries({ ...options, nextId, onFolded });
    this.#kept = new KeptSeries(options.keptMax, nextId, options.hashSeed);
    if (state !== undefined) this.#restore(state);
    this.#bucket = bucketOf(this.#time);
  }

  /** Whether a tenant has series under its own name; lets it in where there is room. */
  admits(tenant: string): boolean {
    return this.#exported.tenants.admit(tenant);
  }

  /** Series held, ended ones included. */
  get size(): number {
    return this.#exported.size;
  }

  /** Books the postings of one interval that ended at `to`. Throws on an amount that is negative or no integer. */
  bookPostings(postings: readonly AnyPosting[], to: Nanos): void {
    this.postUntil(postings, this.#unixNanos(to));
  }

  /** The same with an end in agent time: what is computed when a bucket closes. */
  postUntil(postings: readonly AnyPosting[], end: UnixNanos): void {
    // By place: an interval has thousands, and V8 makes an object for each step of an iteration.
    for (let place = 0; place < postings.length; place++) {
      const posting = postings[place] as AnyPosting;
      if ("histogram" in posting) this.#bookHistogram(posting, end);
      else this.#book(posting, end);
    }
  }

  /** Takes a value as last seen. An older one than the last is left out. */
  observe(gauge: Gauge): void {
    const series = this.#find("gauge", gauge.metric, gauge.dimensions, this.#time);
    if (series.kind !== "gauge" || (series.life === "live" && gauge.at < series.seen.at)) return;
    series.see(gauge.value, gauge.at, gauge.everyMs);
    series.life = "live";
    this.#shown.touch(series);
  }

  /**
   * Ends every live series the predicate names: the next snapshot says so once, later ones leave it out. A posting
   * resumes it under its old start.
   */
  endWhere(predicate: (dimensions: Dimensions, metric: string) => boolean): void {
    for (const series of this.#exported.values()) {
      if (series.life === "live" && predicate(series.dimensions, series.metric)) this.#end(series);
    }
  }

  /** Ends every sum and histogram that nothing has moved since `before` and whose subject is not `here` any more. */
  endIdle(before: UnixNanos, here: (dimensions: Dimensions) => boolean): void {
    for (const series of this.#exported.values()) {
      if (series.restsSince(before) && !here(series.dimensions)) this.#end(series);
    }
  }

  /** Since when each series rests that nothing moved since `before`. */
  resting(before: UnixNanos): Resting {
    return restingSince(this.#exported.values(), before);
  }

  #end(series: Series): void {
    series.end();
    this.#shown.touch(series);
    if (series.announced !== undefined || series.kind !== "gauge") return;
    // Never shown: nothing is to be said of its end.
    series.life = "ended";
    series.endedAt = this.#time;
  }

  /**
   * Series begin again from zero at `start`, under new identities: the wall clock was stepped back for good. What was
   * booked since the last commit is handed out once more, so that totals and rows agree.
   */
  startAnew(start: UnixNanos): void {
    this.#time = start;
    this.#beats = new BeatTimes(0n);
    this.#bucket = bucketOf(start);
    for (const series of this.#exported.removeCounted()) if (series.changed) this.#last.push(series.state());
    this.#shown.layOutAgain();
    this.#last.push(...this.#kept.clear());
  }

  /**
   * Closes the beat: `time` is the end of the last posted interval, `at` the instant now (it ages the gauges). Returns
   * everything exporters may see until the next commit, later than all before; nothing in it ever changes.
   */
  commit(time: UnixNanos, at: Nanos): LedgerSnapshot {
    if (time > this.#time) this.#time = time;
    const now = this.#beats.next(this.#time);
    this.#sequence++;
    const snapshot = this.#shown.take(this.#exported, { sequence: this.#sequence, time: now, at });
    if (bucketOf(this.#time) > this.#bucket) this.#endBucket(bucketOf(this.#time));
    this.#kept.layToRest(this.#time);
    return snapshot;
  }

  /** The last snapshot never left: the next one says again which series began, ended and came back in it. */
  sayAgain(): void {
    this.#shown.sayAgain();
  }

  /** Totals and identities that changed since the last call, to be stored before the snapshot is shown to anyone. */
  takeChanges(): LedgerChanges {
    for (const one of this.#last) this.#changes.writeNamed(one);
    this.#last = [];
    this.#shown.takeChanges(this.#changes);
    this.#kept.takeChanges(this.#sequence, this.#changes);
    const removed = [...this.#exported.takeRemoved(), ...this.#kept.takeRemoved()];
    return { sequence: this.#sequence, time: String(this.#time), ...this.#changes.take(), removed };
  }

  /** Everything but the gauges as plain data, as of the last commit. */
  state(): LedgerState {
    const kept = [...this.#exported.values()].filter((series) => series.isRecorded);
    return {
      sequence: this.#sequence,
      time: String(this.#time),
      nextSeries: this.#nextSeries,
      series: [...kept.map((series) => series.state()), ...this.#kept.states()],
    };
  }

  /** Takes in what `resting` said before a restart. */
  restoreResting(resting: Resting): void {
    takeResting(this.#exported.values(), resting);
  }

  #restore(state: LedgerState): void {
    this.#sequence = state.sequence;
    this.#nextSeries = state.nextSeries;
    if (BigInt(state.time) > this.#time) this.#time = BigInt(state.time);
    this.#beats = new BeatTimes(BigInt(state.time));
    for (const one of state.series) {
      this.#nextSeries = Math.max(this.#nextSeries, one.series + 1);
      const series = Series.restored(one);
      if (one.role === "kept") {
        this.#kept.restore(series, this.#time);
        continue;
      }
      series.movedAt = this.#time;
      // The last snapshot may never have left the host: announce again what began in it.
      series.announceAgain = series.announced === state.sequence;
      this.#exported.restore(series);
    }
  }

  #book(posting: Posting, end: UnixNanos): void {
    const { amount, at, dimensions, kept, keptOnly, metric, takesBack } = posting;
    if (!Number.isSafeInteger(amount) || amount < 0) {
      throw new Error(`Cannot book ${metric}: got ${amount}, wanted an integer that is not negative`);
    }
    let series: Series | undefined;
    if (keptOnly !== true && takesBack !== true) {
      series = this.#live("sum", metric, dimensions, end);
      series.addAmount(amount);
      if (kept !== undefined || this.#exported.isFolded) series.role = "exported";
    }
    if (kept === false || this.#onBooked === undefined) return;
    if (series === undefined || series.role === "exported") {
      series =
        series === undefined
          ? this.#kept.find("sum", metric, kept ?? dimensions, this.#time)
          : this.#kept.findFor(series, kept ?? dimensions, this.#time);
      if (this.#kept.isFolded) this.#countFolded("ledger", end);
      series.addAmount(takesBack === true ? -amount : amount);
    }
    this.#booked(series, takesBack === true ? -amount : amount, end, at);
  }

  #bookHistogram({ dimensions, histogram: moved, kept, metric }: HistogramPosting, end: UnixNanos): void {
    const series = this.#live("histogram", metric, dimensions, end);
    if (!series.addHistogram(moved)) {
      // Two sources of other bounds under one name cannot be added; a source that changed its bounds begins again from zero.
      if (series.movedAfter + 2 > this.#sequence + 1 && series.announced !== undefined) {
        this.#book(
          { metric: "tokenwatt.dropped", dimensions: { "tokenwatt.reason": "bounds" }, amount: moved.count },
          end,
        );
        return;
      }
      series.startWithBounds(this.#time, moved);
    }
    series.movedAfter = this.#sequence;
    if (kept !== undefined || this.#exported.isFolded) series.role = "exported";
    let row = series;
    if (series.role === "exported") {
      row = this.#kept.findFor(series, kept ?? dimensions, this.#time);
      if (!row.addHistogram(moved)) row.startWithBounds(this.#time, moved);
    }
    this.#booked(row, moved, end);
  }

  #booked(series: Series, moved: number | Histogram, to: UnixNanos, at?: UnixNanos): void {
    const booking = this.#booking;
    booking.series = series.id;
    booking.holder = series;
    booking.metric = series.metric;
    booking.dimensions = series.dimensions;
    booking.moved = moved;
    booking.to = to;
    booking.at = at;
    this.#onBooked?.(booking);
  }

  #live(kind: Series["kind"], metric: string, dimensions: Dimensions, end: UnixNanos): Series {
    const series = this.#find(kind, metric, dimensions, end);
    series.revive(this.#time);
    this.#shown.touch(series);
    return series;
  }

  #find(kind: Series["kind"], metric: string, dimensions: Dimensions, end: UnixNanos): Series {
    const used = this.#exported.findUsed(metric, dimensions);
    if (used !== undefined) return used;
    this.#bookedUntil = end;
    const now = { time: this.#time, sequence: this.#sequence, bucket: this.#bucket };
    const series = this.#exported.find(kind, metric, dimensions, now);
    this.#shown.touch(series);
    return series;
  }

  #countFolded(reason: string, end: UnixNanos): void {
    const { isFolded } = this.#exported;
    this.#book({ metric: foldedMetric, dimensions: { "tokenwatt.reason": reason }, amount: 1 }, end);
    this.#exported.isFolded = isFolded;
  }

  #endBucket(bucket: UnixNanos): void {
    this.#bucket = bucket;
    this.#exported.endBucket(bucket);
    this.#kept.forgetBefore(bucket - keptNanos);
  }
}
