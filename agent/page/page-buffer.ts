// The bytes of a page while it is received and read. Servers are asked one shortly after the other, so that a few buffers
// serve all of them: a page of its own for each of many servers would be most of the agent's memory.
import type { Readable } from "node:stream";
import { SourceError } from "../source.ts";

const BYTES_AT_FIRST = 64 * 1024;
/** Buffers kept for later pages, and how large each may be to be kept. */
const KEPT_MAX = 2;
const KEPT_BYTES_MAX = 4 * 1024 * 1024;

const free: Buffer[] = [];

/** A buffer that never grows past `limit`, for one page of `url`. */
export class PageBuffer {
  readonly #limit: number;
  readonly #url: string;
  #bytes: Buffer;
  #length = 0;

  constructor(limit: number, url: string) {
    this.#limit = limit;
    this.#url = url;
    this.#bytes = free.pop() ?? Buffer.allocUnsafeSlow(BYTES_AT_FIRST);
  }

  /** Makes room for a page of so many bytes. Throws SourceError (transient) when that is more than the limit. */
  expect(length: number): void {
    this.checkSize(length);
    // Not more than it would keep: a length is only what a peer says.
    const room = Math.min(length, KEPT_BYTES_MAX);
    if (room > this.#bytes.length) this.#bytes = resized(this.#bytes, room);
  }

  /** Adds `[start, end)` of `part`. Throws SourceError (transient) when the page is then larger than the limit. */
  append(part: Buffer, start: number, end: number): void {
    this.#grow(this.#length + end - start);
    this.#length += part.copy(this.#bytes, this.#length, start, end);
  }

  /** What was added so far, valid until `free`. */
  filled(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  /** The whole of `stream`, valid until `free`. Throws SourceError (transient) when that is more than the limit. */
  fill(stream: Readable): Promise<Buffer> {
    const { promise, reject, resolve } = Promise.withResolvers<Buffer>();
    // Events, not `for await`: it makes a handful of objects and promises for each chunk.
    stream.on("data", (part: Buffer) => {
      try {
        this.append(part, 0, part.length);
      } catch (error) {
        stream.destroy(error as Error);
      }
    });
    stream.once("end", () => resolve(this.filled()));
    stream.once("error", reject);
    stream.once("close", () => {
      if (!stream.readableEnded) reject(new Error("the connection was closed in the middle of the page"));
    });
    return promise;
  }

  /** Throws SourceError (transient) when so many bytes are more than the limit. */
  checkSize(wanted: number): void {
    if (wanted <= this.#limit) return;
    throw new SourceError(
      "transient",
      `Cannot read ${this.#url}: the page is larger than ${this.#limit} bytes`,
      { hint: "raise `bytesMax` if that is expected" },
    );
  }

  /** Gives the bytes to a later page, or back to the system at once: the collector would let megabytes of them gather. */
  free(): void {
    if (free.length < KEPT_MAX && this.#bytes.length <= KEPT_BYTES_MAX) free.push(this.#bytes);
    else resized(this.#bytes, 0);
    this.#bytes = Buffer.alloc(0);
  }

  #grow(wanted: number): void {
    this.checkSize(wanted);
    if (wanted <= this.#bytes.length) return;
    this.#bytes = resized(this.#bytes, Math.min(this.#limit, Math.max(this.#bytes.length * 2, wanted)));
  }
}

/** The bytes in a memory of that length; the one they were in is free. It must be theirs alone. */
function resized(bytes: Buffer, length: number): Buffer {
  return Buffer.from((bytes.buffer as ArrayBuffer).transfer(length));
}
