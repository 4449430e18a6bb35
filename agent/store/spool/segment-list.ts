// The segments of a spool in order, and which record comes after which: an index in memory, searched by bisection.
import type { Entry } from "./segment.ts";
import { Segment } from "./segment.ts";

/** A segment on the disk or in memory. */
export type Held = Segment | MemorySegment;

/** Segments by ascending sequence; the newest is last. */
export class SegmentList {
  readonly all: Held[];

  constructor(segments: readonly Held[]) {
    this.all = [...segments];
  }

  get oldest(): Held | undefined {
    return this.all[0];
  }

  get newest(): Held | undefined {
    return this.all.at(-1);
  }

  /** Bytes they take, on disk or in memory. */
  get bytes(): number {
    return this.all.reduce((sum, segment) => sum + segment.size, 0);
  }

  /** What removing all of them would free on the disk. */
  get diskBytes(): number {
    return this.all.reduce((sum, segment) => sum + (segment instanceof Segment ? segment.size : 0), 0);
  }

  get records(): number {
    return this.all.reduce((sum, segment) => sum + segment.entries.length, 0);
  }

  /** The first record after a sequence. */
  find(after: number): { readonly segment: Held; readonly entry: Entry } | undefined {
    const segment = this.all[firstIndex(this.all, (one) => one.last > after)];
    const entry = segment?.entries[firstIndex(segment.entries, (one) => one.sequence > after)];
    return segment === undefined || entry === undefined ? undefined : { segment, entry };
  }
}

/**
 * A segment without a file: records that could not be put on the disk, until they are delivered. A crash loses them, and
 * the spool's state says which they were.
 */
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

  append(entry: Omit<Entry, "offset" | "length">, bytes: Uint8Array): void {
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

/** Index of the first element for which `holds` is true; it must be false before and true after. */
function firstIndex<Element>(list: readonly Element[], holds: (element: Element) => boolean): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(list[middle] as Element)) high = middle;
    else low = middle + 1;
  }
  return low;
}
