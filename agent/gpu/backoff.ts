// When to try again: each failure doubles the wait, a success forgets it.
import type { Nanos } from "../model.ts";

const NANOS_PER_MS = 1e6;

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

  failed(now: Nanos): void {
    this.due = now + this.#waitMs * NANOS_PER_MS;
    this.#waitMs = Math.min(this.#waitMs * 2, this.#mostMs);
  }

  succeeded(): void {
    this.#waitMs = this.#firstMs;
    this.due = -Infinity;
  }
}
