// Histograms that nothing moved for a while, each as a short text by its place: its counts as digits, its bounds by a number,
// for most have the same. What comes back is equal to what was put in.
import type { Histogram } from "../../model.ts";

/** Sets of bounds told apart; what has others is not taken. */
const BOUNDS_MAX = 1000;

/** Histograms at rest, by place. */
export class RestingHistograms {
  readonly #texts = new Map<number, string>();
  readonly #bounds: (readonly number[])[] = [];
  readonly #numbers = new Map<string, number>();

  /** Takes a histogram in; false where it cannot be held so. */
  put(place: number, { bounds, count, counts, sum }: Histogram): boolean {
    if (!Number.isFinite(sum) || !bounds.every(Number.isFinite)) return false;
    const number = this.#numberOf(bounds);
    if (number === undefined) return false;
    this.#texts.set(place, [number, sum, count, ...counts].join());
    return true;
  }

  /** The histogram at a place. */
  at(place: number): Histogram | undefined {
    const text = this.#texts.get(place);
    if (text === undefined) return undefined;
    const [number = 0, sum = 0, count = 0, ...counts] = text.split(",").map(Number);
    return { bounds: this.#bounds[number] ?? [], counts, sum, count };
  }

  /** Gives up the one at a place. */
  drop(place: number): void {
    this.#texts.delete(place);
  }

  #numberOf(bounds: readonly number[]): number | undefined {
    const key = bounds.join();
    const known = this.#numbers.get(key);
    if (known !== undefined) return known;
    if (this.#bounds.length >= BOUNDS_MAX) return undefined;
    this.#numbers.set(key, this.#bounds.length);
    return this.#bounds.push([...bounds]) - 1;
  }
}
