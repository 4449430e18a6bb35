// What the work of each server on a shared GPU costs in energy above the floor, by whole windows of energy that are longer than
// an interval: their joules over the prompt tokens and decode steps of all servers at once (METERING.md 4). Where inside of a window
// they went was worked out from who executed, and says nothing of whose they were. It starts from equal watts while each
// has the GPU, give or take all of it.
import { promptPerStep, promptPerStepError } from "../phases/beliefs.ts";
import type { Belief, Solution } from "../phases/least-squares.ts";
import { errorOfSum, LeastSquares } from "../phases/least-squares.ts";
import type { FittedShares, Work } from "./work-fit.ts";

/** What every server on the GPU did in some windows, and what that cost. */
export interface WorkedWindows {
  readonly work: ReadonlyMap<string, Work>;
  /** For how long each had the GPU, s. */
  readonly turns: ReadonlyMap<string, number>;
  readonly seconds: number;
  /** Above the floor. */
  readonly joules: number;
}

/** What windows leave of the weight of those before them: some minutes where they are short, half an hour of long ones. */
const keptRatio = 0.995;
/** How many it takes, and how long they are together. */
const [windowsMin, secondsMin] = [2, 12];
/** The fit is made anew each time so many more seconds were taken in. */
const secondsPerFit = 4;
/** How far the watts of a server are off the mean of all before any fit: one that waits for its host draws next to nothing. */
const usualRatio = 1;
/** How far what a window draws is off what its work costs, before more is seen: that counts as one window. */
const windowRatio = 0.1;
/** Servers fitted at once at most: unknowns grow with them. */
const serversMax = 4;
const inputs = 2;
/** The amounts of one observation, taken in at once. */
const observed = new Float64Array(inputs * serversMax);

/** The fit of one GPU. Windows go in by rising time. */
export class WindowFit {
  #servers: readonly string[] = [];
  #squares = new LeastSquares(0, keptRatio);
  #windows = 0;
  #seconds = 0;
  /** The same of when the fit was made. */
  #fittedSeconds = 0;
  #found: Solution | undefined;
  /** Sums of work and of the time each had the GPU, by their places, and of joules; older ones fade. */
  #work = new Float64Array(0);
  #turns = new Float64Array(0);
  #joules = 0;

  /** Takes in windows that follow each other. */
  observe({ joules, seconds, turns, work }: WorkedWindows): void {
    if (work.size > serversMax) return;
    if (!this.#isOf(work)) this.#begin([...work.keys()].sort());
    let hasWork = false;
    for (let index = 0; index < this.#servers.length; index++) {
      const [prompt, steps] = work.get(this.#servers[index] as string) ?? [0, 0];
      observed[inputs * index] = prompt;
      observed[inputs * index + 1] = steps;
      hasWork ||= prompt + steps > 0;
    }
    if (!hasWork) return;
    this.#squares.observe(observed, joules, 1);
    for (let at = 0; at < this.#work.length; at++)
      this.#work[at] = (this.#work[at] as number) * keptRatio + (observed[at] as number);
    for (let at = 0; at < this.#turns.length; at++)
      this.#turns[at] =
        (this.#turns[at] as number) * keptRatio + (turns.get(this.#servers[at] as string) ?? 0);
    this.#joules = this.#joules * keptRatio + joules;
    this.#windows++;
    this.#seconds += seconds;
  }

  #begin(servers: readonly string[]): void {
    this.#servers = servers;
    this.#squares = new LeastSquares(inputs * servers.length, keptRatio);
    this.#work = new Float64Array(inputs * servers.length);
    this.#turns = new Float64Array(servers.length);
    this.#joules = 0;
    this.#windows = 0;
    this.#seconds = 0;
    this.#fittedSeconds = 0;
    this.#found = undefined;
  }

  /** Whether these are the servers that are fitted. */
  #isOf(work: ReadonlyMap<string, Work>): boolean {
    if (work.size !== this.#servers.length) return false;
    for (const server of this.#servers) if (!work.has(server)) return false;
    return true;
  }

  /** Returns what each server's work cost; undefined while too little was seen. */
  shares(work: ReadonlyMap<string, Work>): FittedShares | undefined {
    if (this.#windows < windowsMin || this.#seconds < secondsMin) return undefined;
    const found = this.#solved();
    if (found === undefined) return undefined;
    const joules = new Map<string, number>();
    let all = 0;
    for (const [server, amounts] of work) {
      const place = inputs * this.#servers.indexOf(server);
      if (place < 0) return undefined;
      let own = 0;
      for (let at = 0; at < inputs; at++) {
        if ((amounts[at] as number) > 0 && !((this.#work[place + at] as number) > 0)) return undefined;
        own += (amounts[at] as number) * (found.coefficients[place + at] as number);
      }
      joules.set(server, own);
      all += own;
    }
    return all > 0 ? { joules, error: this.#errorOf(found, work, joules, all) } : undefined;
  }

  /** The fit, which starts from equal watts; undefined where next to nothing was drawn. */
  #solved(): Solution | undefined {
    const isOld = this.#seconds - this.#fittedSeconds >= secondsPerFit;
    if (this.#found !== undefined && !isOld) return this.#found;
    this.#fittedSeconds = this.#seconds;
    this.#found = undefined;
    const mean = this.#joules / sum(this.#turns);
    if (!(mean > 0 && Number.isFinite(mean))) return undefined;
    const all = new LeastSquares(inputs * this.#servers.length, 1);
    all.include(this.#squares);
    const { weight } = this.#squares;
    all.blur((windowRatio * (this.#joules / weight)) ** 2 / weight);
    this.#found = all.solve(...this.#servers.flatMap((_, index) => this.#beliefsOf(index, mean)));
    return this.#found;
  }

  /** What is thought of a server: its watts are those of all, and a prompt token costs what it does on other GPUs. */
  #beliefsOf(server: number, watts: number): Belief[] {
    const [prompt, step] = [inputs * server, inputs * server + 1];
    const [prompts, steps] = [this.#work[prompt] as number, this.#work[step] as number];
    const value = watts * (this.#turns[server] as number);
    if (!(value > 0)) return [];
    const error = usualRatio * value;
    if (!(steps > 0)) return [{ index: prompt, value: value / prompts, error: error / prompts }];
    const perStep = value / (steps + promptPerStep * prompts);
    return [
      { index: step, others: { [prompt]: prompts / steps }, value: value / steps, error: error / steps },
      { index: prompt, others: { [step]: -promptPerStep }, value: 0, error: promptPerStepError * perStep },
    ];
  }

  /** The largest standard error of one's part of what all of them drew: what they drew together is known. */
  #errorOf(
    found: Solution,
    work: ReadonlyMap<string, Work>,
    joules: ReadonlyMap<string, number>,
    all: number,
  ): number {
    const amounts = this.#servers.flatMap((server) => work.get(server) ?? [0, 0]);
    let error = 0;
    for (const [server, own] of joules) {
      const place = inputs * this.#servers.indexOf(server);
      const moves = amounts.map(
        (amount, at) => (amount * ((at >= place && at < place + inputs ? 1 : 0) - own / all)) / all,
      );
      error = Math.max(error, errorOfSum(found, moves));
    }
    return error;
  }
}

function sum(amounts: Float64Array): number {
  let all = 0;
  for (const amount of amounts) all += amount;
  return all;
}
