// Series that the ledger keeps and no exporter sends: every tenant under its own name, tokens under the price they were used at.
// Caps on exported series do not reach here; the bound is one of memory, and what is over it is folded and counted.
import type { Dimensions, SeriesState, UnixNanos } from "../../model.ts";
import { foldAll } from "./folding.ts";
import { Series, seriesKey } from "./series.ts";

const keptMaxDefault = 500_000;

/** The series of the ledger alone. */
export class KeptSeries {
  readonly #max: number;
  readonly #nextId: () => number;
  readonly #byKey = new Map<string, Series>();
  /** By metric, then by the attribute set's identity: the meter uses a set again and again. */
  readonly #byIdentity = new Map<string, WeakMap<Dimensions, Series>>();
  readonly #changed = new Set<Series>();
  /** When each was booked last, by bucket. */
  readonly #booked = new Map<Series, UnixNanos>();
  #removed: number[] = [];

  constructor(max: number | undefined, nextId: () => number) {
    this.#max = max ?? keptMaxDefault;
    this.#nextId = nextId;
  }

  /** The series of these attributes, made where there is none; `folded` where the bound on memory took its name. */
  find(
    kind: "sum" | "histogram",
    metric: string,
    dimensions: Dimensions,
    now: UnixNanos,
  ): { readonly series: Series; readonly folded: boolean } {
    const sets = this.#byIdentity.get(metric) ?? new WeakMap<Dimensions, Series>();
    this.#byIdentity.set(metric, sets);
    const fast = sets.get(dimensions);
    if (fast !== undefined) return { series: this.#touch(fast, now), folded: false };
    const known = this.#byKey.get(seriesKey(metric, dimensions));
    const folded = known === undefined && this.#byKey.size >= this.#max;
    const series = known ?? this.#make(kind, metric, folded ? foldAll(dimensions) : dimensions, now);
    if (!folded) sets.set(dimensions, series);
    return { series: this.#touch(series, now), folded };
  }

  /** Series that changed since the last call; those never handed out before say so with `sequence`. */
  takeChanges(sequence: number): readonly SeriesState[] {
    const states = [...this.#changed].map((series) => {
      series.announced ??= sequence;
      return series.state();
    });
    this.#changed.clear();
    return states;
  }

  /** Numbers that were given up since the last call. */
  takeRemoved(): readonly number[] {
    const removed = this.#removed;
    this.#removed = [];
    return removed;
  }

  /** All of them as plain data, as far as they were handed out. */
  states(): readonly SeriesState[] {
    return [...this.#byKey.values()].flatMap((one) => (one.announced === undefined ? [] : [one.state()]));
  }

  /** Takes a series of an earlier run, as if it was booked last at its end. */
  restore(series: Series, at: UnixNanos): void {
    this.#byKey.set(seriesKey(series.metric, series.dimensions), series);
    this.#booked.set(series, at);
  }

  /** Gives up the numbers of series not booked since `before`; their rows stay. */
  forgetBefore(before: UnixNanos): void {
    let forgotten = false;
    for (const [key, series] of this.#byKey) {
      if ((this.#booked.get(series) ?? 0n) >= before || this.#changed.has(series)) continue;
      this.#byKey.delete(key);
      this.#booked.delete(series);
      this.#removed.push(series.id);
      forgotten = true;
    }
    if (forgotten) this.#byIdentity.clear();
  }

  /** Begins again: everything gets a new number. Returns what changed since it was handed out last. */
  clear(): readonly SeriesState[] {
    const last = [...this.#changed].map((series) => series.state());
    this.#removed.push(
      ...[...this.#changed].flatMap(({ announced, id }) => (announced === undefined ? [id] : [])),
    );
    for (const series of this.#byKey.values())
      if (series.announced !== undefined) this.#removed.push(series.id);
    this.#byKey.clear();
    this.#byIdentity.clear();
    this.#changed.clear();
    this.#booked.clear();
    return last;
  }

  #make(kind: "sum" | "histogram", metric: string, dimensions: Dimensions, now: UnixNanos): Series {
    const key = seriesKey(metric, dimensions);
    const known = this.#byKey.get(key);
    if (known !== undefined) return known;
    const series = new Series(this.#nextId(), kind, metric, dimensions, now);
    series.role = "kept";
    this.#byKey.set(key, series);
    return series;
  }

  #touch(series: Series, now: UnixNanos): Series {
    this.#changed.add(series);
    this.#booked.set(series, now);
    return series;
  }
}
