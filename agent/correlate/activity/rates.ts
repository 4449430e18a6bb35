// A server's own pace: output-token equivalents per nanosecond of activity, where nothing else explains the work.
// Learned apart for a GPU to itself and a GPU shared with an active peer (h100-shared-8b-1b: 16,600 against 7,300
// tokens a second for the same batch). The nearest interval of the same kind comes before what was learned.

import type { Gauged, PollInterval, Rates } from "./evidence.ts";
import { total } from "./stretches.ts";

/** Intervals that work for a smaller share teach no rate: their edges weigh too much. */
const workRatioMin = 0.25;
/** Older gauges fade with each contended interval. */
const fadeRatio = 0.99;
/** Contended time it takes to say so. */
const gaugedNanosMin = 20_000_000_000;
/** Polls this near see the same requests. */
export const continuedNanosMax = 2_000_000_000;
/** Below this share of the time in flight, requests come one by one. */
const occasionalRatio = 0.5;
/** Weight of the newest interval in a pace. */
const paceRatio = 0.25;
/** Weight of the newest interval in a learned rate. */
const learningRatio = 0.5;

/** Returns the pace that holds for interval `index`, undefined while none is known. */
export function rateFor(intervals: readonly PollInterval[], rates: Rates, index: number): number | undefined {
  const interval = intervals[index];
  if (interval === undefined) return undefined;
  if (areApart(interval, rates)) return gaugedRate(rates);
  const near = [index - 1, index + 1].map((at) => ({ at, rate: steadyRate(intervals, at) }));
  for (const { at, rate } of near)
    if (rate !== undefined && intervals[at]?.contended === interval.contended) return rate;
  const gauged = isOccasional(rates) ? gaugedRate(rates) : undefined;
  const learned = interval.contended ? (gauged ?? rates.contended) : rates.alone;
  if (learned !== undefined) return learned;
  return near[0]?.rate ?? near[1]?.rate ?? rates.alone ?? rates.contended;
}

/** Returns the rates after interval `index` was decided. */
export function learnRates(intervals: readonly PollInterval[], rates: Rates, index: number): Rates {
  const gauged = gaugedWith(rates.gauged, intervals[index]);
  const flying = flyingWith(rates.flying, intervals[index]);
  const rate = steadyRate(intervals, index);
  if (rate === undefined) return { ...rates, flying, gauged };
  const mix = (old: number | undefined) => (old === undefined ? rate : old + (rate - old) * learningRatio);
  return intervals[index]?.contended
    ? { alone: rates.alone, contended: mix(rates.contended), flying, gauged }
    : { alone: mix(rates.alone), contended: rates.contended, flying, gauged };
}

/** The pace of a server that executes throughout, where nobody else may have worked. */
function flyingWith(flying: number | undefined, interval: PollInterval | undefined): number | undefined {
  if (interval === undefined || interval.open || interval.contended || !(interval.progress > 0))
    return flying;
  if (!((interval.inFlightFrom ?? 0) > 0 && (interval.inFlightTo ?? 0) > 0)) return flying;
  const rate = interval.progress / (interval.to - interval.from);
  return flying === undefined ? rate : flying + (rate - flying) * paceRatio;
}

/**
 * Adds a contended interval: what moved in it, and how long a request was in execution, by the gauges at its ends. Single
 * intervals say little, a sum of them does not lean to either side.
 */
function gaugedWith(gauged: Gauged, interval: PollInterval | undefined): Gauged {
  if (interval === undefined || interval.open || !interval.contended) return gauged;
  const { from, to, inFlightFrom, inFlightTo, progress, spared } = interval;
  const workNanos = interval.workNanos + total(spared);
  if (inFlightFrom === undefined || inFlightTo === undefined) return gauged;
  const ends = (inFlightFrom > 0 ? 1 : 0) + (inFlightTo > 0 ? 1 : 0);
  return {
    progress: gauged.progress * fadeRatio + progress,
    nanos: gauged.nanos * fadeRatio + (workNanos * ends) / 2,
    wallNanos: gauged.wallNanos * fadeRatio + to - from,
    workNanos: gauged.workNanos + (workNanos - gauged.workNanos) * (gauged.workNanos > 0 ? learningRatio : 1),
  };
}

/**
 * The pace by the gauges, no faster than alone: half an interval more than they saw, for requests that began and ended
 * between two of them.
 */
function gaugedRate({ alone, gauged }: Rates): number | undefined {
  if (!(gauged.progress > 0)) return undefined;
  const rate = gauged.progress / (gauged.nanos + gauged.workNanos / 2);
  return alone === undefined ? rate : Math.min(alone, rate);
}

/**
 * True where requests in flight at both ends of an interval need not be the same ones: beside others, with polls far
 * apart, of a server that is seldom read in flight.
 */
export function areApart({ contended, from, to }: PollInterval, rates: Rates): boolean {
  return contended && to - from > continuedNanosMax && isOccasional(rates);
}

function isOccasional({ gauged }: Rates): boolean {
  return gauged.wallNanos >= gaugedNanosMin && gauged.nanos < occasionalRatio * gauged.wallNanos;
}

/** The pace of an interval whose work is all the server's: alone, or in the middle of a longer activity. */
function steadyRate(intervals: readonly PollInterval[], index: number): number | undefined {
  const interval = intervals[index];
  if (interval === undefined || interval.kind !== "moved" || interval.progress <= 0) return undefined;
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
