// What polls of one server counted, until the interval they ended in is decided. A gateway counts a thousand at a time, and all
// of a poll are due at once: they are kept and handed on as the lists they came in.
import type { Nanos, TokenIncrement } from "../model.ts";

type List = readonly TokenIncrement[];

/** Increments that wait for their interval, in the order in which they came. */
export class DueIncrements {
  #lists: List[] = [];

  /** Nothing waits. */
  get isEmpty(): boolean {
    return this.#lists.length === 0;
  }

  add(increments: List): void {
    if (increments.length > 0) this.#lists.push(increments);
  }

  /** Takes those whose polls ended at or before `until`, all of them if it is undefined, and those after `latest`. */
  take(until: Nanos | undefined, latest: Nanos): List {
    const waits = ({ at }: TokenIncrement): boolean => until !== undefined && at > until && at <= latest;
    const due: List[] = [];
    const left: List[] = [];
    for (const list of this.#lists) {
      const isMixed = list.some(waits) && !list.every(waits);
      if (isMixed) due.push(list.filter((one) => !waits(one)));
      if (isMixed) left.push(list.filter(waits));
      else (list.some(waits) ? left : due).push(list);
    }
    this.#lists = left;
    return due.length === 1 ? (due[0] as List) : due.flat();
  }
}
