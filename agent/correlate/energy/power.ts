// A GPU's power over time, as steps of watts: the shape of energy inside a window, and its amount where no counter is.
// The driver's ring (20 ms apart on H100) is finest; an instant reading stands for the time since the one before it,
// both ends averaged; a 1 s average likewise, but it lags a step by up to 1 s (facts measured on H100, driver 580).
import type { EnergyMethod, GpuSample, Nanos, Ring } from "../../model.ts";
import { PowerSteps } from "./power-steps.ts";

/** Amount of energy by integration, and what it was integrated from. */
export interface PowerIntegral {
  /** Not rounded. */
  readonly millijoules: number;
  readonly method: EnergyMethod;
  /** How much of the time the readings are means of. */
  readonly seenNanos: Nanos;
  /** What they say of their own time; of several, their mean. */
  readonly sampleWatts: number;
}

/** An average is that of a second, an instant reading that of about a tenth of one. */
const [averageNanos, instantNanos] = [1_000_000_000, 100_000_000];
/** A ring point stands for at most this long; the driver leaves holes while the GPU sleeps. */
const ringStepMax = 1_000_000_000;
/** Steps kept per series: two minutes of a 20 ms ring. */
const stepsMax = 6144;
/** A series shapes a window when it covers this share of it. */
const coverRatioMin = 0.9;
/** Instant readings further apart than this miss too much to shape a second; nearer ones are joined by lines. */
const instantStepMax = 600_000_000;

/** The recent power of one GPU. Readings go in by rising time; invalid ones are left out and counted. */
export class PowerSeries {
  /** Readings that were negative, not a number or beyond `wattsMax`. */
  ignored = 0;
  /** The last reading taken in; undefined where it was none. */
  lastWatts: number | undefined;
  readonly #ring = new PowerSteps(stepsMax);
  readonly #instant = new PowerSteps(stepsMax);
  readonly #average = new PowerSteps(stepsMax);
  #ringAt: Nanos | undefined;
  #lastInstant: number | undefined;

  /** Takes the power of a reading in; `previousAt` is undefined after a stretch nothing is known of. */
  take(sample: GpuSample, previousAt: Nanos | undefined, wattsMax: number): void {
    const instant = this.#valid(sample.powerInstantWatts, wattsMax);
    const average = this.#valid(sample.powerWatts, wattsMax);
    if (previousAt !== undefined && sample.at > previousAt) {
      if (instant !== undefined)
        this.#instant.append(previousAt, sample.at, (instant + (this.#lastInstant ?? instant)) / 2);
      if (average !== undefined) this.#average.append(previousAt, sample.at, average);
    }
    this.#lastInstant = instant;
    this.lastWatts = average ?? instant;
    if (sample.powerRing !== undefined) this.#takeRing(sample.powerRing, sample.at, wattsMax);
  }

  /** Takes the driver's points in: those that are new, which come last, fifty a second. */
  #takeRing({ instants, values }: Ring, now: Nanos, wattsMax: number): void {
    let reached = this.#ringAt ?? -Infinity;
    for (let index = 0; index < instants.length; index++) {
      const at = instants[index] as Nanos;
      const value = values[index] as number;
      if (!(value >= 0 && value <= wattsMax && Number.isFinite(value))) {
        this.ignored++;
        continue;
      }
      if (!Number.isFinite(at) || at > now || at <= reached) continue;
      if (reached > -Infinity) this.#ring.append(Math.max(reached, at - ringStepMax), at, value);
      reached = at;
    }
    if (reached > -Infinity) this.#ringAt = reached;
  }

  /** Returns the energy of `[from, to)`: from the 1 s average, else from instant power; undefined without either. */
  integral(from: Nanos, to: Nanos): PowerIntegral | undefined {
    const average = integrated(this.#average, from, to, averageNanos, averageNanos);
    if (average !== undefined) return { ...average, method: "integrated" };
    const instant =
      integrated(this.#ring, from, to, ringStepMax, ringStepMax) ??
      integrated(this.#instant, from, to, instantNanos, instantStepMax);
    if (instant === undefined) return undefined;
    const sampleWatts = (instant.steps === 1 ? this.#lastInstant : undefined) ?? instant.sampleWatts;
    return { ...instant, sampleWatts, method: "integrated_instant" };
  }

  /**
   * Returns the finest steps that cover `[from, to)` almost wholly, in order, valid until the next question; none where
   * nothing does. `counted` are steps of the energy counter inside the window: coarser than a ring, truer than readings of
   * power.
   */
  shape(from: Nanos, to: Nanos, counted?: PowerSteps): PowerSteps {
    const fine = this.fineShape(from, to, counted);
    if (fine !== undefined) return fine;
    const average = this.#average.clip(from, to, clipped);
    if (covers(average, from, to)) return average;
    const coarse = this.#instant.clip(from, to, clipped);
    if (!covers(coarse, from, to)) coarse.clear();
    return coarse;
  }

  /** The same where it says what went on inside a second; undefined where nothing does. */
  fineShape(from: Nanos, to: Nanos, counted?: PowerSteps): PowerSteps | undefined {
    const ring = this.#ring.clip(from, to, clipped);
    if (covers(ring, from, to)) return ring;
    if (counted !== undefined && counted.length > 1) return counted;
    const instant = this.#instant.clip(from, to, clipped);
    if (!covers(instant, from, to)) return undefined;
    for (let at = 0; at < instant.length; at++)
      if (instant.to(at) - instant.from(at) > instantStepMax) return undefined;
    return instant;
  }

  /** Drops what ended before `before`. */
  forget(before: Nanos): void {
    for (const steps of [this.#ring, this.#instant, this.#average]) steps.forget(before);
  }

  #valid(watts: number | undefined, wattsMax: number): number | undefined {
    if (watts === undefined) return undefined;
    if (Number.isFinite(watts) && watts >= 0 && watts <= wattsMax) return watts;
    this.ignored++;
    return undefined;
  }
}

/** Where questions are answered, one after the other: what is clipped is used at once. */
const clipped = new PowerSteps();

/** Clips `steps` to `[from, to)`, into `into`, where they cover it, else to nothing. */
export function shapes(steps: PowerSteps, from: Nanos, to: Nanos, into: PowerSteps): PowerSteps {
  const inside = steps.clip(from, to, into);
  if (!covers(inside, from, to)) inside.clear();
  return inside;
}

function covers(steps: PowerSteps, from: Nanos, to: Nanos): boolean {
  const covered = steps.covered();
  return covered > 0 && covered >= coverRatioMin * (to - from);
}

/**
 * Energy by the time-weighted mean of what is known of `[from, to)`; undefined when nothing is. A step of at most `wholeMax` is
 * seen whole, a longer one is the mean of its end.
 */
function integrated(
  steps: PowerSteps,
  from: Nanos,
  to: Nanos,
  meanOfNanos: Nanos,
  wholeMax: Nanos,
): (Omit<PowerIntegral, "method"> & { readonly steps: number }) | undefined {
  const inside = steps.clip(from, to, clipped);
  const watts = inside.meanWatts();
  if (watts === undefined) return undefined;
  let seenNanos = 0;
  for (let at = 0; at < inside.length; at++) {
    const length = inside.to(at) - inside.from(at);
    seenNanos += length <= wholeMax ? length : meanOfNanos;
  }
  return { millijoules: (watts * (to - from)) / 1e6, seenNanos, sampleWatts: watts, steps: inside.length };
}
