// When was a server token-active? Joins its polled counters with the fine activity of its GPUs (METERING.md 2).
// Windows and polls go in as they arrive, settled segments come out: contiguous, exact, never changed afterwards.
// The windows say when the GPU worked, the polls whether that work was this server's: runs.ts finds the
// stretches of work, claims.ts decides which of them the server claims. Energy and shares are not decided here.

import type { Nanos, ProgressKind } from "../../model.ts";
import { levelAhead, observeOwnRoughness, sightOf } from "./ahead.ts";
import { claimsNothing } from "./at-rest.ts";
import { keepsBusy, observePresence, sharesWindow } from "./beside.ts";
import type { Claims } from "./claims.ts";
import { claimedWork } from "./claims.ts";
import { isRefuted, isTelling, refutedFrom } from "./copies.ts";
import {
  busyIn,
  busyPerProgress,
  createDurations,
  executionOfBusy,
  executionOfHit,
  executionPerDuration,
  executionPerStep,
  hasPauses,
  observeDurations,
} from "./durations.ts";
import type {
  Activity,
  ActivitySegment,
  ActivityWindow,
  Outlook,
  PollInterval,
  SeenPoll,
} from "./evidence.ts";
import { readingsMax } from "./evidence.ts";
import { forget } from "./forget.ts";
import { notGauged } from "./gauged.ts";
import { copyHoldNanos, heldOpenFrom } from "./hold.ts";
import { label } from "./label.ts";
import type { Rates } from "./learned.ts";
import { areBrief, areQuick, observeEnded, observeLasted, observeStay, requestsStay } from "./lengths.ts";
import { idlesAmongBusy, lentIntervals } from "./lent.ts";
import {
  createLevel,
  hasShortRequests,
  isLearned,
  observeGauge,
  observePeak,
  observeRoughness,
  observeSteps,
} from "./level.ts";
import { observeLent, worksForOthers } from "./lockstep.ts";
import { outlookUntil } from "./outlook.ts";
import { paceOf } from "./paced.ts";
import { observeMade } from "./presumed.ts";
import { progressOf } from "./progress-kind.ts";
import { learnRates } from "./rates.ts";
import { observePlateau } from "./runs.ts";
import type { ShareEvidence } from "./shares.ts";
import { besideAhead, besidePace, learnAlone, learnBeside, nothingBeside } from "./split.ts";
import { hitRate } from "./ungauged.ts";
import { trustedNanosOf } from "./unread.ts";

/** What an estimator knows from the beginning. */
export interface ActivityOptions {
  /** First instant a segment is wanted for. */
  readonly from: Nanos;
  /** The usual distance of this server's polls. */
  readonly pollNanos: Nanos;
  /** In flight and working without a token for longer than this is `waiting` (config `stallAfterSeconds`). */
  readonly stallAfterNanos?: Nanos;
}

const nothingWorkedOut = { outlook: undefined, held: undefined, known: undefined } as const;
const noRates: Rates = {
  alone: undefined,
  contended: undefined,
  flying: undefined,
  fastest: { rate: 0, intervals: 0 },
  gauged: notGauged,
};
/** Weight of the newest gauge in the usual number of requests running. */
const batchRatio = 0.125;
const stallAfterDefaultNanos = 60_000_000_000;

/** Returns an estimator with nothing decided yet. */
export function createActivity(options: ActivityOptions): Activity {
  return {
    stallAfterNanos: options.stallAfterNanos ?? stallAfterDefaultNanos,
    pollNanos: options.pollNanos,
    isFailing: false,
    blurNanos: 0,
    hasOthers: false,
    siblings: [],
    isTied: false,
    windows: [],
    polls: [],
    peers: [],
    credits: [],
    guests: [],
    decidedUntil: options.from,
    lastProgressAt: options.from,
    refutedAt: -Infinity,
    learnedUntil: options.from,
    batch: undefined,
    seat: 0,
    isShared: false,
    ...nothingLearned(),
    ...nothingWorkedOut,
  };
}

/** Returns an estimator of the same server for another GPU: what the polls said stays, what the GPU did is not known. */
export function copyActivity(activity: Activity): Activity {
  return {
    ...activity,
    windows: [],
    polls: [...activity.polls],
    peers: [],
    isShared: false,
    credits: [],
    refutedAt: -Infinity,
    ...nothingLearned(),
    ...nothingWorkedOut,
  };
}

/** Forgets what was learned of the requests: those to come are of another. */
export function forgetLearned(activity: Activity): void {
  Object.assign(activity, nothingLearned(), { outlook: undefined });
}

function nothingLearned(): Pick<
  Activity,
  "rates" | "plateau" | "plateauOfThree" | "level" | "durations" | "beside"
> {
  const learned = { rates: noRates, plateau: undefined, plateauOfThree: false, beside: nothingBeside };
  return { ...learned, level: createLevel(), durations: createDurations() };
}

