// Servers in the order in which they were read last. An interval that waits for several of them waits for the one that was read
// last: pages come round in the same order, so by then the others were read too, and it is looked at once, not once for each.

/** What is read over and over, the last one read at the end. */
export class ReadOrder<Reader> {
  readonly #readers: Reader[] = [];

  /** Notes that one was read, or is there from now on. */
  noteRead(reader: Reader): void {
    const readers = this.#readers;
    let place = readers.lastIndexOf(reader);
    if (place < 0) place = readers.length;
    for (; place + 1 < readers.length; place++) readers[place] = readers[place + 1] as Reader;
    readers[place] = reader;
  }

  /** Leaves one out from now on. */
  leaveOut(reader: Reader): void {
    const place = this.#readers.lastIndexOf(reader);
    if (place >= 0) this.#readers.splice(place, 1);
  }

  /** The one read last of those that are meant; undefined where none is. */
  lastOf(isMeant: (reader: Reader) => boolean): Reader | undefined {
    for (let place = this.#readers.length - 1; place >= 0; place--) {
      const reader = this.#readers[place] as Reader;
      if (isMeant(reader)) return reader;
    }
    return undefined;
  }
}
