// Records that could not be put on the disk, held in memory in the place of a segment until they are delivered.
// Only while the disk is full or refuses writes; a crash loses them, and the spool's state says which they were.
import type { Entry } from "./segment.ts";

/** A segment without a file. */
export class MemorySegment {
  readonly entries: Entry[] = [];
  readonly #bytes = new Map<number, Uint8Array>();
  readonly first: number;
  size = 0;

  constructor(first: number) {
    this.first = first;
  }

  get last(): number {
    return this.entries.at(-1)?.sequence ?? this.first - 1;
  }

  add(entry: Omit<Entry, "offset" | "length">, bytes: Uint8Array): void {
    this.entries.push({ ...entry, offset: 0, length: bytes.length });
    this.#bytes.set(entry.sequence, bytes);
    this.size += bytes.length;
  }

  /** Gives up the oldest record and returns it. */
  dropOldest(): Entry[] {
    const entry = this.entries.shift();
    if (entry === undefined) return [];
    this.#bytes.delete(entry.sequence);
    this.size -= entry.length;
    return [entry];
  }

  /** The request as it was put in. */
  bytes(entry: Entry): Uint8Array | undefined {
    return this.#bytes.get(entry.sequence);
  }
}
