// The server behind a target and the connection kept to it, another one where its files were replaced.
// A kept connection that the peer let go while it was idle (uvicorn does after 5 s, which is how often its page is read) is
// found out by asking: the page is then asked for once more, over a new one.
import type { Clock } from "../platform/clock.ts";
import { NANOS_PER_MS } from "../platform/clock.ts";
import { filesState } from "../platform/tls.ts";
import type { Exchange } from "./exchange.ts";
import type { AnswerTaker } from "./http/answer.ts";
import { Connection, LetGo } from "./http/connection.ts";
import type { AnswerHead } from "./http/head.ts";
import { requestText } from "./http/request.ts";
import type { PageTarget, ReadTarget } from "./target.ts";
import { authorization, readTarget } from "./target.ts";

/**
 * A connection is asked for so long after the peer said it would let it go: pages are read as often as the usual servers keep
 * connections, so that many polls came a moment too late. Node's servers keep it a second longer than they say, and
 * one that was let go is noticed or found out by asking.
 */
const LONGER_MS = 1000;

/** An answer that was received whole. */
export interface Answer {
  readonly head: AnswerHead;
  /** The connection it came over. */
  readonly carrier: Connection;
}

/** The server behind one target. */
export class Peer {
  readonly #target: PageTarget;
  readonly #clock: Clock;
  readonly #files: readonly (string | undefined)[];
  #state: string;
  #read: ReadTarget;
  /** The request for `#asked`, where it says the same each time. */
  #request = "";
  #asked = "";
  #kept: Connection | undefined;
  /** Connections asked before it last changed are not kept: the target was closed since, or its files were replaced. */
  #era = 0;
  /** The peer lets the kept connection go at this time, if it said so. */
  #keptUntil = Number.POSITIVE_INFINITY;
  #session: Buffer | undefined;

  /** Throws SourceError where the target cannot be read. */
  constructor(target: PageTarget, clock: Clock) {
    this.#target = target;
    this.#clock = clock;
    this.#files = [target.tls?.caFile, target.tls?.certFile, target.tls?.keyFile];
    // Before they are read: what is replaced in between is seen with the next page.
    this.#state = filesState(this.#files);
    this.#read = readTarget(target);
  }

  /** The path of the target. */
  get path(): string {
    return this.#read.path;
  }

  /** Gives the body of the page at `path` to `taker`. Rejects with what went wrong, or with what ended the exchange. */
  async ask(path: string, taker: AnswerTaker, exchange: Exchange): Promise<Answer> {
    exchange.check();
    this.#takeNewFiles();
    const request = this.#requestFor(path);
    const kept = this.#takeKept();
    if (kept !== undefined) {
      try {
        return await this.#askOver(kept, request, taker, exchange);
      } catch (error) {
        if (!(error instanceof LetGo)) throw error;
      }
    }
    return this.#askOver(this.#connect(exchange), request, taker, exchange);
  }

  close(): void {
    this.#era++;
    this.#takeKept()?.destroy(new Error("it is read no more"));
  }

  async #askOver(
    carrier: Connection,
    request: string,
    taker: AnswerTaker,
    exchange: Exchange,
  ): Promise<Answer> {
    const era = this.#era;
    exchange.holds(carrier);
    const head = await carrier.ask(request, taker);
    if (era !== this.#era) carrier.destroy(new Error("it is read no more"));
    if (carrier.isGone) return { head, carrier };
    const seconds = /^timeout=(\d+)/.exec(String(head.headers["keep-alive"] ?? ""))?.[1];
    this.#takeKept()?.destroy(new Error("another connection is kept"));
    this.#kept = carrier;
    this.#keptUntil =
      seconds === undefined
        ? Number.POSITIVE_INFINITY
        : this.#clock.now() + (Number(seconds) * 1000 + LONGER_MS) * NANOS_PER_MS;
    return { head, carrier };
  }

  /** The kept connection, which is then the caller's alone. */
  #takeKept(): Connection | undefined {
    const kept = this.#kept;
    this.#kept = undefined;
    if (kept === undefined || kept.isGone) return undefined;
    if (this.#clock.now() < this.#keptUntil) return kept;
    kept.destroy(new Error("the peer keeps it no longer"));
    return undefined;
  }

  #connect(exchange: Exchange): Connection {
    exchange.check();
    const { address } = this.#read;
    if (!address.secure) return new Connection(address, () => {});
    const session = this.#session === undefined ? {} : { session: this.#session };
    return new Connection({ secure: true, options: { ...address.options, ...session } }, (kept) => {
      this.#session = kept;
    });
  }

  #takeNewFiles(): void {
    const state = filesState(this.#files);
    if (state === this.#state) return;
    this.close();
    this.#session = undefined;
    this.#read = readTarget(this.#target);
    this.#state = state;
  }

  #requestFor(path: string): string {
    const { head } = this.#read;
    if (this.#target.bearerFile !== undefined)
      return requestText(path, { ...head, headers: { ...head.headers, ...authorization(this.#target) } });
    if (path !== this.#asked) this.#request = requestText(path, head);
    this.#asked = path;
    return this.#request;
  }
}
