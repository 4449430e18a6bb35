// A list that is gathered and emptied beat by beat, in memory that stays its own: thousands of series move at every beat, and
// a list that grows from nothing each time is copied as it grows, and lives just long enough to grow old.

/** Items in the order in which they came. */
export class Gathered<Item extends object> {
  readonly #items: (Item | undefined)[] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(item: Item): void {
    this.#items[this.#size++] = item;
  }

  /** The item at a place below `size`. */
  at(place: number): Item {
    return this.#items[place] as Item;
  }

  /** Lets go of all of them. */
  clear(): void {
    this.#items.fill(undefined, 0, this.#size);
    this.#size = 0;
  }
}
