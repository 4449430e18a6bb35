// Polls as an estimator may use them, whatever was handed in, and the poll of zeros before the first one of a server that began
// while it was watched.
import type { Nanos, RankPoll, ServerPoll } from "../model.ts";

/** Never falling, finite and not negative, whatever was handed in. */
export function validPoll(poll: ServerPoll, last: ServerPoll | undefined): ServerPoll {
  const { activeNanos, inFlight, inputTokens, outputTokens } = poll;
  const isGaugeValid = inFlight === undefined || (inFlight >= 0 && Number.isFinite(inFlight));
  const active =
    activeNanos === undefined ? undefined : Math.round(rising(activeNanos, last?.activeNanos ?? 0));
  const input = rising(inputTokens, last?.inputTokens ?? 0);
  const output = rising(outputTokens, last?.outputTokens ?? 0);
  if (input === inputTokens && output === outputTokens && isGaugeValid && active === activeNanos) return poll;
  const { activeNanos: _active, inFlight: _running, ...rest } = poll;
  return {
    ...rest,
    inputTokens: input,
    outputTokens: output,
    ...(inFlight !== undefined && isGaugeValid ? { inFlight } : {}),
    ...(active !== undefined && Number.isFinite(activeNanos) ? { activeNanos: active } : {}),
  };
}

/** A counter that stands where it stood where it says something else that cannot be. */
function rising(value: number, floor: number): number {
  return Number.isFinite(value) && value >= floor && value <= Number.MAX_SAFE_INTEGER ? value : floor;
}

/** A poll at `at` of all that a poll says, nothing of which had happened yet. */
export function zeroPoll(poll: ServerPoll, at: Nanos): ServerPoll {
  return {
    at,
    inputTokens: 0,
    outputTokens: 0,
    progress: poll.progress,
    ...(poll.inFlight === undefined ? {} : { inFlight: 0 }),
    ...(poll.activeNanos === undefined ? {} : { activeNanos: 0 }),
    ...(poll.ranks === undefined ? {} : { ranks: poll.ranks.map(emptyRank) }),
  };
}

function emptyRank({ activeNanos, inFlight, rank }: RankPoll): RankPoll {
  return {
    ...{ rank, inputTokens: 0, outputTokens: 0 },
    ...(inFlight === undefined ? {} : { inFlight: 0 }),
    ...(activeNanos === undefined ? {} : { activeNanos: 0 }),
  };
}
