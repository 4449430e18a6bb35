// Byte strings by number, from 0: told apart by comparing bytes where one is expected, or by a hash of them where it is
// not. No strings are made. Keys lie one behind the other in one buffer, or in a copy of the bytes they were found in.

/** Keys by number, in the order they were added. */
export class ByteTable {
  #keys: Buffer = Buffer.alloc(0);
  #view = viewOf(this.#keys);
  #end = 0;
  #size = 0;
  #starts: Int32Array;
  #lengths: Int32Array;
  #hashes: Int32Array;
  #buckets: Int32Array;
  /** Whether `#keys` is a copy of the bytes being read, so that new keys need no copy of their own. */
  #adopted = false;
  /** Whether `#keys` holds other bytes between the keys: those of what was adopted. */
  #loose = false;
  /** The hash `find` computed last: of the key that `add` is given next. */
  #hash = 0;

  /** A table with room for this many keys at first, a power of two. */
  constructor(room: number) {
    this.#starts = new Int32Array(room);
    this.#lengths = new Int32Array(room);
    this.#hashes = new Int32Array(room);
    this.#buckets = new Int32Array(2 * room).fill(-1);
  }

  /** Copies bytes whole, for a table that knows nothing yet; `add` then takes its keys from the copy, until `settle`. */
  adopt(bytes: Buffer): void {
    if (this.#size > 0) return;
    this.#keys = Buffer.from(bytes);
    this.#view = viewOf(this.#keys);
    this.#end = bytes.length;
    this.#adopted = true;
    this.#loose = true;
  }

  /** Ends the reading of bytes that were adopted. */
  settle(): void {
    this.#adopted = false;
  }

  /** Gives back what was adopted beside the keys. */
  tighten(): void {
    if (!this.#loose) return;
    this.#loose = false;
    let size = 0;
    for (let key = 0; key < this.#size; key++) size += this.#lengths[key] as number;
    const tight = Buffer.allocUnsafeSlow(size);
    let at = 0;
    for (let key = 0; key < this.#size; key++) {
      const start = this.#starts[key] as number;
      this.#starts[key] = at;
      at += this.#keys.copy(tight, at, start, start + (this.#lengths[key] as number));
    }
    this.#keys = tight;
    this.#view = viewOf(tight);
    this.#end = size;
  }

  /** How many keys are known. */
  get size(): number {
    return this.#size;
  }

  /** The buffer the keys are in; a table that grows moves to another one. */
  get keys(): Buffer {
    return this.#keys;
  }

  /** Where a key starts in `keys`. */
  start(key: number): number {
    return this.#starts[key] as number;
  }

  /** Length of a key. */
  length(key: number): number {
    return this.#lengths[key] as number;
  }

  /** Whether `bytes` has the key at `position`. */
  startsAt(bytes: DataView, position: number, key: number): boolean {
    const length = this.#lengths[key] as number;
    if (position + length > bytes.byteLength) return false;
    const start = this.#starts[key] as number;
    const keys = this.#view;
    let offset = 0;
    // Four bytes a time, and not eight as a float: keys may hold NUL bytes, so that 0 may be -0.
    for (; offset + 4 <= length; offset += 4) {
      if (bytes.getInt32(position + offset, true) !== keys.getInt32(start + offset, true)) return false;
    }
    for (; offset < length; offset++) {
      if (bytes.getUint8(position + offset) !== keys.getUint8(start + offset)) return false;
    }
    return true;
  }

  /** The key that is `[start, end)` of `bytes`, or -1. */
  find(bytes: DataView, start: number, end: number): number {
    const hash = hashOf(bytes, start, end);
    this.#hash = hash;
    const mask = this.#buckets.length - 1;
    for (let bucket = hash & mask; ; bucket = (bucket + 1) & mask) {
      const key = this.#buckets[bucket] as number;
      if (key === -1) return -1;
      if (
        this.#hashes[key] === hash &&
        this.#lengths[key] === end - start &&
        this.startsAt(bytes, start, key)
      )
        return key;
    }
  }

  /** Adds `[start, end)` of `bytes`, which `find` has just missed. */
  insert(bytes: Buffer, start: number, end: number): number {
    const at = this.#adopted ? start : this.#copy(bytes, start, end);
    const key = this.#size++;
    if (key === this.#starts.length) this.#grow(2 * key);
    this.#starts[key] = at;
    this.#lengths[key] = end - start;
    this.#hashes[key] = this.#hash;
    if (key * 2 >= this.#buckets.length) this.#rehash();
    else this.#enter(key);
    return key;
  }

  #copy(bytes: Buffer, start: number, end: number): number {
    const at = this.#end;
    const length = end - start;
    if (at + length > this.#keys.length) {
      // By half: a page that gains a series now and then holds what it had for long.
      const grown = Buffer.allocUnsafe(Math.max(Math.ceil(this.#keys.length * 1.5), at + length));
      this.#keys.copy(grown, 0, 0, at);
      this.#keys = grown;
      this.#view = viewOf(grown);
    }
    bytes.copy(this.#keys, at, start, end);
    this.#end = at + length;
    return at;
  }

  #grow(keys: number): void {
    this.#starts = longer(this.#starts, keys);
    this.#lengths = longer(this.#lengths, keys);
    this.#hashes = longer(this.#hashes, keys);
  }

  #enter(key: number): void {
    const mask = this.#buckets.length - 1;
    let bucket = (this.#hashes[key] as number) & mask;
    while (this.#buckets[bucket] !== -1) bucket = (bucket + 1) & mask;
    this.#buckets[bucket] = key;
  }

  #rehash(): void {
    this.#buckets = new Int32Array(this.#buckets.length * 2).fill(-1);
    for (let key = 0; key < this.#size; key++) this.#enter(key);
  }
}

function hashOf(bytes: DataView, start: number, end: number): number {
  let hash = end - start;
  let at = start;
  for (; at + 4 <= end; at += 4)
    hash = Math.imul(hash ^ bytes.getInt32(at, true), 0x9e37_79b1) ^ (hash >>> 15);
  for (; at < end; at++) hash = Math.imul(hash ^ bytes.getUint8(at), 0x85eb_ca6b);
  return (hash ^ (hash >>> 16)) & 0x3fff_ffff;
}

/** The column with room for more. */
export function longer(column: Int32Array, size: number): Int32Array<ArrayBuffer> {
  const grown = new Int32Array(size);
  grown.set(column);
  return grown;
}

/** A view of the same bytes. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
