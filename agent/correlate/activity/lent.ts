// A data-parallel rank that has nothing to do while its GPU works: there the server as a whole speaks for the GPU. Ranks that
// share experts step together, so that a GPU executes the requests of the others (vLLM's dummy batches, SGLang's idle
// batches), beside a rank's own busy time too; where its GPU was only assumed it may be another's (`assumed_ranks`).
// Work at the edges of what the rank did itself is the rank's. Where others hold the GPU it is theirs, unless the GPU was seen
// to work for the other ranks rather than to rest, before these came: then it may be either's (`shared_work`).
import type { Nanos } from "../../model.ts";
import type { Activity, ActivityWindow, Outlook, PollInterval, SeenPoll } from "./evidence.ts";
import { pollInterval } from "./intervals.ts";
import { coarseNanos } from "./level.ts";
import { restsForOthers, worksForOthers } from "./lockstep.ts";
import { progressOf } from "./progress-kind.ts";
import { workingBusyRatio } from "./runs.ts";

/** Work this close to what a rank did itself is its own: a driver's window, and the time a page takes. */
const edgeNanos: Nanos = 200_000_000;
/** Less work than this is chance. */
const workMin: Nanos = 150_000_000;
/** A busy rank's GPU that was seen at rest for this long, and never at work, is another's. */
const restMin: Nanos = 900_000_000;

/** The intervals of a rank, those in which the server as a whole speaks replaced. The same list where there is none. */
export function lentIntervals(
  activity: Activity,
  { intervals, polls, runs }: Outlook,
): readonly PollInterval[] {
  const { batch, credits, guests, peers, windows } = activity;
  if (!polls.some(isOfRank)) return intervals;
  const progress = progressOf(activity);
  const busy = intervals.filter(({ kind }) => kind !== "quiet");
  return intervals.map((interval, at) => {
    const poll = polls[at];
    const next = polls[at + 1];
    const mayBeOthers = worksForOthers(activity.level);
    if (poll?.whole === undefined) return interval;
    const isAssumed = poll.isAssumed === true || next?.isAssumed === true;
    const isGuested = guests.some(({ from, to = Infinity }) => from < interval.to && to > interval.from);
    if (interval.kind !== "quiet") {
      if (interval.contended) return interval;
      if (isAssumed && isDenied(interval, windows)) return { ...interval, doubt: "assumed_ranks" };
      const othersNanos = isGuested ? 0 : busyNanosOf(poll.whole, next?.whole) - (interval.activeNanos ?? 0);
      return othersNanos > 0 ? { ...interval, othersNanos } : interval;
    }
    if (unexplained(interval, busy, windows) < workMin) return interval;
    const { to } = interval;
    const lent = pollInterval(poll.whole, next?.whole, to, progress, runs, peers, credits, batch);
    if (lent.kind === "quiet") return interval;
    const isShared = isGuested || interval.contended;
    if (isShared && !mayBeOthers)
      return restsForOthers(activity.level) ? interval : { ...interval, doubt: "shared_work" };
    const doubt = lent.doubt ?? (isAssumed ? "assumed_ranks" : isShared ? "shared_work" : undefined);
    return { ...lent, doubt, isLent: true };
  });
}

function isOfRank({ whole }: SeenPoll): boolean {
  return whole !== undefined;
}

/** Whether a poll read nothing in flight of a rank while others ran requests. */
export function idlesAmongBusy(poll: SeenPoll | undefined): boolean {
  return poll !== undefined && (poll.whole?.inFlight ?? 0) > 0 && !((poll.inFlight ?? 0) > 0);
}

function busyNanosOf({ activeNanos: from }: SeenPoll, next: SeenPoll | undefined): Nanos {
  return from === undefined || next?.activeNanos === undefined ? 0 : next.activeNanos - from;
}

/**
 * How long the GPU was seen at work in an interval in windows that touch nothing the rank did itself; of a long window, what is
 * beyond the rank's own intervals in it is in the rest of it.
 */
function unexplained(
  { from, to }: PollInterval,
  busy: readonly PollInterval[],
  windows: readonly ActivityWindow[],
): Nanos {
  let work = 0;
  for (let index = windows.length - 1; index >= 0; index--) {
    const window = windows[index] as ActivityWindow;
    if (window.to <= from) break;
    if (window.from >= to || window.busyRatio < workingBusyRatio) continue;
    const inside = Math.min(window.to, to) - Math.max(window.from, from);
    const own = nearNanos(busy, window);
    const length = window.to - window.from;
    if (own === 0) work += inside;
    else if (length > coarseNanos && window.sampled !== true && own < length)
      work += (Math.max(0, window.busyRatio * length - own) * inside) / (length - own);
  }
  return work;
}

/** How much of a window is near what a rank did itself. */
function nearNanos(busy: readonly PollInterval[], { from, to }: ActivityWindow): Nanos {
  let near = 0;
  let reached = from - edgeNanos;
  for (const own of busy) {
    const start = Math.max(reached, own.from - edgeNanos);
    const end = Math.min(to + edgeNanos, own.to + edgeNanos);
    if (end <= start) continue;
    near += end - start;
    reached = end;
  }
  return near;
}

/** Counters that moved, and a GPU that was seen at rest throughout. */
function isDenied({ from, kind, to }: PollInterval, windows: readonly ActivityWindow[]): boolean {
  if (kind !== "moved") return false;
  let rest = 0;
  for (let index = windows.length - 1; index >= 0; index--) {
    const window = windows[index] as ActivityWindow;
    if (window.to <= from) break;
    if (window.from >= to) continue;
    if (window.busyRatio >= workingBusyRatio) return false;
    rest += Math.min(window.to, to) - Math.max(window.from, from);
  }
  return rest >= restMin;
}
