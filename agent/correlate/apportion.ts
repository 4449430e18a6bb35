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

/** Where amounts are worked out; nothing in it outlives a call. */
const draft = { wanted: [0.5], order: [0] };

/**
 * Returns one integer per claimant, none negative, that sum to `total` exactly. Claimants whose weights are all zero or
 * unusable share equally; without claimants the answer is empty and the caller keeps `total`.
 */
export function apportion(total: number, claimants: readonly Claimant[], remainders: Remainders): number[] {
  if (claimants.length === 0) return [];
  if (claimants.length === 1) return [total];
  const { wanted } = draft;
  const even = !claimants.some(isUsable);
  let sum = 0;
  for (const claimant of claimants) sum += weightOf(claimant, even);
  const given: number[] = [];
  let left = total;
  for (let index = 0; index < claimants.length; index++) {
    const claimant = claimants[index] as Claimant;
    const weight = weightOf(claimant, even);
    const amount = (total * weight) / sum + (remainders.get(claimant.key) ?? 0);
    const whole = weight === 0 ? 0 : Math.max(0, Math.floor(amount));
    wanted[index] = amount;
    given.push(whole);
    left -= whole;
  }
  if (left !== 0) settleDifference(left, claimants, even, given);
  if (remainders.size > remaindersMax) remainders.clear();
  for (let index = 0; index < claimants.length; index++)
    remainders.set((claimants[index] as Claimant).key, Math.max(-1, Math.min(1, owed(given, index))));
  return given;
}

function isUsable({ weight }: Claimant): boolean {
  return Number.isFinite(weight) && weight > 0;
}

function weightOf(claimant: Claimant, even: boolean): number {
  return even ? 1 : isUsable(claimant) ? claimant.weight : 0;
}

/** Gives `difference`, or takes it where it is negative, in single units, most owed first. */
function settleDifference(
  difference: number,
  claimants: readonly Claimant[],
  even: boolean,
  given: number[],
): void {
  const { order } = draft;
  let size = 0;
  for (let index = 0; index < given.length; index++) {
    if (weightOf(claimants[index] as Claimant, even) === 0) continue;
    let place = size++;
    while (place > 0 && owed(given, order[place - 1] as number) < owed(given, index)) {
      order[place] = order[place - 1] as number;
      place--;
    }
    order[place] = index;
  }
  let left = difference;
  for (let turn = 0; left > 0; turn = (turn + 1) % size, left--) {
    const index = order[turn] as number;
    given[index] = (given[index] as number) + 1;
  }
  for (let turn = size - 1; turn >= 0 && left < 0; turn--) {
    const index = order[turn] as number;
    const taken = Math.min(given[index] as number, -left);
    given[index] = (given[index] as number) - taken;
    left += taken;
  }
}

function owed(given: readonly number[], index: number): number {
  return (draft.wanted[index] as number) - (given[index] as number);
}
