// A running total of whole units, exact whatever its size: two words in doubles that are written over, because a bigint is
// an object, and thousands of totals move every second.

const WORD = 2 ** 32;
const PENDING_MAX = 2 ** 52;
const HIGH_MAX = 2 ** 31;

/** The total is `high` words of 32 bits and `low` units; `low` is never negative. */
export class RunningTotal {
  #high = 0;
  #low = 0;
  /** Added since the words were asked for last. */
  #pending = 0;

  /** Adds a safe integer. */
  addAmount(amount: number): void {
    if (Math.abs(this.#pending + amount) > PENDING_MAX) this.#settle();
    this.#pending += amount;
    if (Math.abs(this.#pending) > PENDING_MAX) this.#settle();
  }

  /** The upper word, negative where the total is. */
  get high(): number {
    if (this.#pending !== 0) this.#settle();
    return this.#high;
  }

  /** The lower word, 0 to 2^32 - 1. */
  get low(): number {
    if (this.#pending !== 0) this.#settle();
    return this.#low;
  }

  get total(): bigint {
    return BigInt(this.high) * BigInt(WORD) + BigInt(this.low);
  }

  set total(total: bigint) {
    this.#pending = 0;
    this.#high = Number(total >> 32n);
    this.#low = Number(total & 0xffff_ffffn);
  }

  /** Whether a signed integer of 64 bits would wrap it around; the database rejects it with an error. */
  get isTooLarge(): boolean {
    return this.high >= HIGH_MAX || this.high < -HIGH_MAX;
  }

  #settle(): void {
    const high = Math.floor(this.#pending / WORD);
    const low = this.#low + (this.#pending - high * WORD);
    const carry = low >= WORD ? 1 : 0;
    this.#high += high + carry;
    this.#low = low - carry * WORD;
    this.#pending = 0;
  }
}

/** The total of two words as the nearest double. */
export function numberOf(high: number, low: number): number {
  return high * WORD + low;
}
