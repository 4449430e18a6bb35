// Series that nothing moved for a while, in a seventh of the memory: a tenant of last month costs a short key and a place in
// columns of numbers, until its usage comes again. Each keeps its number, start and total.
// Names are numbered, so that a key is a few digits for each attribute.
import type { Dimensions, SeriesState, UnixNanos } from "../../model.ts";
import { RestingHistograms } from "./resting-histograms.ts";
import { Series } from "./series.ts";

const ROOM_AT_FIRST = 1024;
const RADIX = 36;

/** Names and the numbers that stand for them. */
class Names {
  readonly #numbers = new Map<string, number>();
  readonly #names: string[] = [];

  numberOf(name: string): number {
    const known = this.#numbers.get(name);
    if (known !== undefined) return known;
    this.#numbers.set(name, this.#names.length);
    return this.#names.push(name) - 1;
  }

  /** The number of a name that has one. */
  known(name: string): number | undefined {
    return this.#numbers.get(name);
  }

  nameOf(number: number): string {
    return this.#names[number] ?? "";
  }
}

/** Series at rest, by metric and attributes. */
export class RestingNames {
  #names = new Names();
  /** Metric, then each attribute and its value, as numbers, to the place in the columns. */
  #places = new Map<string, number>();
  #ids = new Float64Array(ROOM_AT_FIRST);
  #announced = new Float64Array(ROOM_AT_FIRST);
  #starts = new BigInt64Array(ROOM_AT_FIRST);
  #totals = new BigInt64Array(ROOM_AT_FIRST);
  #moved = new BigInt64Array(ROOM_AT_FIRST);
  readonly #histograms = new RestingHistograms();
  readonly #free: number[] = [];
  /** Series given up since the names were numbered: some names may stand for nothing. What was taken out comes back. */
  #forgotten = 0;

  get size(): number {
    return this.#places.size;
  }

  /** Takes a series in; false where it cannot be held so. */
  put(series: Series): boolean {
    const { announced, id, kind, movedAt, start, total } = series;
    if (kind === "gauge" || announced === undefined || BigInt.asIntN(64, total) !== total) return false;
    const place = this.#free.at(-1) ?? this.size;
    if (kind === "histogram" && !this.#histograms.put(place, series.histogram)) return false;
    this.#free.pop();
    if (place >= this.#ids.length) this.#grow();
    this.#places.set(this.#keyOf(series.metric, series.dimensions), place);
    [this.#ids[place], this.#announced[place]] = [id, announced];
    [this.#starts[place], this.#totals[place], this.#moved[place]] = [start, total, movedAt];
    return true;
  }

  /** The series of these attributes, which rests no more; undefined where none does. */
  take(metric: string, dimensions: Dimensions): Series | undefined {
    const key = this.#knownKey(metric, dimensions);
    const place = key === undefined ? undefined : this.#places.get(key);
    if (key === undefined || place === undefined) return undefined;
    const series = Series.restored(this.#state(place, metric, dimensions));
    series.movedAt = this.#moved[place] ?? 0n;
    this.#drop(key, place);
    return series;
  }

  /** Gives up those not moved since `before`; returns their numbers. */
  forgetBefore(before: UnixNanos): readonly number[] {
    const forgotten: number[] = [];
    for (const [key, place] of this.#places) {
      if ((this.#moved[place] ?? 0n) >= before) continue;
      forgotten.push(this.#ids[place] ?? 0);
      this.#drop(key, place);
      this.#forgotten++;
    }
    if (this.#forgotten > this.size) this.#numberAgain();
    return forgotten;
  }

  /** All of them as plain data. */
  *states(): Generator<SeriesState> {
    for (const [key, place] of this.#places) {
      const { dimensions, metric } = this.#read(key);
      yield this.#state(place, metric, dimensions);
    }
  }

  #state(place: number, metric: string, dimensions: Dimensions): SeriesState {
    return {
      series: this.#ids[place] ?? 0,
      metric,
      dimensions,
      start: String(this.#starts[place]),
      total: this.#histograms.at(place) ?? String(this.#totals[place]),
      announced: this.#announced[place] ?? 0,
      role: "kept",
    };
  }

  #drop(key: string, place: number): void {
    this.#places.delete(key);
    this.#histograms.drop(place);
    this.#free.push(place);
  }

  #keyOf(metric: string, dimensions: Dimensions): string {
    return parts(metric, dimensions)
      .map((part) => this.#names.numberOf(part).toString(RADIX))
      .join();
  }

  #knownKey(metric: string, dimensions: Dimensions): string | undefined {
    const numbers: string[] = [];
    for (const part of parts(metric, dimensions)) {
      const number = this.#names.known(part);
      if (number === undefined) return undefined;
      numbers.push(number.toString(RADIX));
    }
    return numbers.join();
  }

  #read(key: string): { readonly metric: string; readonly dimensions: Dimensions } {
    const [metric = "", ...rest] = key
      .split(",")
      .map((digits) => this.#names.nameOf(Number.parseInt(digits, RADIX)));
    const dimensions: Record<string, string> = {};
    for (let at = 0; at < rest.length; at += 2) dimensions[rest[at] ?? ""] = rest[at + 1] ?? "";
    return { metric, dimensions };
  }

  /** Names of series that left would stay for ever otherwise. */
  #numberAgain(): void {
    const old = [...this.#places].map(([key, place]) => ({ ...this.#read(key), place }));
    this.#names = new Names();
    this.#places = new Map(
      old.map(({ dimensions, metric, place }) => [this.#keyOf(metric, dimensions), place]),
    );
    this.#forgotten = 0;
  }

  #grow(): void {
    const room = 2 * this.#ids.length;
    const wider = (column: Float64Array): Float64Array<ArrayBuffer> => {
      const wide = new Float64Array(room);
      wide.set(column);
      return wide;
    };
    const widerBig = (column: BigInt64Array): BigInt64Array<ArrayBuffer> => {
      const wide = new BigInt64Array(room);
      wide.set(column);
      return wide;
    };
    [this.#ids, this.#announced] = [wider(this.#ids), wider(this.#announced)];
    [this.#starts, this.#totals, this.#moved] = [
      widerBig(this.#starts),
      widerBig(this.#totals),
      widerBig(this.#moved),
    ];
  }
}

/** Metric, then names and values of attributes, whatever their order was. */
function parts(metric: string, dimensions: Dimensions): readonly string[] {
  const all = [metric];
  for (const name of Object.keys(dimensions).sort()) all.push(name, dimensions[name] ?? "");
  return all;
}
