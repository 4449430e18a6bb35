// How residents that take turns on one GPU shared it: driver samples per process over a sliding 30 s.
// Only time in which two or more residents worked counts, and 10 s of it must exist (METERING.md 4). A working resident
// the driver did not list in a sample counts 0 there: it lists only processes it credited.
import type { Nanos } from "../model.ts";

interface Entry {
  from: Nanos;
  to: Nanos;
  nanos: Nanos;
  /** Shares x length, and length in which each worked, by the places of the servers. */
  readonly weighted: number[];
  readonly worked: number[];
}

const windowNanos = 30_000_000_000;
/** Stretches are joined up to this length: the window slides in steps of it. */
const entryNanos = 1_000_000_000;
const neededNanos = 10_000_000_000;

/** Servers remembered at most. */
const serversMax = 256;

/** The sliding shares of one GPU. */
export class SmShare {
  readonly #entries: Entry[] = [];
  /** One that was dropped: the next one, a second later, takes its place. */
  #spare: Entry | undefined;
  /** Every server seen so far has a place, and sums where these are worked out. */
  readonly #servers: string[] = [];
  readonly #sums: number[] = [0.5];
  readonly #worked: number[] = [0.5];
  #weights: ReadonlyMap<string, number> | undefined;
  #isChanged = false;

  /** Takes in a stretch in which `servers` worked, each with its mean share of the SMs in `ratios`. */
  noteWork(to: Nanos, nanos: Nanos, servers: readonly string[], ratios: readonly number[]): void {
    if (nanos <= 0) return;
    this.#forget(to);
    const last = this.#entries.at(-1);
    const fits = last !== undefined && to >= last.to && to - last.from <= entryNanos;
    const { weighted, worked } = fits ? extended(last, to, nanos) : this.#begin(to - nanos, to, nanos);
    this.#isChanged = true;
    for (let index = 0; index < servers.length; index++) {
      const place = this.#placeOf(servers[index] as string);
      weighted[place] = (weighted[place] ?? 0) + (ratios[index] as number) * nanos;
      worked[place] = (worked[place] ?? 0) + nanos;
    }
  }

  #begin(from: Nanos, to: Nanos, nanos: Nanos): Entry {
    const entry = this.#spare ?? { from, to, nanos, weighted: [0.5], worked: [0.5] };
    this.#spare = undefined;
    entry.from = from;
    entry.to = to;
    entry.nanos = nanos;
    entry.weighted.fill(0);
    entry.worked.fill(0);
    this.#entries.push(entry);
    return entry;
  }

  #placeOf(server: string): number {
    const place = this.#servers.indexOf(server);
    if (place >= 0) return place;
    if (this.#servers.length >= serversMax) {
      this.#servers.length = 0;
      this.#spare = undefined;
      for (const { weighted, worked } of this.#entries) weighted.length = worked.length = 0;
    }
    return this.#servers.push(server) - 1;
  }

  /**
   * Returns the mean share of each resident while it worked beside others in the 30 s before `at`; undefined when there is
   * too little to go by.
   */
  weights(at: Nanos): ReadonlyMap<string, number> | undefined {
    this.#forget(at);
    if (this.#isChanged) this.#weights = this.#summed();
    this.#isChanged = false;
    return this.#weights;
  }

  #summed(): ReadonlyMap<string, number> | undefined {
    const [sums, worked] = [this.#sums, this.#worked];
    sums.length = worked.length = this.#servers.length;
    sums.fill(0);
    worked.fill(0);
    let nanos = 0;
    const entries = this.#entries;
    for (let index = 0; index < entries.length; index++) {
      const { nanos: length, weighted, worked: had } = entries[index] as Entry;
      nanos += length;
      for (let place = 0; place < weighted.length; place++) {
        sums[place] = (sums[place] as number) + (weighted[place] ?? 0);
        worked[place] = (worked[place] as number) + (had[place] ?? 0);
      }
    }
    if (nanos < neededNanos || !sums.some((weight) => weight > 0)) return undefined;
    const weights = new Map<string, number>();
    for (let place = 0; place < sums.length; place++)
      weights.set(
        this.#servers[place] as string,
        (sums[place] as number) / Math.max(1, worked[place] as number),
      );
    return weights;
  }

  #forget(at: Nanos): void {
    while (this.#entries.length > 0 && (this.#entries[0] as Entry).to <= at - windowNanos) {
      this.#spare = this.#entries.shift();
      this.#isChanged = true;
    }
  }
}

function extended(entry: Entry, to: Nanos, nanos: Nanos): Entry {
  entry.to = to;
  entry.nanos += nanos;
  return entry;
}
