// What must not be lost or taken twice when a reader child is replaced: counts "since the source opened", of which each
// child begins at zero, and the driver's rings, which each child reads from their start. What a ring kept of the outage
// is new and welcome, what came before it is not.
import type { GpuSample, Nanos, Ring } from "../../model.ts";

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
    const { gpu, trafficBytes, xidEvents } = sample;
    const xid = this.#total(`${gpu} xid`, xidEvents);
    const traffic = this.#total(`${gpu} traffic`, trafficBytes as Counts | undefined);
    if (xid === xidEvents && traffic === trafficBytes) return sample;
    return {
      ...sample,
      ...(xid === undefined ? {} : { xidEvents: xid }),
      ...(traffic === undefined ? {} : { trafficBytes: traffic }),
    };
  }

  #total(key: string, counts: Counts | undefined): Counts | undefined {
    if (counts === undefined) return undefined;
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

/** Of the history a driver had before the first reading, only this much is taken. */
const FIRST_NANOS = 1_000_000_000;

/** Remembers the newest point taken of every ring. */
export class FreshRings {
  readonly #newest = new Map<string, Nanos>();

  /** The sample with only those ring points that are newer than all before. Points must be in order of time. */
  keep(sample: GpuSample): GpuSample {
    const { utilizationRing, powerRing } = sample;
    const utilization = this.#after(`${sample.gpu} utilization`, utilizationRing, sample.at);
    const power = this.#after(`${sample.gpu} power`, powerRing, sample.at);
    if (utilization === utilizationRing && power === powerRing) return sample;
    const { utilizationRing: _, powerRing: __, ...rest } = sample;
    return {
      ...rest,
      ...(utilization === undefined ? {} : { utilizationRing: utilization }),
      ...(power === undefined ? {} : { powerRing: power }),
    };
  }

  #after(key: string, ring: Ring | undefined, at: Nanos): Ring | undefined {
    const first = ring?.instants[0];
    if (ring === undefined || first === undefined) return undefined;
    const newest = this.#newest.get(key) ?? at - FIRST_NANOS;
    const last = ring.instants.at(-1) as Nanos;
    if (!(last > newest)) return undefined;
    this.#newest.set(key, last);
    if (first > newest) return ring;
    const fresh = ring.instants.findIndex((instant) => instant > newest);
    return { instants: ring.instants.slice(fresh), values: ring.values.slice(fresh) };
  }
}
