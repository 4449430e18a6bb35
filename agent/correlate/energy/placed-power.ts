// Where inside a window its power went: a counter read each 1 to 30 s tells the joules of that time and nothing of their place.
// A board draws its floor throughout, and what it drew above it was drawn by what the servers on it executed: an even
// spread would book half of the work of a pulse to the time in which the board is parked. What execution draws at most is
// learned: a window that drew more did something else as well. Of a board that was never seen parked the floor is what windows
// without execution would draw, by all of them.
import type { Nanos } from "../../model.ts";
import { steadyNanosMin } from "./floor.ts";
import { PowerSteps } from "./power-steps.ts";

/** A stretch of time. */
export interface Stretch {
  readonly from: Nanos;
  readonly to: Nanos;
}

/** A stretch in which something was executed, for a share of it where it is not said where in it. */
export interface ExecutedStretch extends Stretch {
  readonly ratio?: number;
}

/** Returns when anything was executed in a window, in order and apart; undefined where it is not known of all of it. */
export type Executed = (from: Nanos, to: Nanos) => readonly ExecutedStretch[] | undefined;

/** What a board draws at rest, and whether it was never seen so. */
export interface RestingPower {
  readonly watts: number;
  readonly isGuessed: boolean;
}

/** A window of known joules. */
export interface PlacedWindow extends Stretch {
  readonly millijoules: number;
  readonly limitWatts: number;
  readonly floor: RestingPower;
  /** Its joules say what execution draws: they were not worked out from it, and metered servers alone executed. */
  readonly isTeaching: boolean;
}

/** Execution draws no more than so many standard deviations above its mean, once it was seen for so long. */
const [deviations, knownNanos] = [2, 5_000_000_000];
/** The deviation is thought to be this share of the mean at least: prompts draw more than decode steps. */
const leastRatio = 0.25;
/** What a window leaves of those before it. */
const keptRatio = 0.98;
/** A window with less execution than this share of it says little of its watts. */
const toldRatio = 0.25;
/** How far off a guessed floor is, as a share of it, windows from what execution and floor say, and a floor at the most. */
const [floorError, windowError, floorRange] = [0.2, 0.2, 0.4];

/** Where in the windows of one board its power went. Windows go in by rising time. */
export class PlacedPower {
  readonly #steps = new PowerSteps();
  /** Execution, its watts above the floor, and their variance; older ones fade. */
  #nanos = 0;
  #mean = 0;
  #variance = 0;
  /** Windows by their share of execution (x) and watts (y): how many, sums, squares, products; older ones fade. */
  readonly #sums = { weight: 0, x: 0, y: 0, xx: 0, xy: 0 };
  #leastWatts = Number.POSITIVE_INFINITY;

  /** Returns the power of a window as steps, valid until the next one; undefined where execution tells no part of it from another. */
  place(window: PlacedWindow, executed: readonly ExecutedStretch[] | undefined): PowerSteps | undefined {
    const { from, limitWatts, millijoules, to } = window;
    if (executed === undefined) return undefined;
    let amount = 0;
    for (const { from: start, ratio = 1, to: end } of executed) amount += ratio * (end - start);
    const length = to - from;
    if (window.isTeaching && length >= steadyNanosMin)
      this.#observe(amount / length, (millijoules * 1e6) / length);
    const floorWatts = this.#floorOf(window.floor);
    const above = millijoules * 1e6 - floorWatts * length;
    if (amount <= 0 || above <= 0) return undefined;
    const most = Math.max(0, limitWatts - floorWatts);
    const executing = Math.min(above / amount, window.isTeaching ? this.#mostOf(most) : most);
    if (amount >= toldRatio * length && window.isTeaching) this.#learn(executing, amount);
    if (amount >= length) return undefined;
    const resting = floorWatts + Math.max(0, above - executing * amount) / (length - amount);
    this.#steps.clear();
    let reached = from;
    for (const { from: start, ratio = 1, to: end } of executed) {
      if (start > reached) this.#steps.append(reached, start, resting);
      this.#steps.append(start, end, ratio * (floorWatts + executing) + (1 - ratio) * resting);
      reached = end;
    }
    if (reached < to) this.#steps.append(reached, to, resting);
    return this.#steps;
  }

  /** What execution draws above the floor at most. */
  #mostOf(limit: number): number {
    if (this.#nanos < knownNanos) return limit;
    const deviation = Math.max(Math.sqrt(this.#variance), leastRatio * this.#mean);
    return Math.min(limit, this.#mean + deviations * deviation);
  }

  #learn(watts: number, nanos: number): void {
    this.#nanos = this.#nanos * keptRatio + nanos;
    const weight = nanos / this.#nanos;
    const off = watts - this.#mean;
    this.#mean += weight * off;
    this.#variance = (1 - weight) * (this.#variance + weight * off * off);
  }

  #observe(executed: number, watts: number): void {
    this.#leastWatts = Math.min(this.#leastWatts, watts);
    const [sums, entry] = [
      this.#sums,
      { weight: 1, x: executed, y: watts, xx: executed ** 2, xy: executed * watts },
    ];
    for (const key of ["weight", "x", "y", "xx", "xy"] as const)
      sums[key] = sums[key] * keptRatio + entry[key];
  }

  /** The floor as measured; else where the line through windows meets no execution, as far as that is known better. */
  #floorOf({ isGuessed, watts }: RestingPower): number {
    if (!isGuessed || !(watts > 0)) return watts;
    const { weight, x, xx, xy, y } = this.#sums;
    const spread = xx - (x * x) / weight;
    if (!(spread > 1e-9)) return Math.min(watts, this.#leastWatts);
    const slope = (xy - (x * y) / weight) / spread;
    const found =
      Math.min(1 + floorRange, Math.max(1 - floorRange, (y - slope * x) / weight / watts)) * watts;
    const variance = (windowError * watts) ** 2 * (xx / (weight * spread));
    const share = (floorError * watts) ** 2 / ((floorError * watts) ** 2 + variance);
    return Math.max(0, Math.min(this.#leastWatts, watts + share * (found - watts)));
  }
}
