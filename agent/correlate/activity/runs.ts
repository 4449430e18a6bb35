// Runs of GPU work: the fine activity windows joined into stretches with exact edges.
// A window works at a busy share of 1 % or more (METERING.md 2). The edge of a run lies inside its outermost window:
// busy share over the plateau of the neighbouring window (0.99 for an 8B decoder, 0.05-0.2 for a host-bound 1B one).
// Who the work belongs to is not decided here.

import type { Nanos, ServerPoll } from "../../model.ts";
import type { Activity, ActivityWindow, WorkRun } from "./evidence.ts";

/** Share of a window from which on the GPU counts as working. */
export const workingBusyRatio = 0.01;
/** A pause between two steps: shorter stretches of an idle GPU do not end a run. One driver window and a half. */
export const stepPauseNanos = 300_000_000;
/** The same when a poll inside the pause read a request in flight, or a first request is being prepared. */
export const longPauseNanos = 1_000_000_000;
/** The same before the first token of a server's life. */
const firstPauseNanos = 2_000_000_000;
/** An edge is known to a driver window; a poll nearer to it does not tell on which side it fell. */
const edgeNanos = 200_000_000;

/** Engines that keep the GPU this busy while they execute leave windows emptier than that between requests only. */
const steadyBusyRatio = 0.7;
/** A window this full is full. */
const fullRatio = 0.85;

/** Weight of the newest windows in what a window wholly at work is. */
const plateauRatio = 0.125;

/** A run that may still be lengthened. */
type Draft = { -readonly [Key in keyof WorkRun]: WorkRun[Key] };

/**
 * Returns the runs of work in `[from, to)`, in order and apart, built from `windows` (in order, apart). Stretches
 * without any window longer than a step pause become runs with `seen` false; `to` must not lie past what the windows can
 * have reached while the GPU is live. `plateau` is the busy share to divide by where a run has a single window,
 * `pauseNanos` the longest pause that does not end a run.
 */
export function workRuns(
  windows: readonly ActivityWindow[],
  polls: readonly ServerPoll[],
  from: Nanos,
  to: Nanos,
  plateau: number | undefined,
  pauseNanos: Nanos = stepPauseNanos,
): WorkRun[] {
  const runs: Draft[] = [];
  let reached = from;
  let index = 0;
  while (index < windows.length) {
    const window = windows[index] as ActivityWindow;
    if (window.from - reached > stepPauseNanos)
      add(runs, polls, { from: reached, to: window.from, seen: false });
    if (window.busyRatio < workingBusyRatio) {
      reached = Math.max(reached, window.to);
      index++;
      continue;
    }
    let last = index;
    while (
      last + 1 < windows.length &&
      joins(windows[last] as ActivityWindow, windows[last + 1] as ActivityWindow)
    )
      last++;
    const run = edged(windows, index, last, plateau);
    if (pauseNanos > 0 || plateau === undefined || plateau < steadyBusyRatio)
      add(runs, polls, run, pauseNanos);
    else for (const part of parted(windows, index, last, plateau, run)) runs.push(part);
    reached = Math.max(reached, (windows[last] as ActivityWindow).to);
    index = last + 1;
  }
  if (to - reached > stepPauseNanos) add(runs, polls, { from: reached, to, seen: false });
  return runs;
}

/** Work on both sides of a short stretch without readings is work in it as well. */
function joins(window: ActivityWindow, next: ActivityWindow): boolean {
  return next.busyRatio >= workingBusyRatio && next.from - window.to <= longPauseNanos;
}

/** The run of windows `first` to `last`, its edges moved inwards where an idle window lies right outside. */
function edged(
  windows: readonly ActivityWindow[],
  first: number,
  last: number,
  plateau: number | undefined,
): WorkRun {
  const head = windows[first] as ActivityWindow;
  const tail = windows[last] as ActivityWindow;
  const before = windows[first - 1];
  const after = windows[last + 1];
  const opens = before !== undefined && head.from - before.to <= stepPauseNanos;
  const closes = after !== undefined && after.from - tail.to <= stepPauseNanos;
  if (first === last) {
    const empty = Math.round((head.to - head.from) * (1 - filled(head, plateau ?? head.busyRatio)));
    if (opens && closes)
      return { from: head.from + (empty >> 1), to: head.to - (empty - (empty >> 1)), seen: true };
    return { from: head.from + (opens ? empty : 0), to: head.to - (closes ? empty : 0), seen: true };
  }
  // Of two windows none need be full.
  const level = last === first + 1 ? (plateau ?? 0) : 0;
  const inner = Math.max(level, (windows[first + 1] as ActivityWindow).busyRatio);
  const outer = Math.max(level, (windows[last - 1] as ActivityWindow).busyRatio);
  const late = opens ? Math.round((head.to - head.from) * (1 - filled(head, inner))) : 0;
  const early = closes ? Math.round((tail.to - tail.from) * (1 - filled(tail, outer))) : 0;
  return { from: head.from + late, to: tail.to - early, seen: true };
}

/**
 * Parts of a run on a GPU where every pause is one: a window that is far from full although the GPU is kept busy by
 * whoever executes on it holds the end of one request and the beginning of another.
 */
