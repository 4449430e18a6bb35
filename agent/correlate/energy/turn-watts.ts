// What each of several servers draws above the floor while it has the GPU: power over who has it when, a fit over minutes
// (METERING.md 4). Stretches in which different servers work tell them apart, be they shorter than a second, and so do the
// driver's samples per process, even of servers that are never alone. What a set of servers drew together is remembered
// until the same set works again: who was once alone keeps its watts however long others then stay beside it.
import type { Nanos } from "../../model.ts";
import type { Solution } from "../phases/least-squares.ts";
import { errorOfSum, LeastSquares } from "../phases/least-squares.ts";

/** A driver's sample: the share of its window in which a process of a server ran. */
export interface WindowShare {
  readonly server: string;
  readonly at: Nanos;
  readonly ratio: number;
}

/** The share of a stretch for which each server has the GPU. */
export type Turns = ReadonlyMap<string, number>;

/** How servers share energy above the floor, and the largest standard error of one's share of it. */
export interface WattsShares {
  readonly weights: ReadonlyMap<string, number>;
  readonly error: number;
}

/** Length of a driver's window. */
export const windowNanos = 200_000_000;
/** What an observation leaves of the weight of those of the same servers before it: about four minutes of seconds. */
const keptRatio = 0.996;
/** Turns nearer to the usual ones than this are those but for chance. */
const nearRatio = 0.05;
/** From so many windows on it is known what is usual: one that is not weighs little among them. */
const usualMin = 20;
/** How far a server is usually off the mean of all: what is thought of it before any observation. */
const usualRatio = 0.5;
/** How far what a server draws in one second is off what it draws in others: prompts come and go. */
const secondRatio = 0.15;
/** Readings whose samples are of different windows, of those that have several; older ones fade. */
const [apartMin, apartFadeRatio] = [0.5, 0.99];
/** Shares this near to each other are even, over so few windows at most; and more than processes can be credited with. */
const [evenRatio, evenNanosMax, moreThanBusy] = [0.08, 2_200_000_000, 1.3];
/** Servers and sets of them remembered at most. */
const [serversMax, setsMax] = [6, 24];
/** The fit is made anew when so much more was taken in, at first and later. */
const [growthAtFirst, observationsPerFit] = [0.1, 40];

/** What a set of servers drew while they shared the GPU. */
interface Together {
  readonly squares: LeastSquares;
  /** Sums of what each had. */
  readonly had: Float64Array;
  weight: number;
  busy: number;
  watts: number;
}

/** The amounts of one observation. */
const observed = new Float64Array(serversMax);
/** Where it is worked out how far off shares are: the share of each place, and how it moves one of the shares. */
const draft = {
  amounts: new Array<number>(serversMax).fill(0.5),
  moves: new Array<number>(serversMax).fill(0.5),
};

/** The watts by turns on one GPU. */
export class TurnWatts {
  #servers: string[] = [];
  /** By the places of the servers, a bit each. */
  readonly #stretches = new Map<number, Together>();
  readonly #windows = new Map<number, Together>();
  #several = 0;
  #apart = 0;
  #observations = 0;
  #fittedAt = 0;
  #found: Solution | undefined;

  /**
   * Takes in the samples of one reading and how busy the GPU was since the one before it, as evidence of what a sample of this
   * driver stands for. Servers that take turns have about as much of any window; where windows are credited as a whole and a
   * sample is their mean, a few of them are never shared evenly, and samples never add up to more than the GPU was busy.
   */
  observeReading(shares: readonly WindowShare[], nanos: Nanos, busyRatio: number): void {
    if (shares.length < 2) return;
    const all = shares.reduce((sum, { ratio }) => sum + ratio, 0);
    const isEven = shares.every(({ ratio }) => Math.abs(ratio - all / shares.length) < evenRatio);
    const isApart = new Set(shares.map(({ at }) => at)).size === shares.length;
    const isWindow = isApart && nanos <= evenNanosMax && (isEven || all > moreThanBusy * busyRatio);
    this.#several = this.#several * apartFadeRatio + 1;
    this.#apart = this.#apart * apartFadeRatio + (isWindow ? 1 : 0);
  }

  /** Takes in a stretch: for which share of it each server had the GPU, and what was drawn above the floor. */
  observe(turns: Turns, watts: number, weight: number): void {
    this.#observe(this.#stretches, turns, watts, weight);
  }

  /**
   * The same of the window of a driver's sample, if it is one. Turns near to the usual ones of these servers count as the
   * usual: what moves them a little, a prompt in place of decode steps, moves the watts too.
   */
  observeWindow(turns: Turns, watts: number): void {
    this.#observe(this.#windows, turns, watts, 1, nearRatio);
  }

