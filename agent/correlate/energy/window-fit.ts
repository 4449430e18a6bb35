// What the work of each server on a shared GPU costs in energy above the floor, by whole windows of energy that are longer than
// an interval: their joules over the prompt tokens and decode steps of all servers at once (METERING.md 4). Where inside of a window
// they went was worked out from who executed, and says nothing of whose they were. It starts from equal watts while each
// has the GPU, give or take all of it.
import { promptPerStep, promptPerStepError } from "../phases/beliefs.ts";
import type { Belief, Solution } from "../phases/least-squares.ts";
import { errorOfSum, LeastSquares } from "../phases/least-squares.ts";
import type { Work } from "./work-columns.ts";
import { inputs, WorkColumns } from "./work-columns.ts";
import type { FittedShares } from "./work-fit.ts";

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

/** The fit of one GPU. Windows go in by rising time. */
export class WindowFit {
  readonly #columns = new WorkColumns();
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
    const servers = this.#columns.begin(work);
    if (servers === "too many") return;
    if (servers === "others") this.#begin();
    if (this.#columns.fill(work) === 0) return;
    const { amounts } = this.#columns;
    this.#squares.observe(amounts, joules, 1);
    for (let at = 0; at < this.#work.length; at++)
      this.#work[at] = (this.#work[at] as number) * keptRatio + (amounts[at] as number);
    for (let at = 0; at < this.#turns.length; at++)
      this.#turns[at] =
        (this.#turns[at] as number) * keptRatio + (turns.get(this.#columns.servers[at] as string) ?? 0);
    this.#joules = this.#joules * keptRatio + joules;
    this.#windows++;
    this.#seconds += seconds;
  }

  #begin(): void {
    const { servers, size } = this.#columns;
    this.#squares = new LeastSquares(size, keptRatio);
    this.#work = new Float64Array(size);
    this.#turns = new Float64Array(servers.length);
    this.#joules = 0;
    this.#windows = 0;
    this.#seconds = 0;
    this.#fittedSeconds = 0;
    this.#found = undefined;
  }

  /** Returns what each server's work cost; undefined while too little was seen. */
  shares(work: ReadonlyMap<string, Work>): FittedShares | undefined {
    if (this.#windows < windowsMin || this.#seconds < secondsMin) return undefined;
    const found = this.#solved();
    if (found === undefined) return undefined;
    const joules = new Map<string, number>();
    let all = 0;
    for (const [server, amounts] of work) {
      const place = this.#columns.placeOf(server);
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
    const all = new LeastSquares(this.#columns.size, 1);
    all.include(this.#squares);
    const { weight } = this.#squares;
    all.blur((windowRatio * (this.#joules / weight)) ** 2 / weight);
    this.#found = all.solve(...this.#columns.servers.flatMap((_, index) => this.#beliefsOf(index, mean)));
    return this.#found;
  }

  /** What is thought of a server: its watts are those of all, and a prompt token costs what it does on other GPUs. */
  #beliefsOf(server: number, watts: number): Belief[] {
    const [prompt, step] = [inputs * server, inputs * server + 1];
    const [prompts, steps] = [this.#work[prompt] as number, this.#work[step] as number];
    const value = watts * (this.#turns[server] as number);
    if (!(value > 0)) return [];
    const error = usualRatio * value;
    if (!(steps > 0))
      return prompts > 0 ? [{ index: prompt, value: value / prompts, error: error / prompts }] : [];
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
    const amounts = this.#columns.servers.flatMap((server) => work.get(server) ?? [0, 0]);
    let error = 0;
    for (const [server, own] of joules) {
      const place = this.#columns.placeOf(server);
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
