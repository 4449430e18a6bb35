// From claims to states: claimed time is active, time in flight without execution waits, the rest is idle.
import type { ActivityMethod, Nanos, ProgressKind } from "../../model.ts";
import type { PollDoubts } from "./copies.ts";
import { mayHideWork, pollDoubts } from "./copies.ts";
import type { ActivitySegment, ActivityWindow, Claim, Doubt, PollInterval, ServerState } from "./evidence.ts";
import { isUnread } from "./unread.ts";

/** What the segments of one settled stretch are made of. */
export interface Labelling {
  readonly from: Nanos;
  readonly until: Nanos;
  readonly claims: readonly Claim[];
  /** Work left to peers; what of it is claimed after all does not matter. */
  readonly contested: readonly Claim[];
  /** Work in these is a part of claims in them. */
  readonly accounted: readonly PollInterval[];
  readonly intervals: readonly PollInterval[];
  readonly progress: ProgressKind;
  readonly lastProgressAt: Nanos;
  readonly stallAfterNanos: Nanos;
  /** For so long after its last poll a server is thought to be as that left it. */
  readonly trustedNanos: Nanos;
  readonly windows: readonly ActivityWindow[];
  /** Requests come and go inside the windows. */
  readonly short: boolean;
  /** Since when work that nothing explains is known to be someone else's. */
  readonly refutedFrom: Nanos;
}

/** A segment that the next stretch may lengthen. */
type Draft = { -readonly [Key in keyof ActivitySegment]: ActivitySegment[Key] };

/** Returns segments that cover `[from, until)` exactly, neighbours of one state and method joined. */
export function label(labelling: Labelling): ActivitySegment[] {
  const { from, until } = labelling;
  const segments: Draft[] = [];
  const method = methodBetween(labelling);
  let reached = from;
  for (const claim of labelling.claims) {
    const start = Math.max(claim.from, reached);
    const end = Math.min(claim.to, until);
    if (end <= start) continue;
    unclaimed(segments, labelling, reached, start, method);
    const before = segments.length;
    claimed(segments, labelling, start, end, claim.method);
    if (claim.doubt !== undefined) doubtFrom(segments, before, start, claim.doubt);
    reached = end;
  }
  unclaimed(segments, labelling, reached, until, method);
  return doubted(segments, labelling);
}

/** Cuts segments where the doubt of the polls begins and ends. */
function doubted(segments: Draft[], labelling: Labelling): ActivitySegment[] {
  const { intervals, short, windows } = labelling;
  const isDoubtful = (interval: PollInterval): boolean => mayBeWrong(labelling, interval);
  if (!intervals.some(isDoubtful)) return segments;
  const doubts = intervals.filter(isDoubtful);
  const byPoll = doubts.map((interval) => pollDoubts(interval, windows, short));
  return segments.flatMap((segment) => {
    const parts: ActivitySegment[] = [];
    let reached = segment.from;
    for (let index = 0; index < doubts.length; index++) {
      const { from, to } = doubts[index] as PollInterval;
      const start = Math.max(from, reached);
      const end = Math.min(to, segment.to);
      if (end <= start) continue;
      if (start > reached) parts.push({ ...segment, from: reached, to: start });
      const { executed, rest } = byPoll[index] as PollDoubts;
      const doubt = segment.state === "active" ? greater(segment.doubt, executed) : rest;
      parts.push({ ...segment, from: start, to: end, doubt });
      reached = end;
    }
    return reached < segment.to ? [...parts, { ...segment, from: reached }] : parts;
  });
}

/** True where a poll is missing or not to be trusted, or says nothing of work that nobody else is known to have done. */
function mayBeWrong({ accounted, refutedFrom, trustedNanos }: Labelling, interval: PollInterval): boolean {
  if (isUnread(interval, trustedNanos) || interval.doubt !== undefined) return true;
  return mayHideWork(interval) && interval.to <= refutedFrom && !accounted.includes(interval);
}

function greater(one: Doubt | undefined, other: Doubt | undefined): Doubt | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  return one.ratio >= other.ratio ? one : other;
}

/** Marks what was just claimed; a segment that began before the claim is cut there. */
function doubtFrom(segments: Draft[], before: number, start: Nanos, doubt: Doubt): void {
  const last = segments[before - 1];
  if (last !== undefined && last.to > start) {
    segments[before - 1] = { ...last, to: start };
    segments.splice(before, 0, { ...last, from: start, doubt });
  }
  for (let index = before; index < segments.length; index++) (segments[index] as Draft).doubt = doubt;
}

