// How much of doubtful work beside others was a server's own: by its tokens over its pace, by the driver's readings that credit
// it, by the requests that a poll reads, by how long those took that ended. Each says it more or less well; what they say
// together is weighted by that, and how far off it may be is said with it.
import type { Nanos } from "../../model.ts";
import { executedByChance } from "./at-a-time.ts";
import type { Credit, Doubt, PollInterval } from "./evidence.ts";
import { continuedNanosMax, isGauged } from "./gauged.ts";
import type { Credited } from "./intervals.ts";
import { creditedIn } from "./intervals.ts";
import type { Pace } from "./learned.ts";

/** An interval and what is known around it. */
export interface Doubted {
  readonly interval: PollInterval;
  readonly credits: readonly Credit[];
  readonly pace: Pace | undefined;
  /** What its pace may be where none is known. */
  readonly likely: Pace | undefined;
  /** The server was busy at the end in question. */
  readonly busyBefore: boolean;
  readonly busyAfter: boolean;
  /** It was not read in between. */
  readonly late: boolean;
  /** Requests in flight at both ends need not be the same ones. */
  readonly apart: boolean;
  /** Requests are there for so long at the most; undefined where the page does not say. */
  readonly longest: Nanos | undefined;
}

/** Some execution, and the assumption it rests on. */
export interface Amount {
  readonly nanos: Nanos;
  readonly doubt: Doubt | undefined;
}

/** Tokens within this share of the full rate mean the server never paused. */
export const fullRateRatio = 0.85;
/** A rate and the driver's credits agree from this share of the larger one on. */
const agreedRatio = 0.5;
/**
 * What is executed where the driver's readings credit it, over the length of a reading, and its standard error: short requests
 * may miss the credit, or fill a part of one reading; of longer ones the credits themselves say it.
 */
const [missed, missedError] = [0.25, 0.25];
const [single, singleError] = [0.4, 0.3];
const severalError = 0.4;
/** A request that is in flight at one end began, or ended, anywhere in the interval: the error over its length. */
const uniformError = 1 / Math.sqrt(12);
/** How well a pace is known that was seen as it is. */
const seenError = 0.15;
/** How well the decode steps of an interval are known, and what no guess is surer than. */
const [progressError, nanosMin] = [0.25, 10_000_000];
/** Times that the errors are worked out again from what they weigh. */
const triesMax = 4;
/** What front ends add to how long requests take, as a share of it. */
const frontEndError = 0.05;
/** How much of what tokens alone say may be otherwise. */
const ungauged: Doubt = { reason: "shared_work", ratio: 0.5 };
/** So many standard errors are in doubt. */
const errors = 2;

/**
 * Returns how much execution the tokens of an interval stand for; without a pace all of `work`, or half if an end is open. In no case
 * more than the requests took that ended in it, where none was left: then they came by chance, between all at once and one after
 * the other.
 */
export function amountOf(doubted: Doubted, work: Nanos): Amount {
  return asTheyLasted(doubted, work, amountOfTokens(doubted, work));
}

/** Returns no more of `amount` than requests took: by the chance that has them come together where that is less. */
export function asTheyLasted(doubted: Doubted, work: Nanos, amount: Amount): Amount {
  const lasted = lastedIn(doubted);
  if (lasted === undefined || amount.nanos <= lasted.most) return amount;
  const { least, most } = lasted;
  const nanos = Math.max(least, executedByChance(most, work));
  const error = (most - least) * uniformError + least * frontEndError;
  const ratio = nanos > 0 ? Math.min(1, (errors * error) / nanos) : 1;
  return { nanos: Math.round(nanos), doubt: { reason: "shared_work", ratio } };
}

function amountOfTokens(doubted: Doubted, work: Nanos): Amount {
  const { apart, busyAfter, busyBefore, interval, late, pace } = doubted;
  const isContinued = busyBefore && busyAfter && !late && !apart;
  const isUngauged = interval.contended && !isGauged(interval);
  const credited = interval.contended && !late ? creditedIn(interval, doubted.credits) : undefined;
  // Of a page without gauges that work goes on says little beside others: over a long time they may do it.
  const isVague = isUngauged && isLongBeside(interval) && !((credited?.nanos ?? 0) >= work * agreedRatio);
  const continued: Amount = { nanos: work, doubt: isVague ? ungauged : undefined };
  if (isContinued && (pace === undefined || interval.progress === 0)) return continued;
  const known = pace ?? doubted.likely;
  if (interval.progress === 0 || (known === undefined && credited === undefined))
    return { nanos: Math.round(work / 2), doubt: { reason: "half_of_work", ratio: 1 } };
  const byRate = known === undefined ? undefined : Math.round(interval.progress / known.rate);
  if (known === undefined || byRate === undefined || isUngauged) {
    const nanos = withoutGauges(work, byRate, credited?.nanos);
    return isContinued && nanos >= work * fullRateRatio ? continued : { nanos, doubt: ungauged };
  }
  const amount = weighed(doubted, work, byRate, known.error ?? seenError, credited);
  if (known.error !== undefined) return amount;
  const nanos = isContinued && amount.nanos >= work * fullRateRatio ? work : amount.nanos;
  const isDoubted = isEstimate(doubted, work, byRate, credited?.nanos);
  return { nanos, doubt: isDoubted ? { reason: "shared_work", ratio: 1 } : undefined };
}

