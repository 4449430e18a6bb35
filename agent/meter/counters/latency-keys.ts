// The keys of latency histograms: the latency, and how the requests in it ended where the source says so.
// What a customer waited for is served: a request that failed after ten minutes, or was refused after a millisecond, says
// nothing of it, so that percentiles and objectives leave out what is known to have failed.
import type { Dimensions, Histogram, Latencies, LatencyKey, LatencyName, Outcome } from "../../model.ts";
import { addHistograms } from "./histograms.ts";

/** The latency of a key. */
export function latencyOf(key: LatencyKey): LatencyName {
  const space = key.indexOf(" ");
  return (space === -1 ? key : key.slice(0, space)) as LatencyName;
}

/** How the requests of a key ended; undefined = the source does not say. */
export function outcomeOf(key: LatencyKey): Outcome | undefined {
  const space = key.indexOf(" ");
  return space === -1 ? undefined : (key.slice(space + 1) as Outcome);
}

/** The attribute of an outcome; none where it is not known. */
export function outcomeAttributes(outcome: Outcome | undefined): Dimensions {
  return outcome === undefined ? {} : { "tokenwatt.outcome": outcome };
}

/** Whether requests of this outcome count as served: they went well, or nothing says that they did not. */
export function isServed(outcome: string | undefined): boolean {
  return outcome === undefined || outcome === "ok";
}

/** The latencies of served requests by name, summed; where bounds differ, those with more observations. */
export function servedLatencies(latencies: Latencies): Partial<Record<LatencyName, Histogram>> {
  const served: Partial<Record<LatencyName, Histogram>> = {};
  for (const key of Object.keys(latencies) as LatencyKey[]) {
    const histogram = latencies[key];
    if (histogram === undefined || !isServed(outcomeOf(key))) continue;
    const name = latencyOf(key);
    served[name] = mergeOrLarger(served[name], histogram);
  }
  return served;
}

/** The sum of two histograms; of other bounds the one with more observations. */
export function mergeOrLarger(known: Histogram | undefined, more: Histogram): Histogram {
  if (known === undefined) return more;
  return addHistograms(known, more) ?? (more.count > known.count ? more : known);
}
