// A server's own pace: output-token equivalents per nanosecond of activity, where nothing else explains the work.
// Learned apart for a GPU to itself and a GPU shared with an active peer (h100-shared-8b-1b: 16,600 against 7,300
// tokens a second for the same batch). The nearest interval of the same kind comes before what was learned.

import type { PollInterval } from "./evidence.ts";
import { areApart, continuedNanosMax, gaugedWith, isOccasional, paceByGauges } from "./gauged.ts";
import type { Pace, Rates } from "./learned.ts";

/** Intervals that work for a smaller share teach no rate: their edges weigh too much. */
const workRatioMin = 0.25;
/** Weight of the newest interval in a pace. */
const paceRatio = 0.25;
/** How far off the logarithm of a pace is: how many requests ran is known at the polls alone. */
export const flyingPaceError = 0.25;
/** Older intervals fade in the fastest one. */
const fastestFadeRatio = 0.99;
/** Weight of the newest interval in a learned rate. */
const learningRatio = 0.5;

/** Returns the pace that holds for interval `index`, undefined while none is known. */
export function paceFor(intervals: readonly PollInterval[], rates: Rates, index: number): Pace | undefined {
  const interval = intervals[index];
  if (interval === undefined) return undefined;
  if (areApart(interval, rates)) return paceByGauges(rates);
  const near = [index - 1, index + 1].map((at) => ({ at, rate: steadyRate(intervals, at) }));
  for (const { at, rate } of near)
    if (rate !== undefined && intervals[at]?.contended === interval.contended) return seen(rate);
  const gauged = isOccasional(rates) ? paceByGauges(rates) : undefined;
  if (interval.contended && gauged !== undefined) return gauged;
  const learned = interval.contended ? rates.contended : rates.alone;
  if (learned !== undefined) return seen(learned);
  const other = near[0]?.rate ?? near[1]?.rate ?? rates.alone ?? rates.contended;
  return other === undefined ? undefined : seen(other);
}

function seen(rate: number): Pace {
  return { rate, error: undefined };
}

/** Returns the rates after interval `index` was decided. */
export function learnRates(intervals: readonly PollInterval[], rates: Rates, index: number): Rates {
  const gauged = gaugedWith(rates.gauged, intervals[index]);
  const flying = flyingWith(rates.flying, intervals[index]);
  const fastest = fastestWith(rates.fastest, intervals[index]);
  const rate = steadyRate(intervals, index);
  if (rate === undefined) return { ...rates, flying, fastest, gauged };
  const mix = (old: number | undefined) => (old === undefined ? rate : old + (rate - old) * learningRatio);
  return intervals[index]?.contended
    ? { alone: rates.alone, contended: mix(rates.contended), flying, fastest, gauged }
    : { alone: mix(rates.alone), contended: rates.contended, flying, fastest, gauged };
}

/** The pace of a server that executes throughout, where nobody else may have worked. */
function flyingWith(flying: number | undefined, interval: PollInterval | undefined): number | undefined {
  if (interval === undefined || interval.open || interval.contended || !(interval.ownSteps > 0))
    return flying;
  if (interval.mayPause || interval.mayBeLonger) return flying;
  if (!((interval.inFlightFrom ?? 0) > 0 && (interval.inFlightTo ?? 0) > 0)) return flying;
  const rate = interval.ownSteps / (interval.to - interval.from);
  return flying === undefined ? rate : flying + (rate - flying) * paceRatio;
}

function fastestWith(fastest: Rates["fastest"], interval: PollInterval | undefined): Rates["fastest"] {
  if (interval === undefined || interval.open || interval.contended || !(interval.ownSteps > 0))
    return fastest;
  const { from, inFlightFrom, inFlightTo, mayBeLonger, ownSteps, to } = interval;
  if (mayBeLonger) return fastest;
  if (inFlightFrom === undefined || inFlightTo === undefined || inFlightFrom > 0 === inFlightTo > 0)
    return fastest;
  return {
    rate: Math.max(fastest.rate * fastestFadeRatio, ownSteps / (to - from)),
    intervals: fastest.intervals + 1,
  };
}

/**
 * The pace by intervals that requests began or ended in, undefined for none. None was executed for longer than it is, and the
 * fastest of n was executed for n / (n + 1) of it on average, were their ends where they may.
 */
export function paceByFastest(
  fastest: Rates["fastest"],
  intervals: readonly PollInterval[],
): { readonly pace: number | undefined; readonly error: number } {
  const { intervals: count, rate } = intervals.reduce(fastestWith, fastest);
  return { pace: count === 0 ? undefined : rate * (1 + 1 / count), error: 1 / (count + 1) };
}

/** The pace in intervals throughout which a server executes; undefined where there are none. */
export function flyingPace(intervals: readonly PollInterval[]): number | undefined {
  return intervals.reduce(flyingWith, undefined as number | undefined);
}

/** The pace of an interval whose work is all the server's: alone, or in the middle of a longer activity. */
function steadyRate(intervals: readonly PollInterval[], index: number): number | undefined {
  const interval = intervals[index];
  if (interval === undefined || interval.kind !== "moved" || interval.progress <= 0) return undefined;
  if (interval.mayBeLonger) return undefined;
  if (interval.workNanos < (interval.to - interval.from) * workRatioMin) return undefined;
  const flying = (interval.inFlightFrom ?? 0) > 0 && (interval.inFlightTo ?? 0) > 0;
  if (!flying && interval.work.some((piece) => !piece.seen)) return undefined;
  // Polls far apart that all show tokens may each have seen another request.
  const isNear = interval.to - interval.from <= continuedNanosMax;
  const amid = intervals[index - 1]?.kind === "moved" && intervals[index + 1]?.kind === "moved";
  const middle = flying || (isNear && amid);
  const quietNext = intervals[index + 1]?.kind === "quiet" && intervals[index + 1]?.workNanos !== 0;
  const quietBefore = intervals[index - 1]?.kind === "quiet" && intervals[index - 1]?.workNanos !== 0;
  if (interval.contended ? !middle : quietNext || quietBefore) return undefined;
  return interval.progress / interval.workNanos;
}
