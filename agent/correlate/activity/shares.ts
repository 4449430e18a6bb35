// Execution where windows hide its edges: each window counts with its busy share over the level (level.ts), never as a
// whole. Fine windows say themselves where in a second the work was; in coarse ones (5 to 30 s of a dcgm-exporter) the
// polls say it: the gauges of long requests, the tokens of short ones.
import type { Nanos } from "../../model.ts";
import type { ActivityWindow, PollInterval, WorkRun } from "./evidence.ts";
import { hiddenPrefillShare } from "./hidden-prefill.ts";
import type { Level } from "./learned.ts";
import { coarseNanos } from "./level.ts";
import { pacedStretches } from "./paced.ts";
import type { BesidePace } from "./presumed.ts";
import { paceOfSamples } from "./presumed.ts";
import { workingBusyRatio } from "./runs.ts";
import type { StepPace } from "./sampled.ts";
import { sampledStretches } from "./sampled.ts";
import { lengthIn } from "./stretches.ts";
import type { HitRate } from "./ungauged.ts";
import { ungaugedDoubt, ungaugedShare } from "./ungauged.ts";

/** What the shares are taken from. */
export interface ShareEvidence {
  readonly windows: readonly ActivityWindow[];
  /** Windows of the other GPUs of which the intervals speak. */
  readonly siblings: readonly (readonly ActivityWindow[])[];
  readonly intervals: readonly PollInterval[];
  /** Execution a second of busy GPU stands for. */
  readonly perBusy: number;
  /** How far off its logarithm is, as one standard error. */
  readonly error: number;
  /** How much of a last window of the driver that caught work is execution, however busy it was; 0 where that is not known. */
  readonly perHit: number;
  /** How often such a window catches work where tokens moved. */
  readonly hits: HitRate;
  /** How many last windows of the driver, as if each were full, say how long the GPU was busy. */
  readonly samples: number;
  /** What `perBusy` was learned as. */
  readonly level: Level;
  /** Execution that some progress stands for, where that was seen without others. */
  readonly perProgress: number | undefined;
  /** How long the GPU is busy for some progress, where that was seen beside others. */
  readonly beside: BesidePace | undefined;
  /** The server's place among those beside it, 0 to 1. */
  readonly seat: number;
  /** Execution that a decode step stands for, where the GPU is read now and then. */
  readonly perStep: StepPace;
  /** Nobody else was seen to work. */
  readonly isAlone: boolean;
  /** Requests come and go inside the windows. */
  readonly short: boolean;
  /** A request in flight at two polls is in flight between them. */
  readonly stay: boolean;
  /** Execution a second of requests stands for, where they are short. */
  readonly perDuration: number | undefined;
  /** Decode steps per nanosecond of execution; undefined where it is not known, and of requests that do not stay. */
  readonly pace: number | undefined;
  /** How far off its logarithm is. */
  readonly paceError: number;
  /** Enough was learned to rely on `perBusy`. */
  readonly learned: boolean;
}

/** So many standard errors are in doubt. */
const errors = 2;
/** Windows longer than this hide where in an interval the execution was, and how much of it may have been elsewhere. */
const [nearNanosMax, placeDoubt] = [2_000_000_000, 0.2];
/** The same of requests that were seen at both ends of an interval, and at one end of it; there by a last window alone, and
 * by a window hardly longer than the time between two polls, whose busy share decides. */
const [sureDoubt, likelyDoubt, sampledDoubt, nearDoubt] = [0.1, 0.25, 0.32, 0.36];
/** A last window read this far apart says nothing of the time between two readings. */
const sampleNanosMax = 2_000_000_000;
/** Share of an interval that a request takes which no gauge saw. */
const unseenShare = 0.25;
/** So many polls in a coarse window outweigh its level. */
const gaugesPerWindow = 4;
/** By how much the busy share of a window may correct a pace. */
const scaleMax = 2;
/** Windows longer than this many intervals say less of one than its own tokens. */
const hidingRatio = 1.5;
/** GPUs that are nearly as busy as each other are alike. */
const alikeRatio = 0.9;
/** Execution is placed in the middle of stretches of this length, on the same grid for every GPU of a server. */
const slotNanos = 1_000_000_000;

