// Power of a GPU that a server holds without using it: the mean over the last 60 s of parked time.
// The first 2 s after work are left out, clocks and fans come down slowly; assumed until 5 s of it exist (METERING.md 4).
import type { Nanos } from "../../model.ts";

/** What survives a restart. */
export interface FloorState {
  readonly parkedNanos: Nanos;
  readonly millijoules: number;
}

/** Shorter stretches say little of steady power. */
export const steadyNanosMin = 900_000_000;

const keptNanos = 60_000_000_000;
const neededNanos = 5_000_000_000;
/** Parked time that says more than any assumption. */
const littleNanos = 2_000_000_000;
/** A resident process that does nothing holds an H100 at 123 to 133 W of 700 (h100-solo-8b). */
const usualRatio = 0.18;
const settlesAfterWork = 2_000_000_000;

/** The floor of one GPU. Parked stretches and the ends of work go in by rising time. */
export class Floor {
  readonly #stretches: FloorState[] = [];
  #parkedNanos = 0;
  #millijoules = 0;
  #quietFrom: Nanos = -Infinity;
  #lowestWatts = Infinity;

  constructor(state?: FloorState) {
    if (state === undefined) return;
    const { parkedNanos, millijoules } = state;
    if (parkedNanos > 0 && millijoules >= 0 && Number.isFinite(millijoules / parkedNanos)) {
      const kept = Math.min(1, keptNanos / parkedNanos);
      this.#push({ parkedNanos: parkedNanos * kept, millijoules: millijoules * kept });
    }
  }

  /** Notes that the GPU worked until `at`. */
  worked(at: Nanos): void {
    this.#quietFrom = Math.max(this.#quietFrom, at + settlesAfterWork);
  }

  /** Takes in a parked stretch; `energyBetween` gives the millijoules of a part of it. */
  parked(from: Nanos, to: Nanos, energyBetween: (from: Nanos, to: Nanos) => number): void {
    const start = Math.max(from, this.#quietFrom);
    if (to <= start) return;
    this.#push({ parkedNanos: to - start, millijoules: energyBetween(start, to) });
    while (this.#parkedNanos - (this.#stretches[0]?.parkedNanos ?? 0) >= keptNanos) this.#drop();
  }

  /** Takes in the mean power of a stretch of about a second, whatever the GPU did in it. */
  observe(watts: number): void {
    this.#lowestWatts = Math.min(this.#lowestWatts, watts);
  }

  /** True until enough parked time was seen to measure it. */
  get assumed(): boolean {
    return this.#parkedNanos < neededNanos;
  }

  /** True while next to no parked time was seen. */
  get isGuessed(): boolean {
    return this.#parkedNanos < littleNanos;
  }

  /**
   * Returns the floor in watts. Until it is measured: by the little parked time there is, else the usual share of the
   * GPU's limit, or the lowest second seen where that is less; 0 before any reading.
   */
  watts(limitWatts: number | undefined): number {
    if (!this.isGuessed) return (this.#millijoules * 1e6) / this.#parkedNanos;
    if (!Number.isFinite(this.#lowestWatts)) return 0;
    const usual = limitWatts !== undefined && limitWatts > 0 ? usualRatio * limitWatts : Infinity;
    return Math.min(this.#lowestWatts, usual);
  }

  /** What to persist. */
  state(): FloorState {
    return { parkedNanos: Math.round(this.#parkedNanos), millijoules: Math.round(this.#millijoules) };
  }

  #push(stretch: FloorState): void {
    const last = this.#stretches.at(-1);
    if (last !== undefined && last.parkedNanos + stretch.parkedNanos <= 1_000_000_000)
      this.#stretches[this.#stretches.length - 1] = {
        parkedNanos: last.parkedNanos + stretch.parkedNanos,
        millijoules: last.millijoules + stretch.millijoules,
      };
    else this.#stretches.push(stretch);
    this.#parkedNanos += stretch.parkedNanos;
    this.#millijoules += stretch.millijoules;
  }

  #drop(): void {
    const first = this.#stretches.shift();
    if (first === undefined) return;
    this.#parkedNanos -= first.parkedNanos;
    this.#millijoules -= first.millijoules;
  }
}
