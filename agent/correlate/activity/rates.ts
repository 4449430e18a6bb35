// A server's own pace: output-token equivalents per nanosecond of activity, where nothing else explains the work.
// Learned apart for a GPU to itself and a GPU shared with an active peer (h100-shared-8b-1b: 16,600 against 7,300
// tokens a second for the same batch). The nearest interval of the same kind comes before what was learned.
import type { PollInterval, Rates } from "./evidence.ts";

/** Intervals that work for a smaller share teach no rate: their edges weigh too much. */
const workRatioMin = 0.25;
/** Weight of the newest interval in a learned rate. */
const learningRatio = 0.5;

/** Returns the pace that holds for interval `index`, undefined while none is known. */
export function rateFor(intervals: readonly PollInterval[], rates: Rates, index: number): number | undefined {
  const interval = intervals[index];
  if (interval === undefined) return undefined;
  const near = [index - 1, index + 1].map((at) => ({ at, rate: steadyRate(intervals, at) }));
  for (const { at, rate } of near)
    if (rate !== undefined && intervals[at]?.contended === interval.contended) return rate;
  const learned = interval.contended ? rates.contended : rates.alone;
  if (learned !== undefined) return learned;
  return near[0]?.rate ?? near[1]?.rate ?? rates.alone ?? rates.contended;
}

/** Returns the rates after interval `index` was decided. */
export function learnRates(intervals: readonly PollInterval[], rates: Rates, index: number): Rates {
  const rate = steadyRate(intervals, index);
  if (rate === undefined) return rates;
  const mix = (old: number | undefined) => (old === undefined ? rate : old + (rate - old) * learningRatio);
  return intervals[index]?.contended
    ? { alone: rates.alone, contended: mix(rates.contended) }
    : { alone: mix(rates.alone), contended: rates.contended };
}

/** The pace of an interval whose work is all the server's: alone, or in the middle of a longer activity. */
function steadyRate(intervals: readonly PollInterval[], index: number): number | undefined {
  const interval = intervals[index];
  if (interval === undefined || interval.kind !== "moved" || interval.progress <= 0) return undefined;
  if (interval.workNanos < (interval.to - interval.from) * workRatioMin) return undefined;
  const flying = (interval.inFlightFrom ?? 0) > 0 && (interval.inFlightTo ?? 0) > 0;
  if (!flying && interval.work.some((piece) => !piece.seen)) return undefined;
  const middle = flying || (intervals[index - 1]?.kind === "moved" && intervals[index + 1]?.kind === "moved");
  const quietNext = intervals[index + 1]?.kind === "quiet" && intervals[index + 1]?.workNanos !== 0;
  const quietBefore = intervals[index - 1]?.kind === "quiet" && intervals[index - 1]?.workNanos !== 0;
  if (interval.contended ? !middle : quietNext || quietBefore) return undefined;
  return interval.progress / interval.workNanos;
}
