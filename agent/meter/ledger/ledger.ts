// Running totals of every series, and the snapshots exporters may see (METERING.md 1 rule 3, 5 and 8).
// A series starts at the end of the last committed interval before its first increment, and its total never falls.
// The state goes out as plain data with every commit and comes back in after a restart.
import type {
  AnyPosting,
  Dimensions,
  Gauge,
  Histogram,
  LedgerBatch,
  LedgerPoint,
  LedgerRestored,
  LedgerSnapshot,
  Nanos,
  SeriesState,
  UnixNanos,
} from "../../model.ts";
import { BUCKET_NANOS } from "../../model.ts";
import { foldAll, Tenants, tenantOf, withOtherTenant } from "./folding.ts";
import { bucketOf } from "./grid.ts";
import { isStale, Series, seriesKey } from "./series.ts";

/** What a ledger is built with. */
export interface LedgerOptions {
  /** Agent time of an instant (`Clock.unixNanos`). */
  readonly unixNanos: (at: Nanos) => UnixNanos;
  /** Series held at most, ended ones included; over it names fold into `other`. */
  readonly seriesMax?: number;
  readonly tenantsMax?: number;
  /** Tenants that always keep their name. */
  readonly tenants?: readonly string[];
  /** Called with every booking after folding, for the buckets. */
  readonly onBooked?: (booking: Booking) => void;
}

/** What changed since the last call, for the store. */
export type LedgerChanges = Pick<LedgerBatch, "sequence" | "time" | "series" | "removed">;

/** A ledger as plain data. */
export type LedgerState = Pick<LedgerRestored, "sequence" | "time" | "nextSeries" | "series">;

/** One booking, after folding. */
export interface Booking {
  readonly series: number;
  readonly metric: string;
  readonly dimensions: Dimensions;
  readonly moved: number | Histogram;
  /** End of the interval it belongs to. */
  readonly to: UnixNanos;
}

const seriesMaxDefault = 20_000;
const tenantsMaxDefault = 100;
const retentionNanos = 35n * 86_400_000_000_000n;
const gaugeRetentionNanos = 3_600_000_000_000n;
/** The zero before a new series' first value stands 1 ms after its start. */
const widthMin = 2_000_000n;
const foldedMetric = "tokenwatt.series.folded";

/** The series table. The only place where totals live. */
export class Ledger {
  readonly #seriesMax: number;
  readonly #tenants: Tenants;
  readonly #unixNanos: (at: Nanos) => UnixNanos;
  readonly #onBooked: LedgerOptions["onBooked"];
  readonly #byKey = new Map<string, Series>();
  /** By metric, then by the attribute set's identity: the meter uses a set again and again. */
  readonly #byIdentity = new Map<string, WeakMap<Dimensions, Series>>();
  #removed: number[] = [];
  #sequence = 0;
  #nextSeries = 1;
  /** End of the last committed interval. */
  #time: UnixNanos;
  #bucket: UnixNanos;

  /** An empty ledger, or the one of `state`; `start` is the first instant that is metered. */
  constructor(start: UnixNanos, options: LedgerOptions, state?: LedgerState) {
    this.#seriesMax = options.seriesMax ?? seriesMaxDefault;
    this.#tenants = new Tenants(options.tenantsMax ?? tenantsMaxDefault, options.tenants);
    this.#unixNanos = options.unixNanos;
    this.#onBooked = options.onBooked;
    this.#time = start;
    if (state !== undefined) this.#restore(state);
    this.#bucket = bucketOf(this.#time);
  }

  /** Series held, ended ones included. */
  get size(): number {
    return this.#byKey.size;
  }

