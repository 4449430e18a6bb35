// Fine GPU activity windows from readings: the driver's utilisation ring, else plain utilisation, else GPM graphics.
// A ring point is the exact busy share of the 200 ms before it. Plain utilisation is such a window too, but read late:
// on h100-solo-8b a reading describes the 200 ms that ended about 0.15 s before it, so its stretch is moved back.
import type { GpuSample, Nanos, Ring } from "../model.ts";
import type { ActivityWindow } from "./activity/evidence.ts";

/** Length of a driver window on every GPU measured. */
const driverWindow = 200_000_000;
/** A plain reading that stands for longer than this is a sample. */
const driverWindowMax = 500_000_000;
/** Plain readings closer together than this repeat one driver window. */
const refreshMin = 180_000_000;
/** A ring point stands for at most this long; NVML documents windows of 1/6 s to 1 s. */
const ringWindowMax = 1_000_000_000;
/** Middle of what a utilisation reading describes, before the reading. */
const utilizationAge = 275_000_000;
/** A ring that went silent for this long is gone: plain readings count again. */
const ringSilent = 3_000_000_000;

/** Turns the readings of one GPU, given by rising time, into windows that are in order and apart. */
export class WindowReader {
  /** Ring points and ratios that were not between 0 and 1, or older than one already taken. */
  ignored = 0;
  #ringAt: Nanos | undefined;
  #ringSeenAt: Nanos | undefined;
  #reached: Nanos = -Infinity;
  /** Start of plain readings not used yet. */
  #waitingFrom: Nanos | undefined;

  /** Returns the windows this reading adds; `previousAt` is undefined after a stretch nothing is known of. */
  read(sample: GpuSample, previousAt: Nanos | undefined): ActivityWindow[] {
    const ring = this.#ring(sample);
    if (ring.length > 0) {
      this.#ringSeenAt = sample.at;
      return ring;
    }
    const waiting = this.#waitingFrom;
    this.#waitingFrom = undefined;
    if (previousAt === undefined) return [];
    const emptied = sample.utilizationRing !== undefined;
    if (!emptied && this.#ringSeenAt !== undefined && sample.at - this.#ringSeenAt < ringSilent) return [];
    const utilization = this.#ratio(sample.utilizationRatio);
    if (utilization !== undefined) return this.#plain(sample.at, waiting ?? previousAt, utilization, emptied);
    const graphics = this.#ratio(sample.graphicsActiveRatio);
    return graphics === undefined ? [] : this.#push([], previousAt, sample.at, graphics, false);
  }

  /** A plain reading stands for the time since the last one used; more than one per driver window adds nothing. */
  #plain(at: Nanos, from: Nanos, busyRatio: number, emptied: boolean): ActivityWindow[] {
    const length = at - from;
    if (length < refreshMin) {
      this.#waitingFrom = from;
      return [];
    }
    const late = emptied ? 0 : Math.max(0, Math.min(driverWindow, utilizationAge - Math.round(length / 2)));
    return this.#push([], from - late, at - late, busyRatio, emptied, !emptied);
  }

  #ring(sample: GpuSample): ActivityWindow[] {
    const windows: ActivityWindow[] = [];
    const { instants, values } = sorted(sample.utilizationRing ?? noRing);
    for (let index = 0; index < instants.length; index++) {
      const shown = instants[index] as Nanos;
      const busy = this.#ratio(values[index]);
      if (busy === undefined || !Number.isFinite(shown) || shown > sample.at) continue;
      const last = this.#ringAt;
      if (last !== undefined && shown <= last) continue;
      const at = Math.round(shown);
      const length = last === undefined || at - last > ringWindowMax ? driverWindow : at - last;
      this.#push(windows, at - length, at, busy, false);
      this.#ringAt = at;
    }
    return windows;
  }

  /** Appends what of the window lies after the last one; `fill` stretches it back to that one over a short hole. */
  #push(
    windows: ActivityWindow[],
    from: Nanos,
    to: Nanos,
    busyRatio: number,
    fill: boolean,
    isSample = false,
  ): ActivityWindow[] {
    const near = this.#reached > from || (fill && from - this.#reached < ringWindowMax);
    const start = near ? this.#reached : from;
    if (to <= start) return windows;
    const sampled = isSample && to - start > driverWindowMax;
    windows.push(sampled ? { from: start, to, busyRatio, sampled } : { from: start, to, busyRatio });
    this.#reached = to;
    return windows;
  }

  #ratio(value: number | undefined): number | undefined {
    if (value === undefined) return undefined;
    if (Number.isFinite(value) && value >= 0 && value <= 1.01) return Math.min(1, value);
    this.ignored++;
    return undefined;
  }
}

/**
 * Returns from when on the driver's own history of busy windows, without a hole, reaches up to a reading: it covers that
 * time even where readings before it were lost. The instant of the reading where it has none.
 */
export function historyFrom({ at, utilizationRing }: GpuSample): Nanos {
  const { instants } = sorted(utilizationRing ?? noRing);
  let from: Nanos | undefined;
  for (let index = instants.length - 1; index >= 0; index--) {
    const shown = Math.round(instants[index] as Nanos);
    if (!Number.isFinite(shown) || shown > at) continue;
    if ((from ?? at) - shown > ringWindowMax) break;
    from = shown;
  }
  return from === undefined ? at : from - driverWindow;
}

const noRing: Ring = { instants: [], values: [] };

function sorted(ring: Ring): Ring {
  const { instants, values } = ring;
  for (let index = 1; index < instants.length; index++)
    if ((instants[index] as Nanos) < (instants[index - 1] as Nanos)) {
      const order = [...instants.keys()].sort((left, right) => at(left) - at(right));
      return { instants: order.map(at), values: order.map((place) => values[place] as number) };
    }
  return ring;

  function at(place: number): Nanos {
    return instants[place] as Nanos;
  }
}

/** Returns the end of the windows that reach over an instant: what they show is spread over all polls in them. */
export function endOver(lists: Iterable<readonly ActivityWindow[]>, at: Nanos): Nanos {
  let end = at;
  for (const list of lists)
    for (let index = list.length - 1; index >= 0; index--) {
      const window = list[index] as ActivityWindow;
      if (window.to <= at) break;
      if (window.from <= at) end = Math.max(end, window.to);
    }
  return end;
}
