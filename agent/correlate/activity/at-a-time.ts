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
