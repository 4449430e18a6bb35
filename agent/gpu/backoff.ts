// When to try again: each failure doubles the wait, a success forgets it.

import type { Nanos } from "../model.ts";
import { NANOS_PER_MS } from "../platform/clock.ts";

/** One thing that may fail repeatedly. */
export class Backoff {
  readonly #firstMs: number;
  readonly #mostMs: number;
  #waitMs: number;
  /** Not to be tried before this instant. */
  due: Nanos = -Infinity;

  constructor(firstMs: number, mostMs: number) {
    this.#firstMs = firstMs;
    this.#mostMs = mostMs;
    this.#waitMs = firstMs;
  }

  /** Puts the next try off from `now`, twice as long as the failure before. */
  doubleWait(now: Nanos): void {
    this.due = now + this.#waitMs * NANOS_PER_MS;
    this.#waitMs = Math.min(this.#waitMs * 2, this.#mostMs);
  }

  /** The next try may be made at once. */
  forgetFailures(): void {
    this.#waitMs = this.#firstMs;
    this.due = -Infinity;
  }
}
