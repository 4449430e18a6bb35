// Writes protobuf: into a buffer of known size (OTLP requests, where sizes are added up first), or message by message
// (replies). https://protobuf.dev/programming-guides/encoding. Reading is in protobuf-reader.ts.
import { WireError, wireTypes } from "./protobuf-reader.ts";

const WORD = 0x1_0000_0000;
const SLAB_BYTES = 64 * 1024;
const SLAB_SHARE_MAX = 4 * 1024;
const text = new TextEncoder();

/** Bytes a varint takes; for lengths and tags, below 2^32. */
export function varintSize(value: number): number {
  if (value < 0x80) return 1;
  if (value < 0x4000) return 2;
  if (value < 0x20_0000) return 3;
  return value < 0x1000_0000 ? 4 : 5;
}

/** Bytes a length-delimited field takes whose tag is one byte. */
export function fieldSize(length: number): number {
  return 1 + varintSize(length) + length;
}

/** Writes into one buffer of known size, front to back. Writing past its end throws RangeError. */
export class WireWriter {
  readonly bytes: Buffer;
  readonly #view: DataView;
  #at = 0;
  #lastInstant = -1n;
  #low = 0;
  #high = 0;

  /**
   * Into a buffer of its own or the front of a given one. `"kept"` = one of many small buffers that live long: they
   * share slabs instead of having a backing store each.
   */
  constructor(size: number, into?: "kept" | Buffer) {
    if (Buffer.isBuffer(into)) this.bytes = into.subarray(0, size);
    else
      this.bytes = into === "kept" && size <= SLAB_SHARE_MAX ? fromSlab(size) : Buffer.allocUnsafeSlow(size);
    this.#view = new DataView(this.bytes.buffer, this.bytes.byteOffset, size);
  }

  /** Bytes written so far. */
  get length(): number {
    return this.#at;
  }

  /** Goes on at `at`: what is written from there on is written over. */
  moveTo(at: number): void {
    this.#at = at;
  }

