// How residents that take turns on one GPU shared it: driver samples per process over a sliding 30 s.
// Only time in which two or more residents worked counts, and 10 s of it must exist (METERING.md 4). A working resident
// the driver did not list in a sample counts 0 there: it lists only processes it credited.
import type { Nanos } from "../model.ts";

interface Entry {
  from: Nanos;
  to: Nanos;
  nanos: Nanos;
  readonly servers: string[];
  /** Shares x length, by the places of the servers. */
  readonly weighted: number[];
}

const windowNanos = 30_000_000_000;
/** Stretches are joined up to this length: the window slides in steps of it. */
const entryNanos = 1_000_000_000;
const neededNanos = 10_000_000_000;

/** Where sums are worked out; what is kept of one is a map. */
const draft: { readonly servers: string[]; readonly sums: number[] } = { servers: [], sums: [0.5] };

/** The sliding shares of one GPU. */
export class SmShare {
  readonly #entries: Entry[] = [];
  /** One that was dropped: the next one, a second later, takes its place. */
  #spare: Entry | undefined;
  #weights: ReadonlyMap<string, number> | undefined;
  #isChanged = false;

  /** Takes in a stretch in which `servers` worked, each with its mean share of the SMs in `ratios`. */
  noteWork(to: Nanos, nanos: Nanos, servers: readonly string[], ratios: readonly number[]): void {
    if (nanos <= 0) return;
    this.#forget(to);
    const last = this.#entries.at(-1);
    const fits = last !== undefined && to >= last.to && to - last.from <= entryNanos;
    const entry = fits ? last : this.#begin(to - nanos);
    this.#isChanged = true;
    entry.to = to;
    entry.nanos += nanos;
    for (let index = 0; index < servers.length; index++)
      add(entry.servers, entry.weighted, index, servers[index] as string, (ratios[index] as number) * nanos);
  }

  #begin(from: Nanos): Entry {
    const entry = this.#spare ?? { from, to: from, nanos: 0, servers: [], weighted: [0.5] };
    this.#spare = undefined;
    entry.from = from;
    entry.nanos = 0;
    entry.servers.length = 0;
    entry.weighted.length = 0;
    this.#entries.push(entry);
    return entry;
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
    const { servers, sums } = draft;
    servers.length = 0;
    sums.length = 0;
    for (const entry of this.#entries) {
      nanos += entry.nanos;
      for (let index = 0; index < entry.servers.length; index++)
        add(servers, sums, index, entry.servers[index] as string, entry.weighted[index] as number);
    }
    if (nanos < neededNanos || !sums.some((weight) => weight > 0)) return undefined;
    const weights = new Map<string, number>();
    for (let place = 0; place < servers.length; place++)
      weights.set(servers[place] as string, sums[place] as number);
    return weights;
  }

  #forget(at: Nanos): void {
    while (this.#entries.length > 0 && (this.#entries[0] as Entry).to <= at - windowNanos) {
      this.#spare = this.#entries.shift();
      this.#isChanged = true;
    }
  }
}

/** Adds to the sum of a server among `servers`, where it mostly is at the same place as in the stretch before. */
function add(servers: string[], sums: number[], usual: number, server: string, amount: number): void {
  let place = servers[usual] === server ? usual : servers.indexOf(server);
  if (place < 0) place = servers.push(server) - 1;
  sums[place] = (sums[place] ?? 0) + amount;
}