function parted(
  windows: readonly ActivityWindow[],
  first: number,
  last: number,
  plateau: number,
  run: WorkRun,
): WorkRun[] {
  const parts: WorkRun[] = [];
  let from = run.from;
  for (let index = first + 1; index < last; index++) {
    const window = windows[index] as ActivityWindow;
    const full = filled(window, plateau);
    if (full >= fullRatio) continue;
    const pause = Math.round((window.to - window.from) * (1 - full));
    const start = window.from + ((window.to - window.from - pause) >> 1);
    if (start > from) parts.push({ from, to: start, seen: true });
    from = start + pause;
  }
  if (run.to > from) parts.push({ from, to: run.to, seen: true });
  return parts;
}

function filled(window: ActivityWindow, plateau: number): number {
  return plateau > 0 ? Math.min(1, window.busyRatio / plateau) : 1;
}

/** Appends a run, or lengthens the last one over a pause that belongs to it. */
function add(
  runs: Draft[],
  polls: readonly ServerPoll[],
  run: Draft,
  pauseNanos: Nanos = stepPauseNanos,
): void {
  const last = runs.at(-1);
  if (last?.seen && run.seen && bridges(polls, last, run, pauseNanos)) last.to = run.to;
  else if (run.to > run.from) runs.push(run);
}

/** A pause between steps, a pause a poll saw with a request in flight, or one in the preparation of a first request. */
function bridges(polls: readonly ServerPoll[], last: WorkRun, next: WorkRun, pauseNanos: Nanos): boolean {
  const pause = next.from - last.to;
  if (pause <= pauseNanos) return true;
  if (pause > firstPauseNanos || pauseNanos < stepPauseNanos) return false;
  const from = last.to + edgeNanos;
  const to = next.from - edgeNanos;
  const flying = wasInFlight(polls, from, to);
  return pause <= (flying ? longPauseNanos : preparationPause(polls, last, next.from));
}

/** Whether a poll in `[from, to]` read a request in flight. */
function wasInFlight(polls: readonly ServerPoll[], from: Nanos, to: Nanos): boolean {
  for (let index = polls.length - 1; index >= 0; index--) {
    const { at, inFlight } = polls[index] as ServerPoll;
    if (at < from) return false;
    if (at <= to && inFlight !== undefined && inFlight > 0) return true;
  }
  return false;
}

/**
 * Returns how long the GPU may pause after `run` for the work that follows to belong to the same request. A first request
 * after silence begins with a short piece of work, up to a second in which the host prepares, then the prefill
 * (h100-solo-8b); the very first request of a server compiles as well (h100-low-load-1b: 1.7 s).
 * Tokens read before `until`, where the pause ends, say that the request was complete; none read after the work, that it was not.
 */
export function preparationPause(polls: readonly ServerPoll[], run: WorkRun, until: Nanos): Nanos {
  let index = polls.length - 1;
  while (index >= 0 && (polls[index] as ServerPoll).at > run.from) index--;
  const poll = polls[index];
  if (poll === undefined || (poll.inFlight ?? 0) > 0) return stepPauseNanos;
  const next = polls[index + 1];
  const isRead = next !== undefined && next.at <= until;
  if (isRead && tokensOf(next) !== tokensOf(poll)) return stepPauseNanos;
  const length = run.to - run.from;
  if (tokensOf(poll) === 0 && length <= 2 * stepPauseNanos) return firstPauseNanos;
  const before = polls[index - 1];
  const isSilent = before !== undefined && tokensOf(before) === tokensOf(poll);
  const silent = isSilent || (isRead && next.at >= run.to + edgeNanos);
  return silent && length <= stepPauseNanos ? longPauseNanos : stepPauseNanos;
}

function tokensOf(poll: ServerPoll): number {
  return poll.inputTokens + poll.outputTokens;
}

/**
 * Takes in how busy a window is that is wholly at work, by the busiest of the newest ones. Of three at work in a row one is; one or
 * two may be cut by the ends of a short request, so that until three were seen it is the busiest so far.
 */
export function observePlateau(activity: Pick<Activity, "plateau" | "plateauOfThree" | "windows">): void {
  const { plateau, plateauOfThree, windows } = activity;
  let most = 0;
  let count = 0;
  for (let index = windows.length - 1; index >= 0 && count < 3; index--) {
    const { busyRatio } = windows[index] as ActivityWindow;
    if (busyRatio < workingBusyRatio) break;
    most = Math.max(most, busyRatio);
    count++;
  }
  if (count < (plateauOfThree ? 3 : 1)) return;
  activity.plateauOfThree = count === 3;
  if (plateau === undefined || count < 3) activity.plateau = Math.max(plateau ?? 0, most);
  else activity.plateau = plateau + (most - plateau) * plateauRatio;
}

/** Returns the run that crosses an instant, undefined where none does. */
export function crossing(runs: readonly WorkRun[], at: Nanos): WorkRun | undefined {
  return runs.find((run) => run.seen && run.from < at && run.to > at);
}

/** The longest pause inside a request. On one of several GPUs of a server an idle window is none: a rank waits there. */
export function pauseOf({ hasOthers }: Activity): Nanos {
  return hasOthers ? 0 : stepPauseNanos;
}