/** True where most of an interval is covered by windows that hide when work began and ended. */
export function isCoarse(windows: readonly ActivityWindow[], from: Nanos, to: Nanos): boolean {
  let coarse = 0;
  for (let index = windows.length - 1; index >= 0; index--) {
    const window = windows[index] as ActivityWindow;
    if (window.to <= from) break;
    if (window.to - window.from <= coarseNanos) continue;
    coarse += Math.max(0, Math.min(window.to, to) - Math.max(window.from, from));
  }
  return 2 * coarse > to - from;
}

/**
 * Returns how much of the execution in an interval may have been otherwise: what the level leaves open, and where windows
 * reach over the ends of the interval, what is not known of the place. Requests that stay were seen at one end, at both, or
 * at none.
 */
export function shareDoubt(evidence: ShareEvidence, interval: PollInterval): number {
  const { error, samples, stay, windows } = evidence;
  let isApart = false;
  let isFar = false;
  let isSampled = false;
  for (let index = windows.length - 1; index >= 0; index--) {
    const window = windows[index] as ActivityWindow;
    if (window.to <= interval.from) break;
    if (window.from >= interval.to) continue;
    const isInside = window.from >= interval.from && window.to <= interval.to;
    const isSample = window.sampled === true;
    isSampled ||= isSample;
    isApart ||= isSample || (window.to - window.from > coarseNanos && !isInside);
    isFar ||= isSample || window.to - window.from > nearNanosMax;
  }
  if (isApart && !isAlike(evidence, interval)) return 1;
  const byLevel = Math.min(1, errors * error);
  if (!isApart) return byLevel;
  const byChance = isSampled && evidence.perDuration === undefined ? 1 / Math.sqrt(Math.max(1, samples)) : 0;
  if (!stay) return Math.min(1, Math.hypot(byLevel, isFar ? placeDoubt : 0, byChance));
  if (isSure(interval) && !interval.mayPause) return isFar ? 2 * sureDoubt : sureDoubt;
  if (!isLikely(interval) && !interval.mayPause) return 1;
  const isLong = interval.to - interval.from > sampleNanosMax;
  if (isLong && isFar) return Math.max(2 * likelyDoubt, ungaugedDoubt(evidence.hits, interval));
  if (!isFar) return nearDoubt;
  return isSampled ? sampledDoubt : likelyDoubt;
}

/** Returns the execution in an interval as pieces, one per second at most. */
export function sharedPieces(evidence: ShareEvidence, interval: PollInterval): readonly WorkRun[] {
  const sampled = seenNowAndThen(evidence, interval);
  if (sampled !== undefined) return sampled;
  const paced =
    interval.isOfCopy !== true && isHidden(evidence, interval)
      ? pacedStretches(scaledPace(evidence, interval), interval)
      : undefined;
  if (paced !== undefined) return [...paced];
  const pieces: WorkRun[] = [];
  const { from, to } = interval;
  for (let slot = Math.floor(from / slotNanos) * slotNanos; slot < to; slot += slotNanos) {
    const start = Math.max(slot, from);
    const end = Math.min(slot + slotNanos, to);
    const amount = Math.round(executedIn(evidence, interval, start, end));
    if (amount <= 0) continue;
    const middle = start + Math.floor((end - start - amount) / 2);
    pieces.push({ from: middle, to: middle + amount, seen: true });
  }
  return pieces;
}

/** The stretches of long requests on a GPU that is read now and then, and is the only one that its polls speak of. */
function seenNowAndThen(evidence: ShareEvidence, interval: PollInterval): readonly WorkRun[] | undefined {
  const { pace, perStep, short, siblings, windows } = evidence;
  if (short || siblings.length > 0 || interval.isOfCopy) return undefined;
  // Where readings are further apart than polls, and these are far apart, the pace says more than either.
  const isFar = interval.to - interval.from > sampleNanosMax;
  if (isFar && pace !== undefined && isHidden(evidence, interval)) return undefined;
  return sampledStretches(windows, interval, perStep);
}

