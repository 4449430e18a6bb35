// How much of a GPU's work beside others was a server's own, and what its progress stands for there. A driver that credits each
// of its windows to one process that ran in it does so as often as it ran: busy time of the windows known to be credited to a
// server, over that of all whose owner is known, is its part, whoever the others are and whenever their requests come. Without
// credits the GPU is busier where the server made more progress: the slope of the one over the other, for others come and
// go by themselves.
import type { Nanos } from "../../model.ts";
import { executedBeside } from "./beside.ts";
import { busyIn } from "./durations.ts";
import type { Activity, ActivityWindow, Credit, PollInterval } from "./evidence.ts";
import type { Beside, Owned, Told } from "./learned.ts";
import type { BesidePace } from "./presumed.ts";
import { paceOfShort, presumedPace } from "./presumed.ts";
import { nothingTold, toldPace, toldWith } from "./told.ts";

/** A driver's sample of one process: the end of its window, and its share of it. */
interface Sample {
  readonly at: Nanos;
  readonly pid: number;
  readonly smRatio: number;
}

/** Older intervals fade. */
const keptRatio = 0.995;
/** Windows worth of what is thought before any. */
const presumedNanos = 100_000_000;
/** Progress up to which what is not learned yet counts. */
const newProgressMax = 500;
/** How far off a single interval is thought to be. */
const singleError = 0.5;
/** How far off a pace of the time without others is beside them: requests that wait for others are executed together. */
const turnsError = 0.1;
/** Whether a driver credits each of those that ran in a window alike, or by how long it did, is not known: how far off that leaves it. */
const pickError = 0.5;
/** No pace is known better than this. */
const errorLeast = 0.03;

/** Longer windows than a driver's say nothing of who worked. */
const windowNanosMax: Nanos = 300_000_000;
const noneOwned: Owned = { own: 0, seen: 0, ownOwn: 0, ownSeen: 0, seenSeen: 0 };

/** Nothing seen yet. */
export const nothingBeside: Beside = {
  ...{ owned: noneOwned, busyNanos: 0, progress: 0, alone: { count: 0, x: 0, y: 0, xx: 0, xy: 0, yy: 0 } },
  told: nothingTold,
  ...{ weight: 0, x: 0, y: 0, xx: 0, xy: 0, yy: 0 },
};

/**
 * Returns the busy time whose owner a reading tells. The driver shows the newest window credited to each process: those after
 * that of the second one were credited to the first, all of them where no other was credited. Samples of one time are means
 * since the last reading. Undefined where no fine windows say how busy the GPU was.
 */
export function ownedIn(
  reading: { readonly from: Nanos; readonly to: Nanos; readonly samples: readonly Sample[] },
  windows: readonly ActivityWindow[],
  pids: readonly number[],
): Owned | undefined {
  const { from, samples, to } = reading;
  let first: Sample | undefined;
  let second: Sample | undefined;
  let all = 0;
  let own = 0;
  for (const sample of samples) {
    all += sample.smRatio;
    if (pids.includes(sample.pid)) own += sample.smRatio;
    if (first === undefined || sample.at > first.at) {
      second = first;
      first = sample;
    } else if (second === undefined || sample.at > second.at) second = sample;
  }
  if (first === undefined) return undefined;
  if (second?.at === first.at) return ofWindow(own * (to - from), all * (to - from));
  const sums = { ...noneOwned };
  const isFirsts = pids.includes(first.pid);
  for (let index = windows.length - 1; index >= 0; index--) {
    const window = windows[index] as ActivityWindow;
    const middle = (window.from + window.to) / 2;
    if (middle > first.at) continue;
    if (window.to <= from) break;
    if (window.to - window.from > windowNanosMax) return undefined;
    const busy = (window.to - window.from) * window.busyRatio;
    const isSecond = second !== undefined && middle <= second.at;
    const isOwn = isSecond ? pids.includes((second as Sample).pid) : isFirsts;
    addOwned(sums, ofWindow(isOwn ? busy : 0, busy));
    if (isSecond) break;
  }
  return sums;
}

