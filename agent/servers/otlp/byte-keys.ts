// Small integers for byte strings: which series a data point belongs to, without decoding its attributes again.
import { ByteTable, viewOf } from "../../platform/byte-table.ts";
import { WireReader } from "../../platform/protobuf-reader.ts";

/** What a key takes beside its bytes: its place in the lists, and room to grow. */
const ENTRY_BYTES = 64;
const TABLE_BYTES = 1024;
const KEYS_AT_FIRST = 32;

/** Entries by the bytes they were entered under. Full tables start over: entries are found again by their meaning. */
export class ByteKeys<Entry> {
  readonly #max: number;
  #keys = new ByteTable(KEYS_AT_FIRST);
  #entries: Entry[] = [];
  #next = 0;
  /** What the keys take in memory, about. */
  bytes = TABLE_BYTES;

  constructor(max: number) {
    this.#max = max;
  }

  /** The entry under bytes `[start, end)` of what `view` shows, or undefined. */
  get(view: DataView, start: number, end: number): Entry | undefined {
    const keys = this.#keys;
    // Senders repeat their series in one order: the entry after the last one found is the likeliest.
    const next = this.#next < keys.size ? this.#next : 0;
    const isNext = next < keys.size && keys.length(next) === end - start && keys.startsAt(view, start, next);
    const key = isNext ? next : keys.find(view, start, end);
    if (key === -1) return undefined;
    this.#next = key + 1;
    return this.#entries[key];
  }

  /** Enters a copy of bytes `[start, end)`, which `get` has just missed. */
  set(bytes: Uint8Array, start: number, end: number, entry: Entry): void {
    if (this.#entries.length >= this.#max) {
      this.clear();
      this.#keys.find(viewOf(bytes), start, end);
    }
    this.bytes += end - start + ENTRY_BYTES;
    this.#keys.insert(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), start, end);
    this.#entries.push(entry);
  }

  /** Starts over. */
  clear(): void {
    this.bytes = TABLE_BYTES;
    this.#keys = new ByteTable(KEYS_AT_FIRST);
    this.#entries = [];
    this.#next = 0;
  }
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
