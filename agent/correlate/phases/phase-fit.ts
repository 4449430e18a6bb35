// What a prompt token of a server costs on a GPU, in time and in energy, learned from its own intervals between polls.
// Time = a x prompt tokens + s x decode steps + d x output tokens; energy above the floor = x x prompt tokens + w x time +
// e x output tokens. The first token of a request comes with its prefill; steps are tokens over the requests running.
// Before its intervals say more, beliefs.ts has what GPUs make of them.
import type { Nanos } from "../../model.ts";
import type { TokenStep } from "../token-step.ts";
import type { PrefillShares } from "./beliefs.ts";
import {
  edgeSeconds,
  energyBeliefs,
  expectedVariance,
  intervalsExpected,
  promptPerStep,
  promptWatts,
  sharesByBelief,
  stepSecondsUnknown,
  timeBeliefs,
} from "./beliefs.ts";
import type { WorkInputs } from "./gpu-role.ts";
import { GpuRole } from "./gpu-role.ts";
import type { Belief, Solution } from "./least-squares.ts";
import { errorOfSum, LeastSquares } from "./least-squares.ts";

/** What an observation leaves of the weight of those before it. */
const keptRatio = 0.995;
/** First tokens it takes to go by how long they took, and how far off that is for a request that is alone. */
const [firstTokensMin, firstTokenError] = [20, 0.15];
/** Weight of an interval in which others worked as well, in which requests ended, or which a page stood before. */
const [sharedWeight, endingWeight, doubtedWeight] = [0.1, 0.25, 0.1];
/** Intervals it takes to say that steps took longer than they do, and how much longer. */
const [underWayMin, underWayRatio] = [10, 2];
/** Intervals with output tokens that it takes to go by them. */
const observationsMin = 2;
/** Shorter activity is all edge. */
const nanosMin = 20_000_000;
/** Weight of the newest interval in the mean number of requests running. */
const batchRatio = 1 / 16;

/** What a prompt token, a decode step and an output token cost. */
type Costs = [number, number, number];

