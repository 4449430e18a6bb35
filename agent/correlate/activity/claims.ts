// Which stretches of GPU work a server may claim as its own execution.
// (1) Work in an interval whose counters moved, or with requests in flight, is the server's. (2) Work leading up to it
// is a prefill whose tokens came later (prefill.ts). (3) Where the work may be someone else's (a peer is
// active, it runs on after the server fell silent, the poll came very late), the tokens over the server's own rate
// say how much to claim. (4) A server that publishes its own busy time gets exactly that (timed.ts).
import type { ActivityMethod, Nanos, ProgressKind, UncertainReason } from "../../model.ts";
import type { Doubted } from "./amount.ts";
import { amountOf, asTheyLasted, fullRateRatio } from "./amount.ts";
import { besideShare, keepsBusy, sharesWindow, withoutThin } from "./beside.ts";
import { busyIn } from "./durations.ts";
import type { Claim, Credit, Doubt, PeerStretch, PollInterval, Side, WorkRun } from "./evidence.ts";
import { areApart, continuedNanosMax, isGauged, paceByGauges } from "./gauged.ts";
import type { Rates } from "./learned.ts";
import { areQuick, longestOf } from "./lengths.ts";
import { isNew } from "./level.ts";
import { prefillStarts } from "./prefill.ts";
import { paceFor } from "./rates.ts";
import { crossing, stepPauseNanos, workingBusyRatio } from "./runs.ts";
import type { ShareEvidence } from "./shares.ts";
import { isAlike, isCoarse, shareDoubt, sharedPieces } from "./shares.ts";
import { append, clipped, lengthIn, none, place, total } from "./stretches.ts";
import { timedClaims } from "./timed.ts";

/** What the claims are decided from. */
export interface Evidence {
  /** Everything before is decided: claims on it are left out. */
  readonly from: Nanos;
  readonly intervals: readonly PollInterval[];
  readonly runs: readonly WorkRun[];
  readonly peers: readonly PeerStretch[];
  readonly credits: readonly Credit[];
  readonly progress: ProgressKind;
  readonly rates: Rates;
  readonly pollNanos: Nanos;
  /** The server has other GPUs, where its tokens may have come from. */
  readonly hasOthers: boolean;
  readonly shares: ShareEvidence;
  /** Requests come and go inside the windows. */
  readonly short: boolean;
  /** The polls are of ranks, whose GPU may work for others or be another one. */
  readonly isRanked: boolean;
}

/** One interval with what its neighbours say about its ends: in flight, or else work that goes on in a neighbour that claims it. */
interface Subject extends Doubted {
  readonly work: readonly WorkRun[];
  /** Work that crosses into the neighbouring interval although the server was silent there: someone else's. */
  readonly foreignBefore: boolean;
  readonly foreignAfter: boolean;
  /** Nobody else can have kept the GPU as busy as `work` is. */
  readonly isOnlyThick: boolean;
  /** That it keeps the GPU busy itself was not learned. */
  readonly isPresumed: boolean;
}

/** An interval longer than this many polls is a gap. */
const gapPolls = 3;
/** Execution of this share of what a window shows explains it. */
const explainedRatio = 0.5;
/** Fewer tokens than this share of what the rate makes of a long time leave room for a pause. */
const slowRatio = 0.7;

/** The work of the only server is seldom none of its own: two standard errors of that. */
const unexplained: Doubt = { reason: "unexplained_work", ratio: 0.35 };

/** What a server claims, and what it leaves although it may be its own; each in order and apart. */
export interface Claims {
  readonly claims: readonly Claim[];
  /** Work that is this server's or an active peer's, and was not claimed: for the GPU it is execution either way. */
  readonly contested: readonly Claim[];
  /** Intervals whose work is all accounted for by claims in them, wherever in a window it was. */
  readonly accounted: readonly PollInterval[];
}

