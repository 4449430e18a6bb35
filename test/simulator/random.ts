// Seeded random numbers: the same seed gives the same recording on every machine (mulberry32).

/** A stream of random numbers. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = (seed * 2654435761) >>> 0;
  }

  /** Evenly in [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  }

  /** Evenly in [low, high). */
  between(low: number, high: number): number {
    return low + (high - low) * this.next();
  }

  /** A whole number in [low, high]. */
  whole(low: number, high: number): number {
    return Math.floor(this.between(low, high + 1));
  }

  /** A waiting time of the given mean. */
  wait(mean: number): number {
    return -mean * Math.log(1 - this.next());
  }

  /** About normal, by twelve even numbers. */
  normal(): number {
    let sum = -6;
    for (let index = 0; index < 12; index++) sum += this.next();
    return sum;
  }

  pick<T>(values: readonly T[]): T {
    return values[Math.floor(this.next() * values.length)] as T;
  }
}