/**
 * The pace by which the executions in the window over an interval add up to what its busy share makes of it, as far as that is
 * known better than the pace.
 */
function scaledPace(evidence: ShareEvidence, interval: PollInterval): number | undefined {
  const { error, intervals, pace, paceError, perBusy, windows } = evidence;
  if (pace === undefined) return undefined;
  const middle = (interval.from + interval.to) / 2;
  const window = windows.find(({ from, to }) => from <= middle && to > middle);
  if (window === undefined || window.sampled === true) return pace;
  let sure = 0;
  let paced = 0;
  for (const member of intervals) {
    if (member.open || member.kind === "quiet" || member.from >= window.to || member.to <= window.from)
      continue;
    const length = lengthIn(pacedStretches(pace, member) ?? [], window.from, window.to);
    if (isSure(member) && !member.mayPause) sure += length;
    else paced += length;
  }
  const executed = (window.to - window.from) * Math.min(1, window.busyRatio * perBusy) - sure;
  if (!(paced > 0)) return pace;
  const ratio = Math.min(scaleMax, Math.max(1 / scaleMax, executed / paced));
  const variance = error ** 2;
  return pace / ratio ** (paceError ** 2 / (paceError ** 2 + variance));
}

/** True where windows are too long to say when in an interval the work was, and one of them works. */
function isHidden({ windows }: ShareEvidence, interval: PollInterval): boolean {
  if (interval.kind === "quiet") return false;
  const near = windows.filter(({ from, to }) => from < interval.to && to > interval.from);
  const length = interval.to - interval.from;
  return (
    near.every(({ from, to }) => to - from > coarseNanos && to - from > hidingRatio * length) &&
    near.some(({ busyRatio, sampled }) => sampled === true || busyRatio > 0)
  );
}

function executedIn(evidence: ShareEvidence, interval: PollInterval, from: Nanos, to: Nanos): number {
  const { intervals, windows, perBusy, siblings } = evidence;
  const isQuiet = interval.kind === "quiet";
  // A gauge would have shown a prompt under way, and what GPUs beside this one do is not known from its windows.
  if (isQuiet && (interval.open || interval.inFlightTo !== undefined || siblings.length > 0)) return 0;
  let amount = 0;
  for (let index = windows.length - 1; index >= 0; index--) {
    const window = windows[index] as ActivityWindow;
    if (window.to <= from) break;
    const inside = Math.min(window.to, to) - Math.max(window.from, from);
    if (inside <= 0) continue;
    if (isQuiet) {
      if (window.sampled !== true)
        amount += inside * hiddenPrefillShare(intervals, window, perBusy, interval);
      continue;
    }
    // A window inside the interval says itself where the work was.
    const within = window.from >= interval.from && window.to <= interval.to;
    const share =
      window.sampled || (window.to - window.from > coarseNanos && !within)
        ? (shareByDurations(evidence, interval) ?? shareOnOne(evidence, window, interval))
        : Math.min(1, window.busyRatio * perBusy);
    amount += inside * share;
  }
  return Math.min(amount, to - from);
}

/** The same share of what the intervals speak of as the GPU was busy over the busiest. */
function shareOnOne(evidence: ShareEvidence, window: ActivityWindow, interval: PollInterval): number {
  const like = likeness(evidence, window);
  if (like === 0 || like === 1) return like * shareOfInterval(evidence, window, interval);
  return like * shareOfInterval(evidence, { ...window, busyRatio: window.busyRatio / like }, interval);
}

/**
 * The share of an interval that was execution, by the coarse window over it. Where requests stay, it goes to intervals with
 * one in flight at both ends first, what is left to those beside them; before the level is learned the gauges alone say
 * how much the first get, and half-way the second. Short requests are where tokens moved.
 */
