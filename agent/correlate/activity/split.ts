// How much of a GPU's work beside others was a server's own, and what its progress stands for there. A driver that credits each
// of its windows to one process that ran in it does so as often as it ran: busy time of the windows known to be credited to a
// server, over that of all whose owner is known, is its part, whoever the others are and whenever their requests come. Without
// credits the GPU is busier where the server made more progress: the slope of the one over the other, for others come and
// go by themselves.
import type { Nanos } from "../../model.ts";
import { busyIn } from "./durations.ts";
import type { Activity, ActivityWindow, Beside, Credit, PollInterval } from "./evidence.ts";

/** A driver's sample of one process: the end of its window, and its share of it. */
interface Sample {
  readonly at: Nanos;
  readonly pid: number;
  readonly smRatio: number;
}

/** What a reading tells of busy time and its owner. */
export type Owned = NonNullable<Credit["owned"]>;

/** Older intervals fade. */
const keptRatio = 0.995;
/** Windows worth of what is thought before any: that the work is half of each. */
const presumedNanos = 100_000_000;
/** Progress that it takes. */
const progressMin = 10;
/** How far off the half of the work is that is thought of before any interval. */
const halfError = 0.5;
/** No pace is known better than this. */
const errorLeast = 0.03;

/** Longer windows than a driver's say nothing of who worked. */
const windowNanosMax: Nanos = 300_000_000;
const noneOwned: Owned = { own: 0, seen: 0, ownOwn: 0, ownSeen: 0, seenSeen: 0 };

/** Nothing seen yet. */
export const nothingBeside: Beside = {
  ...{ owned: noneOwned, busyNanos: 0, progress: 0, aloneNanos: 0, aloneProgress: 0 },
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
  let [first, second]: (Sample | undefined)[] = [];
  let [all, own] = [0, 0];
  for (const sample of samples) {
    all += sample.smRatio;
    if (pids.includes(sample.pid)) own += sample.smRatio;
    if (first === undefined || sample.at > first.at) [first, second] = [sample, first];
    else if (second === undefined || sample.at > second.at) second = sample;
  }
  if (first === undefined) return undefined;
  if (second?.at === first.at) return ofWindow(own * (to - from), all * (to - from));
  const sums = { ...noneOwned };
  const isFirsts = pids.includes(first.pid);
  for (let index = windows.length - 1; index >= 0; index--) {
    const window = windows[index] as ActivityWindow;
    const middle = (window.from + window.to) / 2;
    if (middle > first.at) continue;
    if (middle <= from) break;
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
  const { beside, credits, windows } = activity;
  if (!interval.besideThin && credits.at(-1)?.owned === undefined && beside.owned.seen === 0) return;
  activity.beside = besideWith(beside, interval, credits, busyIn(windows, interval.from, interval.to).nanos);
}

/** Takes in one without others, in which the server made progress. */
export function learnAlone(activity: Activity, { from, lone, to }: PollInterval): void {
  const { beside, windows } = activity;
  if (!(lone > 0)) return;
  activity.beside = {
    ...beside,
    aloneNanos: beside.aloneNanos * keptRatio + busyIn(windows, from, to).nanos,
    aloneProgress: beside.aloneProgress * keptRatio + lone,
  };
}

/** The same as `learnBeside()`, and how long the GPU was busy in it. Exported for its test: an estimator hides it behind windows and polls. */
export function besideWith(
  beside: Beside,
  interval: Pick<PollInterval, "from" | "to" | "lone">,
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
  const length = interval.to - interval.from;
  const [x, y] = [progress / length, busyNanos / length];
  return {
    owned,
    busyNanos: beside.busyNanos * keptRatio + busyNanos,
    progress: beside.progress * keptRatio + progress,
    aloneNanos: beside.aloneNanos * keptRatio,
    aloneProgress: beside.aloneProgress * keptRatio,
    weight: beside.weight * keptRatio + 1,
    x: beside.x * keptRatio + x,
    y: beside.y * keptRatio + y,
    xx: beside.xx * keptRatio + x * x,
    xy: beside.xy * keptRatio + x * y,
    yy: beside.yy * keptRatio + y * y,
  };
}

/** How long the GPU is busy for some progress beside others, and the standard error of that over itself. */
export interface BesidePace {
  readonly perProgress: number;
  readonly error: number;
}

/**
 * Returns that, by the slope where no credit says it, with what was seen without others; undefined while little progress was made.
 */
export function besidePace(beside: Beside): BesidePace | undefined {
  const { aloneNanos, aloneProgress, busyNanos, progress } = beside;
  if (progress < progressMin || !(busyNanos > 0)) return undefined;
  const { error, perProgress } = byCredits(beside) ?? bySlope(beside);
  const all = aloneNanos + perProgress * progress;
  return {
    perProgress: all / (aloneProgress + progress),
    error: Math.max(errorLeast, (error * perProgress * progress) / all),
  };
}

function byCredits({ busyNanos, owned, progress }: Beside): BesidePace | undefined {
  if (owned.seen <= 0) return undefined;
  const seen = owned.seen + presumedNanos;
  const part = (owned.own + presumedNanos / 2) / seen;
  const squares = owned.ownOwn - 2 * part * owned.ownSeen + part * part * owned.seenSeen;
  const error = Math.sqrt(Math.max(0, squares) + (presumedNanos / 2) ** 2) / seen / part;
  return { perProgress: (part * busyNanos) / progress, error: Math.max(errorLeast, error) };
}

/** What more progress adds to the busy time, no more than all of it; half of all where nothing says more. */
function bySlope({ weight, x, xx, xy, y, yy }: Beside): BesidePace {
  const most = y / x;
  const half = most / 2;
  const [varied, along, across] = [xx - (x * x) / weight, xy - (x * y) / weight, yy - (y * y) / weight];
  const rest = Math.max(0, across - (varied > 0 ? (along * along) / varied : 0)) / Math.max(1, weight - 2);
  const pull = rest / (halfError * half) ** 2;
  if (!(varied + pull > 0)) return { perProgress: half, error: halfError };
  const slope = Math.min(most, Math.max(half / 20, (along + pull * half) / (varied + pull)));
  return { perProgress: slope, error: Math.max(errorLeast, Math.sqrt(rest / (varied + pull)) / slope) };
}
