// Small integers for byte strings: which series a data point belongs to, without decoding its attributes again.
import { WireReader } from "../../platform/protobuf-reader.ts";

/** Two views of a key, its place in the lists, and room to grow. */
const ENTRY_BYTES = 256;
const TABLE_BYTES = 1024;

/** Entries by the bytes they were entered under. Full tables start over: entries are found again by their meaning. */
export class ByteKeys<Entry> {
  readonly #max: number;
  #keys: Uint8Array[] = [];
  #views: DataView[] = [];
  #entries: Entry[] = [];
  #hashes: number[] = [];
  #buckets = new Int32Array(64).fill(-1);
  #next = 0;
  /** What the keys take in memory, about. */
  bytes = TABLE_BYTES;

  constructor(max: number) {
    this.#max = max;
  }

  /** The entry under bytes `[start, end)` of what `reader` reads, or undefined. */
  get(bytes: Uint8Array, view: DataView, start: number, end: number): Entry | undefined {
    // Senders repeat their series in one order: the entry after the last one found is the likeliest.
    const next = this.#next < this.#entries.length ? this.#next : 0;
    if (next < this.#entries.length && this.#same(next, bytes, view, start, end)) {
      this.#next = next + 1;
      return this.#entries[next];
    }
    const hash = hashOf(view, start, end);
    const mask = this.#buckets.length - 1;
    for (let bucket = hash & mask; ; bucket = (bucket + 1) & mask) {
      const index = this.#buckets[bucket] as number;
      if (index === -1) return undefined;
      if (this.#hashes[index] === hash && this.#same(index, bytes, view, start, end)) {
        this.#next = index + 1;
        return this.#entries[index];
      }
    }
  }

  /** Enters a copy of bytes `[start, end)`. */
  set(bytes: Uint8Array, view: DataView, start: number, end: number, entry: Entry): void {
    if (this.#entries.length >= this.#max) this.clear();
    const key = bytes.slice(start, end);
    this.bytes += key.length + ENTRY_BYTES;
    const index = this.#entries.length;
    this.#keys.push(key);
    this.#views.push(new DataView(key.buffer, key.byteOffset, key.byteLength));
    this.#entries.push(entry);
    this.#hashes.push(hashOf(view, start, end));
    if (index * 2 >= this.#buckets.length) this.#rehash();
    else this.#enter(index);
  }

  #same(index: number, bytes: Uint8Array, view: DataView, start: number, end: number): boolean {
    const key = this.#keys[index] as Uint8Array;
    const keyView = this.#views[index] as DataView;
    const length = end - start;
    if (key.length !== length) return false;
    let offset = 0;
    for (; offset + 4 <= length; offset += 4) {
      if (view.getInt32(start + offset, true) !== keyView.getInt32(offset, true)) return false;
    }
    for (; offset < length; offset++) {
      if (bytes[start + offset] !== key[offset]) return false;
    }
    return true;
  }

  #enter(index: number): void {
    const mask = this.#buckets.length - 1;
    let bucket = (this.#hashes[index] as number) & mask;
    while (this.#buckets[bucket] !== -1) bucket = (bucket + 1) & mask;
    this.#buckets[bucket] = index;
  }

  #rehash(): void {
    this.#buckets = new Int32Array(this.#buckets.length * 2).fill(-1);
    for (const index of this.#hashes.keys()) this.#enter(index);
  }

  /** Starts over. */
  clear(): void {
    this.bytes = TABLE_BYTES;
    this.#keys = [];
    this.#views = [];
    this.#entries = [];
    this.#hashes = [];
    this.#buckets = new Int32Array(64).fill(-1);
  }
}

function hashOf(view: DataView, start: number, end: number): number {
  let hash = end - start;
  let at = start;
  for (; at + 4 <= end; at += 4)
    hash = Math.imul(hash ^ view.getInt32(at, true), 0x9e37_79b1) ^ (hash >>> 15);
  for (; at < end; at++) hash = Math.imul(hash ^ view.getUint8(at), 0x85eb_ca6b);
  return (hash ^ (hash >>> 16)) & 0x3fff_ffff;
}

const ATTRIBUTES_MAX = 128;

/**
 * Reads the KeyValue message `reader` stands before (key 1, value 2: AnyValue) into `into`; values that are no scalar are
 * left out, and so is everything beyond 128 attributes.
 */
export function readAttribute(reader: WireReader, into: Map<string, string>): void {
  let key = "";
  let value: string | undefined;
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === 10) key = reader.text();
    else if (tag === 18) value = readAnyValue(reader);
    else reader.skip(tag);
  }
  reader.leave(outer);
  if (value !== undefined && into.size < ATTRIBUTES_MAX) into.set(key, value);
}

/** AnyValue: string 1, bool 2, int 3, double 4. */
function readAnyValue(reader: WireReader): string | undefined {
  let value: string | undefined;
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === 10) value = reader.text();
    else if (tag === 16) value = reader.uint() === 0 ? "false" : "true";
    else if (tag === 24) value = String(reader.uint());
    else if (tag === 33) value = String(reader.double());
    else reader.skip(tag);
  }
  reader.leave(outer);
  return value;
}

/** The attributes in bytes that hold KeyValues under `tag` and nothing else that matters. */
export function readAttributes(bytes: Uint8Array, tag: number): Map<string, string> {
  const reader = new WireReader(bytes);
  const attributes = new Map<string, string>();
  for (let seen = reader.tag(); seen !== 0; seen = reader.tag()) {
    if (seen === tag) readAttribute(reader, attributes);
    else reader.skip(seen);
  }
  return attributes;
}