/**
 * Takes in how far apart polls are, whether the server has other GPUs, what those did of which the polls speak too, and whether
 * all of them work together.
 */
export function observePlace(
  activity: Activity,
  pollNanos: Nanos,
  hasOthers: boolean,
  siblings: Activity["siblings"] = [],
  isTied = false,
  blurNanos: Nanos = 0,
): void {
  activity.blurNanos = blurNanos;
  activity.siblings = siblings;
  activity.isTied = isTied;
  if (activity.hasOthers === hasOthers && activity.pollNanos === pollNanos) return;
  activity.pollNanos = pollNanos;
  activity.hasOthers = hasOthers;
  activity.outlook = undefined;
}

/**
 * Takes a window in; returns false, and leaves it out, when those already taken cover it. The part of it that they
 * cover is cut off.
 */
export function observeWindow(activity: Activity, window: ActivityWindow): boolean {
  const last = activity.windows.at(-1);
  const from = Math.max(window.from, last?.to ?? window.from);
  if (window.to <= from) return false;
  activity.windows.push(from === window.from ? window : { ...window, from });
  observePlateau(activity);
  observePeak(activity.level, window);
  // Beside others it is not known yet whose work it is: `observeOwnRoughness()`.
  if (!activity.isShared) observeRoughness(activity.level, activity.windows);
  activity.outlook = undefined;
  if (activity.windows.length > readingsMax) activity.windows.shift();
  return true;
}

/** Takes a poll in; returns false, and leaves it out, when it does not follow the last one. */
export function observePoll(activity: Activity, poll: SeenPoll): boolean {
  const last = activity.polls.at(-1);
  if (last !== undefined && poll.at <= last.at) return false;
  activity.polls.push(poll);
  activity.outlook = undefined;
  const { batch } = activity;
  if (poll.inFlight !== undefined && poll.inFlight > 0)
    activity.batch = batch === undefined ? poll.inFlight : batch + (poll.inFlight - batch) * batchRatio;
  if (activity.polls.length > readingsMax) activity.polls.shift();
  return true;
}

/** Returns whether the requests of a server leave the GPU nearly idle. */
export function isThin({ durations, level }: Activity): boolean {
  return (hasShortRequests(level) || areBrief(level) || hasPauses(durations)) && !keepsBusy(level);
}

/**
 * Returns the instant up to which the server's state can be decided at `now`: where both its polls and its windows
 * have arrived, less a stretch at the end that the next poll may still explain. Nothing is held open for longer than
 * `settleNanos`, or than a page that may be a copy takes to say what the GPU does, and a source silent for that long is not
 * waited for. Below `wanted` the answer is only known to be less.
 */
export function decidableUntil(
  activity: Activity,
  now: Nanos,
  settleNanos: Nanos,
  wanted: Nanos = -Infinity,
): Nanos {
  const polled = activity.polls.at(-1)?.at ?? -Infinity;
  const seen = activity.windows.at(-1)?.to;
  const live = seen !== undefined && seen > now - settleNanos;
  const arrived = Math.min(polled, live ? seen : Infinity);
  const settled = arrived < wanted ? arrived : Math.min(arrived, heldOpenFrom(activity));
  const waitNanos = settled < wanted ? Math.max(settleNanos, copyHoldNanos(activity)) : settleNanos;
  return Math.min(now, Math.max(settled, now - waitNanos, activity.decidedUntil));
}

/**
 * Decides everything before `until` and returns it as segments that cover `[decidedUntil, until)` without a gap. Call
 * it with what `decidableUntil()` said, or with less.
 */
export function settle(activity: Activity, until: Nanos): ActivitySegment[] {
  if (until <= activity.decidedUntil) return [];
  const { intervals, runs, segments } = labelled(activity, until);
  activity.decidedUntil = until;
  const last = activity.polls.at(-1);
  if (last?.shownFrom !== undefined && isRefuted(activity, runs)) activity.refutedAt = last.at;
  learn(activity, intervals);
  forget(activity);
  activity.outlook = undefined;
  return segments;
}

/** Returns the same for `[decidedUntil, until)` as it looks by now: nothing is decided by it. */
export function preview(activity: Activity, until: Nanos): ActivitySegment[] {
  return until <= activity.decidedUntil ? [] : labelled(activity, until).segments;
}

function labelled(
  activity: Activity,
  until: Nanos,
): Pick<Outlook, "intervals" | "runs"> & { readonly segments: ActivitySegment[] } {
  const { decidedUntil: from, lastProgressAt, stallAfterNanos, windows } = activity;
  const progress = progressOf(activity);
  const { accounted, claims, contested, intervals, runs, short } = evaluate(activity, progress, until);
  const seen = { intervals, progress, windows, short, refutedFrom: refutedFrom(activity), lastProgressAt };
  const given = { from, until, trustedNanos: trustedNanosOf(activity), stallAfterNanos };
  const segments = label({ ...given, claims, contested, accounted, ...seen });
  return { intervals, runs, segments };
}

