// One HTTP/1.1 answer out of the pieces in which a connection brings it, wherever they are cut. The body is handed on as
// a range of the bytes it came in: nothing is copied or made for it here.
import type { AnswerHead } from "./head.ts";
import { HeadLines, headerOf, seen } from "./head.ts";

/** Who an answer is for. */
export interface AnswerTaker {
  /** Its head is there; not called for what only says that an answer will come (1xx). */
  begin(head: AnswerHead): void;
  /** `[start, end)` of `bytes` is the next part of its body; they are other bytes once this returns. */
  take(bytes: Buffer, start: number, end: number): void;
}

const NEWLINE = 10;
const START = "HTTP/";
const BLANK = /^\r+/;
/** Of a head and of trailers each, as node:http has it. */
const HEAD_BYTES_MAX = 16 * 1024;
const SWITCHING = 101;
const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]";
/** With extensions, which mean nothing here (RFC 9112, 7.1.1). */
const CHUNK_SIZE = new RegExp(
  `^([0-9A-Fa-f]{1,12})(?:;(?:${TOKEN}+|(?==))(?:=(?:${TOKEN}*|"(?:[^"\\\\]|\\\\.)*"))?)*$`,
);

type Part = "head" | "sized" | "until close" | "chunk size" | "chunk" | "chunk end" | "trailers" | "whole";

/** Reads one answer. */
export class AnswerReader {
  readonly #taker: AnswerTaker;
  #part: Part = "head";
  #lines = new HeadLines();
  /** The beginning of a line whose end is still to come. */
  #line = "";
  /** Bytes so far of the head, of the lines between two chunks, or of the last size and the trailers. */
  #headBytes = 0;
  /** Bytes still to come of a sized body or of a chunk. */
  #left = 0;

  constructor(taker: AnswerTaker) {
    this.#taker = taker;
  }

  /** The answer is there with its last byte. */
  get isWhole(): boolean {
    return this.#part === "whole";
  }

  /**
   * Reads the first `length` of `bytes`; returns how many of them are the answer's: less where more came than was asked for.
   * Throws ForeignAnswer where it is none, and what the taker throws.
   */
  read(bytes: Buffer, length: number): number {
    let at = 0;
    while (at < length && this.#part !== "whole") {
      if (this.#part === "sized" || this.#part === "chunk" || this.#part === "until close") {
        const end = this.#part === "until close" ? length : Math.min(length, at + this.#left);
        this.#taker.take(bytes, at, end);
        this.#left -= end - at;
        if (this.#left === 0 && this.#part !== "until close")
          this.#part = this.#part === "chunk" ? "chunk end" : "whole";
        at = end;
        continue;
      }
      const newline = bytes.indexOf(NEWLINE, at);
      const end = newline === -1 || newline >= length ? length : newline;
      this.#count(end === length ? end - at : end - at + 1);
      this.#line += bytes.toString("latin1", at, end);
      if (end === length) {
        this.#refuseEarly();
        return length;
      }
      at = end + 1;
      this.#takeLine();
    }
    return at;
  }

  /** The connection has ended; returns whether the answer has too. */
  end(): boolean {
    if (this.#part === "until close") this.#part = "whole";
    return this.#part === "whole";
  }

  #takeLine(): void {
    // Blank lines may stand before an answer.
    const ended = this.#isBefore() ? this.#line.replace(BLANK, "") : this.#line;
    this.#line = "";
    if (ended === "" && this.#isBefore()) return;
    if (!ended.endsWith("\r")) throw seen(ended, "wanted a carriage return at the end of the line");
    const line = ended.slice(0, -1);
    if (this.#part === "head") {
      if (this.#lines.takeLine(line)) this.#begin();
    } else if (this.#part === "chunk size") {
      const size = CHUNK_SIZE.exec(line)?.[1];
      if (size === undefined) throw seen(line, "wanted the size of a chunk");
      this.#left = Number.parseInt(size, 16);
      this.#part = this.#left === 0 ? "trailers" : "chunk";
    } else if (this.#part === "chunk end") {
      if (line !== "") throw seen(line, "wanted the end of a chunk");
      this.#part = "chunk size";
      this.#headBytes = 0;
    } else if (line === "") this.#part = "whole";
    else headerOf(line);
  }

  #begin(): void {
    const head = this.#lines.finish();
    this.#headBytes = 0;
    this.#lines = new HeadLines();
    if (head.status < 200 && head.status >= 100 && head.status !== SWITCHING) return;
    this.#taker.begin(head);
    if (head.body === "chunked") this.#part = "chunk size";
    else if (head.body === "until close") this.#part = "until close";
    else {
      this.#left = head.body;
      this.#part = head.body === 0 ? "whole" : "sized";
    }
  }

  #count(bytes: number): void {
    this.#headBytes += bytes;
    if (this.#headBytes > HEAD_BYTES_MAX)
      throw seen(this.#line, `in a head or a line of more than ${HEAD_BYTES_MAX} bytes`);
  }

  /** Says so at once where no answer begins like this: who speaks something else may wait for us to go on. */
  #refuseEarly(): void {
    if (!this.#isBefore()) return;
    const start = this.#line.replace(BLANK, "").slice(0, START.length);
    if (!START.startsWith(start)) throw seen(this.#line, 'wanted "HTTP/1.1 200 OK"');
  }

  /** No byte of the head came so far. */
  #isBefore(): boolean {
    return this.#part === "head" && this.#lines.isEmpty;
  }
}
