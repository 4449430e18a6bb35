// The 15-minute UTC grid every total is booked on (METERING.md 8). Every civil offset is a multiple of 15 minutes, so
// local hours, days and months are sums of these buckets, on days of 23 and 25 hours too.
// An interval that crosses the grid: its seconds, joules and money are split at the edge in proportion, its tokens stay
// whole with the poll that saw them, in the bucket the interval ends in (METERING.md 2 and 8).
import type { AnyPosting, Posting, UnixNanos } from "../../model.ts";
import { BUCKET_NANOS } from "../../model.ts";

/** Length of a bucket in milliseconds. */
export const bucketMillis = 900_000;

/** Start of the bucket an instant lies in; buckets are half-open. */
export function bucketOf(at: UnixNanos): UnixNanos {
  return at - (((at % BUCKET_NANOS) + BUCKET_NANOS) % BUCKET_NANOS);
}

/** Start of the bucket an interval that ended at `to` is booked in: an end on the grid belongs to the bucket before. */
export function bucketOfEnd(to: UnixNanos): UnixNanos {
  return bucketOf(to - 1n);
}

/** Metrics that accrue evenly over an interval. */
const evenMetrics: ReadonlySet<string> = new Set([
  "tokenwatt.gpu.time",
  "tokenwatt.gpu.energy",
  "tokenwatt.gpu.busy_time",
  "tokenwatt.server.gpu_time",
  "tokenwatt.server.energy",
  "tokenwatt.cost",
  "tokenwatt.capacity_tokens",
  "tokenwatt.uncertain_capacity_tokens",
  "tokenwatt.covered_time",
  "tokenwatt.gap_time",
  "tokenwatt.uncertain_time",
  "tokenwatt.uncertain_energy",
  "tokenwatt.server.phase_time",
  "tokenwatt.server.phase_energy",
  "tokenwatt.server.phase_uncertain_time",
  "tokenwatt.server.phase_uncertain_energy",
]);

/** The postings of one bucket, and the end they are booked under. */
export interface BucketPart {
  readonly end: UnixNanos;
  readonly postings: readonly AnyPosting[];
}

/** The postings of `[from, to)` by bucket, in order. The parts of every posting sum to it exactly. */
export function splitAtEdges(
  postings: readonly AnyPosting[],
  from: UnixNanos,
  to: UnixNanos,
): readonly BucketPart[] {
  if (bucketOf(from) === bucketOfEnd(to) || to <= from) return [{ end: to, postings }];
  const ends: UnixNanos[] = [];
  for (let edge = bucketOf(from) + BUCKET_NANOS; edge < to; edge += BUCKET_NANOS) ends.push(edge);
  ends.push(to);
  const parts = ends.map((): AnyPosting[] => []);
  // Running sums are rounded, not single amounts: so the states of a GPU fill each part of the interval exactly.
  const running = new Map<string, bigint>();
  for (const posting of postings) {
    if ("histogram" in posting || !evenMetrics.has(posting.metric)) {
      parts.at(-1)?.push(posting);
      continue;
    }
    const key = `${posting.metric} ${posting.dimensions["hw.id"] ?? ""}`;
    const before = running.get(key) ?? 0n;
    const after = before + BigInt(posting.amount);
    running.set(key, after);
    let booked = 0n;
    for (const [index, end] of ends.entries()) {
      const rounded = share(after, end - from, to - from) - share(before, end - from, to - from);
      // Of a handful of units the rounded part may fall from one edge to the next; what is booked stays booked.
      const until = rounded > booked ? rounded : booked;
      if (until > booked) parts[index]?.push(withAmount(posting, until - booked));
      booked = until;
    }
  }
  return ends.map((end, index) => ({ end, postings: parts[index] ?? [] }));
}

function share(amount: bigint, part: bigint, whole: bigint): bigint {
  return (amount * part) / whole;
}

function withAmount(posting: Posting, amount: bigint): Posting {
  return { ...posting, amount: Number(amount) };
}
