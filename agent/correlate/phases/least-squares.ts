// Weighted least squares whose older observations fade, with no coefficient below 0: sums of products are all it keeps.
// Solved by elimination on a few unknowns; standard errors come from the same sums.
import { inverted } from "../../matrix.ts";

/** A solution: the coefficients, their standard errors, and how they err together, none of them held at 0. */
export interface Solution {
  readonly coefficients: readonly number[];
  readonly errors: readonly number[];
  readonly covariances: readonly (readonly number[])[];
}

/** Standard error of a sum of `weights` x coefficients. */
export function errorOfSum({ covariances }: Solution, weights: readonly number[]): number {
  // Counted, not iterated with entries(): a pair for each of them would be most of what a tick leaves behind.
  let variance = 0;
  for (let row = 0; row < covariances.length; row++) {
    const line = covariances[row] as readonly number[];
    for (let column = 0; column < line.length; column++)
      variance += (weights[row] as number) * (weights[column] as number) * (line[column] as number);
  }
  return Math.sqrt(Math.max(0, variance));
}

/** What is thought of one coefficient, or of a sum of `weights` x coefficients, before any observation. */
export interface Belief {
  /** The coefficient that is meant, or that is put in relation to others. */
  readonly index: number;
  /** Of the others, for each of this one: none where it is meant alone. */
  readonly others?: Readonly<Record<number, number>>;
  readonly value: number;
  readonly error: number;
}

/** Added to the diagonal, as a share of it: two inputs that always move together share what they explain. */
const ridgeRatio = 1e-6;

/** Sums of products of `size` inputs and one outcome. */
export class LeastSquares {
  readonly #size: number;
  readonly #keptRatio: number;
  readonly #products: Float64Array;
  readonly #outcomes: Float64Array;
  #squares = 0;
  #weight = 0;
  /** A mean square per unit of weight, and for how many observations it counts. */
  #expected = { variance: 0, count: 0 };

  /** `keptRatio`: what an observation leaves of the weight of those before it. */
  constructor(size: number, keptRatio: number) {
    this.#size = size;
    this.#keptRatio = keptRatio;
    this.#products = new Float64Array(size * size);
    this.#outcomes = new Float64Array(size);
  }

  /** Weight of the observations so far, older ones faded. */
  get weight(): number {
    return this.#weight;
  }

