// Texts in one piece of memory of fixed size, the oldest overwritten by the newest: nothing of them is left to a collector.

/** Where a text lies; places count on, round after round. */
export interface Placed {
  readonly place: number;
  readonly bytes: number;
}

/** The last texts, as many as fit. */
export class TextRing {
  readonly #memory: Buffer;
  #end = 0;

  /** Memory is taken from the system as it is written to. */
  constructor(bytesMax: number) {
    this.#memory = Buffer.allocUnsafeSlow(bytesMax);
  }

  /** Adds a text; what lay in its way is gone. One larger than everything is not kept. */
  add(text: string): Placed {
    const size = this.#memory.length;
    const bytes = Buffer.byteLength(text);
    if (bytes > size) return { place: -1, bytes };
    const offset = this.#end % size;
    const place = offset + bytes > size ? this.#end + size - offset : this.#end;
    this.#memory.write(text, place % size);
    this.#end = place + bytes;
    return { place, bytes };
  }

  /** Whether the text at a place is still there. */
  has(place: number): boolean {
    return place >= 0 && place >= this.#end - this.#memory.length;
  }

  /** The text at a place that `has` it. */
  read(place: number, bytes: number): string {
    const offset = place % this.#memory.length;
    return this.#memory.toString("utf8", offset, offset + bytes);
  }
}
