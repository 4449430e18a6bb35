// The pace of a server beside others that is seldom read in flight: how often a poll reads a request says how long its tokens
// took, since a poll falls into an execution as often as it lasts (Poisson). A few such polls say little, and a GPU that others
// keep busy shows nothing; so a decode step is held to take what GPUs make of it until the polls say more (a gamma prior, worth
// some polls that read a request). With each pace comes its standard error: one over the root of these polls.
import type { Nanos } from "../../model.ts";
import { atATimeByChance } from "./at-a-time.ts";
import type { PollInterval } from "./evidence.ts";
import type { Gauged, Pace, Rates } from "./learned.ts";
import { total } from "./stretches.ts";

/** Older gauges fade with each contended interval. */
const fadeRatio = 0.998;
/** Contended time it takes to say that a server is seldom in flight, and the share of it in flight up to which it is. */
const [gaugedNanosMin, occasionalRatio] = [20_000_000_000, 0.5];
/** Polls this near see the same requests. */
export const continuedNanosMax = 2_000_000_000;
/**
 * What a decode step takes beside another server, and how many polls that read a request it is worth: it reads every weight of
 * the model once, 6 to 20 ms alone, and has half of the turns.
 */
const firstStep = [22_000_000, 2] as const;
/** The same where its pace alone was seen between polls that both read a request: the turns are a half, a third, or nearly all. */
const [aloneRatio, alonePolls] = [2, 4];

/** Requests that it takes to go by how long they took, how far off that is, and what a poll says of those at a time. */
const [requestsMin, durationError, togetherError, chancePolls] = [3, 0.1, 0.5, 4];

/** No interval yet. */
export const notGauged: Gauged = {
  ...{ progress: 0, nanos: 0, wallNanos: 0, workNanos: 0 },
  ...{ endedNanos: 0, requests: 0, flying: 0, inside: 0 },
};

/**
 * Adds a contended interval: what moved in it, and how long a request was in execution, by the gauges at its ends. Single
 * intervals say little, a sum of them does not lean to either side.
 */
export function gaugedWith(gauged: Gauged, interval: PollInterval | undefined): Gauged {
  if (interval === undefined || interval.open || !interval.contended || !isGauged(interval)) return gauged;
  const { ended, from, to, inFlightFrom = 0, inFlightTo = 0, progress, spared } = interval;
  const workNanos = interval.workNanos + total(spared);
  const ends = (inFlightFrom > 0 ? 1 : 0) + (inFlightTo > 0 ? 1 : 0);
  return {
    progress: gauged.progress * fadeRatio + progress,
    nanos: gauged.nanos * fadeRatio + (workNanos * ends) / 2,
    wallNanos: gauged.wallNanos * fadeRatio + to - from,
    endedNanos: gauged.endedNanos * fadeRatio + (ended?.nanos ?? 0),
    requests: gauged.requests * fadeRatio + (ended?.requests ?? 0),
    flying: gauged.flying * fadeRatio + (inFlightTo > 0 ? 1 : 0),
    inside: gauged.inside * fadeRatio + inFlightTo,
    workNanos: gauged.workNanos + (workNanos - gauged.workNanos) * (gauged.workNanos > 0 ? 0.5 : 1),
  };
}

/** Whether the page says at both ends of an interval how many requests run. */
export function isGauged({ inFlightFrom, inFlightTo }: PollInterval): boolean {
  return inFlightFrom !== undefined && inFlightTo !== undefined;
}

/** The pace by the gauges, no faster than alone. */
export function paceByGauges({ alone, flying, gauged }: Rates): Pace {
  const [step, polls] =
    byDurations(gauged) ?? (flying === undefined ? firstStep : [aloneRatio / flying, alonePolls]);
  const before: Nanos = polls * gauged.workNanos;
  const hits = gauged.workNanos > 0 ? gauged.nanos / gauged.workNanos : 0;
  const rate = before > 0 ? (gauged.progress + before / step) / (gauged.nanos + before) : 1 / step;
  return { rate: alone === undefined ? rate : Math.min(alone, rate), error: 1 / Math.sqrt(polls + hits) };
}

/**
 * What a step takes by the requests that ended, and how many polls that is worth: all they took over those that are there at a
 * time, as polls read them or as chance has it where no poll did.
 */
function byDurations(gauged: Gauged): readonly [Nanos, number] | undefined {
  const { endedNanos, flying, inside, progress, requests, wallNanos } = gauged;
  if (requests < requestsMin || !(endedNanos > 0 && progress > 0)) return undefined;
  const load = endedNanos / wallNanos;
  const byChance = atATimeByChance(load);
  const together = Math.max(1, (inside + chancePolls * byChance) / (flying + chancePolls));
  const error = Math.hypot(durationError, togetherError / Math.sqrt(flying + chancePolls));
  return [endedNanos / together / progress, 1 / error ** 2];
}

/**
 * True where requests in flight at both ends of an interval need not be the same ones: beside others, with polls far
 * apart, of a server that is seldom read in flight.
 */
export function areApart({ contended, from, to }: PollInterval, rates: Rates): boolean {
  return contended && to - from > continuedNanosMax && isOccasional(rates);
}

/** True of a server that is seldom in flight beside others. */
export function isOccasional({ gauged }: Rates): boolean {
  return gauged.wallNanos >= gaugedNanosMin && gauged.nanos < occasionalRatio * gauged.wallNanos;
}