  /** Takes in one observation; one with a figure that is no finite number says nothing. */
  observe(inputs: ArrayLike<number>, outcome: number, weight: number): void {
    let all = outcome * outcome * weight;
    for (let at = 0; at < this.#size; at++) all += (inputs[at] as number) ** 2 * weight;
    if (!Number.isFinite(all)) return;
    const kept = this.#keptRatio;
    for (let row = 0; row < this.#size; row++) {
      const input = (inputs[row] as number) * weight;
      for (let column = 0; column < this.#size; column++) {
        const at = row * this.#size + column;
        this.#products[at] = (this.#products[at] as number) * kept + input * (inputs[column] as number);
      }
      this.#outcomes[row] = (this.#outcomes[row] as number) * kept + input * outcome;
    }
    this.#squares = this.#squares * kept + weight * outcome * outcome;
    this.#weight = this.#weight * kept + weight;
  }

  /** Takes in all that another of as many inputs took in. */
  include(other: LeastSquares): void {
    for (let at = 0; at < this.#products.length; at++)
      this.#products[at] = (this.#products[at] as number) + (other.#products[at] as number);
    for (let at = 0; at < this.#size; at++)
      this.#outcomes[at] = (this.#outcomes[at] as number) + (other.#outcomes[at] as number);
    this.#squares += other.#squares;
    this.#weight += other.#weight;
  }

  /** Sets what is thought of how far observations are off before any; `count` of them are worth as much. */
  expect(variance: number, count: number): void {
    this.#expected = { variance, count };
  }

  /** Holds every observation to be off by so much more than what is seen of it, as a mean square. */
  blur(variance: number): void {
    this.#squares += variance * this.#weight;
  }

  /**
   * Returns the best coefficients of 0 or more. An input that never moved has what is believed of it, else 0 and an
   * infinite error; so has every input where the sums tell nothing. A belief in no finite number, or without any error, is none.
   */
  solve(...given: readonly Belief[]): Solution {
    const beliefs = given.filter(isBelievable);
    let used: number[] = [];
    for (let index = 0; index < this.#size; index++) if (this.#product(index, index) > 0) used.push(index);
    const coefficients = new Array<number>(this.#size).fill(0);
    const errors = new Array<number>(this.#size).fill(Number.POSITIVE_INFINITY);
    const covariances = coefficients.map(() => new Array<number>(this.#size).fill(0));
    for (const { error, index, others, value } of beliefs) {
      if (others !== undefined) continue;
      coefficients[index] = value;
      errors[index] = error;
      (covariances[index] as number[])[index] = error * error;
    }
    let unexplained: number | undefined;
    for (;;) {
      const free = this.#fitted(used, 0, []);
      const isFirst = unexplained === undefined;
      unexplained ??= this.#variance(used, free.found);
      const isPulled = beliefs.length > 0 && unexplained > 0;
      const { found, inverse } = isPulled ? this.#fitted(used, unexplained, beliefs) : free;
      // Sums beyond what numbers hold: nothing is known by them.
      if (!Number.isFinite(unexplained) || !areFinite(found) || !inverse.every(areFinite))
        return { coefficients, errors, covariances };
      for (let at = 0; at < used.length; at++) {
        const [index, line] = [used[at] as number, inverse[at] as readonly number[]];
        errors[index] = Math.sqrt(Math.max(0, unexplained * (line[at] as number)));
        if (!isFirst) continue;
        const together = covariances[index] as number[];
        for (let other = 0; other < used.length; other++)
          together[used[other] as number] = unexplained * (line[other] as number);
      }
      let least = 0;
      for (let at = 1; at < found.length; at++)
        if ((found[at] as number) < (found[least] as number)) least = at;
      if (used.length === 0 || (found[least] as number) >= 0) {
        for (let at = 0; at < used.length; at++) coefficients[used[at] as number] = found[at] as number;
        return { coefficients, errors, covariances };
      }
      // The error of what is left out stays the one it had beside the others.
      const out = used[least] as number;
      coefficients[out] = 0;
      used = used.filter((index) => index !== out);
    }
  }

  /** The best coefficients; a belief weighs as its error does beside what observations leave unexplained. */
  #fitted(
    used: readonly number[],
    unexplained: number,
    beliefs: readonly Belief[],
  ): { readonly found: readonly number[]; readonly inverse: readonly (readonly number[])[] } {
    const products = used.map((row) => used.map((column) => this.#product(row, column)));
    const sides = used.map((index) => this.#outcomes[index] as number);
    for (const belief of beliefs) {
      const pull = unexplained / (belief.error * belief.error);
      for (let at = 0; at < used.length; at++) {
        const weight = pull * weightIn(belief, used[at] as number);
        const line = products[at] as number[];
        for (let other = 0; other < used.length; other++)
          line[other] = (line[other] as number) + weight * weightIn(belief, used[other] as number);
        sides[at] = (sides[at] as number) + weight * belief.value;
      }
    }
    const inverse = inverted(products);
    const found = inverse.map((line) => {
      let sum = 0;
      for (let at = 0; at < line.length; at++) sum += (line[at] as number) * (sides[at] as number);
      return sum;
    });
    return { found, inverse };
  }

  /** Mean square of what the coefficients leave unexplained, per unit of weight. */
  #variance(used: readonly number[], found: readonly number[]): number {
    let rest = this.#squares;
    for (let at = 0; at < used.length; at++) {
      const [index, value] = [used[at] as number, found[at] as number];
      rest -= 2 * value * (this.#outcomes[index] as number);
      for (let other = 0; other < used.length; other++)
        rest += value * (found[other] as number) * this.#product(index, used[other] as number);
    }
    const { count, variance } = this.#expected;
    return (Math.max(0, rest) + variance * count) / Math.max(1, this.#weight + count - used.length);
  }

  #product(row: number, column: number): number {
    const value = this.#products[row * this.#size + column] as number;
    return row === column ? value * (1 + ridgeRatio) : value;
  }
}

function isBelievable({ error, others, value }: Belief): boolean {
  if (!Number.isFinite(value) || !(error > 0)) return false;
  for (const index in others) if (!Number.isFinite(others[Number(index)])) return false;
  return true;
}

// By place: these are some hundred numbers at every poll, and to iterate over them makes an object for each.
function areFinite(numbers: readonly number[]): boolean {
  for (let at = 0; at < numbers.length; at++) if (!Number.isFinite(numbers[at])) return false;
  return true;
}

/** What a coefficient counts in a belief. */
function weightIn({ index: meant, others }: Belief, index: number): number {
  return index === meant ? 1 : (others?.[index] ?? 0);
}