/** Returns what the server claims of the work on its GPUs. */
export function claimedWork(evidence: Evidence): Claims {
  const { intervals, runs } = evidence;
  if (intervals.some((interval) => interval.activeNanos !== undefined))
    return {
      claims: timedClaims(intervals, runs, { ...evidence, windows: evidence.shares.windows }),
      contested: [],
      accounted: [],
    };
  const starts = prefillStarts(evidence);
  const claims: Claim[] = [];
  const contested: Claim[] = [];
  const accounted: PollInterval[] = [];
  for (let index = 0; index < intervals.length; index++) {
    const interval = intervals[index] as PollInterval;
    if (interval.to <= evidence.from) continue;
    if (isShortBeside(evidence, interval)) {
      const { all, own, ratio } = besideShare(evidence.shares, interval);
      const rests = { reason: "shared_work", ratio } as const;
      for (const piece of own)
        append(claims, piece.from, piece.to, methodOf(evidence.progress, piece), rests);
      for (const piece of all) append(contested, piece.from, piece.to, methodOf(evidence.progress, piece));
      // What a stranger did is not accounted for.
      if (!interval.beside) accounted.push(interval);
      continue;
    }
    const doubt = sharedBy(evidence, interval);
    const {
      doubt: estimated,
      left,
      own,
    }: Division = doubt === undefined
      ? claimedPieces(evidence, starts, index)
      : { own: mayHide(evidence, interval) ? sharedPieces(evidence.shares, interval) : none, left: [] };
    if (doubt !== undefined && own.length > 0) accounted.push(interval);
    const placed = doubt !== undefined && isThroughout(evidence, interval) ? undefined : doubt;
    const rests =
      placed === undefined
        ? (estimated ??
          (isUnexplained(interval) ? unexplained : pauseDoubt(evidence, interval)) ??
          wholeDoubt(evidence, interval, own))
        : { reason: placed, ratio: evidence.isRanked ? 1 : shareDoubt(evidence.shares, interval) };
    for (const piece of own) append(claims, piece.from, piece.to, methodOf(evidence.progress, piece), rests);
    for (const piece of left) append(contested, piece.from, piece.to, methodOf(evidence.progress, piece));
  }
  for (const interval of intervals)
    if (interval.to > evidence.from && isBesideExecution(evidence, interval, claims))
      accounted.push(interval);
  return { claims, contested, accounted };
}

/**
 * Nothing was executed between two polls, but in the window over them: what it shows is that execution, so far as it is no more,
 * and not work that nothing explains.
 */
function isBesideExecution({ shares }: Evidence, interval: PollInterval, claims: readonly Claim[]): boolean {
  const { contended, from, kind, open, to } = interval;
  if (open || contended || kind !== "quiet" || !isCoarse(shares.windows, from, to)) return false;
  return shares.windows.every((window) => {
    if (window.to <= from || window.from >= to || window.busyRatio < workingBusyRatio) return true;
    const executed = lengthIn(claims, window.from, window.to);
    const isSample = window.sampled === true;
    return executed > (isSample ? 0 : explainedRatio * window.busyRatio * (window.to - window.from));
  });
}

/** The server was not read for longer than a few polls, and not because its page was a copy. */
function isLate({ pollNanos }: Evidence, { from, isCopied, to }: PollInterval): boolean {
  return isCopied !== true && to - from > gapPolls * pollNanos;
}

/**
 * Short requests came and went while others worked, and windows say throughout how busy the GPU was: near ones, or long ones over
 * which it is known what requests stand for.
 */
function isShortBeside(evidence: Evidence, interval: PollInterval): boolean {
  const { all, contended, from, kind, open, to } = interval;
  if (open || kind === "quiet" || evidence.hasOthers || evidence.progress !== "step") return false;
  const { level, windows } = evidence.shares;
  if (!(areQuick(level) || (evidence.short && !keepsBusy(level))) || isLate(evidence, interval)) return false;
  if (!isCoarse(windows, from, to)) return contended && all.every(({ seen }) => seen);
  if (!areQuick(level)) return false;
  return contended || sharesWindow(windows, evidence.peers, interval);
}

