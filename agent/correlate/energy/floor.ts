// Power of a GPU that a server holds without using it: the mean over the last 60 s of parked time.
// The first 2 s after work are left out, clocks and fans come down slowly; 0 until 5 s of it exist (METERING.md 4).
import type { Nanos } from "../../model.ts";

/** What survives a restart. */
export interface FloorState {
  readonly parkedNanos: Nanos;
  readonly millijoules: number;
}

const keptNanos = 60_000_000_000;
const neededNanos = 5_000_000_000;
const settlesAfterWork = 2_000_000_000;

/** The floor of one GPU. Parked stretches and the ends of work go in by rising time. */
export class Floor {
  readonly #stretches: FloorState[] = [];
  #parkedNanos = 0;
  #millijoules = 0;
  #quietFrom: Nanos = -Infinity;

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

  /** Returns the floor in watts; 0 until enough parked time was seen. */
  watts(): number {
    return this.#parkedNanos < neededNanos ? 0 : (this.#millijoules * 1e6) / this.#parkedNanos;
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
