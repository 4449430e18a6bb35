// Series that the ledger keeps and no exporter sends: every tenant under its own name, tokens under the price they were used at.
// Caps on exported series do not reach here; the bound is one of memory, and what is over it is folded and counted.
import type { Dimensions, SeriesState, UnixNanos } from "../../model.ts";
import type { SeriesChanges } from "./columns.ts";
import { foldAll } from "./folding.ts";
import { RestingNames } from "./resting-names.ts";
import { Series, seriesKey } from "./series.ts";

const keptMaxDefault = 500_000;

/** The series of the ledger alone. */
export class KeptSeries {
  readonly #max: number;
  readonly #nextId: () => number;
  readonly #byKey = new Map<string, Series>();
  /** Those that were not booked lately. */
  #resting = new RestingNames();
  /** By metric, then by the attribute set's identity: the meter uses a set again and again. */
  readonly #byIdentity = new Map<string, WeakMap<Dimensions, Series>>();
  /** Those that are `changed`. */
  #changed: Series[] = [];
  /** Whether the bound on memory took the name of the series found last. */
  isFolded = false;
  #removed: number[] = [];

  constructor(max: number | undefined, nextId: () => number) {
    this.#max = max ?? keptMaxDefault;
    this.#nextId = nextId;
  }

  /** The series of these attributes, made where there is none; under another name where the bound on memory took theirs. */
  find(kind: "sum" | "histogram", metric: string, dimensions: Dimensions, now: UnixNanos): Series {
    this.isFolded = false;
    const sets = this.#byIdentity.get(metric) ?? new WeakMap<Dimensions, Series>();
    this.#byIdentity.set(metric, sets);
    const fast = sets.get(dimensions);
    if (fast !== undefined) return this.#touch(fast, now);
    const known = this.#byKey.get(seriesKey(metric, dimensions)) ?? this.#wake(metric, dimensions);
    const folded = known === undefined && this.#byKey.size + this.#resting.size >= this.#max;
    const series = known ?? this.#make(kind, metric, folded ? foldAll(dimensions) : dimensions, now);
    if (!folded) sets.set(dimensions, series);
    const found = this.#touch(series, now);
    this.isFolded = folded;
    return found;
  }

  /** Series that changed since the last call; those never handed out before say so with `sequence`. */
  takeChanges(sequence: number, changes: SeriesChanges): void {
    for (const series of this.#changed) {
      series.announced ??= sequence;
      series.handOut(changes);
    }
    this.#changed = [];
  }

  /** What was handed out was never stored: all of it counts as changed. */
  handOutAgain(): void {
    this.#changed = [...this.#byKey.values()];
    for (const series of this.#changed) series.handOutAgain();
  }

  /** Numbers that were given up since the last call. */
  takeRemoved(): readonly number[] {
    const removed = this.#removed;
    this.#removed = [];
    return removed;
  }

  /** All of them as plain data, as far as they were handed out. */
  states(): readonly SeriesState[] {
    const awake = [...this.#byKey.values()].flatMap((one) =>
      one.announced === undefined ? [] : [one.state()],
    );
    return [...awake, ...this.#resting.states()];
  }

  /** Takes a series of an earlier run, as if it was booked last at its end. */
  restore(series: Series, at: UnixNanos): void {
    this.#byKey.set(seriesKey(series.metric, series.dimensions), series);
    series.movedAt = at;
  }

  /** Lays those to rest that were not booked since `resting`, and gives up the numbers of those not since `before`; their rows stay. */
  forgetBefore(before: UnixNanos, resting: UnixNanos): void {
    let moved = false;
    for (const [key, series] of this.#byKey) {
      if (series.movedAt >= resting || series.changed) continue;
      const isForgotten = series.movedAt < before;
      if (!isForgotten && !this.#resting.put(series)) continue;
      if (isForgotten) this.#removed.push(series.id);
      this.#byKey.delete(key);
      moved = true;
    }
    if (moved) this.#byIdentity.clear();
    for (const id of this.#resting.forgetBefore(before)) this.#removed.push(id);
  }

  /** Begins again: everything gets a new number. Returns what changed since it was handed out last. */
  clear(): readonly SeriesState[] {
    const last = this.#changed.map((series) => series.state());
    this.#removed.push(
      ...this.#changed.flatMap(({ announced, id }) => (announced === undefined ? [id] : [])),
    );
    for (const series of this.#byKey.values())
      if (series.announced !== undefined) this.#removed.push(series.id);
    for (const { series } of this.#resting.states()) this.#removed.push(series);
    this.#resting = new RestingNames();
    this.#byKey.clear();
    this.#byIdentity.clear();
    this.#changed = [];
    return last;
  }

  #wake(metric: string, dimensions: Dimensions): Series | undefined {
    const series = this.#resting.take(metric, dimensions);
    if (series !== undefined) this.#byKey.set(seriesKey(metric, dimensions), series);
    return series;
  }

  #make(kind: "sum" | "histogram", metric: string, dimensions: Dimensions, now: UnixNanos): Series {
    const key = seriesKey(metric, dimensions);
    const known = this.#byKey.get(key) ?? this.#wake(metric, dimensions);
    if (known !== undefined) return known;
    const series = new Series(this.#nextId(), kind, metric, dimensions, now);
    series.role = "kept";
    series.changed = false;
    this.#byKey.set(key, series);
    return series;
  }

  #touch(series: Series, now: UnixNanos): Series {
    if (!series.changed) this.#changed.push(series);
    series.changed = true;
    series.movedAt = now;
    return series;
  }
}