/** Tokens moved, or nobody else worked in the windows over a time without them, so that work of these may be a prefill's. */
function mayHide({ peers, shares }: Evidence, interval: PollInterval): boolean {
  return interval.kind !== "quiet" || !sharesWindow(shares.windows, peers, interval);
}

/** Requests in flight at both ends were executed all along: the polls are near, or such requests were seen to stay. */
function isThroughout({ shares }: Evidence, interval: PollInterval): boolean {
  const { from, inFlightFrom, inFlightTo, to, mayPause } = interval;
  if (!((inFlightFrom ?? 0) > 0 && (inFlightTo ?? 0) > 0) || mayPause || !isAlike(shares, interval))
    return false;
  return shares.stay && (shares.pace !== undefined || to - from <= continuedNanosMax);
}

/** Why an interval's windows count with their busy shares, undefined where they count as a whole. */
function sharedBy(evidence: Evidence, interval: PollInterval): UncertainReason | undefined {
  if (interval.open || interval.contended) return undefined;
  if (isLate(evidence, interval)) return undefined;
  if (isCoarse(evidence.shares.windows, interval.from, interval.to)) return "coarse_windows";
  // Silence with a gauge at 0: nothing. Without a gauge it may be a prefill.
  if (interval.kind === "quiet" && interval.inFlightTo === undefined) return undefined;
  return evidence.short && interval.work.some(({ seen }) => seen) ? "busy_share" : undefined;
}

/** Work of the only server without a gauge, in which no token moved: a long prefill, or no execution at all. */
function isUnexplained({ contended, inFlightTo, kind, open, work }: PollInterval): boolean {
  return kind === "quiet" && inFlightTo === undefined && !contended && !open && work.some(({ seen }) => seen);
}

/**
 * Requests were in flight at both ends, and those of the end may all be others: beside others nothing but counted steps says that there
 * were any all the time between. Of requests that come by chance none is there for e^-n of it, n being there on average.
 */
function pauseDoubt({ progress }: Evidence, interval: PollInterval): Doubt | undefined {
  const { contended, inFlightFrom = 0, inFlightTo = 0, mayPause } = interval;
  if (progress === "step" || !contended || mayPause !== true) return undefined;
  return { reason: "shared_work", ratio: Math.exp(-(inFlightFrom + inFlightTo) / 2) };
}

/** What would not be execution of windows that count as a whole, were requests short: nothing was learned of them yet. */
function wholeDoubt(
  { shares }: Evidence,
  interval: PollInterval,
  own: readonly WorkRun[],
): Doubt | undefined {
  const { contended, from, inFlightTo, kind, requests, to } = interval;
  if (contended || kind !== "moved" || inFlightTo === undefined || requests === undefined) return undefined;
  if (own.length === 0 || !isNew(shares.level)) return undefined;
  const ratio = 1 - busyIn(shares.windows, from, to).nanos / total(own);
  return ratio > 0 ? { reason: "busy_share", ratio } : undefined;
}

/** Pieces of work a server takes for itself, and pieces it leaves to its peers. */
interface Division {
  /** What is assumed about the amount. */
  readonly doubt?: Doubt | undefined;
  readonly own: readonly WorkRun[];
  readonly left: readonly WorkRun[];
}

function whollyBy(reason: UncertainReason): Doubt {
  return { reason, ratio: 1 };
}

function methodOf(progress: ProgressKind, piece: WorkRun): ActivityMethod {
  if (progress !== "step") return "in_flight";
  return piece.seen ? "counter_gpu" : "counter_moved";
}

/** Where the prefill claimed in each interval starts, undefined for none. */
type PrefillStarts = readonly (Nanos | undefined)[];