function shareOfInterval(evidence: ShareEvidence, window: ActivityWindow, interval: PollInterval): number {
  if (window.sampled) return shareBySample(evidence, window, interval);
  const { intervals, perBusy, stay } = evidence;
  const inside = ({ from, to }: PollInterval): number =>
    Math.max(0, Math.min(to, window.to) - Math.max(from, window.from));
  const members = intervals.filter((member) => member.kind !== "quiet" && inside(member) > 0);
  const length = window.to - window.from;
  const executed = length * Math.min(1, window.busyRatio * perBusy);
  if (interval.isOfCopy) return shareOfCopy(members, inside, executed);
  if (!stay) return shareByTokens(members, inside, executed, interval);
  const sure = members.filter(isSure).reduce((sum, member) => sum + inside(member), 0);
  // Polls much closer together than the windows see more than the level knows.
  const learned = evidence.learned && (interval.to - interval.from) * gaugesPerWindow > length;
  if (isSure(interval)) {
    if (learned) return Math.min(1, executed / sure);
    return window.busyRatio > 0 ? 1 : 0;
  }
  const likely = members.filter(isLikely).reduce((sum, member) => sum + inside(member), 0);
  const left = Math.max(0, executed - sure);
  // No less was executed than the GPU was busy, where nobody else works.
  const least = evidence.isAlone ? window.busyRatio * length - sure : 0;
  const likelyShare = likely > 0 ? Math.min(1, left / likely) : 0;
  const relies = learned || interval.inFlightFrom === undefined;
  if (isLikely(interval))
    return relies ? likelyShare : Math.min(1, Math.max(least / likely, (likelyShare + 0.5) / 2));
  const possible = members.reduce((sum, member) => sum + inside(member), 0) - sure - likely;
  return possible > 0 ? Math.min(1, Math.max(0, left - likely * likelyShare) / possible) : 0;
}

/** The gauges of a copy were read at other instants than its polls: all that they say is that the work of the window was there. */
function shareOfCopy(
  members: readonly PollInterval[],
  inside: (interval: PollInterval) => number,
  executed: Nanos,
): number {
  const possible = members.reduce((sum, member) => sum + inside(member), 0);
  return Math.min(1, executed / possible);
}

/**
 * False of a GPU that did less in an interval than others of which it speaks, or more than others that worked: requests in
 * flight may have been with those.
 */
export function isAlike(evidence: ShareEvidence, { from, to }: PollInterval): boolean {
  if (evidence.siblings.length === 0) return true;
  for (let index = evidence.windows.length - 1; index >= 0; index--) {
    const window = evidence.windows[index] as ActivityWindow;
    if (window.to <= from) break;
    if (window.from >= to) continue;
    const { least, most } = siblingsIn(evidence, window);
    if (window.busyRatio < alikeRatio * most || least < alikeRatio * window.busyRatio) return false;
  }
  return true;
}

/**
 * How busy the GPU was over the busiest of those of which the intervals speak: requests in flight say what that one did, and
 * others did as much less as they were less busy. 1 where all are alike, as tensor-parallel ones are, or one is alone.
 */
function likeness(evidence: ShareEvidence, window: ActivityWindow): number {
  const { most } = siblingsIn(evidence, window);
  return window.busyRatio >= alikeRatio * most ? 1 : window.busyRatio / most;
}

/** How busy the busiest of the others was over a window, and the least busy of those that worked. */
function siblingsIn(
  { siblings }: ShareEvidence,
  { from, sampled, to }: ActivityWindow,
): { readonly least: number; readonly most: number } {
  let least = Infinity;
  let most = 0;
  // A driver's last window is far from the mean.
  for (const windows of sampled ? [] : siblings) {
    let busy = 0;
    for (let index = windows.length - 1; index >= 0; index--) {
      const other = windows[index] as ActivityWindow;
      if (other.to <= from) break;
      busy += Math.max(0, Math.min(other.to, to) - Math.max(other.from, from)) * other.busyRatio;
    }
    const ratio = busy / (to - from);
    most = Math.max(most, ratio);
    if (ratio >= workingBusyRatio) least = Math.min(least, ratio);
  }
  return { least, most };
}

