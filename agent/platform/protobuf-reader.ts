// Protobuf on the wire: a pull reader without allocation per field. Writing is in protobuf-writer.ts.
// Facts: protobuf.dev/programming-guides/encoding (2026). Groups, given up since proto2, are refused. 64-bit integers
// come as numbers: exact up to 2^53, above that too large to pass Number.isSafeInteger, which callers check. Nothing here
// calls itself, so nesting costs nothing: what is not read is skipped by its length.
import { createHash } from "node:crypto";

/** Bytes that are not the protobuf message they should be. */
export class WireError extends Error {
  override readonly name = "WireError";
}

/** Wire types: how many bytes follow a tag. */
export const wireTypes = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;

/** Tag of field `field` with wire type `type`, as `WireReader.tag` returns it. */
export const tagOf = (field: number, type: keyof typeof wireTypes): number => field * 8 + wireTypes[type];

/** Reads one message field by field; nested messages are read in place between `enter` and `leave`. */
export class WireReader {
  readonly bytes: Uint8Array;
  position: number;
  end: number;
  readonly #view: DataView;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.position = 0;
    this.end = bytes.length;
  }

  /** The next tag (field x 8 + wire type), or 0 at the end of the current message. */
  tag(): number {
    if (this.position >= this.end) return 0;
    const tag = this.uint();
    if (tag < 8 || tag > 0xffff_ffff)
      throw new WireError(`Cannot read a field: tag ${tag} at byte ${this.position}`);
    return tag;
  }

  /** A varint as unsigned number; beyond 2^53 inexact, and so not a safe integer. */
  uint(): number {
    const { bytes, end } = this;
    let position = this.position;
    const first = bytes[position] as number;
    if (first < 0x80 && position < end) {
      this.position = position + 1;
      return first;
    }
    let value = 0;
    let scale = 1;
    for (let count = 0; count < 10; count++) {
      if (position >= end) break;
      const byte = bytes[position++] as number;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        this.position = position;
        return value;
      }
      scale *= 128;
    }
    throw new WireError(
      `Cannot read a number at byte ${this.position}: it is cut off or longer than 10 bytes`,
    );
  }

  /** A varint as 64-bit unsigned integer. */
  bigUint(): bigint {
    const start = this.position;
    const value = this.uint();
    if (value <= Number.MAX_SAFE_INTEGER) return BigInt(value);
    let exact = 0n;
    for (let index = this.position - 1; index >= start; index--) {
      exact = (exact << 7n) | BigInt((this.bytes[index] as number) & 0x7f);
    }
    return BigInt.asUintN(64, exact);
  }

  /** A fixed 64-bit unsigned integer as number. */
  fixed64(): number {
    const at = this.#take(8);
    return this.#view.getUint32(at, true) + this.#view.getUint32(at + 4, true) * 4_294_967_296;
  }

  /** A fixed 64-bit signed integer as number. */
  sfixed64(): number {
    const at = this.#take(8);
    return this.#view.getUint32(at, true) + this.#view.getInt32(at + 4, true) * 4_294_967_296;
  }

  /** A fixed 64-bit unsigned integer, exact. */
  bigFixed64(): bigint {
    return this.#view.getBigUint64(this.#take(8), true);
  }

  /** A double. */
  double(): number {
    return this.#view.getFloat64(this.#take(8), true);
  }

  /** A UTF-8 string: a name or a label. Over 256 bytes it is cut, and a hash of it tells it from others like it. */
  text(): string {
    const length = this.uint();
    const at = this.#take(length);
    if (length <= TEXT_BYTES_MAX) return utf8(this.bytes, at, at + length);
    const hash = createHash("sha256")
      .update(this.bytes.subarray(at, at + length))
      .digest("hex");
    return `${utf8(this.bytes, at, at + CUT_BYTES)}…${hash.slice(0, 16)}`;
  }

  /** A view of length-delimited bytes. */
  slice(): Uint8Array {
    const length = this.uint();
    const at = this.#take(length);
    return this.bytes.subarray(at, at + length);
  }

  /** Starts a nested message; give what it returns to `leave` when its `tag()` is 0. */
  enter(): number {
    const length = this.uint();
    const outer = this.end;
    if (length > outer - this.position)
      throw new WireError(`Cannot read a message of ${length} bytes: it is cut off`);
    this.end = this.position + length;
    return outer;
  }

  /** Ends a nested message, skipping what is left of it. */
  leave(outer: number): void {
    this.position = this.end;
    this.end = outer;
  }

  /** Skips further length-delimited fields of `tag` (below 128), one after the other; stands before the first other. */
  skipRun(tag: number): void {
    const { bytes, end } = this;
    let position = this.position;
    while (position + 1 < end && bytes[position] === tag) {
      const length = bytes[position + 1] as number;
      // Longer fields, and anything cut off, go the general way.
      if (length >= 0x80 || length > end - position - 2) break;
      position += 2 + length;
    }
    this.position = position;
  }

  /** Skips the value of a field that is not needed. */
  skip(tag: number): void {
    const type = tag % 8;
    if (type === wireTypes.varint) this.uint();
    else if (type === wireTypes.bytes) this.#take(this.uint());
    else if (type === wireTypes.fixed64) this.#take(8);
    else if (type === wireTypes.fixed32) this.#take(4);
    else throw new WireError(`Cannot read field ${Math.floor(tag / 8)}: wire type ${type}`);
  }

  #take(length: number): number {
    const at = this.position;
    if (length > this.end - at)
      throw new WireError(`Cannot read ${length} bytes at byte ${at}: the message is cut off`);
    this.position = at + length;
    return at;
  }
}

/** Whoever sends longer names could fill the memory with them. */
const TEXT_BYTES_MAX = 256;
const CUT_BYTES = 200;
const SHORT_TEXT = 48;

/** The string in `bytes` from `start` to `end`; short ASCII, nearly every label, is built without a decoder call. */
function utf8(bytes: Uint8Array, start: number, end: number): string {
  if (end - start <= SHORT_TEXT) {
    let text = "";
    let at = start;
    for (; at < end; at++) {
      const byte = bytes[at] as number;
      if (byte >= 0x80) break;
      text += String.fromCharCode(byte);
    }
    if (at === end) return text;
  }
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString("utf8");
}
