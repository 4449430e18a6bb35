// Short requests beside other servers: they leave the GPU nearly idle, a decoder beside them does not, so that the busy share of
// a window says which of the two it can have been. A server that keeps the GPU busy while it has a request executes in no
// window that is much emptier; short requests get what their tokens stand for, by the pace of the time without others, in the
// windows that nobody fills first.
import type { Nanos } from "../../model.ts";
import type { ActivityWindow, PeerStretch, PollInterval, SeenPoll, WorkRun } from "./evidence.ts";
import type { Level } from "./learned.ts";
import { areBrief, residenceOf } from "./lengths.ts";
import { coarseNanos, executionPerBusy, withoutPeak } from "./level.ts";
import type { BesidePace } from "./presumed.ts";
import { paceOfSamples, paceOfShort, presumedPace, stepsOf } from "./presumed.ts";
import { workingBusyRatio } from "./runs.ts";
import type { ShareEvidence } from "./shares.ts";
import { isCoarse } from "./shares.ts";

/** How busy the GPU is at the least while a request is in flight: this quantile of windows, learned in steps. */
const [presenceQuantile, presenceStep] = [0.2, 0.05];
/** Polls that it takes. */
const presentMin = 5;
/** Windows emptier than this share of it are not the server's. */
const thinRatio = 1 / 3;
/** Windows busier than this are filled by a server that keeps the GPU busy. */
const thinBusyRatio = 0.5;
/** How much of what a pace of the time without others gives beside them may be otherwise; as one standard error. */
const aloneError = 0.15;
/** Of so many standard errors. */
const errors = 2;
/** Times that it is worked out how much longer execution is for that of others at the same time. */
const triesMax = 4;

/** Short requests in an interval beside others. */
export interface BesideShare {
  readonly own: readonly WorkRun[];
  /** Where in the same stretches somebody executed, these or others. */
  readonly all: readonly WorkRun[];
  /** How much of it may be otherwise. */
  readonly ratio: number;
}

/** Takes in how busy the GPU was while a poll read a request in flight. */
export function observePresence(level: Level, poll: SeenPoll, windows: readonly ActivityWindow[]): void {
  if (!((poll.inFlight ?? 0) > 0)) return;
  let index = windows.length - 1;
  while (index >= 0 && (windows[index] as ActivityWindow).from > poll.at) index--;
  const window = windows[index];
  if (window === undefined || window.to <= poll.at || window.to - window.from > coarseNanos) return;
  if (window.busyRatio < workingBusyRatio) return;
  level.present++;
  if (level.present === 1) level.presence = window.busyRatio;
  else if (window.busyRatio < level.presence) level.presence -= presenceStep * (1 - presenceQuantile);
  else level.presence += presenceStep * presenceQuantile;
}

/**
 * True of a server that keeps the GPU busy while a request is in flight: one that windows do not hide. Of requests shorter than
 * windows others keep it so.
 */
export function keepsBusy(level: Level): boolean {
  return level.present >= presentMin && level.presence > thinBusyRatio && !areBrief(level);
}

/**
 * Returns work less the windows that are too empty to be execution of a server; all of it where that is not known. Beside
 * servers that leave the GPU nearly idle (`besideThin`) what fills it is the work of another.
 */
export function withoutThin(
  level: Level,
  work: readonly WorkRun[],
  windows: readonly ActivityWindow[],
  besideThin: boolean,
): readonly WorkRun[] {
  const isKnown = level.present >= presentMin;
  if (!isKnown && !besideThin) return work;
  const least = isKnown ? thinRatio * level.presence : thinBusyRatio;
  const thick: WorkRun[] = [];
  for (const { from, seen, to } of work) {
    let reached = from;
    for (const window of windows) {
      if (window.to <= reached || window.busyRatio >= least) continue;
      if (window.from >= to) break;
      if (window.from > reached) thick.push({ from: reached, to: window.from, seen });
      reached = Math.min(to, window.to);
    }
    if (reached < to) thick.push({ from: reached, to, seen });
  }
  return thick.length > 0 ? thick : work;
}