  /** Books the postings of one interval that ended at `to`. Throws on an amount that is negative or no integer. */
  post(postings: readonly AnyPosting[], to: Nanos): void {
    this.postUntil(postings, this.#unixNanos(to));
  }

  /** The same with an end in agent time: what is computed when a bucket closes. */
  postUntil(postings: readonly AnyPosting[], end: UnixNanos): void {
    for (const posting of postings) {
      if ("histogram" in posting)
        this.#bookHistogram(posting.metric, posting.dimensions, posting.histogram, end);
      else this.#book(posting.metric, posting.dimensions, posting.amount, end);
    }
  }

  /** Takes a value as last seen. An older one than the last is left out. */
  observe(gauge: Gauge): void {
    const series = this.#find("gauge", gauge.metric, gauge.dimensions, this.#time);
    if (series.kind !== "gauge" || (series.life === "live" && gauge.at < series.at)) return;
    series.value = gauge.value;
    series.at = gauge.at;
    series.everyMs = gauge.everyMs;
    series.life = "live";
  }

  /**
   * Ends every live series the predicate names: the next snapshot says so once, later ones leave it out. A posting
   * resumes it under its old start.
   */
  endWhere(predicate: (dimensions: Dimensions, metric: string) => boolean): void {
    for (const series of this.#byKey.values()) {
      if (series.life !== "live" || !predicate(series.dimensions, series.metric)) continue;
      if (series.announced === undefined && series.kind === "gauge") series.life = "ended";
      else series.life = "ending";
      series.changed = true;
    }
  }

  /** Drops every total; series begin again from zero at `start`, under new identities: the wall clock was stepped back for good. */
  startAnew(start: UnixNanos): void {
    this.#time = start;
    for (const [key, series] of this.#byKey) {
      if (series.kind === "gauge") continue;
      this.#byKey.delete(key);
      if (series.announced !== undefined) this.#removed.push(series.id);
    }
    this.#byIdentity.clear();
  }

  /**
   * Closes the beat: `time` is the end of the last posted interval, `at` the instant now (it ages the gauges).
   * Returns everything exporters may see until the next commit; nothing in it ever changes.
   */
  commit(time: UnixNanos, at: Nanos): LedgerSnapshot {
    const now = time > this.#time ? time : this.#time;
    this.#sequence++;
    const points: LedgerPoint[] = [];
    for (const series of this.#byKey.values()) {
      if (series.kind === "gauge" && series.life === "live" && isStale(series, at)) series.life = "ending";
      if (series.life !== "ended") points.push(this.#point(series, now));
      if (series.life !== "ending") continue;
      series.life = "ended";
      series.endedAt = now;
      series.changed = true;
    }
    this.#time = now;
    const bucket = bucketOf(now);
    if (bucket > this.#bucket) this.#endBucket(bucket);
    return Object.freeze({ sequence: this.#sequence, time: now, points: Object.freeze(points) });
  }

  /** Totals and identities that changed since the last call, to be stored before the snapshot is shown to anyone. */
  takeChanges(): LedgerChanges {
    const series: SeriesState[] = [];
    for (const one of this.#byKey.values()) {
      if (!one.changed || one.kind === "gauge" || one.announced === undefined) continue;
      one.changed = false;
      series.push(one.state());
    }
    const removed = this.#removed;
    this.#removed = [];
    return { sequence: this.#sequence, time: String(this.#time), series, removed };
  }

  /** Everything but the gauges as plain data, as of the last commit. */
  state(): LedgerState {
    const kept = [...this.#byKey.values()].filter(
      (series) => series.kind !== "gauge" && series.announced !== undefined,
    );
    return {
      sequence: this.#sequence,
      time: String(this.#time),
      nextSeries: this.#nextSeries,
      series: kept.map((series) => series.state()),
    };
  }

  #restore(state: LedgerState): void {
    this.#sequence = state.sequence;
    this.#nextSeries = state.nextSeries;
    if (BigInt(state.time) > this.#time) this.#time = BigInt(state.time);
    for (const one of state.series) {
      const series = Series.restored(one);
      // The last snapshot may never have left the host: announce again what began in it.
      series.announceAgain = series.announced === state.sequence;
      this.#byKey.set(seriesKey(one.metric, one.dimensions), series);
      this.#nextSeries = Math.max(this.#nextSeries, one.series + 1);
      const tenant = tenantOf(one.dimensions);
      if (tenant !== undefined && series.life !== "ended") this.#tenants.admit(tenant, bucketOf(this.#time));
    }
  }

  #book(metric: string, dimensions: Dimensions, amount: number, end: UnixNanos): void {
    if (!Number.isSafeInteger(amount) || amount < 0) {
      throw new Error(`Cannot book ${metric}: got ${amount}, wanted an integer that is not negative`);
    }
    const series = this.#live("sum", metric, dimensions, end);
    series.add(amount);
    this.#booked(series, amount, end);
  }

  #bookHistogram(metric: string, dimensions: Dimensions, moved: Histogram, end: UnixNanos): void {
    const series = this.#live("histogram", metric, dimensions, end);
    if (!series.addHistogram(moved)) {
      // Two sources of other bounds under one name cannot be added; a source that changed its bounds begins again from zero.
      if (series.movedAfter + 2 > this.#sequence + 1 && series.announced !== undefined) {
        this.#book("tokenwatt.dropped", { reason: "bounds" }, moved.count, end);
        return;
      }
      series.startWithBounds(this.#time, moved);
    }
    series.movedAfter = this.#sequence;
    this.#booked(series, moved, end);
  }

  #booked(series: Series, moved: number | Histogram, to: UnixNanos): void {
    if (this.#onBooked === undefined) return;
    this.#onBooked({ series: series.id, metric: series.metric, dimensions: series.dimensions, moved, to });
  }

  #live(kind: Series["kind"], metric: string, dimensions: Dimensions, end: UnixNanos): Series {
    const series = this.#find(kind, metric, dimensions, end);
    series.life = "live";
    series.endedAt = undefined;
    series.changed = true;
    return series;
  }

  #find(kind: Series["kind"], metric: string, dimensions: Dimensions, end: UnixNanos): Series {
    const fast = this.#byIdentity.get(metric)?.get(dimensions);
    if (fast !== undefined) return fast;
    let named = dimensions;
    const tenant = tenantOf(dimensions);
    if (tenant !== undefined && !this.#tenants.admit(tenant, this.#bucket)) {
      named = withOtherTenant(dimensions);
      this.#countFolded("tenants", end);
    }
    const known = this.#byKey.get(seriesKey(metric, named));
    if (known !== undefined) return this.#remember(dimensions, named, known);
    if (this.#byKey.size >= this.#seriesMax && metric !== foldedMetric) {
      named = foldAll(named);
      this.#countFolded("series", end);
      const folded = this.#byKey.get(seriesKey(metric, named));
      if (folded !== undefined) return folded;
    }
    const series = new Series(this.#nextSeries++, kind, metric, named, this.#time);
    this.#byKey.set(seriesKey(metric, named), series);
    return this.#remember(dimensions, named, series);
  }

  /** Only what was not folded is found by identity: a folded name may be let in once the bucket ends. */
  #remember(dimensions: Dimensions, named: Dimensions, series: Series): Series {
    if (named !== dimensions) return series;
    const sets = this.#byIdentity.get(series.metric) ?? new WeakMap<Dimensions, Series>();
    this.#byIdentity.set(series.metric, sets.set(dimensions, series));
    return series;
  }

  #countFolded(reason: string, end: UnixNanos): void {
    this.#book(foldedMetric, { reason }, 1, end);
  }

  #point(series: Series, now: UnixNanos): LedgerPoint {
    const isNew = series.announced === undefined || series.announceAgain;
    if (isNew) {
      series.announceAgain = false;
      series.announced = this.#sequence;
      series.changed = true;
      if (series.kind !== "gauge" && series.start > now - widthMin) series.start = now - widthMin;
    }
    const instant = series.kind === "gauge" ? this.#unixNanos(series.at) : undefined;
    return Object.freeze(series.point(now, isNew && series.kind !== "gauge", instant));
  }

  #endBucket(bucket: UnixNanos): void {
    this.#bucket = bucket;
    this.#tenants.release(bucket - retentionNanos);
    let forgotten = false;
    for (const [key, series] of this.#byKey) {
      if (series.life !== "ended" || series.endedAt === undefined) continue;
      const retained = series.kind === "gauge" ? gaugeRetentionNanos : retentionNanos;
      if (series.endedAt + retained > bucket + BUCKET_NANOS) continue;
      this.#byKey.delete(key);
      if (series.kind !== "gauge") this.#removed.push(series.id);
      forgotten = true;
    }
    if (forgotten) this.#byIdentity.clear();
  }
}
