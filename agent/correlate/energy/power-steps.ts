// Stretches of constant power as columns of numbers, in order: a driver's ring has fifty a second for every GPU, and an
// object for each would live just long enough to be carried into the old generation.
import type { Nanos } from "../../model.ts";
import { moved } from "./columns.ts";

const ROOM_AT_FIRST = 64;

/** Steps of watts, by position from 0, oldest first. */
export class PowerSteps {
  readonly #max: number;
  #froms = new Float64Array(ROOM_AT_FIRST);
  #tos = new Float64Array(ROOM_AT_FIRST);
  #watts = new Float64Array(ROOM_AT_FIRST);
  /** What is held: from here, and before here. */
  #first = 0;
  #end = 0;

  /** At most `max` steps are held: further ones drop the oldest. */
  constructor(max = Number.POSITIVE_INFINITY) {
    this.#max = max;
  }

  get length(): number {
    return this.#end - this.#first;
  }

  from(position: number): Nanos {
    return this.#froms[this.#first + position] as Nanos;
  }

  to(position: number): Nanos {
    return this.#tos[this.#first + position] as Nanos;
  }

  watts(position: number): number {
    return this.#watts[this.#first + position] as number;
  }

  /** Appends a step, which begins where the last one ended or later. */
  append(from: Nanos, to: Nanos, watts: number): void {
    if (this.length >= this.#max) this.#first++;
    if (this.#end === this.#froms.length) this.#makeRoom();
    this.#froms[this.#end] = from;
    this.#tos[this.#end] = to;
    this.#watts[this.#end++] = watts;
  }

  clear(): void {
    this.#first = 0;
    this.#end = 0;
  }

  /** Drops what ended at or before `before`. */
  forget(before: Nanos): void {
    while (this.#first < this.#end && (this.#tos[this.#first] as Nanos) <= before) this.#first++;
    if (this.#first === this.#end) this.clear();
  }

  /** Replaces the steps of `into` by what of these lies in `[from, to)`, and returns it. */
  clip(from: Nanos, to: Nanos, into: PowerSteps): PowerSteps {
    let begin = this.#end;
    while (begin > this.#first && (this.#tos[begin - 1] as Nanos) > from) begin--;
    let end = begin;
    while (end < this.#end && (this.#froms[end] as Nanos) < to) end++;
    into.#copy(this, begin, end);
    if (into.#end === 0) return into;
    into.#froms[0] = Math.max(into.#froms[0] as Nanos, from);
    into.#tos[into.#end - 1] = Math.min(into.#tos[into.#end - 1] as Nanos, to);
    return into;
  }

  /** Holds what another one holds at the places `begin` to `end`, and nothing else. */
  #copy(other: PowerSteps, begin: number, end: number): void {
    this.#first = 0;
    this.#end = end - begin;
    if (this.#end > this.#froms.length) {
      this.#froms = new Float64Array(2 * this.#end);
      this.#tos = new Float64Array(2 * this.#end);
      this.#watts = new Float64Array(2 * this.#end);
    }
    for (let at = 0; at < this.#end; at++) {
      this.#froms[at] = other.#froms[begin + at] as Nanos;
      this.#tos[at] = other.#tos[begin + at] as Nanos;
      this.#watts[at] = other.#watts[begin + at] as number;
    }
  }

  /** Time that the steps cover. */
  covered(): Nanos {
    let covered = 0;
    for (let at = this.#first; at < this.#end; at++)
      covered += (this.#tos[at] as Nanos) - (this.#froms[at] as Nanos);
    return covered;
  }

  /** Time-weighted mean; undefined without steps. */
  meanWatts(): number | undefined {
    let weighted = 0;
    for (let at = this.#first; at < this.#end; at++)
      weighted += (this.#watts[at] as number) * ((this.#tos[at] as Nanos) - (this.#froms[at] as Nanos));
    const covered = this.covered();
    return covered > 0 ? weighted / covered : undefined;
  }

  /** What is held moves to the front; the columns grow where it fills more than half of them. */
  #makeRoom(): void {
    const { length } = this;
    const isFull = 2 * length > this.#froms.length;
    this.#froms = moved(this.#froms, this.#first, this.#end, isFull);
    this.#tos = moved(this.#tos, this.#first, this.#end, isFull);
    this.#watts = moved(this.#watts, this.#first, this.#end, isFull);
    this.#first = 0;
    this.#end = length;
  }
}
