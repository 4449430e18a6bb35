// How residents that take turns on one GPU shared it: driver samples per process over a sliding 30 s.
// Only time in which two or more residents worked counts, and 10 s of it must exist (METERING.md 4). A working resident
// the driver did not list in a sample counts 0 there: it lists only processes it credited.
import type { Nanos } from "../model.ts";

interface Entry {
  readonly from: Nanos;
  to: Nanos;
  nanos: Nanos;
  readonly weighted: Map<string, number>;
}

const windowNanos = 30_000_000_000;
/** Stretches are joined up to this length: the window slides in steps of it. */
const entryNanos = 1_000_000_000;
const neededNanos = 10_000_000_000;

/** The sliding shares of one GPU. */
export class SmShare {
  readonly #entries: Entry[] = [];
  #weights: ReadonlyMap<string, number> | undefined;
  #isChanged = false;

  /** Takes in a stretch in which the residents in `ratios` worked, each with its mean share of the SMs. */
  noteWork(to: Nanos, nanos: Nanos, ratios: ReadonlyMap<string, number>): void {
    if (nanos <= 0) return;
    this.#forget(to);
    const last = this.#entries.at(-1);
    const fits = last !== undefined && to >= last.to && to - last.from <= entryNanos;
    const entry: Entry = fits ? last : { from: to - nanos, to, nanos: 0, weighted: new Map() };
    if (!fits) this.#entries.push(entry);
    this.#isChanged = true;
    entry.to = to;
    entry.nanos += nanos;
    for (const [server, ratio] of ratios)
      entry.weighted.set(server, (entry.weighted.get(server) ?? 0) + ratio * nanos);
  }

  /** Returns the weight of each resident over the 30 s before `at`; undefined when there is too little to go by. */
  weights(at: Nanos): ReadonlyMap<string, number> | undefined {
    this.#forget(at);
    if (this.#isChanged) this.#weights = this.#summed();
    this.#isChanged = false;
    return this.#weights;
  }

  #summed(): ReadonlyMap<string, number> | undefined {
    let nanos = 0;
    const servers: string[] = [];
    const sums: number[] = [];
    for (const entry of this.#entries) {
      nanos += entry.nanos;
      for (const [server, weight] of entry.weighted) {
        let place = servers.indexOf(server);
        if (place < 0) place = servers.push(server) - 1;
        sums[place] = (sums[place] ?? 0) + weight;
      }
    }
    if (nanos < neededNanos || !sums.some((weight) => weight > 0)) return undefined;
    return new Map(servers.map((server, place) => [server, sums[place] as number]));
  }

  #forget(at: Nanos): void {
    while (this.#entries.length > 0 && (this.#entries[0] as Entry).to <= at - windowNanos) {
      this.#entries.shift();
      this.#isChanged = true;
    }
  }
}