/** Short requests were executed in the interval in which they ended. */
function shareByDurations({ perDuration }: ShareEvidence, interval: PollInterval): number | undefined {
  const { ended, from, open, to } = interval;
  if (perDuration === undefined || open) return undefined;
  return Math.min(1, ((ended?.nanos ?? 0) * perDuration) / (to - from));
}

/** Execution as the progress counters moved. */
function shareByTokens(
  members: readonly PollInterval[],
  inside: (interval: PollInterval) => number,
  executed: number,
  interval: PollInterval,
): number {
  const weightOf = (member: PollInterval): number =>
    (Math.max(member.progress, 1) * inside(member)) / (member.to - member.from);
  // No interval holds more than its length: what is too much for one is left to the others.
  let open = members;
  let left = executed;
  for (;;) {
    const all = open.reduce((sum, member) => sum + weightOf(member), 0);
    if (!(all > 0)) return 0;
    const full = open.filter((member) => left * weightOf(member) >= all * inside(member));
    if (full.includes(interval)) return 1;
    if (full.length === 0 || full.length === open.length)
      return (left * weightOf(interval)) / all / inside(interval);
    for (const member of full) left -= inside(member);
    open = open.filter((member) => !full.includes(member));
  }
}

/**
 * A driver's last window stands for itself alone: the gauges at both ends say more of the time between two readings, and
 * over a long time they say all there is to know.
 */
function shareBySample(evidence: ShareEvidence, window: ActivityWindow, interval: PollInterval): number {
  const long = window.to - window.from > sampleNanosMax;
  // That long requests do not last from copy to copy says nothing: near readings between two copies say more than their tokens.
  if (interval.isOfCopy && !long && !evidence.short) return shareOfSample(evidence, window);
  if (!evidence.stay) return shareOfShort(evidence, window, interval);
  if (isSure(interval)) return long || window.busyRatio > 0 ? 1 : 0;
  if (!long) return shareOfSample(evidence, window);
  if (interval.inFlightFrom === undefined) return ungaugedShare(evidence.hits, interval);
  return isLikely(interval) ? 0.5 : unseenShare;
}

/** What a last window shows of its own time: of requests that fill it that it caught work, of short ones how busy it was. */
function shareOfSample({ perBusy, perHit }: ShareEvidence, { busyRatio }: ActivityWindow): number {
  const byHit = busyRatio >= workingBusyRatio ? 1 : 0;
  return perHit * byHit + (1 - perHit) * Math.min(1, busyRatio * perBusy);
}

/** Of short requests a last window says by chance alone where they were: their tokens do, once it is known what these stand for. */
function shareOfShort(evidence: ShareEvidence, window: ActivityWindow, interval: PollInterval): number {
  const { error, perBusy, perProgress, perStep, samples } = evidence;
  const { from, open, ownSteps, progress, to } = interval;
  if (perProgress === undefined && ownSteps > 0 && !open)
    return Math.min(1, (ownSteps * perStep.nanosPerStep) / (to - from));
  const seen = perProgress === undefined ? undefined : { perProgress, error };
  const pace = ownSteps > 0 ? seen : paceOfSamples(seen, samples, interval);
  if (pace === undefined || open) return Math.min(1, window.busyRatio * perBusy);
  return Math.min(1, (progress * pace.perProgress) / (to - from));
}

function isSure({ inFlightFrom, inFlightTo }: PollInterval): boolean {
  return (inFlightFrom ?? 0) > 0 && (inFlightTo ?? 0) > 0;
}

function isLikely(interval: PollInterval): boolean {
  if (isSure(interval) || interval.kind === "quiet") return false;
  const gauges = interval.inFlightFrom !== undefined && interval.inFlightTo !== undefined;
  return !gauges || (interval.inFlightFrom ?? 0) > 0 || (interval.inFlightTo ?? 0) > 0;
}
