// A GPU's power over time, as steps of watts: the shape of energy inside a window, and its amount where no counter is.
// The driver's ring (20 ms apart on H100) is finest; an instant reading stands for the time since the one before it,
// both ends averaged; a 1 s average likewise, but it lags a step by up to 1 s (facts measured on H100, driver 580).
import type { EnergyMethod, GpuSample, Nanos } from "../../model.ts";

/** Constant power over a stretch. */
export interface PowerStep {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly watts: number;
}

/** Amount of energy by integration, and what it was integrated from. */
export interface PowerIntegral {
  /** Not rounded. */
  readonly millijoules: number;
  readonly method: EnergyMethod;
}

/** A ring point stands for at most this long; the driver leaves holes while the GPU sleeps. */
const ringStepMax = 1_000_000_000;
/** Steps kept per series: two minutes of a 20 ms ring. */
const stepsMax = 6144;
/** A series shapes a window when it covers this share of it. */
const coverRatioMin = 0.9;
/** Instant readings further apart than this miss too much to shape a second. */
const instantStepMax = 600_000_000;

/** The recent power of one GPU. Readings go in by rising time; invalid ones are left out and counted. */
export class PowerSeries {
  /** Readings that were negative, not a number or beyond `wattsMax`. */
  ignored = 0;
  readonly #ring: PowerStep[] = [];
  readonly #instant: PowerStep[] = [];
  readonly #average: PowerStep[] = [];
  #ringAt: Nanos | undefined;
  #lastInstant: number | undefined;

  /** Takes the power of a reading in; `previousAt` is undefined after a stretch nothing is known of. */
  take(sample: GpuSample, previousAt: Nanos | undefined, wattsMax: number): void {
    const instant = this.#valid(sample.powerInstantWatts, wattsMax);
    const average = this.#valid(sample.powerWatts, wattsMax);
    if (previousAt !== undefined && sample.at > previousAt) {
      const stretch = { from: previousAt, to: sample.at };
      if (instant !== undefined)
        push(this.#instant, { ...stretch, watts: (instant + (this.#lastInstant ?? instant)) / 2 });
      if (average !== undefined) push(this.#average, { ...stretch, watts: average });
    }
    this.#lastInstant = instant;
    for (const point of sample.powerRing ?? []) {
      const watts = this.#valid(point.value, wattsMax);
      if (watts === undefined || !Number.isFinite(point.at) || point.at > sample.at) continue;
      if (this.#ringAt !== undefined && point.at <= this.#ringAt) continue;
      if (this.#ringAt !== undefined)
        push(this.#ring, { from: Math.max(this.#ringAt, point.at - ringStepMax), to: point.at, watts });
      this.#ringAt = point.at;
    }
  }

  /** Returns the energy of `[from, to)`: from the 1 s average, else from instant power; undefined without either. */
  integral(from: Nanos, to: Nanos): PowerIntegral | undefined {
    const average = meanWatts(this.#average, from, to);
    if (average !== undefined) return { millijoules: millijoules(average, from, to), method: "integrated" };
    const instant = meanWatts(this.#ring, from, to) ?? meanWatts(this.#instant, from, to);
    if (instant === undefined) return undefined;
    return { millijoules: millijoules(instant, from, to), method: "integrated_instant" };
  }

  /**
   * Returns the finest steps that cover `[from, to)` almost wholly, in order; empty where nothing does. `counted` are
   * steps of the energy counter inside the window: coarser than a ring, truer than readings of power.
   */
  shape(from: Nanos, to: Nanos, counted: readonly PowerStep[] = []): readonly PowerStep[] {
    const ring = clip(this.#ring, from, to);
    if (covers(ring, from, to)) return ring;
    if (counted.length > 1) return counted;
    const instant = clip(this.#instant, from, to);
    const fine = instant.every((step) => step.to - step.from <= instantStepMax);
    if (fine && covers(instant, from, to)) return instant;
    const average = clip(this.#average, from, to);
    if (covers(average, from, to)) return average;
    return covers(instant, from, to) ? instant : [];
  }

  /** Drops what ended before `before`. */
  forget(before: Nanos): void {
    for (const steps of [this.#ring, this.#instant, this.#average]) {
      const keep = steps.findIndex((step) => step.to > before);
      if (keep !== 0) steps.splice(0, keep === -1 ? steps.length : keep);
    }
  }

  #valid(watts: number | undefined, wattsMax: number): number | undefined {
    if (watts === undefined) return undefined;
    if (Number.isFinite(watts) && watts >= 0 && watts <= wattsMax) return watts;
    this.ignored++;
    return undefined;
  }
}

/** Watts over a stretch in millijoules. */
function millijoules(watts: number, from: Nanos, to: Nanos): number {
  return (watts * (to - from)) / 1e6;
}

/** Returns `steps` clipped to `[from, to)` where they cover it, else none. */
export function shapes(steps: readonly PowerStep[], from: Nanos, to: Nanos): PowerStep[] {
  const inside = clip(steps, from, to);
  return covers(inside, from, to) ? inside : [];
}

function push(steps: PowerStep[], step: PowerStep): void {
  steps.push(step);
  if (steps.length > stepsMax) steps.splice(0, steps.length - stepsMax);
}

function clip(steps: readonly PowerStep[], from: Nanos, to: Nanos): PowerStep[] {
  const inside: PowerStep[] = [];
  for (let index = steps.length - 1; index >= 0; index--) {
    const step = steps[index] as PowerStep;
    if (step.to <= from) break;
    if (step.from >= to) continue;
    inside.push({ from: Math.max(step.from, from), to: Math.min(step.to, to), watts: step.watts });
  }
  return inside.reverse();
}

function covers(steps: readonly PowerStep[], from: Nanos, to: Nanos): boolean {
  let covered = 0;
  for (const step of steps) covered += step.to - step.from;
  return covered > 0 && covered >= coverRatioMin * (to - from);
}

/** Time-weighted mean of what is known of `[from, to)`; undefined when nothing is. */
function meanWatts(steps: readonly PowerStep[], from: Nanos, to: Nanos): number | undefined {
  let weighted = 0;
  let covered = 0;
  for (const step of clip(steps, from, to)) {
    weighted += step.watts * (step.to - step.from);
    covered += step.to - step.from;
  }
  return covered > 0 ? weighted / covered : undefined;
}
