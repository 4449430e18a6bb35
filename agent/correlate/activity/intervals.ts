// What the polls say: one interval per pair of neighbouring polls, with what moved in it, what was in flight at its
// ends, and the GPU work inside it. Whose work it is, claims.ts decides.
import type { Nanos, ProgressKind } from "../../model.ts";
import type { ServerPoll } from "./activity.ts";
import type { WorkRun } from "./runs.ts";

/**
 * `moved`: the progress counters rose. `held`: they stood still with a request in flight at an end of the interval.
 * `quiet`: neither.
 */
export type IntervalKind = "moved" | "held" | "quiet";

/** The time between two polls of a server. The last one is `open`: no poll has ended it yet. */
export interface PollInterval {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly open: boolean;
  readonly kind: IntervalKind;
  /** Progress in output-token equivalents. */
  readonly progress: number;
  /** Increment of the server's own busy time, where it publishes one. */
  readonly activeNanos: number | undefined;
  readonly inFlightFrom: number | undefined;
  readonly inFlightTo: number | undefined;
  /** Pieces of GPU work inside, in order. */
  readonly work: readonly WorkRun[];
  readonly workNanos: Nanos;
  /** Another server moved tokens or had requests in flight somewhere in the interval: the work may be its work. */
  readonly contended: boolean;
}

/** A stretch in which another server on the same GPUs moved its counters or had something in flight. */
export interface PeerStretch {
  readonly from: Nanos;
  readonly to: Nanos;
}

/** A prompt token takes about a tenth of the time of an output token (h100-solo-8b: 16,384 in 0.35 s, 5,781/s). */
const inputTokenWeight = 0.1;

/** Returns the intervals between `polls` in order, the open one from the last poll to `horizon` included. */
export function pollIntervals(
  polls: readonly ServerPoll[],
  progress: ProgressKind,
  runs: readonly WorkRun[],
  peers: readonly PeerStretch[],
  horizon: Nanos,
): PollInterval[] {
  const intervals: PollInterval[] = [];
  for (let index = 0; index < polls.length; index++) {
    const poll = polls[index] as ServerPoll;
    const next = polls[index + 1];
    const to = next?.at ?? horizon;
    if (to <= poll.at) continue;
    const work = clipped(runs, poll.at, to);
    const contended = peers.some((peer) =>
      work.some((piece) => piece.from < peer.to && peer.from < piece.to),
    );
    intervals.push({
      ...movement(poll, next, progress),
      from: poll.at,
      to,
      work,
      workNanos: total(work),
      contended,
    });
  }
  return intervals;
}

type Movement = Omit<PollInterval, "from" | "to" | "work" | "workNanos" | "contended">;

function movement(poll: ServerPoll, next: ServerPoll | undefined, progress: ProgressKind): Movement {
  const open = next === undefined;
  const output = open ? 0 : next.outputTokens - poll.outputTokens;
  const input = open ? 0 : next.inputTokens - poll.inputTokens;
  const moved = output + input * inputTokenWeight;
  const activeNanos =
    next?.activeNanos === undefined || poll.activeNanos === undefined
      ? undefined
      : next.activeNanos - poll.activeNanos;
  const inFlightTo = open ? poll.inFlight : next.inFlight;
  const flying = (poll.inFlight ?? 0) > 0 || (inFlightTo ?? 0) > 0;
  // An estimate runs on between its corrections, so alone it proves nothing.
  const rose = progress === "estimate" ? moved > 0 && flying : moved > 0;
  const kind = (activeNanos ?? 0) > 0 || rose ? "moved" : flying ? "held" : "quiet";
  return {
    open,
    kind,
    progress: progress === "step" ? moved : 0,
    activeNanos,
    inFlightFrom: poll.inFlight,
    inFlightTo,
  };
}

/** The parts of `runs` inside `[from, to)`. */
export function clipped(runs: readonly WorkRun[], from: Nanos, to: Nanos): WorkRun[] {
  const pieces: WorkRun[] = [];
  for (const run of runs) {
    if (run.to <= from) continue;
    if (run.from >= to) break;
    pieces.push({ from: Math.max(run.from, from), to: Math.min(run.to, to), seen: run.seen });
  }
  return pieces;
}

/** Total length of pieces. */
export function total(pieces: readonly { readonly from: Nanos; readonly to: Nanos }[]): Nanos {
  let sum = 0;
  for (const piece of pieces) sum += piece.to - piece.from;
  return sum;
}
