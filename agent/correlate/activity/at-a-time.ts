// How many requests are there at a time, where only chance is known to bring them together.

/**
 * Returns the mean number while there is any, of so many on average that come independently (Poisson): 1 where they are rare,
 * down to no load at all.
 */
export function atATimeByChance(load: number): number {
  return load > 0 ? load / -Math.expm1(-load) : 1;
}