/** The costs of one server on one GPU. */
export class PhaseFit {
  readonly #time = new LeastSquares(3, keptRatio);
  readonly #energy = new LeastSquares(3, keptRatio);
  readonly #role = new GpuRole(keptRatio);
  /** Sums of the intervals, older ones faded. */
  #seen = { seconds: 0, joules: 0, steps: 0, promptTokens: 0 };
  /** Prompt tokens of the interval with most, older ones faded. */
  #promptMost = 0;
  #observations = 0;
  /** Activity in which no token moved: a prefill under way, whose tokens count when it ends. */
  #ahead = { nanos: 0, millijoules: 0 };
  /** Sums of the steps that show how long requests took, older ones faded. */
  #timed = {
    ...{ firstTokens: 0, firstTokenSeconds: 0, promptTokens: 0, requestSeconds: 0, activeSeconds: 0 },
    ...{ steps: 0, output: 0 },
  };
  /** Requests running on average while any ran, and whether a gauge ever said so. */
  #batch = 1;
  #isGauged = false;
  /** Requests are timed from when the server took them up. */
  #isPhased = false;
  #costs: { readonly time: Solution; readonly energy: Solution } | undefined;

  /** Takes in a step that is over, with the token-active time and the energy above the floor it took. */
  observe(step: TokenStep, nanos: Nanos, millijoules: number, isShared: boolean): void {
    if (step.inputTokens <= 0 && step.outputTokens <= 0) {
      if (isShared) return;
      this.#ahead = {
        nanos: this.#ahead.nanos + nanos,
        millijoules: this.#ahead.millijoules + millijoules,
      };
      return;
    }
    const seconds = (nanos + this.#ahead.nanos) / 1e9;
    const joules = (millijoules + this.#ahead.millijoules) / 1e3;
    this.#ahead = { nanos: 0, millijoules: 0 };
    const under = isShared || step.inputTokens > 0 ? undefined : this.underWay(step, nanos);
    if (under !== undefined) {
      this.#ahead = { nanos: under.time * nanos, millijoules: under.energy * millijoules };
      return;
    }
    if (nanos < nanosMin) return;
    this.#learnBatch(step);
    this.#learnDurations(step, seconds);
    const [prompt, steps, output] = this.#inputs(step);
    const weight =
      (isShared ? sharedWeight : 1) *
      (step.isDoubted ? doubtedWeight : 1) *
      ((step.inFlightTo ?? 0) < (step.inFlightFrom ?? 0) ? endingWeight : 1);
    this.#promptMost = Math.max(prompt, this.#promptMost * keptRatio);
    const seen = this.#seen;
    this.#seen = {
      seconds: seen.seconds * keptRatio + seconds * weight,
      joules: seen.joules * keptRatio + joules * weight,
      steps: seen.steps * keptRatio + steps * weight,
      promptTokens: seen.promptTokens * keptRatio + prompt * weight,
    };
    this.#time.observe([prompt, steps, output], seconds, weight);
    this.#role.observe([prompt, steps, output], seconds, weight);
    this.#energy.observe([prompt, seconds, output], joules, weight);
    if (output > 0) this.#observations++;
    this.#costs = undefined;
  }

  /** Takes in that nothing was done here in a step, or a part of it, and how long others of the server worked meanwhile. */
  observeRest(step: TokenStep, isWholeStep: boolean, elsewhereSeconds: number): void {
    if (!step.isDoubted) this.#role.observeRest(this.#inputs(step), isWholeStep, elsewhereSeconds);
  }

  /** Returns that all work here is prefill, and how far off that may be, where other GPUs of the server decode. */
  promptsOnly(): PrefillShares | undefined {
    return this.#role.promptsOnly();
  }

  /**
   * Returns what of a step in which both kinds moved was prefill; undefined while too little was seen. What its prompts took
   * before it, `aheadNanos` and what was taken in without a token, is no part of it.
   */
  shares(step: TokenStep, aheadNanos: Nanos): PrefillShares | undefined {
    if (this.#observations < observationsMin) return this.#assumed(step, aheadNanos);
    const [prompt, steps, output] = this.#inputs(step);
    const { energy, time } = this.#solved();
    const [a, s, d] = time.coefficients as Costs;
    const prefillWhole = a * prompt;
    // Output tokens that cost nothing were never seen apart: a step is then what a prompt token makes of it.
    const decode = s + d > 0 ? s * steps + d * output : (a / promptPerStep) * steps;
    const ahead = (aheadNanos + this.#ahead.nanos) / 1e9;
    const room = (step.to - step.from) / 1e9 - decode;
    const prefill = ahead > 0 ? Math.max(0, Math.min(prefillWhole - ahead, room)) : prefillWhole;
    const part = prefillWhole > 0 ? prefill / prefillWhole : 1;
    const all = prefill + decode;
    if (!(all > 0)) return undefined;
    const share = prefill / all;
    const errs =
      s + d > 0
        ? errorOfSum(time, [(1 - share) * prompt, -share * steps, -share * output])
        : Math.hypot((1 - share) * finite(time.errors[0] as number) * prompt, share * decode);
    // What came ahead is known to where its work was seen to begin; prompts that do not fit were worked on before, unseen.
    const edge = ahead > 0 ? Math.min(edgeSeconds, prefillWhole) : 0;
    const misfit = Math.min(
      prefillWhole,
      Math.max(0, prefillWhole - ahead - Math.max(0, room), ahead - prefillWhole),
    );
    const timeError = Math.min(1, Math.hypot(errs, edge, misfit) / all);
    const [x, w, e] = energy.coefficients as Costs;
    const prefillJoules = x * part * prompt + w * prefill;
    const decodeJoules = w * decode + e * output;
    const joules = prefillJoules + decodeJoules;
    if (!(joules > 0)) return { time: share, energy: share, timeError, energyError: timeError };
    const energyShare = prefillJoules / joules;
    const own =
      errorOfSum(energy, [
        (1 - energyShare) * part * prompt,
        (1 - energyShare) * prefill - energyShare * decode,
        -energyShare * output,
      ]) / joules;
    return {
      time: share,
      energy: energyShare,
      timeError,
      energyError: Math.min(1, Math.hypot((w * all * timeError) / joules, own)),
    };
  }

  /**
   * Returns what of a step in which output tokens alone moved was a prompt under way, worked on in the same steps; undefined
   * where it took no longer than such steps do.
   */
  underWay(step: TokenStep, nanos: Nanos): PrefillShares | undefined {
    if (this.#observations < underWayMin) return undefined;
    const [, steps, output] = this.#inputs(step);
    const { time } = this.#solved();
    const [a, s, d] = time.coefficients as Costs;
    // A prompt under way is in flight when the step is over. Of requests that end, fewer and fewer share a step: such steps take
    // longer, and what is left is a prompt as far as prompts are that long.
    const { inFlightFrom, inFlightTo, requests } = step;
    if (inFlightTo === 0) return undefined;
    const isThinning = inFlightTo === undefined || requests > 0 || inFlightTo < (inFlightFrom ?? 0);
    const least = Math.max(1, Math.min(inFlightFrom ?? 1, inFlightTo ?? 1));
    const most = isThinning && this.#isGauged ? Math.max(steps, output / least) : steps;
    const decode = s * most + d * output;
    const error = errorOfSum(time, [0, most, output]);
    const seconds = nanos / 1e9;
    if (!(decode > 0) || seconds < underWayRatio * (decode + 2 * error)) return undefined;
    const rest = seconds - decode;
    const share = (isThinning ? Math.min(rest, a * this.#promptMost) : rest) / seconds;
    return { time: share, energy: share, timeError: share / 2, energyError: share / 2 };
  }

  #solved(): { readonly time: Solution; readonly energy: Solution } {
    if (this.#costs !== undefined) return this.#costs;
    const time = this.#solvedTime();
    this.#costs = { time, energy: this.#solvedEnergy(time) };
    return this.#costs;
  }

  #solvedTime(): Solution {
    const { seconds, steps } = this.#seen;
    this.#time.expect(expectedVariance(seconds / this.#time.weight, 1), intervalsExpected);
    const belief = this.#byFirstTokens();
    if (belief !== undefined) return this.#time.solve(belief);
    // No step takes longer than all of the time over all of them; without what prompts took of it, it is less.
    const least = this.#isGauged ? 0 : stepSecondsUnknown;
    const most = steps > 0 ? Math.max(least, seconds / steps) : least;
    const [, s, d] = this.#time.solve(...timeBeliefs(most, this.#isGauged)).coefficients as Costs;
    const step = Math.min(most, Math.max(least, s + d * this.#batch));
    return this.#time.solve(...timeBeliefs(step, this.#isGauged));
  }

  #solvedEnergy(time: Solution): Solution {
    const { joules, promptTokens, seconds } = this.#seen;
    const [a, s, d] = time.coefficients as Costs;
    const watts = joules / seconds;
    const share = Math.min(1, (a * promptTokens) / seconds);
    this.#energy.expect(expectedVariance(seconds / this.#time.weight, watts), intervalsExpected);
    const decodeWatts = watts / (1 + share * (promptWatts - 1));
    return this.#energy.solve(...energyBeliefs(a, s / this.#batch + d, decodeWatts));
  }

  /** The shares by what GPUs make of a prompt token and a decode step alone; undefined where prompts were worked on before. */
  #assumed(step: TokenStep, aheadNanos: Nanos): PrefillShares | undefined {
    if (aheadNanos + this.#ahead.nanos > 0) return undefined;
    const [prompt, steps] = this.#inputs(step);
    return sharesByBelief(prompt, steps, step.inFlightTo !== undefined);
  }

  /** Prompt tokens, decode steps and output tokens after the first, of a step. */
  #inputs(step: TokenStep): WorkInputs {
    const output = decodedIn(step);
    return [step.inputTokens, output / this.#running(step), output];
  }

  #running({ inFlightFrom, inFlightTo }: TokenStep): number {
    if (inFlightFrom === undefined || inFlightTo === undefined) return this.#batch;
    if (inFlightFrom > 0 && inFlightTo > 0) return (inFlightFrom + inFlightTo) / 2;
    // Requests that have all ended ended one after the other.
    if (inFlightFrom > 0) return (inFlightFrom + 1) / 2;
    return inFlightTo > 0 ? inFlightTo : this.#batch;
  }

  #learnDurations(step: TokenStep, seconds: number): void {
    const { ended, inputTokens } = step;
    if (ended === undefined && this.#timed.firstTokens === 0) return;
    if (ended !== undefined) this.#isPhased = ended.isPhased === true;
    const { activeSeconds, firstTokens, firstTokenSeconds, output, promptTokens, requestSeconds, steps } =
      this.#timed;
    const [, stepsMore, outputMore] = this.#inputs(step);
    this.#timed = {
      steps: steps * keptRatio + stepsMore,
      output: output * keptRatio + outputMore,
      firstTokens: firstTokens * keptRatio + (ended?.firstTokens ?? 0),
      firstTokenSeconds: firstTokenSeconds * keptRatio + (ended?.firstTokenNanos ?? 0) / 1e9,
      promptTokens: promptTokens * keptRatio + inputTokens,
      requestSeconds: requestSeconds * keptRatio + (ended?.nanos ?? 0) / 1e9,
      activeSeconds: activeSeconds * keptRatio + seconds,
    };
  }

  /**
   * What a prompt token takes by the time to the first token, where requests come one by one: beside others a prompt waits
   * for their steps, and prompts are worked on together.
   */
  #byFirstTokens(): Belief | undefined {
    const { activeSeconds, firstTokens, firstTokenSeconds, output, promptTokens, requestSeconds, steps } =
      this.#timed;
    if (firstTokens < firstTokensMin || !(promptTokens > 0) || !(activeSeconds > 0)) return undefined;
    const others = Math.max(0, requestSeconds / activeSeconds - 1);
    const value = firstTokenSeconds / promptTokens;
    if (!(others < 1 && value > 0)) return undefined;
    const decodeSeconds = requestSeconds / (1 + others / 2) - firstTokenSeconds;
    if (this.#isPhased && decodeSeconds > 0) {
      // Timed each by itself, prompts and what follows them take their parts of the whole, however well that is known. Beside
      // others it is decode that waits, where prompts come first, and both where they share their steps.
      const ratio = firstTokenSeconds / decodeSeconds / promptTokens;
      const rest = [0, -ratio * steps, -ratio * output];
      return { index: 0, others: rest, value: 0, error: value * (firstTokenError + others / 2) };
    }
    return { index: 0, value: value / (1 + others / 2), error: value * (firstTokenError + others) };
  }

  #learnBatch({ inFlightFrom, inFlightTo }: TokenStep): void {
    const seen = Math.max(inFlightFrom ?? 0, inFlightTo ?? 0);
    this.#isGauged ||= inFlightTo !== undefined;
    if (seen > 0) this.#batch += (seen - this.#batch) * batchRatio;
  }
}

/** Output tokens of a step but the first of each request: of those that ended in it and those running more than before. */
export function decodedIn({ inFlightFrom, inFlightTo, outputTokens, requests }: TokenStep): number {
  const started = Math.max(0, requests + (inFlightTo ?? 0) - (inFlightFrom ?? 0));
  return Math.max(0, outputTokens - started);
}

function finite(error: number): number {
  return Number.isFinite(error) ? error : 0;
}