  #observe(sets: Map<number, Together>, turns: Turns, watts: number, weight: number, near = 0): void {
    if (turns.size > serversMax) return;
    this.#makeRoom(turns);
    observed.fill(0);
    let busy = 0;
    let set = 0;
    for (const [server, ratio] of turns) {
      const place = this.#servers.indexOf(server);
      observed[place] = ratio;
      busy += ratio;
      set |= ratio > 0 ? 1 << place : 0;
    }
    if (set === 0) return;
    let together = sets.get(set);
    if (together === undefined) {
      if (sets.size >= setsMax) sets.clear();
      together = {
        squares: new LeastSquares(serversMax, keptRatio),
        had: new Float64Array(serversMax),
        weight: 0,
        busy: 0,
        watts: 0,
      };
      sets.set(set, together);
    }
    note(together, weight, near);
    together.squares.observe(observed, watts, weight);
    together.busy = together.busy * keptRatio + weight * busy;
    together.watts = together.watts * keptRatio + weight * watts;
    this.#observations++;
  }

  /** Returns how servers that have the GPU in `turns` share what is drawn above the floor; undefined where nothing was seen. */
  shares(turns: Turns): WattsShares | undefined {
    const found = this.#fitted();
    if (found === undefined) return undefined;
    const { coefficients } = found;
    const weights = new Map<string, number>();
    const { amounts, moves } = draft;
    amounts.fill(0);
    let all = 0;
    for (const [server, ratio] of turns) {
      const place = this.#servers.indexOf(server);
      if (place < 0) return undefined;
      amounts[place] = ratio;
      const joules = ratio * (coefficients[place] as number);
      weights.set(server, joules);
      all += joules;
    }
    if (!(all > 0)) return undefined;
    let error = 0;
    for (const [server, joules] of weights) {
      const own = this.#servers.indexOf(server);
      for (let place = 0; place < serversMax; place++) {
        const amount = amounts[place] as number;
        moves[place] = ((place === own ? amount : 0) - (amount * joules) / all) / all;
      }
      error = Math.max(error, errorOfSum(found, moves));
    }
    return { weights, error };
  }

  #fitted(): Solution | undefined {
    const grown = this.#observations - this.#fittedAt;
    if (this.#found !== undefined && grown < Math.min(observationsPerFit, 1 + growthAtFirst * this.#fittedAt))
      return this.#found;
    const all = new LeastSquares(serversMax, 1);
    let busy = 0;
    let watts = 0;
    // A driver that credits the mean since the last reading says nothing of any window.
    const hasWindows = this.#several > 0 && this.#apart >= apartMin * this.#several;
    for (const sets of hasWindows ? [this.#stretches, this.#windows] : [this.#stretches])
      for (const together of sets.values()) {
        all.include(together.squares);
        busy += together.busy;
        watts += together.watts;
      }
    if (!(watts > 0)) return undefined;
    const mean = watts / busy;
    const beliefs = this.#servers.map((_, index) => ({ index, value: mean, error: usualRatio * mean }));
    this.#fittedAt = this.#observations;
    const { coefficients } = all.solve(...beliefs);
    all.blur((secondRatio * mean) ** 2);
    this.#found = { ...all.solve(...beliefs), coefficients };
    return this.#found;
  }

  /** Gives each server a place: all that was learned is forgotten when there is none left. */
  #makeRoom(turns: Turns): void {
    let added = 0;
    for (const server of turns.keys()) if (!this.#servers.includes(server)) added++;
    if (added === 0) return;
    this.#found = undefined;
    if (this.#servers.length + added > serversMax) {
      this.#servers = [];
      this.#stretches.clear();
      this.#windows.clear();
    }
    for (const server of turns.keys()) if (!this.#servers.includes(server)) this.#servers.push(server);
  }
}

/** Notes what each had; what is observed becomes what they usually have where it is nearer to it than `near`. */
function note(together: Together, weight: number, near: number): void {
  const { had } = together;
  let isNear = together.weight >= usualMin;
  for (let place = 0; place < serversMax && isNear; place++)
    isNear = Math.abs((observed[place] as number) - (had[place] as number) / together.weight) < near;
  together.weight = together.weight * keptRatio + weight;
  for (let place = 0; place < serversMax; place++) {
    had[place] = (had[place] as number) * keptRatio + weight * (observed[place] as number);
    if (isNear) observed[place] = (had[place] as number) / together.weight;
  }
}
