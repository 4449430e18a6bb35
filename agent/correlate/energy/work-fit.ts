// What the work of each server on a shared GPU costs in energy above the floor, fitted over minutes: joules of an interval
// over the prompt tokens and decode steps of all of them at once (METERING.md 4). Joules per token hold beside others as
// they do alone, while watts and turns do not. On a GPU that is full whenever it works the servers take equal turns instead:
// their work then hardly tells them apart.
import type { Nanos } from "../../model.ts";
import type { Solution } from "../phases/least-squares.ts";
import { LeastSquares } from "../phases/least-squares.ts";
import { decodedIn } from "../phases/phase-fit.ts";
import type { TokenStep } from "../token-step.ts";
import type { Work } from "./work-columns.ts";
import { WorkColumns } from "./work-columns.ts";

/** Joules of each server for some work, and the largest standard error of one of them over the sum. */
export interface FittedShares {
  readonly joules: ReadonlyMap<string, number>;
  readonly error: number;
}

/** What an observation leaves of the weight of those before it: about three minutes of seconds. */
const keptRatio = 0.995;
/** Intervals that it takes. */
const intervalsMin = 12;
/** The fit is made anew each time so many more were taken in. */
const intervalsPerFit = 4;
/** Weight of an interval in which several worked: their tokens need not lie where in it their energy does. */
const mixedWeight = 0.1;
/** A decode step costs this much more for each request in it. */
const stepPerRequest = 0.01;
/** Windows this busy are full, and the share of the work in such windows from which on servers take turns. */
const [fullBusyRatio, fullShareMin] = [0.8, 0.97];
/** Work is remembered about this long. */
const memoryNanos = 180_000_000_000;

/** The fit of one GPU. Intervals go in by rising time. */
export class WorkFit {
  readonly #columns = new WorkColumns();
  #squares = new LeastSquares(0, keptRatio);
  #intervals = 0;
  #found: Solution | undefined;
  #workNanos = 0;
  #fullNanos = 0;

  /** Takes in a stretch in which the GPU worked, and how busy it was. */
  observeWindow(nanos: Nanos, busyRatio: number): void {
    this.#workNanos += nanos;
    if (busyRatio >= fullBusyRatio) this.#fullNanos += nanos;
    if (this.#workNanos <= memoryNanos) return;
    this.#fullNanos *= memoryNanos / this.#workNanos;
    this.#workNanos = memoryNanos;
  }

  /** Takes in the work of every server on the GPU in an interval, and the joules above the floor it cost. */
  observe(work: ReadonlyMap<string, Work>, joules: number): void {
    const servers = this.#columns.begin(work);
    if (servers === "too many") return;
    if (servers === "others") {
      this.#squares = new LeastSquares(this.#columns.size, keptRatio);
      this.#intervals = 0;
      this.#found = undefined;
    }
    const worked = this.#columns.fill(work);
    if (worked === 0) return;
    this.#squares.observe(this.#columns.amounts, joules, worked > 1 ? mixedWeight : 1);
    this.#intervals++;
    if (this.#intervals % intervalsPerFit === 0) this.#found = undefined;
  }

  /** Returns what each server's work cost; undefined while too little was seen, and where servers take turns. */
  shares(work: ReadonlyMap<string, Work>): FittedShares | undefined {
    if (this.#intervals < intervalsMin || this.#fullNanos > fullShareMin * this.#workNanos) return undefined;
    this.#found ??= this.#squares.solve();
    const { coefficients, errors } = this.#found;
    const joules = new Map<string, number>();
    let all = 0;
    let error = 0;
    for (const [server, amounts] of work) {
      const place = this.#columns.placeOf(server);
      if (place < 0) return undefined;
      let own = 0;
      let doubt = 0;
      amounts.forEach((amount, at) => {
        own += amount * (coefficients[place + at] as number);
        if (amount > 0) doubt = Math.hypot(doubt, amount * (errors[place + at] as number));
      });
      joules.set(server, own);
      all += own;
      error = Math.max(error, doubt);
    }
    return all > 0 ? { joules, error: error / all } : undefined;
  }
}

/**
 * Returns the work of a server in `[from, to)`, steps over an edge by their part inside; undefined where its counters do
 * not say. `running` says how many requests a decode step worked on.
 */
export function workIn(
  steps: readonly TokenStep[],
  from: Nanos,
  to: Nanos,
  running: (step: TokenStep) => number = runningIn,
): Work | undefined {
  let reached = to;
  let prompt = 0;
  let decoded = 0;
  for (let index = steps.length - 1; index >= 0; index--) {
    const step = steps[index] as TokenStep;
    if (step.to <= from) break;
    const inside = Math.min(step.to, to) - Math.max(step.from, from);
    if (inside <= 0) continue;
    if (step.progress !== "step" || step.isDoubted || step.to < reached) return undefined;
    reached = step.from;
    if (step.isLent) continue;
    const part = inside / (step.to - step.from);
    prompt += step.inputTokens * part;
    decoded += decodedIn(step) * part * (1 / running(step) + stepPerRequest);
  }
  return reached <= from ? [prompt, decoded] : undefined;
}

/** Requests running in a step: at both ends, or at the one that saw any. */
function runningIn({ inFlightFrom = 0, inFlightTo = 0 }: TokenStep): number {
  if (inFlightFrom > 0 && inFlightTo > 0) return (inFlightFrom + inFlightTo) / 2;
  return Math.max(1, inFlightFrom, inFlightTo);
}

/**
 * Returns the same where polls may be far apart: requests come and go between, and half of those that one end saw or that ended
 * ran at a time.
 */
export function runningBetween(step: TokenStep): number {
  const { inFlightFrom = 0, inFlightTo = 0, requests } = step;
  if (inFlightFrom > 0 && inFlightTo > 0) return (inFlightFrom + inFlightTo) / 2;
  return Math.max(1, (1 + Math.max(inFlightFrom, inFlightTo, requests)) / 2);
}
