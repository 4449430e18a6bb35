// Short requests beside other servers: they leave the GPU nearly idle, a decoder beside them does not, so that the busy share of
// a window says which of the two it can have been. A server that keeps the GPU busy while it has a request executes in no
// window that is much emptier; short requests get what their tokens stand for, by the pace of the time without others, in the
// windows that nobody fills first.
import type { Nanos } from "../../model.ts";
import type { ActivityWindow, Level, PollInterval, SeenPoll, WorkRun } from "./evidence.ts";
import { coarseNanos } from "./level.ts";
import { workingBusyRatio } from "./runs.ts";
import type { ShareEvidence } from "./shares.ts";

/** How busy the GPU is at the least while a request is in flight: this quantile of windows, learned in steps. */
const [presenceQuantile, presenceStep] = [0.2, 0.05];
/** Polls that it takes. */
const presentMin = 5;
/** Windows emptier than this share of it are not the server's. */
const thinRatio = 1 / 3;
/** Windows busier than this are filled by a server that keeps the GPU busy. */
const thinBusyRatio = 0.5;
/** How much of what a pace gives beside others may be otherwise, and how many standard errors of the level. */
const [paceDoubt, errors] = [0.3, 2];
/** Execution is placed in the middle of stretches of this length. */
const slotNanos = 1_000_000_000;

/** Short requests in an interval beside others. */
export interface BesideShare {
  readonly own: readonly WorkRun[];
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

/** True of a server that keeps the GPU busy while a request is in flight: one that windows do not hide. */
export function keepsBusy({ presence, present }: Level): boolean {
  return present >= presentMin && presence > thinBusyRatio;
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

/** Returns what short requests executed in an interval in which others worked too. */
export function besideShare(evidence: ShareEvidence, interval: PollInterval): BesideShare {
  const { error, perProgress } = evidence;
  const slots = slotsOf(evidence, interval);
  const [thin, full] = [total(slots, "thin"), total(slots, "full")];
  const length = interval.to - interval.from;
  // Without a pace, as much at a time as where nobody else fills the windows.
  const guess = thin + (full < length ? (thin * full) / (length - full) : full / 2);
  const amount = perProgress === undefined ? guess : interval.progress * perProgress * (1 + full / length);
  const inThin = Math.min(amount, thin);
  const inFull = Math.min(amount - inThin, full);
  const own: WorkRun[] = [];
  for (const { from, full: filled, thin: alone, to } of slots) {
    const part = (thin > 0 ? (alone * inThin) / thin : 0) + (full > 0 ? (filled * inFull) / full : 0);
    const nanos = Math.round(Math.min(part, to - from));
    if (nanos <= 0) continue;
    const start = from + Math.floor((to - from - nanos) / 2);
    own.push({ from: start, to: start + nanos, seen: true });
  }
  const ratio = perProgress === undefined ? 1 : Math.hypot(paceDoubt, errors * error);
  return { own, ratio: Math.min(1, ratio) };
}

/** A second of an interval: what the GPU executed in windows that nobody fills, and how long it was filled. */
interface Slot {
  readonly from: Nanos;
  readonly to: Nanos;
  thin: Nanos;
  full: Nanos;
}

function slotsOf({ perBusy, windows }: ShareEvidence, { from, to }: PollInterval): Slot[] {
  const slots: Slot[] = [];
  for (let slot = Math.floor(from / slotNanos) * slotNanos; slot < to; slot += slotNanos)
    slots.push({ from: Math.max(slot, from), to: Math.min(slot + slotNanos, to), thin: 0, full: 0 });
  for (let index = windows.length - 1; index >= 0; index--) {
    const window = windows[index] as ActivityWindow;
    if (window.to <= from) break;
    if (window.from >= to || window.busyRatio < workingBusyRatio) continue;
    for (const slot of slots) {
      const inside = Math.min(window.to, slot.to) - Math.max(window.from, slot.from);
      if (inside <= 0) continue;
      if (window.busyRatio > thinBusyRatio) slot.full += inside;
      else slot.thin += inside * Math.min(1, window.busyRatio * perBusy);
    }
  }
  return slots;
}

function total(slots: readonly Slot[], key: "thin" | "full"): Nanos {
  let sum = 0;
  for (const slot of slots) sum += slot[key];
  return sum;
}