function claimedPieces(evidence: Evidence, starts: PrefillStarts, index: number): Division {
  const interval = evidence.intervals[index] as PollInterval;
  if (interval.kind === "quiet") {
    const start = starts[index];
    if (start !== undefined) return { own: clipped(evidence.runs, start, interval.to), left: [] };
    return { own: isUnexplained(interval) ? interval.work : tail(evidence, index), left: [] };
  }
  if (interval.open) return { own: openPieces(evidence, interval), left: [] };
  return divided(subjectOf(evidence, starts, index));
}

/**
 * The end of a run of the interval before that spills over the poll by no more than readings lag; none beside others where the
 * poll read nothing in flight.
 */
function tail(evidence: Evidence, index: number): readonly WorkRun[] {
  const interval = evidence.intervals[index] as PollInterval;
  if (interval.contended && interval.inFlightFrom === 0) return [];
  const before = evidence.intervals[index - 1];
  const run = crossing(evidence.runs, interval.from);
  if (before === undefined || before.kind === "quiet" || run === undefined) return [];
  return run.to - interval.from <= stepPauseNanos ? clipped([run], interval.from, interval.to) : [];
}

/** Work since the last poll, claimed only while it continues what was in flight then, and for two polls at most. */
function openPieces(evidence: Evidence, interval: PollInterval): readonly WorkRun[] {
  const run = crossing(evidence.runs, interval.from);
  const to = Math.min(interval.to, interval.from + 2 * evidence.pollNanos);
  return run === undefined ? [] : clipped([run], interval.from, to);
}

function subjectOf(evidence: Evidence, starts: PrefillStarts, index: number): Subject {
  const { intervals, runs } = evidence;
  const interval = intervals[index] as PollInterval;
  const before = intervals[index - 1];
  const after = intervals[index + 1];
  const work = workOf(evidence, index);
  const into = crossing(runs, interval.from);
  const outOf = crossing(runs, interval.to);
  const silentBefore = isSilent(before) && starts[index - 1] === undefined;
  const silentAfter = isSilent(after) && starts[index + 1] !== interval.to;
  return {
    interval,
    credits: evidence.credits,
    work,
    foreignBefore: silentBefore && into !== undefined && interval.from - into.from > stepPauseNanos,
    foreignAfter: silentAfter && outOf !== undefined && outOf.to - interval.to > stepPauseNanos,
    busyBefore:
      (interval.inFlightFrom ?? 0) > 0 || (before !== undefined && !silentBefore && into !== undefined),
    busyAfter: (interval.inFlightTo ?? 0) > 0 || (after !== undefined && !silentAfter && outOf !== undefined),
    late: isLate(evidence, interval),
    isOnlyThick: interval.kind === "moved" && interval.besideThin && work !== interval.work,
    isPresumed: !keepsBusy(evidence.shares.level),
    pace: paceFor(intervals, evidence.rates, index),
    likely: interval.contended && isGauged(interval) ? paceByGauges(evidence.rates) : undefined,
    apart: areApart(interval, evidence.rates),
    longest: longestOf(evidence.shares.level),
  };
}

/** The server did nothing, and its page is no copy that may only not say so. */
function isSilent(interval: PollInterval | undefined): boolean {
  if (interval?.kind !== "quiet") return false;
  return interval.contended || interval.mayBeStale !== true;
}

/** Work beside others less the windows that are too empty for a server that keeps the GPU busy. */
function ownWork({ hasOthers, shares }: Evidence, interval: PollInterval): readonly WorkRun[] {
  if (!interval.contended || hasOthers) return interval.work;
  return withoutThin(shares.level, interval.work, shares.windows, interval.besideThin);
}