/** A time in which others come and go, or beside a stranger, who says nothing of itself. */
function isLongBeside({ beside, from, to }: PollInterval): boolean {
  return beside || to - from > continuedNanosMax;
}

/**
 * Over a long interval in which others worked too, or in which the server was not read, and over any beside a stranger, its
 * tokens over its rate are an estimate, unless the driver credits about as much.
 */
function isEstimate(
  { apart, busyAfter, busyBefore, interval, late }: Doubted,
  work: Nanos,
  byRate: Nanos,
  credited: Nanos | undefined,
): boolean {
  if (!isLongBeside(interval)) return false;
  if (interval.besideThin) return true;
  const amount = Math.min(work, byRate);
  // It never paused.
  if (busyBefore && busyAfter && !late && !apart && amount >= work * fullRateRatio) return false;
  if (credited === undefined) return true;
  return Math.min(amount, credited) < agreedRatio * Math.max(amount, credited);
}

/**
 * Of a page without gauges: tokens without the number of requests that made them are a poor measure, a request may be there
 * throughout. A short one may miss its credit, and a whole reading is too much for it: the truth lies between.
 */
function withoutGauges(work: Nanos, byRate: Nanos | undefined, credited: Nanos | undefined): Nanos {
  const amount = byRate === undefined ? undefined : Math.min(work, byRate);
  if (credited === undefined) return amount ?? work;
  return amount === undefined ? credited : Math.max(credited, Math.round((credited + amount) / 2));
}

/** A guess of an amount that is not its tokens', and its standard error. */
interface Guess {
  readonly nanos: number;
  readonly error: number;
}

/** What several guesses say together, each by the square of its error: that of a pace is a share of the truth, not of the guess. */
function weighed(
  doubted: Doubted,
  work: Nanos,
  byRate: Nanos,
  paceError: number,
  credited: Credited | undefined,
): Amount {
  const guesses = othersThan(doubted, work, credited);
  const lasted = lastedIn(doubted);
  const most = Math.min(work, lasted?.most ?? work);
  // A request that took longer than the work is there for all of it.
  const least = Math.min(most, lasted?.least ?? 0);
  const bounded = (nanos: number): number => Math.min(most, Math.max(least, nanos));
  let nanos = bounded(
    guesses.length === 0 ? byRate : Math.max(byRate, ...guesses.map((guess) => guess.nanos)),
  );
  let others = 0;
  let othersWeight = 0;
  for (const guess of guesses) {
    others += guess.nanos / guess.error ** 2;
    othersWeight += 1 / guess.error ** 2;
  }
  // Of a pace that says more than the others the error shrinks with what they say: whole steps swing from one to the other.
  const swings = byRate * othersWeight > others;
  let error = 0;
  for (let tries = 0; tries < triesMax; tries++) {
    const own = Math.hypot(paceError, progressError) * Math.max(nanos, nanosMin);
    const weight = 1 / own ** 2 + othersWeight;
    const said = (byRate / own ** 2 + others) / weight;
    nanos = bounded(swings ? Math.sqrt(nanos * said) : said);
    error = 1 / Math.sqrt(weight);
  }
  error = Math.min(error, (most - least) * uniformError + least * frontEndError);
  const ratio = nanos > 0 ? Math.min(1, (errors * error) / nanos) : 1;
  return { nanos: Math.round(nanos), doubt: { reason: "shared_work", ratio } };
}

/** What the driver's readings say. */
function byCredits({ nanos, readingNanos, readings, stretches }: Credited): Guess {
  if (stretches === 0) return { nanos: missed * readingNanos, error: missedError * readingNanos };
  const error = readingNanos * Math.sqrt(stretches);
  if (readings > stretches) return { nanos, error: severalError * error };
  return { nanos: Math.min(nanos, single * readingNanos * stretches), error: singleError * error };
}

/** What the driver's readings say, and a request in flight at one end. */
function othersThan(
  { interval, pace }: Doubted,
  work: Nanos,
  credited: Credited | undefined,
): readonly Guess[] {
  const guesses: Guess[] = [];
  if (credited !== undefined) guesses.push(byCredits(credited));
  // A pace that was seen says more than that.
  if (pace !== undefined && pace.error === undefined) return guesses;
  const isOneEnd = (interval.inFlightFrom ?? 0) > 0 !== (interval.inFlightTo ?? 0) > 0;
  if (isOneEnd) guesses.push({ nanos: work / 2, error: work * uniformError });
  return guesses;
}

/**
 * How long requests executed in an interval at the most, and at the least, by what those took that ended in it, and are there that did
 * not: all of them one after the other, or all at once, where none was in flight at its ends. Undefined where the page does not say.
 */
function lastedIn({ interval, longest }: Doubted): { least: Nanos; most: Nanos } | undefined {
  const { doubt, ended, inFlightFrom, inFlightTo, mayPause } = interval;
  if ((doubt !== undefined && doubt !== "cached_page") || ended === undefined || inFlightTo === undefined)
    return undefined;
  if (inFlightTo === 0) {
    if (!(ended.requests > 0)) return undefined;
    return { least: inFlightFrom === 0 ? ended.nanos / ended.requests : 0, most: ended.nanos };
  }
  if (longest === undefined || ((inFlightFrom ?? 0) > 0 && mayPause !== true)) return undefined;
  return { least: 0, most: ended.nanos + inFlightTo * longest };
}
