// Integer shares that sum exactly: largest remainder, what was rounded off carried to the next time (METERING.md 1.4).
// Used for millijoules over residents and for wall nanoseconds over MIG instances.

/** What rounding still owes each receiver, below one unit each; kept by the caller between calls. */
export type Remainders = Map<string, number>;

/** Receivers and their weights, which need not sum to 1: columns that are filled anew for each question. */
export class Claims {
  readonly keys: string[] = [];
  readonly weights: number[] = [0.5];
  size = 0;

  clear(): this {
    this.size = 0;
    return this;
  }

  add(key: string, weight: number): this {
    this.keys[this.size] = key;
    this.weights[this.size++] = weight;
    return this;
  }

  /** True where some weight is more than nothing. */
  get hasWeight(): boolean {
    for (let index = 0; index < this.size; index++) if ((this.weights[index] as number) > 0) return true;
    return false;
  }
}

/** Receivers whose remainders are kept at most; beyond it the map is emptied, which costs less than a unit each. */
const remaindersMax = 1024;

/** Where amounts are worked out; nothing in it outlives a call. */
const draft = { weights: [0.5], wanted: [0.5], given: [0.5], order: [0] };

/**
 * Returns one integer per claimant, none negative, that sum to `total` exactly. Claimants whose weights are all zero or
 * unusable share equally; without claimants the answer is empty and the caller keeps `total`. The answer is `into`, where given.
 */
export function apportion(
  total: number,
  claims: Claims,
  remainders: Remainders,
  into: number[] = [],
): number[] {
  const { keys, size } = claims;
  into.length = size;
  if (size === 0) return into;
  if (size === 1) {
    into[0] = total;
    return into;
  }
  const { given, wanted, weights } = draft;
  const sum = weigh(claims);
  let left = total;
  for (let index = 0; index < size; index++) {
    const weight = weights[index] as number;
    const owing = remainders.get(keys[index] as string) ?? 0;
    const amount = (total * weight) / sum + owing;
    const whole = weight === 0 ? 0 : Math.max(0, Math.floor(amount));
    wanted[index] = amount;
    given[index] = whole;
    left -= whole;
  }
  if (left !== 0) settleDifference(left, size);
  if (remainders.size > remaindersMax) remainders.clear();
  for (let index = 0; index < size; index++) {
    remainders.set(keys[index] as string, Math.max(-1, Math.min(1, owed(index))));
    into[index] = given[index] as number;
  }
  return into;
}

/** Notes the weights in the draft, all 1 where none is usable, and returns their sum. */
function weigh({ size, weights: claimed }: Claims): number {
  const { weights } = draft;
  let sum = 0;
  for (let index = 0; index < size; index++) {
    const weight = claimed[index] as number;
    weights[index] = Number.isFinite(weight) && weight > 0 ? weight : 0;
    sum += weights[index] as number;
  }
  if (sum > 0) return sum;
  weights.fill(1, 0, size);
  return size;
}

/** Gives `difference`, or takes it where it is negative, in single units, most owed first. */
function settleDifference(difference: number, claimants: number): void {
  const { given, order, weights } = draft;
  let size = 0;
  for (let index = 0; index < claimants; index++) {
    if (weights[index] === 0) continue;
    let place = size++;
    while (place > 0 && owed(order[place - 1] as number) < owed(index)) {
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

function owed(index: number): number {
  return (draft.wanted[index] as number) - (draft.given[index] as number);
}