/** Tokens that moved while no GPU work is in sight, lag of the readings included, stand for the whole interval. */
function workOf(evidence: Evidence, index: number): readonly WorkRun[] {
  const interval = evidence.intervals[index] as PollInterval;
  if (interval.kind === "held") return interval.work.filter((piece) => piece.seen);
  if (interval.work.length > 0 || interval.progress === 0 || evidence.hasOthers)
    return ownWork(evidence, interval);
  // Tokens that a copy showed late were made where the GPU was last seen at work.
  if (interval.mayBeLate) return none;
  const lag = 2 * stepPauseNanos;
  const before = interval.from - Math.max(lag, evidence.pollNanos);
  const near = clipped(evidence.runs, before, interval.to + lag).some((run) => run.seen);
  return near ? [] : [{ from: interval.from, to: interval.to, seen: false }];
}

function divided(subject: Subject): Division {
  const { interval, work, late } = subject;
  const flying = (interval.inFlightFrom ?? 0) > 0 && (interval.inFlightTo ?? 0) > 0;
  if (flying && !late && !subject.apart) {
    const all = total(work);
    const isDoubted = isSlow(subject, all);
    const whole = { nanos: all, doubt: isDoubted ? whollyBy("shared_work") : undefined };
    const { doubt, nanos } = interval.contended ? asTheyLasted(subject, all, whole) : whole;
    return { own: measured(work, nanos, "both"), left: [], doubt };
  }
  const isForeign = (piece: WorkRun) =>
    (subject.foreignBefore && piece.from === interval.from) ||
    (subject.foreignAfter && piece.to === interval.to);
  // Whoever else worked leaves the GPU nearly idle: windows that are busy are this server's.
  if (subject.isOnlyThick && !late) {
    const doubt = subject.isPresumed ? whollyBy("shared_work") : undefined;
    return { own: work.filter((piece) => !isForeign(piece)), left: [], doubt };
  }
  if (interval.contended || late) {
    const mayBePeers = interval.kind === "moved" && !late && !interval.beside;
    const left = mayBePeers
      ? [...work, ...interval.spared]
          .filter((piece) => piece.seen && !isForeign(piece))
          .sort((first, second) => first.from - second.from)
      : [];
    const { doubt, nanos } = amountOf(subject, total(work));
    return { own: measured(work, nanos, sideOf(subject)), left, doubt };
  }
  const own = work.filter((piece) => piece.seen && !isForeign(piece));
  if (own.length === work.length) return { own, left: [] };
  const doubtful = work.filter((piece) => !own.includes(piece));
  const wanted = amountOf(subject, total(doubtful)).nanos;
  const rest = wanted - (subject.pace === undefined ? 0 : total(own));
  // Tokens that the undoubted work explains, within the accuracy of a rate, leave nothing to claim of the doubtful.
  if (own.length > 0 && rest < total(own) * (1 - fullRateRatio)) return { own, left: [] };
  const taken = measured(doubtful, rest, sideOf(subject));
  return { own: [...own, ...taken].sort((first, second) => first.from - second.from), left: [] };
}

/** Requests were read at both ends of a long time beside others, and made so few tokens that there may have been a pause. */
function isSlow({ interval, pace }: Subject, work: Nanos): boolean {
  if (!interval.contended || interval.to - interval.from <= continuedNanosMax) return false;
  return pace !== undefined && interval.progress < slowRatio * pace.rate * work;
}

function measured(work: readonly WorkRun[], amount: Nanos, side: Side): readonly WorkRun[] {
  return amount >= total(work) ? work : place(work, Math.max(0, amount), side);
}

/** The end to claim at: where a request was read in flight, else where the work continues, else away from the foreign. */
function sideOf(subject: Subject): Side {
  const { interval, busyBefore, busyAfter } = subject;
  const flyingBefore = (interval.inFlightFrom ?? 0) > 0;
  const flyingAfter = (interval.inFlightTo ?? 0) > 0;
  if (flyingBefore !== flyingAfter) return flyingBefore ? "start" : "end";
  if (busyBefore !== busyAfter) return busyBefore ? "start" : "end";
  if (busyBefore) return "both";
  return subject.foreignBefore ? "end" : "start";
}
