// Ends the series of holders that are gone: a pod or job that ended never comes back under its name, and its series would
// be exported for ever. Half an hour of absence is an end; one that does come back resumes its totals.
import type { Books } from "../meter/books.ts";
import { holderKeys } from "../meter/holders.ts";
import type { Nanos, SettledInterval } from "../model.ts";

const GONE_NANOS = 1800e9;
const LOOK_NANOS = 60e9;

/** Follows who holds the GPUs. */
export class HolderSeries {
  readonly #books: Books;
  readonly #seen = new Map<string, Nanos>();
  #lookedAt: Nanos = Number.NEGATIVE_INFINITY;

  constructor(books: Books) {
    this.#books = books;
  }

  /** Notes the holders of an interval; once a minute ends the series of those that were not seen for long. */
  follow({ gpus, to }: SettledInterval): void {
    for (const key of holderKeys(gpus)) this.#seen.set(key, to);
    if (to - this.#lookedAt < LOOK_NANOS) return;
    this.#lookedAt = to;
    const gone = new Set([...this.#seen].filter(([, at]) => to - at > GONE_NANOS).map(([key]) => key));
    if (gone.size === 0) return;
    for (const key of gone) this.#seen.delete(key);
    this.#books.endHolders(gone);
  }
}
