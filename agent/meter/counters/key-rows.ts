// Which label sets of a server are stored in one row. A row costs as much as the few hundred bytes of a label set in it, and
// of a busy gateway's thousands nearly all move between two beats: eight share a row, which is written where one of them moved.
import type { Nanos } from "../../model.ts";
import type { KeyCounters } from "./key-counters.ts";
import { keyRowText } from "./key-row-text.ts";

const KEYS_A_ROW = 8;

/** The rows of one server, by number from 0. */
export class KeyRows {
  readonly #rows: KeyCounters[][] = [];
  /** Numbers of rows with room; the last of them is filled next. */
  readonly #roomy: number[] = [];
  /** Rows that a label set left. */
  readonly #left = new Set<number>();

  /** Gives a label set its place. */
  add(counters: KeyCounters): void {
    const roomy = this.#roomy.at(-1);
    const number = roomy ?? this.#rows.length;
    if (roomy === undefined) this.#roomy.push(number);
    this.#put(number, counters);
    if (this.#rowAt(number).length >= KEYS_A_ROW) this.#roomy.pop();
  }

  /** Takes in the label sets of a row that was stored, before any is added. */
  restore(number: number, all: readonly KeyCounters[]): void {
    for (const counters of all) this.#put(number, counters);
    if (all.length < KEYS_A_ROW) this.#roomy.push(number);
  }

  /** Lets a label set go; its row has room for another. */
  remove(counters: KeyCounters): void {
    const members = this.#rowAt(counters.row);
    members.splice(members.indexOf(counters), 1);
    this.#left.add(counters.row);
    if (members.length === KEYS_A_ROW - 1) this.#roomy.push(counters.row);
  }

  /** Numbers of all rows that may be stored. */
  get numbers(): Iterable<number> {
    return this.#rows.keys();
  }

  /** What is to be stored of rows that changed since the last call; nothing ("") of those that are empty. */
  takeChanges(timeText: (at: Nanos) => string, store: (number: number, value: string) => void): void {
    for (let number = 0; number < this.#rows.length; number++) {
      const members = this.#rowAt(number);
      if (!this.#left.has(number) && !members.some(hasChanged)) continue;
      store(number, members.length === 0 ? "" : keyRowText(members.map((one) => one.storedState(timeText))));
    }
    this.#left.clear();
  }

  #put(number: number, counters: KeyCounters): void {
    counters.row = number;
    this.#rowAt(number).push(counters);
  }

  #rowAt(number: number): KeyCounters[] {
    while (this.#rows.length <= number) this.#rows.push([]);
    return this.#rows[number] as KeyCounters[];
  }
}

function hasChanged({ changed }: KeyCounters): boolean {
  return changed;
}
