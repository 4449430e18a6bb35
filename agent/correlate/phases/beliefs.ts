// What is thought of the costs of a prompt token and of a decode step before a server's own intervals say more.
// A decode step reads every weight once, a prompt token multiplies by every weight once: their times are at most as bandwidth to
// arithmetic, and arithmetic draws more than reading does.
import type { Belief } from "./least-squares.ts";

/**
 * Time of a prompt token over that of a decode step, and how far off that may be. Bytes per second over half of the operations per
 * second are 1/107 (A100) to 1/262 (L40S) by their data sheets; a step also waits for its host, so that h100-solo-8b has 1/600.
 */
export const [promptPerStep, promptPerStepError] = [1 / 200, 1 / 200];
/** Requests that a decode step may work on where no gauge says how many, and how many times the usual error that costs. */
const [batchUnknown, unknownFactor] = [8, 2];
/** A decode step takes about so long where no gauge says how many share one: a third of an 80 GB memory is read in it. */
export const stepSecondsUnknown = 0.01;
/** Time that a request adds to a step over that of the step, at most: what is read of its own is less than the weights. */
const requestPerStepError = 1;
/**
 * Watts above the floor of a prompt over those of decode steps, and how far off that may be. Products of matrices against serving:
 * 1.2 on h100-solo-8b, 64 at once, and beyond 3 where steps wait for their host (h100-low-load-1b).
 */
export const [promptWatts, promptWattsError] = [2, 1];
/** Joules of an output token beyond those of the time it took, over these. */
const outputWattsError = 0.3;
/** How well a window of 200 ms shows when work began: its length over the root of 12, s. */
export const edgeSeconds = 0.06;
/** How far off an interval is beside its edges, as a share of it: how many share a step is known at its ends. */
const intervalError = 0.07;
/** Intervals that what is thought of their errors counts for. */
export const intervalsExpected = 4;

/** Returns what is thought of the costs in time, none while a step takes no time. */
export function timeBeliefs(stepSeconds: number, isGauged: boolean): readonly Belief[] {
  if (!(stepSeconds > 0)) return [];
  const error = (isGauged ? 1 : unknownFactor) * promptPerStepError;
  return [
    { index: 0, value: stepSeconds * promptPerStep, error: stepSeconds * error },
    { index: 2, value: 0, error: stepSeconds * requestPerStepError },
  ];
}

/** Returns what is thought of the joules of a prompt token and of an output token beyond those of decode over their times, s. */
export function energyBeliefs(
  promptSeconds: number,
  outputSeconds: number,
  decodeWatts: number,
): readonly Belief[] {
  const perPrompt = promptSeconds * decodeWatts;
  const perOutput = outputSeconds * decodeWatts;
  const beliefs: Belief[] = [];
  if (perPrompt > 0)
    beliefs.push({ index: 0, value: (promptWatts - 1) * perPrompt, error: promptWattsError * perPrompt });
  if (perOutput > 0) beliefs.push({ index: 2, value: 0, error: outputWattsError * perOutput });
  return beliefs;
}

/** Mean square by which intervals are off, in what `perSecond` makes of their seconds. */
export function expectedVariance(seconds: number, perSecond: number): number {
  return (perSecond * edgeSeconds) ** 2 + (perSecond * intervalError * seconds) ** 2;
}

/** Returns the shares of prefill by what GPUs make of so many prompt tokens and decode steps alone, and how far off they may be. */
export function sharesByBelief(promptTokens: number, steps: number, isGauged: boolean): PrefillShares {
  const factor = isGauged ? 1 : batchUnknown;
  const prefill = promptPerStep * factor * promptTokens;
  const time = prefill / (prefill + steps);
  const timeError = time * (1 - time);
  const energy = (promptWatts * time) / (1 + (promptWatts - 1) * time);
  const wattsError = (promptWattsError / promptWatts) * energy * (1 - energy);
  return { time, energy, timeError, energyError: Math.hypot(timeError, wattsError) };
}

/** The share of prefill in the time and energy of a step, each with its standard error. */
export interface PrefillShares {
  readonly time: number;
  readonly energy: number;
  readonly timeError: number;
  readonly energyError: number;
}
