// Work ahead of the first token. A long prefill runs over one or several polls before a counter or a gauge shows it
// (h100-solo-8b: 1.2 s cold), so a run that leads into an interval with progress is claimed back to its beginning.
import type { Nanos } from "../../model.ts";
import type { PeerStretch, PollInterval, WorkRun } from "./evidence.ts";
import { crossing, longPauseNanos } from "./runs.ts";

/** Work may run this long ahead of the first token or gauge that explains it. */
export const prefillNanosMax = 5_000_000_000;

/**
 * Returns, per interval, where the prefill claimed in it starts, undefined for none: the run that crosses into the next
 * interval with progress, if it is silent for at most `prefillNanosMax` (one poll, if that is longer) and as far as
 * no peer can have caused it. Longer work without a token was not this server's.
 */
export function prefillStarts(evidence: {
  readonly intervals: readonly PollInterval[];
  readonly runs: readonly WorkRun[];
  readonly peers: readonly PeerStretch[];
  readonly pollNanos: Nanos;
}): (Nanos | undefined)[] {
  const { intervals, runs, peers } = evidence;
  const starts: (Nanos | undefined)[] = intervals.map(notYet);
  for (let index = intervals.length - 1; index > 0; index--) {
    const explained = intervals[index] as PollInterval;
    if (explained.kind === "quiet" || intervals[index - 1]?.kind !== "quiet") continue;
    const run = crossing(runs, explained.from);
    if (run === undefined) continue;
    let first = index - 1;
    while (intervals[first - 1]?.kind === "quiet" && run.from < (intervals[first] as PollInterval).from)
      first--;
    let start = Math.max(run.from, (intervals[first] as PollInterval).from);
    if (explained.from - start > Math.max(prefillNanosMax, evidence.pollNanos)) continue;
    const resumed = intervals[first - 1] !== undefined && intervals[first - 1]?.kind !== "quiet";
    const isRead = intervals.slice(first, index).every(isEmpty);
    if (!resumed || isRead || explained.from - start > longPauseNanos)
      start = clearOfPeers(peers, start, explained.from);
    for (let at = first; at < index; at++) {
      const quiet = intervals[at] as PollInterval;
      if (quiet.to > start) starts[at] = Math.max(start, quiet.from);
    }
  }
  return starts;
}

function notYet(): undefined {
  return undefined;
}

/** Polls at both ends say that no request was in flight. */
function isEmpty({ inFlightFrom, inFlightTo }: PollInterval): boolean {
  return inFlightFrom === 0 && inFlightTo === 0;
}

/** A peer explains work as well as a prefill does; only a short silence between two moves stays with a server of which no poll says otherwise. */
function clearOfPeers(peers: readonly PeerStretch[], from: Nanos, to: Nanos): Nanos {
  let start = from;
  for (const peer of peers) if (peer.from < to && peer.to > start) start = Math.min(peer.to, to);
  return start;
}
