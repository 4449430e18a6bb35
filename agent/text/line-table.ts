// Every line a parser has met, by number: its bytes up to the value, what it is, and its sample.
// Found again by comparing bytes where it is expected, or by a hash of them where it is not. No strings are made.
import type { MetricSample } from "../source.ts";
import { readLabels } from "./parse-line.ts";

/** What a line is: dropped unread, a sample somebody wants, or a comment. */
export const lineKinds = { skipped: 0, sample: 1, comment: 2 } as const;

/** A sample whose value is overwritten page by page and whose labels are read when first asked for. */
export class LineSample implements MetricSample {
  readonly name: string;
  value = Number.NaN;
  #keys: Buffer | undefined;
  readonly #start: number;
  readonly #length: number;
  #labels: Readonly<Record<string, string>> | undefined;

  constructor(name: string, keys: Buffer, start: number, length: number) {
    this.name = name;
    this.#keys = keys;
    this.#start = start;
    this.#length = length;
  }

  get labels(): Readonly<Record<string, string>> {
    if (this.#labels === undefined) {
      this.#labels = readLabels(
        (this.#keys as Buffer).toString("latin1", this.#start, this.#start + this.#length),
      );
      this.#keys = undefined;
    }
    return this.#labels;
  }
}

/** Lines by number, from 0. */
export class LineTable {
  #keys: Buffer = Buffer.alloc(0);
  #view = viewOf(this.#keys);
  #end = 0;
  readonly #starts: number[] = [];
  readonly #lengths: number[] = [];
  readonly #hashes: number[] = [];
  #buckets = new Int32Array(1024).fill(-1);
  readonly kinds: number[] = [];
  readonly samples: (LineSample | undefined)[] = [];
  /** The page each line was last on, and its place there (-1 = not on the last page). */
  readonly stamps: number[] = [];
  readonly places: number[] = [];

  /** Whether `#keys` is a copy of the page being read, so that new lines need no copy of their own. */
  #adopted = false;
  /** The hash `find` computed last: of the key that `add` is given next. */
  #hash = 0;

  /** Copies a whole page at once, for a table that knows nothing yet. `add` then takes its lines from the copy. */
  adopt(bytes: Buffer): void {
    if (this.size > 0) return;
    this.#keys = Buffer.from(bytes);
    this.#view = viewOf(this.#keys);
    this.#end = bytes.length;
    this.#adopted = true;
  }

  /** Ends the page that was adopted. */
  settle(): void {
    this.#adopted = false;
  }

  /** How many lines are known. */
  get size(): number {
    return this.kinds.length;
  }

  /** Length of a line's key. */
  length(line: number): number {
    return this.#lengths[line] as number;
  }

  /** Whether `page` has the key of `line` at `position`. Eight bytes a time: keys hold no NUL, so 0 is never -0. */
  startsAt(page: DataView, position: number, line: number): boolean {
    const length = this.#lengths[line] as number;
    if (position + length > page.byteLength) return false;
    const start = this.#starts[line] as number;
    const keys = this.#view;
    let offset = 0;
    for (; offset + 8 <= length; offset += 8) {
      if (page.getFloat64(position + offset, true) !== keys.getFloat64(start + offset, true)) return false;
    }
    for (; offset < length; offset++) {
      if (page.getUint8(position + offset) !== keys.getUint8(start + offset)) return false;
    }
    return true;
  }

  /** The line whose key is `[start, end)` of `page`, or -1. */
  find(page: DataView, start: number, end: number): number {
    const hash = hashOf(page, start, end);
    this.#hash = hash;
    const mask = this.#buckets.length - 1;
    for (let bucket = hash & mask; ; bucket = (bucket + 1) & mask) {
      const line = this.#buckets[bucket] as number;
      if (line === -1) return -1;
      if (
        this.#hashes[line] === hash &&
        this.#lengths[line] === end - start &&
        this.startsAt(page, start, line)
      )
        return line;
    }
  }

  /** Adds the line with key `[start, end)` of `bytes`, which `find` has just missed; a sample if it has a name. */
  add(bytes: Buffer, start: number, end: number, kind: number, name?: string): number {
    const length = end - start;
    const at = this.#adopted ? start : this.#copy(bytes, start, end);
    const line = this.kinds.length;
    const sample = name === undefined ? undefined : new LineSample(name, this.#keys, at, length);
    this.#starts.push(at);
    this.#lengths.push(length);
    this.#hashes.push(this.#hash);
    this.kinds.push(kind);
    this.samples.push(sample);
    this.stamps.push(0);
    this.places.push(-1);
    if (line * 2 >= this.#buckets.length) this.#rehash();
    else this.#enter(line);
    return line;
  }

  #copy(bytes: Buffer, start: number, end: number): number {
    const at = this.#end;
    const length = end - start;
    if (at + length > this.#keys.length) {
      const grown = Buffer.allocUnsafe(Math.max(this.#keys.length * 2, at + length));
      this.#keys.copy(grown, 0, 0, at);
      this.#keys = grown;
      this.#view = viewOf(grown);
    }
    bytes.copy(this.#keys, at, start, end);
    this.#end = at + length;
    return at;
  }

  #enter(line: number): void {
    const mask = this.#buckets.length - 1;
    let bucket = (this.#hashes[line] as number) & mask;
    while (this.#buckets[bucket] !== -1) bucket = (bucket + 1) & mask;
    this.#buckets[bucket] = line;
  }

  #rehash(): void {
    this.#buckets = new Int32Array(this.#buckets.length * 2).fill(-1);
    for (const line of this.#hashes.keys()) this.#enter(line);
  }
}

function hashOf(page: DataView, start: number, end: number): number {
  let hash = end - start;
  let at = start;
  for (; at + 4 <= end; at += 4)
    hash = Math.imul(hash ^ page.getInt32(at, true), 0x9e37_79b1) ^ (hash >>> 15);
  for (; at < end; at++) hash = Math.imul(hash ^ page.getUint8(at), 0x85eb_ca6b);
  return (hash ^ (hash >>> 16)) & 0x3fff_ffff;
}

/** A view of the same bytes. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
