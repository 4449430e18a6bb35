// What a GPU of several does of the work of its server, by what it does while the others execute. Where prefill and decode are
// apart behind one page, one GPU does prompts alone: output tokens are made while it rests, and how long it works goes with the
// prompts. What GPUs make of a prompt token beside a decode step (beliefs.ts) says nothing of such a GPU, for it takes no steps.
import type { PrefillShares } from "./beliefs.ts";
import { errorOfSum, LeastSquares } from "./least-squares.ts";

/** Seconds that it takes in which others of the server worked while this GPU rested. */
const elsewhereMin = 4;
/** The most that decode may be of the time here, two standard errors included: prompts that a poll cuts look like decode. */
const decodeShareMax = 0.25;

/** Prompt tokens, decode steps, and output tokens after the first. */
export type WorkInputs = readonly [number, number, number];

/** The evidence of one server on one GPU. */
export class GpuRole {
  readonly #keptRatio: number;
  readonly #time: LeastSquares;
  /** Seconds in which others of the server worked while this GPU rested, older ones faded. */
  #elsewhere = 0;
  /** Sums of the inputs, older ones faded. */
  #seen: WorkInputs = [0, 0, 0];
  #found: PrefillShares | undefined;
  #isStale = true;

  /** `keptRatio`: what a step leaves of the weight of those before it. */
  constructor(keptRatio: number) {
    this.#keptRatio = keptRatio;
    this.#time = new LeastSquares(3, keptRatio);
  }

  /** Takes in how long this GPU worked in a step. */
  observe(inputs: WorkInputs, seconds: number, weight: number): void {
    const kept = this.#keptRatio;
    const [prompt, steps, output] = this.#seen;
    this.#time.observe(inputs, seconds, weight);
    this.#seen = [
      prompt * kept + inputs[0] * weight,
      steps * kept + inputs[1] * weight,
      output * kept + inputs[2] * weight,
    ];
    this.#isStale = true;
  }

  /** Takes in that this GPU rested in all or a part of a step, and how long others of the server worked meanwhile. */
  observeRest(inputs: WorkInputs, isWholeStep: boolean, elsewhereSeconds: number): void {
    this.#elsewhere = this.#elsewhere * this.#keptRatio + elsewhereSeconds;
    if (isWholeStep) this.observe(inputs, 0, 1);
    this.#isStale = true;
  }

  /** All of a step as prefill, and how far off that may be; undefined where this GPU decodes as well, or may do so. */
  promptsOnly(): PrefillShares | undefined {
    if (this.#elsewhere < elsewhereMin) return undefined;
    if (this.#isStale) this.#found = this.#solved();
    this.#isStale = false;
    return this.#found;
  }

  #solved(): PrefillShares | undefined {
    const solution = this.#time.solve();
    const [a, s, d] = solution.coefficients as [number, number, number];
    const [prompt, steps, output] = this.#seen;
    const decode = s * steps + d * output;
    const all = a * prompt + decode;
    const error = errorOfSum(solution, [0, steps, output]);
    if (!(all > 0 && decode + 2 * error <= decodeShareMax * all)) return undefined;
    const off = Math.max(decode, error) / all;
    return { time: 1, energy: 1, timeError: off, energyError: off };
  }
}
