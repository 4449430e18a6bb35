// Counts "since the source opened" over the lives of several reader children, each of which begins at zero.
import type { GpuSample } from "../../model.ts";

type Counts = Readonly<Record<string, number>>;

/** Carries event and traffic counts of earlier children over. */
export class RunningTotals {
  readonly #carried = new Map<string, Counts>();
  readonly #current = new Map<string, Counts>();

  /** A new child starts at zero: what the one before had counted is kept. */
  restarted(): void {
    for (const [key, counts] of this.#current) this.#carried.set(key, sum(this.#carried.get(key), counts));
    this.#current.clear();
  }

  /** The sample with counts since the source opened. */
  keep(sample: GpuSample): GpuSample {
    const { xidEvents, trafficBytes } = sample;
    return {
      ...sample,
      ...(xidEvents === undefined ? {} : { xidEvents: this.#total(`${sample.gpu} xid`, xidEvents) }),
      ...(trafficBytes === undefined
        ? {}
        : { trafficBytes: this.#total(`${sample.gpu} traffic`, trafficBytes as Counts) }),
    };
  }

  #total(key: string, counts: Counts): Counts {
    this.#current.set(key, counts);
    return sum(this.#carried.get(key), counts);
  }
}

function sum(before: Counts | undefined, now: Counts): Counts {
  if (before === undefined) return now;
  const total: Record<string, number> = { ...before };
  for (const [key, count] of Object.entries(now)) total[key] = (total[key] ?? 0) + count;
  return total;
}
