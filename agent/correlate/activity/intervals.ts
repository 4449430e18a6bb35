// What the polls say: one interval per pair of neighbouring polls, with what moved in it, what was in flight at its
// ends, and the GPU work inside it. Whose work it is, claims.ts decides.

import type { Nanos, ProgressKind } from "../../model.ts";
import type { PeerStretch, PollInterval, ServerPoll, WorkRun } from "./evidence.ts";
import { clipped, total } from "./stretches.ts";

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
    doubt: next?.doubt,
    inFlightFrom: poll.inFlight,
    inFlightTo,
  };
}
