// Long requests on a GPU that is read now and then, of a page that does not say how many are in flight: what ended between two polls
// says how long any was executed there, where the page sums durations; else how often a reading of such a time catches work does.
import { executedByChance } from "./at-a-time.ts";
import type { PollInterval } from "./evidence.ts";
import type { Durations } from "./learned.ts";

/** How many readings each are thought to have caught work and none, before any. */
const readingsFirst = 1;
/** So many standard errors are in doubt. */
const errors = 2;

/** How often a last window of the driver catches work where tokens moved, and the standard error of that over itself. */
export interface HitRate {
  readonly share: number;
  readonly error: number;
}

/** Returns that rate by the readings so far: each is of another instant, so that it is the share of the time in execution. */
export function hitRate({ hits, readings }: Pick<Durations, "hits" | "readings">): HitRate {
  const caught = hits + readingsFirst;
  const share = caught / (readings + 2 * readingsFirst);
  return { share, error: Math.sqrt((1 - share) / caught) };
}

/** Returns the share of an interval that was execution. */
export function ungaugedShare(rate: HitRate, interval: PollInterval): number {
  return shareByEnds(interval) ?? rate.share;
}

/** Returns how much of that may be otherwise because readings are few; 0 where durations say it. */
export function ungaugedDoubt(rate: HitRate, interval: PollInterval): number {
  if (interval.inFlightFrom !== undefined || shareByEnds(interval) !== undefined) return 0;
  return Math.min(1, errors * rate.error);
}

/** Of requests that come by chance and are no longer than the time between two polls, what ended there says how much. */
function shareByEnds({ ended, from, open, to }: PollInterval): number | undefined {
  if (open || ended === undefined || !(ended.requests > 0)) return undefined;
  if (ended.nanos > ended.requests * (to - from)) return undefined;
  return executedByChance(ended.nanos, to - from) / (to - from);
}
