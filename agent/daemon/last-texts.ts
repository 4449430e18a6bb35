// The last texts of a kind, as many as fit in a bound: one piece of memory is written over again and again, and what was in
// it is kept compressed. Readings of one host repeat themselves: a minute of them takes a seventh of its text.
import { deflateRawSync, inflateRawSync } from "node:zlib";

/** Where a text lies: in which piece, counted from the first there ever was, and where in it. */
export interface Placed {
  readonly piece: number;
  readonly offset: number;
  readonly bytes: number;
}

/** Texts that came one after the other and fill a piece. */
interface Packed {
  readonly content: Buffer;
  /** Of the texts in it. */
  readonly bytes: number;
}

/** Of the bound: texts are compressed in such parts. */
const PIECES = 16;

/** Texts in the order they came. Where they are more than the bound, the oldest are gone. */
export class LastTexts {
  readonly #bytesMax: number;
  readonly #pieceBytes: number;
  /** From the oldest on. */
  readonly #packed: Packed[] = [];
  /** What comes next is written here, behind the others. */
  #open = Buffer.alloc(0);
  #end = 0;
  /** Number of the oldest piece. */
  #first = 0;
  /** Of all texts, and of what is compressed of them. */
  #textBytes = 0;
  #packedBytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
    this.#pieceBytes = Math.ceil(bytesMax / PIECES);
  }

  /** Adds a text. One larger than everything is not kept. */
  append(text: string): Placed {
    const bytes = Buffer.byteLength(text);
    if (bytes > this.#bytesMax) return { piece: -1, offset: 0, bytes };
    if (this.#end + bytes > this.#open.length) this.#begin(bytes);
    const offset = this.#end;
    this.#end += this.#open.write(text, offset);
    this.#textBytes += bytes;
    while (this.#packed.length > 0 && Math.max(this.#textBytes, this.size) > this.#bytesMax) this.#drop();
    return { piece: this.#first + this.#packed.length, offset, bytes };
  }

  /** Nothing older than this is asked for again. */
  forgetBefore({ piece }: Placed): void {
    while (this.#packed.length > 0 && this.#first < piece) this.#drop();
  }

  /** Whether the text at a place is still there. */
  has({ piece }: Placed): boolean {
    return piece >= this.#first;
  }

  /** The texts at places that `has` them, in the order they came. */
  *read(places: Iterable<Placed>): Generator<string> {
    let inflated = -1;
    let content = this.#open;
    for (const { bytes, offset, piece } of places) {
      if (piece !== inflated) {
        const packed = this.#packed[piece - this.#first];
        content = packed === undefined ? this.#open : inflateRawSync(packed.content);
        inflated = piece;
      }
      yield content.toString("utf8", offset, offset + bytes);
    }
  }

  /** Memory taken for them. */
  get size(): number {
    return this.#open.length + this.#packedBytes;
  }

  /** Begins a piece with room for a text of that length. */
  #begin(bytes: number): void {
    if (this.#end > 0) {
      const content = deflateRawSync(this.#open.subarray(0, this.#end), { level: 1 });
      this.#packed.push({ content, bytes: this.#end });
      this.#packedBytes += content.length;
      this.#end = 0;
    }
    const length = Math.max(bytes, this.#pieceBytes);
    if (this.#open.length !== length) this.#open = Buffer.allocUnsafeSlow(length);
  }

  #drop(): void {
    const { bytes, content } = this.#packed.shift() as Packed;
    this.#textBytes -= bytes;
    this.#packedBytes -= content.length;
    this.#first++;
  }
}