  byte(value: number): void {
    this.bytes[this.#at++] = value;
  }

  varint(value: number): void {
    let rest = value;
    while (rest >= 0x80) {
      this.bytes[this.#at++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.bytes[this.#at++] = rest;
  }

  raw(bytes: Uint8Array): void {
    this.bytes.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  /** Tag and length of a field whose content follows. */
  head(tag: number, length: number): void {
    this.byte(tag);
    this.varint(length);
  }

  field(tag: number, bytes: Uint8Array): void {
    this.head(tag, bytes.length);
    this.raw(bytes);
  }

  /** A string field; `size` is its length in UTF-8. */
  text(tag: number, value: string, size: number): void {
    this.head(tag, size);
    this.bytes.write(value, this.#at, size, "utf8");
    this.#at += size;
  }

  double(tag: number, value: number): void {
    this.bytes[this.#at] = tag;
    this.#view.setFloat64(this.#at + 1, value, true);
    this.#at += 9;
  }

  /** An instant in nanoseconds; the same instant again costs no bigint arithmetic. */
  instant(tag: number, value: bigint): void {
    if (value !== this.#lastInstant) {
      this.#lastInstant = value;
      this.#low = Number(value & 0xffff_ffffn);
      this.#high = Number(value >> 32n);
    }
    this.words(tag, this.#low, this.#high);
  }

  /** A signed 64-bit integer; numbers must be safe integers. */
  integer(tag: number, value: bigint | number): void {
    if (typeof value === "number" && value >= 0) {
      this.words(tag, value % WORD, Math.floor(value / WORD));
      return;
    }
    this.bytes[this.#at] = tag;
    this.#view.setBigInt64(this.#at + 1, BigInt(value), true);
    this.#at += 9;
  }

  /** A double of a packed field, without tag. */
  packedDouble(value: number): void {
    this.#view.setFloat64(this.#at, value, true);
    this.#at += 8;
  }

  /** A non-negative safe integer of a packed fixed64 field, without tag. */
  packedInteger(value: number): void {
    this.#view.setUint32(this.#at, value % WORD, true);
    this.#view.setUint32(this.#at + 4, Math.floor(value / WORD), true);
    this.#at += 8;
  }

  /** A 64-bit field by its words of 32 bits, wrapped around where they are larger. */
  words(tag: number, low: number, high: number): void {
    this.bytes[this.#at] = tag;
    this.#view.setUint32(this.#at + 1, low, true);
    this.#view.setUint32(this.#at + 5, high, true);
    this.#at += 9;
  }
}

let slab = Buffer.alloc(0);

function fromSlab(size: number): Buffer {
  if (size > slab.length) slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
  const taken = slab.subarray(0, size);
  slab = slab.subarray(size);
  return taken;
}

/** A string field with a tag of one byte. */
export function stringField(tag: number, value: string): Uint8Array {
  return bytesField(tag, text.encode(value));
}

/** A length-delimited field with a tag of one byte. */
export function bytesField(tag: number, value: Uint8Array): Uint8Array {
  const writer = new WireWriter(fieldSize(value.length));
  writer.field(tag, value);
  return writer.bytes;
}

/** Byte strings end to end. */
export function join(parts: readonly Uint8Array[]): Uint8Array {
  const writer = new WireWriter(parts.reduce((sum, part) => sum + part.length, 0));
  for (const part of parts) writer.raw(part);
  return writer.bytes;
}

/** Writes one message of unknown size field by field. Absent (`undefined`) values are left out. */
export class MessageWriter {
  #bytes = Buffer.allocUnsafe(256);
  #length = 0;

  /** The message so far. */
  finish(): Buffer {
    return Buffer.from(this.#bytes.subarray(0, this.#length));
  }

  /** A varint field; 0 is written. */
  uint(field: number, value: number | bigint | undefined): void {
    if (value === undefined) return;
    this.#varint(field * 8 + wireTypes.varint);
    this.#varint(value);
  }

  /** A double field. */
  double(field: number, value: number | undefined): void {
    if (value === undefined) return;
    this.#varint(field * 8 + wireTypes.fixed64);
    this.#reserve(8);
    this.#length = this.#bytes.writeDoubleLE(value, this.#length);
  }

  /** A string field; the empty string is left out. */
  text(field: number, value: string | undefined): void {
    if (value === undefined || value === "") return;
    this.#varint(field * 8 + wireTypes.bytes);
    const length = Buffer.byteLength(value);
    this.#varint(length);
    this.#reserve(length);
    this.#length += this.#bytes.write(value, this.#length);
  }

  /** A nested message written by `write`. */
  message(field: number, write: (nested: MessageWriter) => void): void {
    const nested = new MessageWriter();
    write(nested);
    this.#varint(field * 8 + wireTypes.bytes);
    this.#varint(nested.#length);
    this.#reserve(nested.#length);
    nested.#bytes.copy(this.#bytes, this.#length, 0, nested.#length);
    this.#length += nested.#length;
  }

  #varint(value: number | bigint): void {
    this.#reserve(10);
    if (typeof value === "bigint") {
      let rest = BigInt.asUintN(64, value);
      for (; rest > 0x7fn; rest >>= 7n) this.#bytes[this.#length++] = Number(rest & 0x7fn) | 0x80;
      this.#bytes[this.#length++] = Number(rest);
      return;
    }
    if (!Number.isSafeInteger(value) || value < 0)
      throw new WireError(`Cannot write ${value} as unsigned integer`);
    let rest = value;
    for (; rest > 0x7f; rest = Math.floor(rest / 128)) this.#bytes[this.#length++] = (rest % 128) | 0x80;
    this.#bytes[this.#length++] = rest;
  }

  #reserve(more: number): void {
    if (this.#length + more <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#length + more));
    this.#bytes.copy(grown, 0, 0, this.#length);
    this.#bytes = grown;
  }
}
