// How the energy of windows is spread over them, as columns of numbers: instants, and the share of a window's energy that is
// used up at each. A ring of 20 ms draws fifty points a second on every GPU; lists of its own for each window would live just
// long enough to be carried into the old generation.
import type { Nanos } from "../../model.ts";
import { moved } from "./columns.ts";

const ROOM_AT_FIRST = 256;

/** Points of shapes one after the other. A position is that of a point among all ever drawn, so that it stays the same. */
export class Shapes {
  #instants = new Float64Array(ROOM_AT_FIRST);
  #shares = new Float64Array(ROOM_AT_FIRST);
  /** Position of the first place of the columns, and of the first point that is still held. */
  #base = 0;
  #first = 0;
  #end = 0;

  /** Position of the next point. */
  get end(): number {
    return this.#end;
  }

  instant(position: number): Nanos {
    return this.#instants[position - this.#base] as Nanos;
  }

  share(position: number): number {
    return this.#shares[position - this.#base] as number;
  }

  /** Draws a point. */
  draw(instant: Nanos, share: number): void {
    if (this.#end - this.#base === this.#instants.length) this.#makeRoom();
    this.#instants[this.#end - this.#base] = instant;
    this.#shares[this.#end - this.#base] = share;
    this.#end++;
  }

  /** Makes shares of the amounts that were drawn from a position on: the last one is all of it. */
  scaleFrom(position: number): void {
    const all = this.share(this.#end - 1);
    for (let at = position - this.#base; at < this.#end - this.#base; at++)
      this.#shares[at] = (this.#shares[at] as number) / all;
  }

  /** Drops the points before a position. */
  forget(position: number): void {
    this.#first = position;
  }

  /** What is held moves to the front; the columns grow where it fills more than half of them. */
  #makeRoom(): void {
    const begin = this.#first - this.#base;
    const end = this.#end - this.#base;
    const isFull = 2 * (end - begin) > this.#instants.length;
    this.#instants = moved(this.#instants, begin, end, isFull);
    this.#shares = moved(this.#shares, begin, end, isFull);
    this.#base = this.#first;
  }
}
