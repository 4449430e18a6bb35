// A connection to a peer, asked for one answer at a time. What arrives lands in one buffer that all connections share: it is
// read before anything else can arrive (node:net, `onread`). node:http makes 64 KB of memory for each piece instead, and a
// dozen objects and listeners for each request: together they cost twice as much as reading the pages.
import type { NetConnectOpts, Socket } from "node:net";
import { connect as connectTcp } from "node:net";
import type { ConnectionOptions } from "node:tls";
import { connect as connectTls } from "node:tls";
import type { AnswerTaker } from "./answer.ts";
import { AnswerReader } from "./answer.ts";
import type { AnswerHead } from "./head.ts";

/** Where a peer is. */
export type PeerAddress =
  | { readonly secure: false; readonly options: NetConnectOpts }
  | { readonly secure: true; readonly options: ConnectionOptions };

const RECEIVED_BYTES = 256 * 1024;
const KEEP_ALIVE_MS = 1000;
/** Said to whoever asks nothing for too long; the connection ends with it. */
const REQUEST_TIMEOUT = 408;
let received: Buffer | undefined;

/** An answer that is under way. */
interface Asked {
  readonly reader: AnswerReader;
  readonly taker: AnswerTaker;
  resolve(head: AnswerHead): void;
  reject(error: Error): void;
  head: AnswerHead | undefined;
}

/** A peer let a kept connection go: the request may be asked again over another one. */
export class LetGo extends Error {}

/** One connection. */
export class Connection {
  readonly #socket: Socket;
  #asked: Asked | undefined;
  #answers = 0;
  #isGone = false;

  constructor({ options, secure }: PeerAddress, keepSession: (session: Buffer | undefined) => void) {
    received ??= Buffer.allocUnsafeSlow(RECEIVED_BYTES);
    const onread = {
      buffer: received,
      callback: (length: number, bytes: Uint8Array) => this.#read(length, bytes),
    };
    // The types know `onread` for plain sockets alone; node hands it on.
    const all = { ...options, onread } as NetConnectOpts & ConnectionOptions;
    this.#socket = secure ? connectTls(all) : connectTcp(all);
    this.#socket.setNoDelay(true);
    this.#socket.setKeepAlive(true, KEEP_ALIVE_MS);
    this.#socket.on("end", () => this.#end());
    this.#socket.on("error", (error) => this.destroy(error));
    this.#socket.on("close", () => this.#end());
    if (!secure) return;
    this.#socket.on("session", keepSession);
    this.#socket.on("close", (failed) => failed && keepSession(undefined));
  }

  /** It cannot be asked again. */
  get isGone(): boolean {
    return this.#isGone;
  }

  /**
   * Sends `request` and resolves with the head once the whole answer was given to `taker`. Rejects with LetGo where a kept
   * connection ended before an answer began, and with whatever else went wrong.
   */
  ask(request: string, taker: AnswerTaker): Promise<AnswerHead> {
    return new Promise((resolve, reject) => {
      this.#asked = {
        reader: new AnswerReader(this.#noting(taker)),
        taker,
        resolve,
        reject,
        head: undefined,
      };
      this.#socket.ref();
      this.#socket.write(request, "latin1");
    });
  }

  /** Ends it, and with `error` the answer that is under way. */
  destroy(error: Error): void {
    const asked = this.#leave();
    this.#isGone = true;
    this.#socket.destroy();
    if (asked === undefined) return;
    const wasIdle = this.#answers > 0 && asked.head === undefined && isLetGo(error);
    asked.reject(wasIdle ? new LetGo(error.message, { cause: error }) : error);
  }

  /** The taker, and beside it the head for `ask`. */
  #noting(taker: AnswerTaker): AnswerTaker {
    return {
      begin: (head) => {
        const asked = this.#asked as Asked;
        if (head.status === REQUEST_TIMEOUT && this.#answers > 0) throw new LetGo("it was idle for too long");
        asked.head = head;
        taker.begin(head);
      },
      take: (bytes, start, end) => taker.take(bytes, start, end),
    };
  }

  /** The callback of `onread`: nothing may be thrown there. */
  #read(length: number, bytes: Uint8Array): boolean {
    const asked = this.#asked;
    try {
      // What was not asked for may not become the answer to what is asked next.
      if (asked === undefined) throw new Error("it sent what was not asked for");
      const own = asked.reader.read(bytes as Buffer, length);
      if (asked.reader.isWhole) this.#finish(asked, own === length);
    } catch (error) {
      this.destroy(error as Error);
    }
    return true;
  }

  #end(): void {
    const asked = this.#asked;
    if (asked === undefined) {
      this.#isGone = true;
      this.#socket.destroy();
    } else if (asked.reader.end()) this.#finish(asked, false);
    else this.destroy(closedEarly(asked.head));
  }

  #finish(asked: Asked, isClean: boolean): void {
    const head = asked.head as AnswerHead;
    this.#leave();
    this.#answers++;
    if (!isClean || !head.isKept) {
      this.#isGone = true;
      this.#socket.destroy();
    } else this.#socket.unref();
    asked.resolve(head);
  }

  #leave(): Asked | undefined {
    const asked = this.#asked;
    this.#asked = undefined;
    return asked;
  }
}

function closedEarly(head: AnswerHead | undefined): Error {
  const message =
    head === undefined
      ? "it closed the connection without an answer"
      : "the connection was closed in the middle of the page";
  return Object.assign(new Error(message), { code: "ECONNRESET" });
}

/** What a peer that has ended a kept connection makes of the next request over it. */
function isLetGo(error: Error): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === "ECONNRESET" || code === "EPIPE";
}