/**
 * Returns what short requests executed in an interval in which others worked too. Those that execute at the same time take turns:
 * each takes longer by half of that. In one stretch servers execute from different ends of it.
 */
export function besideShare(evidence: ShareEvidence, interval: PollInterval): BesideShare {
  const perBusy = executionPerBusy(withoutPeak(evidence.level));
  const slots = slotsOf({ ...evidence, perBusy }, interval);
  const thin = total(slots, interval, false);
  const full = total(slots, interval, true);
  const length = interval.to - interval.from;
  const known = paceOf(evidence, interval);
  const residence = known === undefined ? residenceOf(evidence.level) : undefined;
  if (residence !== undefined && isCoarse(evidence.windows, interval.from, interval.to)) {
    const nanos = residence.nanos * (interval.requests ?? 0);
    const own = slots.flatMap(({ window }) => middleOf(interval, window, nanos));
    return { own, all: [], ratio: Math.min(1, errors * residence.error) };
  }
  const pace = known ?? presumed(interval, thin / perBusy);
  const busy = pace.perProgress * (known === undefined ? stepsOf(interval) : interval[pace.of]);
  const amount = executed({ full, length, perBusy, thin }, busy);
  const inThin = Math.min(amount, thin);
  const inFull = Math.min(amount - inThin, full);
  const [own, all]: [WorkRun[], WorkRun[]] = [[], []];
  for (const { busy, isFull, window } of slots) {
    const length = window.to - window.from;
    if (length > coarseNanos) {
      // Where in a long window it was is not known, nor how much of the window was others': its own is as long as it takes.
      own.push(...middleOf(interval, window, amount));
      continue;
    }
    const nanos = busy * (isFull ? inFull / full : inThin / thin);
    const clip = (start: Nanos, amount: Nanos, pieces: WorkRun[]): void => {
      const from = Math.max(interval.from, start);
      const to = Math.min(interval.to, start + Math.round(amount));
      if (to > from) pieces.push({ from, to, seen: true });
    };
    // Where polls cut a window does not move what is executed in it: each server has polls of its own.
    if (!isFull) clip(window.from, busy, all);
    clip(window.from + Math.floor(evidence.seat * (busy - nanos)), nanos, own);
  }
  const ratio = Math.min(1, errors * pace.error);
  return { own, all, ratio };
}

/** Returns how long the execution of short requests takes in an interval for which the GPU is busy for `busy`. */
export function executedBeside(
  windows: readonly ActivityWindow[],
  level: Level,
  interval: Pick<PollInterval, "besideThin" | "from" | "to">,
  busy: Nanos,
): Nanos {
  const perBusy = executionPerBusy(withoutPeak(level));
  const slots = slotsOf({ windows, perBusy }, interval);
  const [thin, full] = [total(slots, interval, false), total(slots, interval, true)];
  return executed({ full, length: interval.to - interval.from, perBusy, thin }, busy);
}

/**
 * The same in a time of `length`, of which somebody fills `full`, and some execute in `thin`. Where others fill the windows it takes
 * twice as long; the pauses of a request on the host are no longer for that.
 */
function executed(
  { full, length, perBusy, thin }: Readonly<Record<"full" | "length" | "perBusy" | "thin", number>>,
  busy: Nanos,
): Nanos {
  return Math.min(length, (perBusy - 1) * busy + besideShort(busy, thin, length) + (busy * full) / length);
}

/** The part of `amount` that an interval and a window share, in the middle of what they share. */
function middleOf(interval: PollInterval, window: ActivityWindow, amount: Nanos): readonly WorkRun[] {
  const from = Math.max(interval.from, window.from);
  const shared = Math.min(interval.to, window.to) - from;
  const nanos = Math.round(Math.min(shared, (amount * shared) / (interval.to - interval.from)));
  const start = from + Math.floor((shared - nanos) / 2);
  return nanos > 0 ? [{ from: start, to: start + nanos, seen: true }] : [];
}

