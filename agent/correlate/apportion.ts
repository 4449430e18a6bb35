// Integer shares that sum exactly: largest remainder, what was rounded off carried to the next time (METERING.md 1.4).
// Used for millijoules over residents and for wall nanoseconds over MIG instances.

/** What rounding still owes each receiver, below one unit each; kept by the caller between calls. */
export type Remainders = Map<string, number>;

/** One receiver and its weight; weights need not sum to 1. */
export interface Claimant {
  readonly key: string;
  readonly weight: number;
}

/** Receivers whose remainders are kept at most; beyond it the map is emptied, which costs less than a unit each. */
const remaindersMax = 1024;

/**
 * Returns one integer per claimant, none negative, that sum to `total` exactly. Claimants whose weights are all zero or
 * unusable share equally; without claimants the answer is empty and the caller keeps `total`.
 */
export function apportion(total: number, claimants: readonly Claimant[], remainders: Remainders): number[] {
  if (claimants.length === 0) return [];
  if (claimants.length === 1) return [total];
  const weights = usableWeights(claimants);
  const sum = weights.reduce((left, right) => left + right, 0);
  const wanted = claimants.map(
    ({ key }, index) => (total * (weights[index] as number)) / sum + (remainders.get(key) ?? 0),
  );
  const given = wanted.map((amount, index) => (weights[index] === 0 ? 0 : Math.max(0, Math.floor(amount))));
  settleDifference(total, wanted, given, weights);
  if (remainders.size > remaindersMax) remainders.clear();
  claimants.forEach(({ key }, index) => {
    const owed = (wanted[index] as number) - (given[index] as number);
    remainders.set(key, Math.max(-1, Math.min(1, owed)));
  });
  return given;
}

function usableWeights(claimants: readonly Claimant[]): number[] {
  const weights = claimants.map(({ weight }) => (Number.isFinite(weight) && weight > 0 ? weight : 0));
  return weights.some((weight) => weight > 0) ? weights : weights.map(() => 1);
}

/** Gives or takes single units, most owed first, until `given` sums to `total`. */
function settleDifference(
  total: number,
  wanted: readonly number[],
  given: number[],
  weights: readonly number[],
): void {
  const order = given
    .map((_, index) => index)
    .filter((index) => weights[index] !== 0)
    .sort((left, right) => owed(wanted, given, right) - owed(wanted, given, left));
  let difference = total - given.reduce((left, right) => left + right, 0);
  for (let turn = 0; difference > 0; turn = (turn + 1) % order.length) {
    const index = order[turn] as number;
    given[index] = (given[index] as number) + 1;
    difference--;
  }
  order.reverse();
  for (const index of order) {
    if (difference >= 0) break;
    const taken = Math.min(given[index] as number, -difference);
    given[index] = (given[index] as number) - taken;
    difference += taken;
  }
}

function owed(wanted: readonly number[], given: readonly number[], index: number): number {
  return (wanted[index] as number) - (given[index] as number);
}
