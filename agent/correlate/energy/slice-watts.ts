// What a board draws above its floor for each MIG instance that works: joules of the board over the activity of its instances,
// least squares over minutes (METERING.md 4). Activity says how long an instance worked and not how hard: a prompt draws twice
// as much as decode steps. Until minutes say more all instances are held to draw alike for their slices, give or take a third.

import type { Belief, Solution } from "../phases/least-squares.ts";
import { errorOfSum, LeastSquares } from "../phases/least-squares.ts";

/** How much of a board's activity each instance had in a stretch: its busy share x its slices x seconds. */
export type Activity = ReadonlyMap<string, number>;

/** What each instance drew above the floor, in parts of whatever they drew together. */
export interface SliceShares {
  readonly joules: ReadonlyMap<string, number>;
  /** How much of each one's may be another's: two standard errors. */
  readonly doubts: ReadonlyMap<string, number>;
  /** Minutes said so. */
  readonly isFitted: boolean;
}

/** What an observation leaves of the weight of those before it: about three minutes of seconds. */
const keptRatio = 0.995;
/** Observations that it takes. */
const observationsMin = 12;
/** The fit is made again each time so many more were taken in. */
const observationsPerFit = 4;
/** How far each instance is usually off the mean of all. */
const usualRatio = 0.35;
/** How well a floor is known that was measured, and one that was assumed. */
const [floorError, assumedError] = [0.05, 0.4];
/** So many standard errors are in doubt. */
const errors = 2;

/** The watts of the instances of one board. */
export class SliceWatts {
  #instances: readonly string[] = [];
  #squares = new LeastSquares(1, keptRatio);
  #observations = 0;
  #sums = { activity: 0, joules: 0 };
  #found: Solution | undefined;

  /** Takes in what the board drew in some seconds, floor included, and how active each instance was. */
  observe(activity: Activity, seconds: number, joules: number, floorWatts: number, isAssumed: boolean): void {
    if (!this.#isOf(activity)) {
      this.#instances = [...activity.keys()].sort();
      this.#squares = new LeastSquares(activity.size + 1, keptRatio);
      this.#observations = 0;
      this.#sums = { activity: 0, joules: 0 };
    }
    const amounts = this.#instances.map((instance) => activity.get(instance) ?? 0);
    const all = amounts.reduce((sum, amount) => sum + amount, 0);
    if (all <= 0) return;
    this.#squares.observe([...amounts, seconds], joules, 1);
    this.#sums = {
      activity: this.#sums.activity * keptRatio + all,
      joules: this.#sums.joules * keptRatio + Math.max(0, joules - floorWatts * seconds),
    };
    if (++this.#observations % observationsPerFit === 0) this.#found = this.#solved(floorWatts, isAssumed);
  }

  /** Returns what each instance drew while it was so active. */
  shares(activity: Activity): SliceShares {
    const found = this.#isOf(activity) && this.#observations >= observationsMin ? this.#found : undefined;
    const joules = new Map<string, number>();
    let all = 0;
    for (const [instance, amount] of activity) {
      const watts = found?.coefficients[this.#instances.indexOf(instance)] ?? 1;
      joules.set(instance, watts * amount);
      all += watts * amount;
    }
    const doubts = new Map<string, number>();
    for (const [instance, own] of joules) {
      if (!(own > 0 && all > 0)) continue;
      const share = own / all;
      const error =
        found === undefined
          ? usualRatio * Math.SQRT2 * (1 - share)
          : this.#errorOf(found, activity, instance, share) / own;
      doubts.set(instance, Math.min(1, errors * error));
    }
    return { joules, doubts, isFitted: found !== undefined };
  }

  /** Standard error of what an instance drew, as a part of what all did. */
  #errorOf(found: Solution, activity: Activity, instance: string, share: number): number {
    const weights = this.#instances.map(
      (other) => ((other === instance ? 1 : 0) - share) * (activity.get(other) ?? 0),
    );
    return errorOfSum(found, [...weights, 0]);
  }

  #solved(floorWatts: number, isAssumed: boolean): Solution | undefined {
    const { activity, joules } = this.#sums;
    const mean = joules / activity;
    if (!(mean > 0)) return undefined;
    const beliefs: Belief[] = this.#instances.map((_, index) => ({
      ...{ index, value: mean, error: usualRatio * mean },
    }));
    const known = floorWatts * (isAssumed ? assumedError : floorError);
    if (known > 0) beliefs.push({ index: this.#instances.length, value: floorWatts, error: known });
    return this.#squares.solve(...beliefs);
  }

  #isOf(activity: Activity): boolean {
    return activity.size === this.#instances.length && this.#instances.every((one) => activity.has(one));
  }
}
