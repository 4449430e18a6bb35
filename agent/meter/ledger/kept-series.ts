// Series that the ledger keeps and no exporter sends: every tenant under its own name, tokens under the price they were used at.
// Caps on exported series do not reach here; the bound is one of memory, and what is over it is folded and counted.
import type { Dimensions, SeriesState, UnixNanos } from "../../model.ts";
import type { SeriesChanges } from "./columns.ts";
import { foldAll } from "./folding.ts";
import { Gathered } from "./gathered.ts";
import { RestingNames } from "./resting-names.ts";
import { Series } from "./series.ts";
import { SeriesTable } from "./series-table.ts";

const keptMaxDefault = 500_000;
/** Not booked for so long a name rests; looked for once in `lookEveryNanos`. */
const restsAfterNanos = 120_000_000_000n;
const lookEveryNanos = 30_000_000_000n;

/** The series of the ledger alone. */
export class KeptSeries {
  readonly #max: number;
  readonly #nextId: () => number;
  readonly #awake: SeriesTable;
  /** Those that were not booked lately. */
  #resting = new RestingNames();
  /** By metric, then by the attribute set's identity: the meter uses a set again and again. */
  readonly #byIdentity = new Map<string, WeakMap<Dimensions, Series>>();
  /** Those that are `changed`. */
  readonly #changed = new Gathered<Series>();
  /** Whether the bound on memory took the name of the series found last. */
  isFolded = false;
  #removed: number[] = [];
  /** When names that rest were looked for last. */
  #lookedAt: UnixNanos = 0n;

  constructor(max: number | undefined, nextId: () => number, hashSeed?: number) {
    this.#awake = new SeriesTable(hashSeed);
    this.#max = max ?? keptMaxDefault;
    this.#nextId = nextId;
  }

  /** The series of these attributes, made where there is none; under another name where the bound on memory took theirs. */
  find(kind: "sum" | "histogram", metric: string, dimensions: Dimensions, now: UnixNanos): Series {
    this.isFolded = false;
    let sets = this.#byIdentity.get(metric);
    if (sets === undefined) {
      sets = new WeakMap<Dimensions, Series>();
      this.#byIdentity.set(metric, sets);
    }
    const fast = sets.get(dimensions);
    if (fast !== undefined) return this.#touch(fast, now);
    const known = this.#awake.get(metric, dimensions) ?? this.#wake(metric, dimensions);
    const folded = known === undefined && this.#awake.size + this.#resting.size >= this.#max;
    const series = known ?? this.#make(kind, metric, folded ? foldAll(dimensions) : dimensions, now);
    if (!folded) sets.set(dimensions, series);
    const found = this.#touch(series, now);
    this.isFolded = folded;
    return found;
  }

  /** The same for an exported series, which remembers what was found for it until that rests. */
  findFor(exported: Series, dimensions: Dimensions, now: UnixNanos): Series {
    const { link } = exported;
    if (link?.dimensions === dimensions) {
      this.isFolded = false;
      return this.#touch(link.kept, now);
    }
    const kind = exported.kind === "histogram" ? "histogram" : "sum";
    const kept = this.find(kind, exported.metric, dimensions, now);
    unlink(exported);
    if (this.isFolded) return kept;
    exported.link = { exported, kept, dimensions };
    unlink(kept);
    kept.link = exported.link;
    return kept;
  }

  /** Series that changed since the last call; those never handed out before say so with `sequence`. */
  takeChanges(sequence: number, changes: SeriesChanges): void {
    for (let place = 0; place < this.#changed.size; place++) {
      const series = this.#changed.at(place);
      series.announced ??= sequence;
      series.handOut(changes);
    }
    this.#changed.clear();
  }

  /** Numbers that were given up since the last call. */
  takeRemoved(): readonly number[] {
    const removed = this.#removed;
    this.#removed = [];
    return removed;
  }

  /** All of them as plain data, as far as they were handed out. */
  states(): readonly SeriesState[] {
    const awake = [...this.#awake.values()].flatMap((one) =>
      one.announced === undefined ? [] : [one.state()],
    );
    return [...awake, ...this.#resting.states()];
  }

  /** Takes a series of an earlier run, as if it was booked last at its end; it rests until it is booked again. */
  restore(series: Series, at: UnixNanos): void {
    series.movedAt = at;
    if (!this.#resting.put(series)) this.#awake.put(series);
  }

  /**
   * Lays those to rest that were not booked for two minutes, now and then: with many tenants that come once, what is awake
   * follows those of the last minutes. What is not handed out yet stays.
   */
  layToRest(now: UnixNanos): void {
    if (now - this.#lookedAt < lookEveryNanos) return;
    this.#lookedAt = now;
    const before = now - restsAfterNanos;
    const rested: Series[] = [];
    for (const series of this.#awake.values()) {
      if (series.movedAt <= before && !series.changed && this.#resting.put(series)) rested.push(series);
    }
    this.#remove(rested);
  }

  /** Gives up the numbers of those not booked since `before`; their rows stay. */
  forgetBefore(before: UnixNanos): void {
    const old = [...this.#awake.values()].filter((series) => series.movedAt < before && !series.changed);
    for (const { id } of old) this.#removed.push(id);
    this.#remove(old);
    for (const id of this.#resting.forgetBefore(before)) this.#removed.push(id);
  }

  /** Begins again: everything gets a new number. Returns what changed since it was handed out last. */
  clear(): readonly SeriesState[] {
    const last: SeriesState[] = [];
    for (let place = 0; place < this.#changed.size; place++) {
      const series = this.#changed.at(place);
      last.push(series.state());
      if (series.announced === undefined) this.#removed.push(series.id);
    }
    for (const series of this.#awake.values()) {
      if (series.announced !== undefined) this.#removed.push(series.id);
      series.letGo();
    }
    for (const { series } of this.#resting.states()) this.#removed.push(series);
    this.#resting = new RestingNames();
    this.#awake.clear();
    this.#byIdentity.clear();
    this.#changed.clear();
    this.#lookedAt = 0n;
    return last;
  }

  #remove(those: readonly Series[]): void {
    for (const series of those) {
      this.#awake.remove(series);
      series.letGo();
    }
    if (those.length > 0) this.#byIdentity.clear();
  }

  #wake(metric: string, dimensions: Dimensions): Series | undefined {
    const series = this.#resting.take(metric, dimensions);
    if (series !== undefined) this.#awake.put(series);
    return series;
  }

  #make(kind: "sum" | "histogram", metric: string, dimensions: Dimensions, now: UnixNanos): Series {
    const known = this.#awake.get(metric, dimensions) ?? this.#wake(metric, dimensions);
    if (known !== undefined) return known;
    const series = new Series(this.#nextId(), kind, metric, dimensions, now);
    series.role = "kept";
    series.changed = false;
    this.#awake.put(series);
    return series;
  }

  #touch(series: Series, now: UnixNanos): Series {
    if (!series.changed) this.#changed.add(series);
    series.changed = true;
    series.movedAt = now;
    return series;
  }
}

/** Neither end of a link knows the other any more. */
function unlink({ link }: Series): void {
  if (link === undefined) return;
  link.exported.link = undefined;
  link.kept.link = undefined;
}
