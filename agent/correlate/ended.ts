// What the latency histograms of a page say of the requests that ended between two polls: their sums alone.
// Requests that failed were executed as well; what was refused was not. A page that times successes alone says nothing of a
// stretch in which others ended too: their execution would be missing in the sums.
import type { Histogram, Latencies, LatencyKey, ServerPoll, TokenIncrement } from "../model.ts";
import type { Ended } from "./activity/evidence.ts";

/** Returns what a poll saw of requests that ended, undefined where its page has no durations, not all of them, or none ended. */
export function endedOf(increment: Pick<TokenIncrement, "latencies" | "requests">): Ended | undefined {
  const { latencies } = increment;
  if (isPartlyTimed(increment)) return undefined;
  const whole = summed(latencies, "request_duration");
  const queue = summed(latencies, "queue_time");
  const first = summed(latencies, "time_to_first_token");
  if (whole.count <= 0 && first.count <= 0) return undefined;
  const waited = queue.count > 0 ? queue.sum / queue.count : 0;
  const executed = ({ count, sum }: Sum): number => Math.max(0, sum - waited * count) * 1e9;
  return {
    requests: whole.count,
    nanos: executed(whole),
    firstTokens: first.count,
    firstTokenNanos: executed(first),
    isExecution: queue.count > 0,
  };
}

/**
 * Returns what two polls show of the phases of the requests that ended between them, undefined where none did: exact, without
 * the waiting of each and what a front end adds to it.
 */
export function endedBetween(before: ServerPoll | undefined, { phaseTimes }: ServerPoll): Ended | undefined {
  if (before?.phaseTimes === undefined || phaseTimes === undefined) return undefined;
  const requests = phaseTimes.requests - before.phaseTimes.requests;
  const prefill = phaseTimes.prefillNanos - before.phaseTimes.prefillNanos;
  const decode = phaseTimes.decodeNanos - before.phaseTimes.decodeNanos;
  if (!(requests > 0 && prefill >= 0 && decode >= 0)) return undefined;
  const timed = { requests, nanos: prefill + decode, isExecution: true };
  return { ...timed, firstTokens: requests, firstTokenNanos: prefill, isPhased: true };
}

/** What two of a server's readings say together. */
export function together(one: Ended | undefined, other: Ended | undefined): Ended | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  return {
    requests: one.requests + other.requests,
    nanos: one.nanos + other.nanos,
    firstTokens: one.firstTokens + other.firstTokens,
    firstTokenNanos: one.firstTokenNanos + other.firstTokenNanos,
    isExecution: one.isExecution && other.isExecution,
    isPhased: one.isPhased === true && other.isPhased === true,
  };
}

/** Whether requests ended badly of which no duration says how long they took, while those of others are known by outcome. */
function isPartlyTimed({ latencies, requests }: Pick<TokenIncrement, "latencies" | "requests">): boolean {
  if (latencies["request_duration ok"] === undefined || latencies.request_duration !== undefined)
    return false;
  return (["error", "aborted"] as const).some(
    (outcome) => (requests[outcome] ?? 0) > 0 && latencies[`request_duration ${outcome}`] === undefined,
  );
}

type Sum = Pick<Histogram, "sum" | "count">;

function summed(latencies: Latencies, name: string): Sum {
  let sum = 0;
  let count = 0;
  for (const key in latencies) {
    if (!key.startsWith(name) || key.endsWith(" rejected")) continue;
    const histogram = latencies[key as LatencyKey];
    if (histogram === undefined || !Number.isFinite(histogram.sum)) continue;
    sum += histogram.sum;
    count += histogram.count;
  }
  return { sum, count };
}