function methodBetween(labelling: Labelling): ActivityMethod {
  const last = labelling.intervals.at(-1);
  const timed = labelling.intervals.some(isTimed);
  if (timed) return "active_time";
  if (labelling.progress === "step") return "counter_gpu";
  return last?.inFlightFrom === undefined ? "unknown" : "in_flight";
}

function isTimed({ activeNanos }: PollInterval): boolean {
  return activeNanos !== undefined;
}

/** What is marked on a stretch: work that may be a peer's, or that is a part of executions beside it, or both. */
type Mark = "contested" | "accounted" | "both" | undefined;

function push(
  segments: Draft[],
  from: Nanos,
  to: Nanos,
  state: ServerState,
  method: ActivityMethod,
  mark?: Mark,
): void {
  if (to <= from) return;
  const isContested = mark === "contested" || mark === "both";
  const isAccounted = mark === "accounted" || mark === "both";
  const last = segments.at(-1);
  if (
    last?.state === state &&
    last.method === method &&
    last.doubt === undefined &&
    (last.contested === true) === isContested &&
    (last.accounted === true) === isAccounted
  ) {
    last.to = to;
    return;
  }
  const contested = isContested ? true : undefined;
  const accounted = isAccounted ? true : undefined;
  segments.push({ from, to, state, method, contested, accounted, doubt: undefined });
}

/** Working without a token for longer than `stallAfterNanos` waits; only step counters can tell. */
function claimed(
  segments: Draft[],
  labelling: Labelling,
  from: Nanos,
  to: Nanos,
  method: ActivityMethod,
): void {
  if (labelling.progress !== "step" || method === "active_time") {
    push(segments, from, to, "active", method);
    return;
  }
  let progressAt = labelling.lastProgressAt;
  let reached = from;
  for (const interval of labelling.intervals) {
    const end = Math.min(to, interval.to);
    if (end > reached) {
      const moves = interval.kind === "moved";
      const stalls = moves ? end : Math.min(end, Math.max(reached, progressAt + labelling.stallAfterNanos));
      push(segments, reached, stalls, "active", method);
      push(segments, stalls, end, "waiting", method);
      reached = end;
    }
    if (interval.kind === "moved" || interval.inFlightTo === 0)
      progressAt = Math.max(progressAt, interval.to);
  }
  push(segments, reached, to, "active", method);
}

/** Time without execution: waiting where the polls around it read requests in flight, else idle. */
function unclaimed(
  segments: Draft[],
  labelling: Labelling,
  from: Nanos,
  to: Nanos,
  method: ActivityMethod,
): void {
  let reached = from;
  for (const interval of labelling.intervals) {
    const end = Math.min(to, interval.to);
    const start = Math.max(reached, interval.from);
    if (end <= start) continue;
    push(segments, reached, start, "idle", method);
    if (waits(interval, from, to)) marked(segments, labelling.contested, start, end, "waiting", method);
    else {
      const isAccounted = labelling.accounted.includes(interval);
      marked(
        segments,
        labelling.contested,
        start,
        end,
        "idle",
        method,
        isAccounted ? "accounted" : undefined,
      );
    }
    reached = end;
  }
  push(segments, reached, to, "idle", method);
}

/** One stretch of one state, cut where the work in it is contested. */
function marked(
  segments: Draft[],
  contested: readonly Claim[],
  from: Nanos,
  to: Nanos,
  state: ServerState,
  method: ActivityMethod,
  rest?: "accounted",
): void {
  let reached = from;
  for (const piece of contested) {
    const start = Math.max(piece.from, reached);
    const end = Math.min(piece.to, to);
    if (end <= start) continue;
    push(segments, reached, start, state, method, rest);
    push(segments, start, end, state, method, rest === undefined ? "contested" : "both");
    reached = end;
  }
  push(segments, reached, to, state, method, rest);
}

/** In flight at both polls and no token between them, or a poll inside the idle stretch read it in flight. */
function waits(interval: PollInterval, from: Nanos, to: Nanos): boolean {
  if (!((interval.inFlightFrom ?? 0) > 0 && (interval.inFlightTo ?? 0) > 0)) return false;
  return interval.kind === "held" || from < interval.from || to > interval.to;
}
