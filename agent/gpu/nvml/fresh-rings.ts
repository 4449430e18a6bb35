// Lets each point of a driver's history through once. A reader that was restarted reads the driver's ring anew: what the
// ring kept of the outage is new and welcome, what came before it is not.
import type { GpuSample, Nanos, RingPoint } from "../../model.ts";

/** Of the history a driver had before the first reading, only this much is taken. */
const FIRST_NANOS = 1_000_000_000;

/** Remembers the newest point taken of every ring. */
export class FreshRings {
  readonly #newest = new Map<string, Nanos>();

  /** The sample with only those ring points that are newer than all before. Points must be in order of time. */
  keep(sample: GpuSample): GpuSample {
    const { utilizationRing, powerRing, ...rest } = sample;
    const utilization = this.#after(`${sample.gpu} utilization`, utilizationRing, sample.at);
    const power = this.#after(`${sample.gpu} power`, powerRing, sample.at);
    return {
      ...rest,
      ...(utilization === undefined ? {} : { utilizationRing: utilization }),
      ...(power === undefined ? {} : { powerRing: power }),
    };
  }

  #after(key: string, points: readonly RingPoint[] | undefined, at: Nanos): readonly RingPoint[] | undefined {
    if (points === undefined) return undefined;
    const newest = this.#newest.get(key) ?? at - FIRST_NANOS;
    const fresh = points.filter((point) => point.at > newest);
    const last = fresh.at(-1);
    if (last !== undefined) this.#newest.set(key, last.at);
    return fresh.length === 0 ? undefined : fresh;
  }
}
