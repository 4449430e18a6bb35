// What polls of one server counted, until the interval they ended in is decided. A gateway counts a thousand at a time, and all
// of a poll are due at once: they are kept and handed on as the lists they came in.
import type { Nanos, TokenIncrement } from "../model.ts";

type List = readonly TokenIncrement[];

/** Increments of one instant. */
interface Batch {
  readonly at: Nanos;
  readonly increments: List;
}

/** Increments that wait for their interval, in the order in which they came. */
export class DueIncrements {
  #batches: Batch[] = [];

  /** Nothing waits. */
  get isEmpty(): boolean {
    return this.#batches.length === 0;
  }

  add(increments: List): void {
    for (let from = 0; from < increments.length; ) {
      const { at } = increments[from] as TokenIncrement;
      let to = from + 1;
      while (increments[to]?.at === at) to++;
      const isWhole = from === 0 && to === increments.length;
      this.#batches.push({ at, increments: isWhole ? increments : increments.slice(from, to) });
      from = to;
    }
  }

  /** Takes those whose polls ended at or before `until`, all of them if it is undefined, and those after `latest`. */
  take(until: Nanos | undefined, latest: Nanos): List {
    const waits = ({ at }: Batch): boolean => until !== undefined && at > until && at <= latest;
    const due = this.#batches.filter((batch) => !waits(batch));
    if (due.length > 0) this.#batches = this.#batches.filter(waits);
    return due.length === 1 ? (due[0] as Batch).increments : due.flatMap(({ increments }) => increments);
  }
}
