// Every line a parser has met, by number: its bytes up to the value, what it is, and its sample.
// Found again by comparing bytes where it is expected, or by a hash of them where it is not. No strings are made.
import type { MetricSample } from "../source.ts";
import { readLabels } from "./parse-line.ts";

const BRACE = 123;

/** What a line is: dropped unread, a sample somebody wants, or a comment. */
export const lineKinds = { skipped: 0, sample: 1, comment: 2 } as const;

/** A sample whose value is overwritten page by page and whose labels are read when first asked for. */
export class LineSample implements MetricSample {
  readonly name: string;
  value = Number.NaN;
  #sets: LabelSets | undefined;
  #keys: Buffer | undefined;
  readonly #start: number;
  readonly #length: number;
  #labels: Labels | undefined;

  constructor(name: string, sets: LabelSets, keys: Buffer, start: number, length: number) {
    this.name = name;
    this.#sets = sets;
    this.#keys = keys;
    this.#start = start;
    this.#length = length;
  }

  get labels(): Labels {
    if (this.#labels === undefined) {
      const end = this.#start + this.#length;
      this.#labels = (this.#sets as LabelSets).read(this.#keys as Buffer, this.#start, end);
      this.#sets = undefined;
      this.#keys = undefined;
    }
    return this.#labels;
  }
}

type Labels = Readonly<Record<string, string>>;

/** Label sets by their text: a page repeats the same few in every family, and they need to be in memory once. */
class LabelSets {
  readonly #sets = new Map<string, Labels>();
  readonly #values = new Map<string, string>();

  /** The labels in the key `[start, end)` of `keys`. */
  read(keys: Buffer, start: number, end: number): Labels {
    const open = keys.indexOf(BRACE, start);
    const text = open === -1 || open >= end ? "" : keys.toString("latin1", open, end);
    // A name in the braces belongs to the sample, so its labels are nobody else's.
    if (open === start) return readLabels(text, true, (value) => value);
    const known = this.#sets.get(text);
    if (known !== undefined) return known;
    const labels = readLabels(text, false, (value) => this.#once(value));
    this.#sets.set(text, labels);
    return labels;
  }

  #once(value: string): string {
    const known = this.#values.get(value);
    if (known !== undefined) return known;
    this.#values.set(value, value);
    return value;
  }
}

const LINES_AT_FIRST = 512;

/** Lines by number, from 0. */
export class LineTable {
  #keys: Buffer = Buffer.alloc(0);
  #view = viewOf(this.#keys);
  #end = 0;
  #size = 0;
  #starts = new Int32Array(LINES_AT_FIRST);
  #lengths = new Int32Array(LINES_AT_FIRST);
  #hashes = new Int32Array(LINES_AT_FIRST);
  #buckets = new Int32Array(2 * LINES_AT_FIRST).fill(-1);
  #sampleNumbers = new Int32Array(LINES_AT_FIRST);
  readonly #samples: LineSample[] = [];
  readonly #sets = new LabelSets();
  kinds = new Uint8Array(LINES_AT_FIRST);
  /** The page each line was last on, and its place there (-1 = not on the last page). */
  stamps = new Int32Array(LINES_AT_FIRST);
  places = new Int32Array(LINES_AT_FIRST);

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
    return this.#size;
  }

  /** The sample on a line, if it is one. */
  sample(line: number): LineSample | undefined {
    return this.#samples[this.#sampleNumbers[line] as number];
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
    const line = this.#size++;
    if (line === this.kinds.length) this.#grow(2 * line);
    this.#sampleNumbers[line] = name === undefined ? -1 : this.#samples.length;
    if (name !== undefined) this.#samples.push(new LineSample(name, this.#sets, this.#keys, at, length));
    this.#starts[line] = at;
    this.#lengths[line] = length;
    this.#hashes[line] = this.#hash;
    this.kinds[line] = kind;
    this.places[line] = -1;
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

  #grow(lines: number): void {
    const longer = (column: Int32Array): Int32Array<ArrayBuffer> => {
      const grown = new Int32Array(lines);
      grown.set(column);
      return grown;
    };
    this.#starts = longer(this.#starts);
    this.#lengths = longer(this.#lengths);
    this.#hashes = longer(this.#hashes);
    this.#sampleNumbers = longer(this.#sampleNumbers);
    this.stamps = longer(this.stamps);
    this.places = longer(this.places);
    const kinds = new Uint8Array(lines);
    kinds.set(this.kinds);
    this.kinds = kinds;
  }

  #enter(line: number): void {
    const mask = this.#buckets.length - 1;
    let bucket = (this.#hashes[line] as number) & mask;
    while (this.#buckets[bucket] !== -1) bucket = (bucket + 1) & mask;
    this.#buckets[bucket] = line;
  }

  #rehash(): void {
    this.#buckets = new Int32Array(this.#buckets.length * 2).fill(-1);
    for (let line = 0; line < this.#size; line++) this.#enter(line);
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
