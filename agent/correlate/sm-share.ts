// How residents that take turns on one GPU shared it: driver samples per process over a sliding 30 s.
// Only time in which two or more residents worked counts, and 10 s of it must exist (METERING.md 4). A working resident
// the driver did not list in a sample counts 0 there: it lists only processes it credited.
import type { Nanos } from "../model.ts";

interface Entry {
  readonly to: Nanos;
  readonly nanos: Nanos;
  readonly weighted: ReadonlyMap<string, number>;
}

const windowNanos = 30_000_000_000;
const neededNanos = 10_000_000_000;

/** The sliding shares of one GPU. */
export class SmShare {
  readonly #entries: Entry[] = [];

  /** Takes in a stretch in which the residents in `ratios` worked, each with its mean share of the SMs. */
  add(to: Nanos, nanos: Nanos, ratios: ReadonlyMap<string, number>): void {
    if (nanos <= 0) return;
    const weighted = new Map([...ratios].map(([server, ratio]) => [server, ratio * nanos]));
    this.#entries.push({ to, nanos, weighted });
  }

  /** Returns the weight of each resident over the 30 s before `at`; undefined when there is too little to go by. */
  weights(at: Nanos): ReadonlyMap<string, number> | undefined {
    while (this.#entries.length > 0 && (this.#entries[0] as Entry).to <= at - windowNanos)
      this.#entries.shift();
    let nanos = 0;
    const sums = new Map<string, number>();
    for (const entry of this.#entries) {
      nanos += entry.nanos;
      for (const [server, weight] of entry.weighted) sums.set(server, (sums.get(server) ?? 0) + weight);
    }
    if (nanos < neededNanos) return undefined;
    return [...sums.values()].some((weight) => weight > 0) ? sums : undefined;
  }
}
