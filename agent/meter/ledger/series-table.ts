// Series by metric and attributes: found by a hash of them, told apart by comparing. Their names as texts beside them would
// be a third of what a ledger of gateways takes.
import type { Dimensions } from "../../model.ts";
import type { Series } from "./series.ts";

/** What a series is known by. */
type Name = Pick<Series, "metric" | "dimensions">;

/** Small enough that V8 keeps it in the table itself. */
const HASH_BITS = 0x3fff_ffff;

/** A set of series, one for each name. */
export class SeriesTable {
  readonly #hash: (metric: string, dimensions: Dimensions, seed: number) => number;
  readonly #seed: number;
  /** Each under its hash, or the next number that was free. */
  readonly #found = new Map<number, Series>();

  /**
   * `hash`: the same for the same name and seed, whatever the order of its attributes; 30 bits. `seed`: another one in each
   * process, so that who names tenants cannot choose names whose hashes are one.
   */
  constructor(seed = 0, hash = hashOf) {
    this.#hash = hash;
    this.#seed = seed;
  }

  get size(): number {
    return this.#found.size;
  }

  /** The series of these attributes. */
  get(metric: string, dimensions: Dimensions): Series | undefined {
    return this.#found.get(this.#place(metric, dimensions));
  }

  /** Adds a series, in place of one of the same name. */
  put(series: Series): void {
    this.#found.set(this.#place(series.metric, series.dimensions), series);
  }

  /** Removes the series of this name. */
  remove({ dimensions, metric }: Name): void {
    let place = this.#place(metric, dimensions);
    if (!this.#found.delete(place)) return;
    // Those behind it may be where they are because it was before them.
    for (;;) {
      place = after(place);
      const series = this.#found.get(place);
      if (series === undefined) return;
      this.#found.delete(place);
      this.put(series);
    }
  }

  clear(): void {
    this.#found.clear();
  }

  /** All of them; not to be removed meanwhile. */
  values(): Iterable<Series> {
    return this.#found.values();
  }

  /** Where the series of this name is, or would be. */
  #place(metric: string, dimensions: Dimensions): number {
    let place = this.#hash(metric, dimensions, this.#seed);
    for (;;) {
      const series = this.#found.get(place);
      if (series === undefined || isNamed(series, metric, dimensions)) return place;
      place = after(place);
    }
  }
}

function after(place: number): number {
  return (place + 1) & HASH_BITS;
}

function isNamed({ dimensions: own, metric: ownMetric }: Name, metric: string, wanted: Dimensions): boolean {
  if (ownMetric !== metric) return false;
  if (own === wanted) return true;
  let more = 0;
  for (const name in own) {
    if (own[name] !== wanted[name]) return false;
    more++;
  }
  for (const _ in wanted) more--;
  return more === 0;
}

function hashOf(metric: string, dimensions: Dimensions, seed: number): number {
  let sum = seed | 0;
  for (const name in dimensions) sum = (sum + mixed(dimensions[name] ?? "", mixed(name, seed))) | 0;
  return mixed(metric, sum) & HASH_BITS;
}

/** Takes the characters of a text into a hash (FNV-1a). */
function mixed(text: string, into: number): number {
  let hash = into ^ 0x811c_9dc5;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x0100_0193);
  return hash ^ (hash >>> 15);
}