/** True where a window that hides who worked when reaches over an interval and over the time of another server or stranger. */
export function sharesWindow(
  windows: readonly ActivityWindow[],
  peers: readonly PeerStretch[],
  interval: Pick<PollInterval, "from" | "to">,
): boolean {
  for (let index = windows.length - 1; index >= 0; index--) {
    const { from, to } = windows[index] as ActivityWindow;
    if (to <= interval.from) break;
    if (from >= interval.to || to - from <= coarseNanos) continue;
    for (const peer of peers) if (peer.from < to && peer.to > from) return true;
  }
  return false;
}

/** Before anything was seen of a pace: what GPUs make of it, `thin` being how long short requests kept the GPU busy alone. */
function presumed({ besideThin, lone }: PollInterval, thin: Nanos): Paced {
  return { ...(besideThin && lone > 0 ? paceOfShort(thin / lone) : presumedPace), of: "lone" };
}

/** How long the GPU is busy for some progress, which progress, and the standard error of that over itself. */
function paceOf(
  { beside, error, perBusy, perProgress, samples }: ShareEvidence,
  interval: PollInterval,
): Paced | undefined {
  if (beside !== undefined) return { ...beside, error: Math.hypot(beside.error, error), of: "lone" };
  if (perProgress === undefined) return undefined;
  const alone = { perProgress: perProgress / perBusy, error: Math.hypot(aloneError, error) };
  const seen = samples > 0 ? paceOfSamples(alone, samples, interval) : alone;
  return { ...(seen ?? alone), of: "progress" };
}

type Paced = BesidePace & { readonly of: "progress" | "lone" };

/**
 * How long `busy` time of the GPU takes where what it and others execute takes `all` of some time: they come and go by themselves,
 * and who executes at the same time takes turns.
 */
function besideShort(busy: Nanos, all: Nanos, length: Nanos): Nanos {
  let own = busy;
  for (let tries = 0; tries < triesMax; tries++) {
    const others = own >= all ? 0 : 1 - (1 - all / length) / (1 - own / length);
    own = Math.min(busy / (1 - others / 2), length);
  }
  return own;
}

/** A window at work, and how much of it is execution. */
interface Slot {
  readonly window: ActivityWindow;
  readonly busy: Nanos;
  /** Somebody fills it. */
  readonly isFull: boolean;
}

/** The windows at work, in order. Beside short requests alone nobody fills them. */
function slotsOf(
  { perBusy, windows }: Pick<ShareEvidence, "perBusy" | "windows">,
  { besideThin, from, to }: Pick<PollInterval, "besideThin" | "from" | "to">,
): Slot[] {
  const slots: Slot[] = [];
  let index = windows.length;
  while (index > 0 && (windows[index - 1] as ActivityWindow).to > from) index--;
  for (; index < windows.length; index++) {
    const window = windows[index] as ActivityWindow;
    if (window.from >= to) break;
    if (window.busyRatio < workingBusyRatio) continue;
    const isFull = window.busyRatio > thinBusyRatio && !besideThin && window.to - window.from <= coarseNanos;
    const ratio = isFull ? 1 : Math.min(1, window.busyRatio * perBusy);
    slots.push({ window, busy: (window.to - window.from) * ratio, isFull });
  }
  return slots;
}

/** What of an interval is execution, in windows that somebody fills or in the others. */
function total(
  slots: readonly Slot[],
  { from, to }: Pick<PollInterval, "from" | "to">,
  full: boolean,
): Nanos {
  let sum = 0;
  for (const { busy, isFull, window } of slots) {
    if (isFull !== full) continue;
    const inside = Math.min(window.to, to) - Math.max(window.from, from);
    sum += (busy * inside) / (window.to - window.from);
  }
  return sum;
}
