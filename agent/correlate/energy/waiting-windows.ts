// Windows of energy that wait until it is known what was done in them: of sampled power how much they drew hangs on that
// (sampled-power.ts), of a coarse counter where in them (placed-power.ts). They are decided in order, each once.
import type { EnergyMethod, Nanos } from "../../model.ts";
import { steadyNanosMin } from "./floor.ts";
import type { Executed, RestingPower } from "./placed-power.ts";
import { PlacedPower } from "./placed-power.ts";
import type { PowerSteps } from "./power-steps.ts";
import type { SampledStretch, WorkIn } from "./sampled-power.ts";
import { SampledPower } from "./sampled-power.ts";

/** A window that waits. */
export interface WaitingWindow extends SampledStretch {
  readonly method: EnergyMethod;
  /** What it drew, mJ; undefined where power was sampled. */
  readonly millijoules: number | undefined;
}

/** What was done on a board. */
export interface DoneWork {
  readonly workIn: WorkIn;
  readonly executed: Executed | undefined;
  /** That is when the board worked, be it for others than metered servers. */
  readonly isOfOthers?: boolean;
  readonly floor: RestingPower;
}

/** What is made of a window; its steps are valid until the next one, undefined where what was done does not shape it. */
export interface DecidedWindow {
  readonly window: WaitingWindow;
  /** mJ, not rounded. */
  readonly exact: number;
  readonly steps: PowerSteps | undefined;
  readonly isPlaced: boolean;
}

/** The waiting windows of one GPU. */
export class WaitingWindows {
  readonly #windows: WaitingWindow[] = [];
  readonly #sampled: SampledPower;
  readonly #placed = new PlacedPower();
  #doubt = 0;

  /** `limitWatts`: the board's. */
  constructor(limitWatts: number) {
    this.#sampled = new SampledPower(limitWatts);
  }

  /** Where the first of them begins; undefined without any. */
  get from(): Nanos | undefined {
    return this.#windows[0]?.from;
  }

  /** What the counter moved in them, mJ. */
  get counted(): number {
    let counted = 0;
    for (const { method, millijoules = 0 } of this.#windows) if (method === "counter") counted += millijoules;
    return counted;
  }

  /** Where the last of them that begin before `to` ends; `to` without any. */
  until(to: Nanos): Nanos {
    return this.#windows.findLast(({ from }) => from < to)?.to ?? to;
  }

  /** The one around `at`; undefined without any. */
  around(at: Nanos): WaitingWindow | undefined {
    return this.#windows.find(({ from, to }) => from <= at && to > at);
  }

  /** The lowest steady power of those that begin before `until`; Infinity without any. */
  leastWatts(until: Nanos): number {
    let least = Number.POSITIVE_INFINITY;
    for (const { from, millijoules, to, watts } of this.#windows)
      if (from < until && to - from >= steadyNanosMin)
        least = Math.min(least, millijoules === undefined ? watts : (millijoules * 1e6) / (to - from));
    return least;
  }

  /** Takes in a reading of power that no window ends at. */
  begin(at: Nanos, watts: number): void {
    if (this.#windows.length === 0) this.#sampled.begin(at, watts);
  }

  /** Takes a window in; they come in order. */
  add(window: WaitingWindow): void {
    this.#windows.push(window);
  }

  /** Decides the first of them, if it begins before `until`. */
  decideNext(
    until: Nanos,
    limitWatts: number,
    { executed, floor, isOfOthers = false, workIn }: DoneWork,
  ): DecidedWindow | undefined {
    const window = this.#windows[0];
    if (window === undefined || window.from >= until) return undefined;
    this.#windows.shift();
    const { from, to } = window;
    const sampled = window.millijoules === undefined ? this.#drawn(window, workIn) : undefined;
    const exact = window.millijoules ?? ((sampled?.meanWatts() ?? 0) * (to - from)) / 1e6;
    const stretches = executed?.(from, to);
    const isTeaching = sampled === undefined && !isOfOthers;
    const known = { from, to, millijoules: exact, limitWatts, floor, isTeaching };
    const steps = this.#placed.place(known, stretches) ?? sampled;
    return { window, exact, steps, isPlaced: stretches !== undefined && stretches.length > 0 };
  }

  /** How much more was found to be in doubt, whole mJ, `most` of it now and the rest when it is asked again. */
  takeDoubt(most: number): number {
    const doubt = Math.max(0, Math.floor(Math.min(most, this.#doubt)));
    this.#doubt -= doubt;
    return doubt;
  }

  /** The power of a sampled window by the work that was done in it. */
  #drawn(window: SampledStretch, workIn: WorkIn): PowerSteps {
    const { doubtMillijoules, steps } = this.#sampled.close(window, workIn);
    this.#doubt += doubtMillijoules;
    return steps;
  }
}
