// The segments of a spool in order, and which record comes after which: an index in memory, searched by bisection.
import type { MemorySegment } from "./memory-segment.ts";
import type { Entry } from "./segment.ts";
import { Segment } from "./segment.ts";

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
