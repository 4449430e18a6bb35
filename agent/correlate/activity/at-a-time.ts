// How many requests are there at a time, where only chance is known to bring them together.
import type { Nanos } from "../../model.ts";

/**
 * Returns the mean number while there is any, of so many on average that come independently (Poisson): 1 where they are rare,
 * down to no load at all.
 */
export function atATimeByChance(load: number): number {
  return load > 0 ? load / -Math.expm1(-load) : 1;
}

/** Returns how long any executes of requests that take `nanos` together and come independently in a time of `length`. */
export function executedByChance(nanos: Nanos, length: Nanos): Nanos {
  return length > 0 ? -length * Math.expm1(-nanos / length) : 0;
}

/** Requests that ended, how long they took, and how long any was there if those of each interval came by chance. */
export interface Apart {
  readonly requests: number;
  readonly nanos: Nanos;
  readonly apartNanos: Nanos;
  /** Half of the squares by which neighbouring intervals differ in how many ended. */
  readonly squares: number;
}

/**
 * Returns how many requests are there at a time while any is, before a poll reads some: those of each interval come by themselves. They may
 * come as many together as neighbouring intervals differ: so far off its logarithm is.
 */
export function togetherByChance({ apartNanos, nanos, requests, squares }: Apart): {
  readonly together: number;
  readonly error: number;
} {
  const together = Math.max(1, nanos / apartNanos);
  return { together, error: Math.log(Math.max(1, squares / requests / together)) / 2 };
}
