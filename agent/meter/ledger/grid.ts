// The 15-minute UTC grid every total is booked on (METERING.md 8). Every civil offset is a multiple of 15 minutes, so
// local hours, days and months are sums of these buckets, on days of 23 and 25 hours too.
import type { UnixNanos } from "../../model.ts";

/** Length of a bucket. */
export const bucketNanos = 900_000_000_000n;

/** Start of the bucket an instant lies in; buckets are half-open. */
export function bucketOf(at: UnixNanos): UnixNanos {
  return at - (((at % bucketNanos) + bucketNanos) % bucketNanos);
}

/** Start of the bucket an interval that ended at `to` is booked in: an end on the grid belongs to the bucket before. */
export function bucketOfEnd(to: UnixNanos): UnixNanos {
  return bucketOf(to - 1n);
}
