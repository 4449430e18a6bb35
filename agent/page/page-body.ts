// The body of a metric page on its way into a page's buffer, inflated where it came compressed. The bodies of other answers
// are let past: only their heads are looked at.
import type { Transform } from "node:stream";
import { createBrotliDecompress, createGunzip, createInflate } from "node:zlib";
import { SourceError } from "../source.ts";
import type { AnswerTaker } from "./http/answer.ts";
import type { AnswerHead } from "./http/head.ts";
import type { PageBuffer } from "./page-buffer.ts";

const OK = 200;
const inflaters: Readonly<Record<string, () => Transform>> = {
  gzip: createGunzip,
  "x-gzip": createGunzip,
  deflate: createInflate,
  br: createBrotliDecompress,
};

/** Takes in one body. */
export class PageBody implements AnswerTaker {
  readonly #buffer: PageBuffer;
  readonly #shown: string;
  #isWanted = false;
  #inflater: Transform | undefined;
  #inflated: Promise<Buffer> | undefined;
  #packedBytes = 0;

  /** `shown`: the address, for messages. */
  constructor(buffer: PageBuffer, shown: string) {
    this.#buffer = buffer;
    this.#shown = shown;
  }

  /** Throws SourceError (transient) where it comes in a form that was not asked for and is not known, or is too large. */
  begin({ body, headers, status }: AnswerHead): void {
    this.#isWanted = status === OK;
    if (!this.#isWanted) return;
    const encoding = encodingOf(headers);
    if (encoding === "") {
      if (typeof body === "number") this.#buffer.expect(body);
      return;
    }
    this.#inflater = inflaterOf(encoding, this.#shown);
    this.#inflated = this.#buffer.fill(this.#inflater);
    // Whoever waits for it is given the error; one who no longer does, for the connection broke, is not to be.
    this.#inflated.catch(() => {});
  }

  take(bytes: Buffer, start: number, end: number): void {
    if (!this.#isWanted) return;
    if (this.#inflater === undefined) this.#buffer.append(bytes, start, end);
    else this.#inflate(this.#inflater, Buffer.from(bytes.subarray(start, end)));
  }

  /** All of it, once the answer is whole. */
  async whole(): Promise<Buffer> {
    if (this.#inflated === undefined) return this.#buffer.filled();
    this.#inflater?.end();
    return this.#inflated;
  }

  /** `part` is the inflater's own: it reads it later, when other bytes have come. */
  #inflate(inflater: Transform, part: Buffer): void {
    this.#packedBytes += part.length;
    this.#buffer.checkSize(this.#packedBytes);
    inflater.write(part);
  }

  /** Ends what is under way. */
  destroy(error: Error): void {
    this.#inflater?.destroy(error);
  }
}

/** Whether a page is surely whole: without a length, chunks or a compression it ends where its connection did. */
export function isComplete({ body, headers }: AnswerHead): boolean {
  return body !== "until close" || encodingOf(headers) !== "";
}

function inflaterOf(encoding: string, shown: string): Transform {
  const create = Object.hasOwn(inflaters, encoding) ? inflaters[encoding] : undefined;
  if (create !== undefined) return create();
  throw new SourceError(
    "transient",
    `Cannot read ${shown}: its body is compressed as ${encoding.slice(0, 40)}, wanted gzip or none`,
    { hint: "the server, or a proxy before it, must honour accept-encoding: gzip" },
  );
}

function encodingOf(headers: AnswerHead["headers"]): string {
  const encoding = String(headers["content-encoding"] ?? "")
    .trim()
    .toLowerCase();
  return encoding === "identity" ? "" : encoding;
}