function ofWindow(own: Nanos, seen: Nanos): Owned {
  return { own, seen, ownOwn: own * own, ownSeen: own * seen, seenSeen: seen * seen };
}

function addOwned(sums: { -readonly [Key in keyof Owned]: number }, more: Owned): void {
  for (const key of ownedKeys) sums[key] += more[key];
}

const ownedKeys = ["own", "seen", "ownOwn", "ownSeen", "seenSeen"] as const;

/** Takes in an interval beside others that is decided. Beside one that keeps the GPU busy credits alone say anything. */
export function learnBeside(activity: Activity, interval: PollInterval): void {
  activity.beside = withInterval(activity, activity.beside, interval);
}

/** Returns what was learned, with what intervals show that are not decided yet while that is little. */
export function besideAhead(activity: Activity, intervals: readonly PollInterval[]): Beside {
  let ahead = activity.beside;
  if (activity.hasOthers || ahead.progress > newProgressMax) return ahead;
  for (const interval of intervals) {
    const { contended, doubt, from, isCopied, isLent, open } = interval;
    if (!contended || open || from < activity.learnedUntil) continue;
    if (doubt !== undefined || isCopied === true || isLent === true) continue;
    ahead = withInterval(activity, ahead, interval);
  }
  return ahead;
}

function withInterval(activity: Activity, before: Beside, interval: PollInterval): Beside {
  const { credits, windows } = activity;
  const beside = { ...before, told: toldIn(activity, before, interval) };
  if (!interval.besideThin && credits.at(-1)?.owned === undefined && beside.owned.seen === 0) return beside;
  return besideWith(beside, interval, credits, busyIn(windows, interval.from, interval.to).nanos);
}

function toldIn({ level, polls, windows }: Activity, before: Beside, interval: PollInterval): Told {
  if (interval.ended === undefined) return before.told;
  const busy = (besidePace(before) ?? presumedPace).perProgress * interval.lone;
  const slow = busy > 0 ? executedBeside(windows, level, interval, busy) / busy : 0;
  const waiting = polls.findLast(({ at }) => at === interval.to)?.waiting ?? 0;
  return toldWith(before.told, interval, slow, waiting);
}

/** Takes in one without others, in which the server made progress. */
export function learnAlone(activity: Activity, { from, lone, to }: PollInterval): void {
  const { beside, windows } = activity;
  if (lone > 0) activity.beside = aloneWith(beside, lone, busyIn(windows, from, to).nanos);
}

/** The same as `learnAlone()`. Exported for its test: an estimator hides it behind windows and polls. */
export function aloneWith(beside: Beside, progress: number, busyNanos: Nanos): Beside {
  const { count, x, xx, xy, y, yy } = beside.alone;
  const alone = {
    count: count * keptRatio + 1,
    x: x * keptRatio + progress,
    y: y * keptRatio + busyNanos,
    xx: xx * keptRatio + progress * progress,
    xy: xy * keptRatio + progress * busyNanos,
    yy: yy * keptRatio + busyNanos * busyNanos,
  };
  return { ...beside, alone };
}

/** The same as `learnBeside()`, and how long the GPU was busy in it. Exported for its test: an estimator hides it behind windows and polls. */
export function besideWith(
  beside: Beside,
  interval: Pick<PollInterval, "besideThin" | "from" | "to" | "lone">,
  credits: readonly Credit[],
  busyNanos: Nanos,
): Beside {
  const owned = { ...noneOwned };
  for (const key of ownedKeys) owned[key] = beside.owned[key] * keptRatio;
  for (let index = credits.length - 1; index >= 0; index--) {
    const credit = credits[index] as Credit;
    if (credit.to <= interval.from) break;
    if (credit.to <= interval.to && credit.owned !== undefined) addOwned(owned, credit.owned);
  }
  const progress = interval.lone;
  const learned = {
    ...beside,
    owned,
    busyNanos: beside.busyNanos * keptRatio + busyNanos,
    progress: beside.progress * keptRatio + progress,
  };
  // One that fills the GPU leaves it no busier for what a server does beside it: there credits alone say anything.
  if (!interval.besideThin) return learned;
  const length = interval.to - interval.from;
  const x = progress / length;
  const y = busyNanos / length;
  return {
    ...learned,
    weight: beside.weight * keptRatio + 1,
    x: beside.x * keptRatio + x,
    y: beside.y * keptRatio + y,
    xx: beside.xx * keptRatio + x * x,
    xy: beside.xy * keptRatio + x * y,
    yy: beside.yy * keptRatio + y * y,
  };
}