function evaluate(
  activity: Activity,
  progress: ProgressKind,
  until: Nanos,
): Claims & Pick<Outlook, "intervals" | "runs"> & Pick<ShareEvidence, "short"> {
  const { credits, peers, polls, windows } = activity;
  const last = polls.at(-1);
  const outlook = outlookUntil(activity, until);
  const { runs } = outlook;
  const intervals = lentIntervals(activity, outlook);
  if (claimsNothing(activity, progress, intervals, runs))
    return { intervals, runs, claims: [], contested: [], accounted: [], short: false };
  const { durations, hasOthers, pollNanos, rates, siblings } = activity;
  const level = levelAhead(activity, intervals);
  const { error, perBusy } = executionOfBusy(level, durations);
  const perProgress = busyPerProgress(durations);
  const short = hasShortRequests(level) || areBrief(level) || hasPauses(durations);
  const shares = {
    windows,
    siblings,
    intervals,
    perBusy,
    error,
    perHit: executionOfHit(durations),
    hits: hitRate(durations),
    samples: durations.busySamples,
    level,
    perProgress: perProgress === undefined ? undefined : perProgress * perBusy,
    beside: besidePace(besideAhead(activity, intervals)),
    seat: activity.seat,
    perStep: executionPerStep(durations, perBusy),
    isAlone: activity.peers.length === 0,
    short,
    stay: requestsStay(level) && !areQuick(level),
    ...paceOf(activity, intervals),
    learned: isLearned(level),
    perDuration: executionPerDuration(durations, perBusy, pollNanos),
  };
  const { accounted, claims, contested } = claimedWork({
    from: activity.decidedUntil,
    intervals,
    runs,
    peers,
    credits,
    progress,
    rates,
    pollNanos,
    hasOthers,
    isRanked: last?.whole !== undefined || last?.isAssumed === true,
    shares,
    short,
  });
  return { accounted, claims, contested, intervals, runs, short };
}

function learn(activity: Activity, intervals: readonly PollInterval[]): void {
  for (let index = 0; index + 1 < intervals.length; index++) {
    const interval = intervals[index] as PollInterval;
    if (interval.from < activity.learnedUntil || interval.to > activity.decidedUntil) continue;
    if (interval.isLent) {
      if (interval.doubt !== "shared_work") observeLent(activity.level, true);
      activity.learnedUntil = interval.to;
      activity.lastProgressAt = interval.to;
      continue;
    }
    // Alone, gauges say how long requests are.
    if (activity.isShared || interval.inFlightTo === undefined) observeMade(activity.level, interval);
    observeStay(activity.level, interval.inFlightFrom, interval.inFlightTo);
    observeLasted(activity.level, interval);
    const place = placeOf(activity.polls, interval.to);
    const poll = activity.polls[place];
    // The gauge and the counters of a rank that steps along with others say nothing of how much work a request stands for.
    const mayBeOthers = idlesAmongBusy(activity.polls[place - 1]) || idlesAmongBusy(poll);
    if (mayBeOthers && interval.kind === "quiet" && interval.workNanos === 0)
      observeLent(activity.level, false);
    // The gauge of a copied page was read at another instant than its poll.
    // How long requests take is the same on every GPU of the server.
    const isTrusted = poll !== undefined && isTelling(poll, interval);
    if (isTrusted) observeEnded(activity.level, interval, sightOf(activity, interval));
    const isMeant = !activity.hasOthers || activity.isTied;
    const isTold = isTrusted && isMeant && !(mayBeOthers && worksForOthers(activity.level));
    const shownFrom = poll?.doubt === undefined ? poll?.at : poll.shownFrom;
    if (isTold && poll.doubt === undefined && (!interval.contended || interval.besideThin))
      observePresence(activity.level, poll, activity.windows);
    if (isTold && !interval.contended && !sharesWindow(activity.windows, activity.peers, interval)) {
      observeGauge(
        activity.level,
        poll,
        activity.windows,
        interval.kind === "quiet",
        shownFrom,
        activity.blurNanos,
      );
      observeSteps(
        activity.level,
        interval.steps,
        busyIn(activity.windows, interval.from, interval.to).nanos,
      );
      observeDurations(activity.durations, interval, poll, activity.windows);
      if (activity.peers.length > 0) learnAlone(activity, interval);
    }
    if (isTrusted && interval.contended && !activity.hasOthers) learnBeside(activity, interval);
    if (activity.isShared) observeOwnRoughness(activity.level, activity, interval);
    activity.rates = learnRates(intervals, activity.rates, index);
    activity.learnedUntil = interval.to;
    if (interval.kind === "moved" || interval.inFlightTo === 0) activity.lastProgressAt = interval.to;
  }
}

/** The place of the poll at an instant, -1 where there is none. */
function placeOf(polls: readonly SeenPoll[], at: Nanos): number {
  let place = polls.length - 1;
  while (place >= 0 && (polls[place] as SeenPoll).at > at) place--;
  return polls[place]?.at === at ? place : -1;
}
