// Which series a name is booked under: found by the identity of its attribute set, else by its name, else made; over a cap
// its outside names fold into `other`. Keeps every series that exporters are shown, ended ones included.
import type { Dimensions, UnixNanos } from "../../model.ts";
import { forgottenIn, longestEnded } from "./at-rest.ts";
import { foldAll, Tenants, tenantOf, withOtherTenant } from "./folding.ts";
import { Series } from "./series.ts";
import { SeriesTable } from "./series-table.ts";

const seriesMaxDefault = 20_000;
const tenantsMaxDefault = 100;
/** Counts what is folded, and is never folded itself. */
export const foldedMetric = "tokenwatt.series.folded";

/** What the table is built with. */
export interface ExportedSeriesOptions {
  readonly seriesMax?: number | undefined;
  readonly tenantsMax?: number | undefined;
  readonly tenants?: readonly string[] | undefined;
  readonly hashSeed?: number | undefined;
  readonly nextId: () => number;
  /** Called when a name folds because of a cap, before the name is booked. */
  readonly onFolded: (cap: "tenants" | "series") => void;
}

/** The series exporters are shown. */
export class ExportedSeries {
  readonly tenants: Tenants;
  readonly #seriesMax: number;
  readonly #nextId: () => number;
  readonly #onFolded: ExportedSeriesOptions["onFolded"];
  readonly #all: SeriesTable;
  /** By metric, then by the attribute set's identity: the meter uses a set again and again. */
  readonly #byIdentity = new Map<string, WeakMap<Dimensions, Series>>();
  /** Sequence of the snapshot after which room was made last. */
  #madeRoomAt = -1;
  #removed: number[] = [];
  /** Whether the series found last is booked under a name that is not its own. */
  isFolded = false;

  constructor({ hashSeed, nextId, onFolded, seriesMax, tenants, tenantsMax }: ExportedSeriesOptions) {
    this.#all = new SeriesTable(hashSeed);
    this.#seriesMax = seriesMax ?? seriesMaxDefault;
    this.tenants = new Tenants(tenantsMax ?? tenantsMaxDefault, tenants);
    this.#nextId = nextId;
    this.#onFolded = onFolded;
  }

  get size(): number {
    return this.#all.size;
  }

  /** All of them. */
  values(): Iterable<Series> {
    return this.#all.values();
  }

  /** The series of a set that was used before. */
  findUsed(metric: string, dimensions: Dimensions): Series | undefined {
    this.isFolded = false;
    return this.#byIdentity.get(metric)?.get(dimensions);
  }

  /** The series of these attributes, made where there is none at `now.time`, the end of the last committed interval. */
  find(
    kind: Series["kind"],
    metric: string,
    dimensions: Dimensions,
    now: { readonly time: UnixNanos; readonly sequence: number; readonly bucket: UnixNanos },
  ): Series {
    this.isFolded = false;
    let named = dimensions;
    const tenant = tenantOf(dimensions);
    if (tenant !== undefined && !this.tenants.admit(tenant)) {
      named = withOtherTenant(dimensions);
      this.#onFolded("tenants");
      this.isFolded = true;
    }
    const known = this.#all.get(metric, named);
    if (known !== undefined) return this.#remember(dimensions, named, known);
    if (this.#all.size >= this.#seriesMax && metric !== foldedMetric && !this.#makeRoom(now)) {
      named = foldAll(named);
      this.#onFolded("series");
      this.isFolded = true;
      const folded = this.#all.get(metric, named);
      if (folded !== undefined) return folded;
    }
    const series = new Series(this.#nextId(), kind, metric, named, now.time);
    this.#all.put(series);
    return this.#remember(dimensions, named, series);
  }

  /** Takes a series of an earlier run. */
  restore(series: Series): void {
    this.#all.put(series);
    const tenant = tenantOf(series.dimensions);
    if (tenant !== undefined && series.life !== "ended") this.tenants.admit(tenant);
  }

  /** Gives up everything but the gauges, and returns it. */
  removeCounted(): readonly Series[] {
    const counted = [...this.#all.values()].filter(({ kind }) => kind !== "gauge");
    this.#forget(counted);
    this.#byIdentity.clear();
    return counted;
  }

  /** A bucket ended: forgets what ended long ago, and the tenants that nothing living names. */
  endBucket(bucket: UnixNanos): void {
    this.#forget(forgottenIn(this.#all.values(), bucket));
    const living = [...this.#all.values()].filter(({ life }) => life !== "ended");
    this.tenants.releaseOthers(new Set(living.flatMap(({ dimensions }) => tenantOf(dimensions) ?? [])));
  }

  /** Numbers that were given up since the last call. */
  takeRemoved(): readonly number[] {
    const removed = this.#removed;
    this.#removed = [];
    return removed;
  }

  /** Only what was not folded is found by identity: a folded name may be let in once the bucket ends. */
  #remember(dimensions: Dimensions, named: Dimensions, series: Series): Series {
    if (named !== dimensions) return series;
    const sets = this.#byIdentity.get(series.metric) ?? new WeakMap<Dimensions, Series>();
    this.#byIdentity.set(series.metric, sets.set(dimensions, series));
    return series;
  }

  /** Gives up a tenth of the series, those that ended longest ago; at most once for a snapshot. False where there is none. */
  #makeRoom({ bucket, sequence }: { readonly sequence: number; readonly bucket: UnixNanos }): boolean {
    if (this.#madeRoomAt === sequence) return false;
    this.#madeRoomAt = sequence;
    const ended = longestEnded(this.#all.values(), Math.ceil(this.#seriesMax / 10), bucket);
    this.#forget(ended);
    return ended.length > 0;
  }

  #forget(those: readonly Series[]): void {
    for (const series of those) {
      if (series.kind !== "gauge") this.#removed.push(series.id);
      this.#all.remove(series);
      series.letGo();
    }
    if (those.length > 0) this.#byIdentity.clear();
  }
}