/**
 * Returns that: by the durations of requests, by the credits beside others, or the slope where there are none, and by what was seen
 * without others, each by the square of its error. Undefined while no progress was made beside others, or nothing says whose the work was there.
 */
export function besidePace(beside: Beside): BesidePace | undefined {
  const seen = seenPace(beside);
  const told = toldPace(beside.told);
  if (seen === undefined || told === undefined) return seen ?? told;
  const share = seen.error ** 2 / (seen.error ** 2 + told.error ** 2);
  return {
    perProgress: seen.perProgress * (told.perProgress / seen.perProgress) ** share,
    error: (seen.error * told.error) / Math.hypot(seen.error, told.error),
  };
}

/** By all but durations. */
function seenPace(beside: Beside): BesidePace | undefined {
  const { alone, busyNanos, progress } = beside;
  if (!(progress > 0 && busyNanos > 0)) return undefined;
  // Progress for which no window was busy, as a page that is late shows it, says nothing of a pace.
  const shared = byCredits(beside) ?? (beside.x > 0 && beside.y > 0 ? bySlope(beside) : undefined);
  if (shared === undefined || !(alone.x > 0 && alone.y > 0)) return shared;
  const own = byItself(alone);
  // Credits are chance: of a pace that is half as long there are half as many, and their error is that of so many.
  const sharedError = shared.error * Math.sqrt(shared.perProgress * own.perProgress);
  const ownError = own.error * own.perProgress;
  const share = ownError ** 2 / (ownError ** 2 + sharedError ** 2);
  const perProgress = own.perProgress + share * (shared.perProgress - own.perProgress);
  const error = (ownError * sharedError) / Math.hypot(ownError, sharedError) / perProgress;
  return { perProgress, error: Math.max(errorLeast, error) };
}

/** By the time without others: how far single intervals are from their mean says how well it is known. */
function byItself({ count, x, xx, xy, y, yy }: Beside["alone"]): BesidePace {
  const perProgress = y / x;
  const squares = Math.max(0, yy - 2 * perProgress * xy + perProgress ** 2 * xx);
  const error = Math.sqrt(squares + ((singleError * y) / count) ** 2) / y;
  return { perProgress, error: Math.hypot(turnsError, error) };
}

function byCredits({ busyNanos, owned, progress }: Beside): BesidePace | undefined {
  if (owned.seen <= 0) return undefined;
  const presumed = presumedNanos * Math.min(1, (presumedPace.perProgress * progress) / busyNanos);
  const seen = owned.seen + presumedNanos;
  const part = (owned.own + presumed) / seen;
  const squares = owned.ownOwn - 2 * part * owned.ownSeen + part * part * owned.seenSeen;
  const chance = Math.sqrt(Math.max(0, squares) + presumed ** 2) / seen / part;
  return { perProgress: (part * busyNanos) / progress, error: Math.hypot(chance, pickError) };
}

/** What more progress adds to the busy time, no more than all of it; what is presumed where nothing says more. */
function bySlope({ weight, x, xx, xy, y, yy }: Beside): BesidePace {
  const most = y / x;
  const presumed = paceOfShort(most);
  const varied = xx - (x * x) / weight;
  const along = xy - (x * y) / weight;
  const across = yy - (y * y) / weight;
  const rest = Math.max(0, across - (varied > 0 ? (along * along) / varied : 0)) / Math.max(1, weight - 2);
  const pull = rest / (presumed.error * presumed.perProgress) ** 2;
  if (!(varied + pull > 0)) return presumed;
  const least = presumed.perProgress / 20;
  const slope = Math.min(most, Math.max(least, (along + pull * presumed.perProgress) / (varied + pull)));
  return { perProgress: slope, error: Math.max(errorLeast, Math.sqrt(rest / (varied + pull)) / slope) };
}
