// How long requests are: whether they end inside a window, inside the time between two polls, or stay from poll to poll. Those
// in the server at a time over those that end in a second are how long each was there (Little's law), and of two neighbouring
// polls the second one sees what of the first one's requests stayed.

import type { Nanos } from "../../model.ts";
import type { PollInterval, WorkRun } from "./evidence.ts";
import type { Level } from "./learned.ts";
import { areMadeShorter } from "./presumed.ts";

/** What is thought of requests before any poll: that they stay; the share that must, and how older polls fade. */
const [flyingFirst, stayedFirst, stayRatioMin, stayFadeRatio] = [3, 2, 0.4, 0.98];
/** Requests that are read in flight less often than that end inside the time between two polls. */
const sightedRatio = 0.2;
/** Polls that it takes, those that are thought of before any among them. */
const stayedMin = 4.5;
/** Requests that take less than this are brief, and how many have to end to say so. */
const [briefNanos, endedMin] = [100_000_000, 20];
/** Requests that polls have to read in flight to say how long they take. */
const insideMin = 2;
/** The same of those that wait for others as well. */
const quickNanos = 250_000_000;
/** Requests that are there for this part of the time between two polls are long. */
const longPolls = 0.5;
/** Older evidence fades with each poll: engines change their load. */
const fadeRatio = 0.995;

/** What a poll read, and how many requests ended since the one before it. */
export type Sight = Pick<PollInterval, "inFlightTo" | "requests" | "to">;

/**
 * Takes in what a poll read in flight, and how many requests ended since the one before it, in `work`: where the GPU was seen
 * at work. Of a GPU at rest a poll that reads nothing says no more than the GPU does.
 */
export function observeEnded(
  level: Level,
  { inFlightTo, requests, to }: Sight,
  work: readonly WorkRun[],
): void {
  if (inFlightTo === undefined || requests === undefined) return;
  const isSight = inFlightTo > 0 || work.some((piece) => piece.from < to && piece.to >= to);
  let nanos = 0;
  let bursts = 0;
  for (const piece of work) {
    nanos += piece.to - piece.from;
    bursts += Math.max(1, Math.floor((piece.to - piece.from) / briefNanos));
  }
  level.inside = level.inside * fadeRatio + inFlightTo;
  level.polls = level.polls * fadeRatio + (isSight ? 1 : 0);
  level.ended = level.ended * fadeRatio + requests;
  level.sightNanos = level.sightNanos * fadeRatio + nanos;
  level.bursts = level.bursts * fadeRatio + bursts;
}

/** Takes in how long the requests took that ended between two polls. */
export function observeLasted(level: Level, { ended }: Pick<PollInterval, "ended">): void {
  if (ended === undefined || !(ended.requests > 0)) return;
  level.longest = Math.max(level.longest * fadeRatio, ended.nanos / ended.requests);
  level.lasted = level.lasted * fadeRatio + ended.requests;
}

/** Returns how long a request is there at the most, by those that ended; undefined while they were few. */
export function longestOf({ lasted, longest }: Level): Nanos | undefined {
  return lasted >= endedMin ? longest : undefined;
}

/**
 * True where requests are shorter than windows, whoever else worked: those in the server at a time over those that end in a
 * second are how long each was there (Little's law), while the GPU was seen at work. Requests may have come all together in
 * each piece of work, and of long ones in each part that a brief one would fill: a poll that reads none misses them all at once.
 */
export function areBrief(level: Level): boolean {
  return areShorter(level, briefNanos) || areMadeShorter(level, quickNanos);
}

/** True where requests are hardly longer than windows, by the same law: so long at the most where others take turns with them. */
export function areQuick(level: Level): boolean {
  return areShorter(level, quickNanos) || areMadeShorter(level, quickNanos);
}

/** How long a request is there by the same law, and the standard error of that over itself; undefined before polls read some. */
export function residenceOf({ ended, inside, polls, sightNanos }: Level): Residence | undefined {
  if (ended < endedMin || inside < insideMin) return undefined;
  return { nanos: (inside * sightNanos) / (polls * ended), error: 1 / Math.sqrt(inside) };
}

/** How long requests are in a server. */
export interface Residence {
  readonly nanos: Nanos;
  readonly error: number;
}

function areShorter({ bursts, ended, inside, polls, sightNanos }: Level, nanos: Nanos): boolean {
  if (ended < endedMin || bursts <= 0) return false;
  return (inside / ended + 1 / bursts) * sightNanos < nanos * polls;
}

/** True where requests are there for about as long as a poll is away from the next one, by the same law. */
export function areLong({ ended, inside }: Level): boolean {
  return ended > 0 && inside >= longPolls * ended;
}

/** Takes in two neighbouring polls: of long requests the second one sees what the first one saw. */
export function observeStay(level: Level, before: number | undefined, after: number | undefined): void {
  if (!((before ?? 0) > 0) || after === undefined) return;
  level.flying = level.flying * stayFadeRatio + 1;
  level.stayed = level.stayed * stayFadeRatio + (after > 0 ? 1 : 0);
  level.presumed *= stayFadeRatio;
}

/**
 * True where a request in flight at two polls is in flight between them. Before that was seen it is presumed, unless many
 * more requests end than polls read in flight: one that lasts from poll to poll is read at least once.
 */
export function requestsStay(level: Level): boolean {
  const { flying, presumed } = level;
  const stayed = level.stayed + (areSighted(level) ? presumed * stayedFirst : 0);
  return stayed >= stayRatioMin * (flying + presumed * flyingFirst);
}

/** True where that was seen often enough to learn a pace from what is between two such polls. */
export function requestsWereSeenToStay(level: Level): boolean {
  return level.stayed + level.presumed * stayedFirst >= stayedMin && requestsStay(level);
}

/** False where many more requests end than polls read in flight: one that lasts from poll to poll is read at least once. */
export function areSighted({ ended, inside }: Level): boolean {
  return inside + 1 >= sightedRatio * ended;
}

/** True while too few requests ended to say how long they are. */
export function endedFew({ ended }: Level): boolean {
  return ended < endedMin;
}
