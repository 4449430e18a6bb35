// Rate-limit calls inside of the agent: the listener that the policy in force wishes, what calls are answered by, and how
// they were decided, for the next beat. A flood above the policy's own rate is turned away unread.
import type { AnyPosting } from "../model.ts";
import type { Clock } from "../platform/clock.ts";
import type { Log } from "../platform/log.ts";
import type { PolicyBook } from "../policy/book.ts";
import type { Quota } from "../policy/config.ts";
import type { PolicyListener } from "../policy/rls.ts";
import { serveRateLimits } from "../policy/rls.ts";
import type { Decision } from "../policy/rls-answer.ts";
import { answerCall } from "../policy/rls-answer.ts";
import { decodeRequest, encodeResponse } from "../policy/rls-wire.ts";

/** What it is built from. */
export interface RateLimitsOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly aliases: Readonly<Record<string, string>>;
}

/** The rate-limit service of one agent. */
export class RateLimits {
  readonly #options: RateLimitsOptions;
  readonly #decisions = new Map<string, AnyPosting & { amount: number }>();
  #book: PolicyBook | undefined;
  #listener: PolicyListener | undefined;
  /** The place it listens at, as text. */
  #place = "";
  #failed: string | undefined;
  #closed = false;
  #notes: Readonly<Record<string, unknown>>[] = [];
  /** Calls since the start by status code, and the time that answering them took. */
  readonly #answered = new Map<string, number>();
  #answerNanos = 0;
  /** Calls in the second that began at `#second`. */
  #calls = 0;
  #second = 0;

  constructor(options: RateLimitsOptions) {
    this.#options = options;
  }

  /** Its port; undefined while it does not listen. */
  get port(): number | undefined {
    return this.#listener?.port;
  }

  /** Answers by this book from now on; none = not at all. */
  use(book: PolicyBook | undefined): void {
    this.#book = book;
  }

  /** Listens at the place the policy in force names, and nowhere else. */
  async follow(): Promise<void> {
    const wished = this.#book?.policy.rls;
    const place = wished === undefined ? "" : JSON.stringify([wished.listen, wished.tls]);
    if (this.#closed || (place === this.#place && (place === "" || this.#listener !== undefined))) return;
    if (this.#listener !== undefined) this.#notes.push({ listener: "down", place: this.#place });
    this.#listener?.close();
    this.#listener = undefined;
    this.#place = place;
    if (wished === undefined) return;
    const { log } = this.#options;
    try {
      this.#listener = await serveRateLimits(wished, (bytes) => this.#timed(bytes), log);
      if (this.#closed) return this.#listener.close();
      this.#failed = undefined;
      this.#notes.push({ listener: "up", listen: wished.listen });
      log.info("rate-limit calls are answered", { listen: wished.listen, port: this.#listener.port });
    } catch (error) {
      const cause = (error as Error).message;
      if (cause !== this.#failed) {
        log.error("cannot listen for rate-limit calls", {
          listen: wished.listen,
          cause,
          hint: "requests pass meanwhile; it is tried again with every beat",
        });
        this.#notes.push({ listener: "failed", listen: wished.listen, cause });
      }
      this.#failed = cause;
    }
  }

  /** Calls answered since the start by status code, and seconds spent on them; undefined where nothing ever listened. */
  get answered(): { readonly calls: Readonly<Record<string, number>>; readonly seconds: number } | undefined {
    if (this.#listener === undefined && this.#answered.size === 0) return undefined;
    return { calls: Object.fromEntries(this.#answered), seconds: this.#answerNanos / 1e9 };
  }

  /** How calls were decided since the last call. */
  takePostings(): readonly AnyPosting[] {
    const postings = [...this.#decisions.values()];
    this.#decisions.clear();
    return postings;
  }

  /** What is to be on record. */
  takeNotes(): readonly Readonly<Record<string, unknown>>[] {
    return this.#notes.splice(0);
  }

  /** Stops listening for good. */
  close(): void {
    this.#closed = true;
    this.#listener?.close();
    this.#listener = undefined;
  }

  #timed(bytes: Buffer): Buffer {
    const { clock } = this.#options;
    const began = clock.now();
    let code = "INVALID_ARGUMENT";
    try {
      const answer = this.#answer(bytes);
      code = "OK";
      return answer;
    } finally {
      this.#answered.set(code, (this.#answered.get(code) ?? 0) + 1);
      this.#answerNanos += clock.now() - began;
    }
  }

  /** Throws where a call cannot be answered: Envoy lets the request pass. */
  #answer(bytes: Buffer): Buffer {
    const { aliases, clock } = this.#options;
    const nowMillis = Number(clock.unixNanos(clock.now()) / 1_000_000n);
    const book = this.#book;
    const config = book?.policy.rls;
    if (book === undefined || config === undefined) throw new Error("no policy is in force");
    if (this.#isFlooded(nowMillis, config.callsPerSecondMax)) {
      this.#count("error", undefined);
      throw new Error(`more than ${config.callsPerSecondMax} calls per second`);
    }
    const parts = {
      book,
      config,
      aliases,
      count: (decision: Decision, quota: Quota | undefined) => this.#count(decision, quota),
    };
    try {
      return encodeResponse(answerCall(decodeRequest(bytes), nowMillis, parts));
    } catch (error) {
      this.#count("error", undefined);
      throw error;
    }
  }

  #isFlooded(nowMillis: number, callsMax: number): boolean {
    const second = Math.floor(nowMillis / 1000);
    if (second !== this.#second) this.#calls = 0;
    this.#second = second;
    return ++this.#calls > callsMax;
  }

  #count(decision: Decision, quota: Quota | undefined): void {
    const key = `${decision} ${quota?.name ?? ""}`;
    const known = this.#decisions.get(key);
    if (known !== undefined) {
      known.amount++;
      return;
    }
    const of =
      quota === undefined
        ? {}
        : {
            "tokenwatt.quota.name": quota.name,
            "tokenwatt.quota.window": quota.per,
            "tokenwatt.policy.mode": quota.mode,
          };
    const dimensions = { ...of, "tokenwatt.policy.decision": decision };
    this.#decisions.set(key, { metric: "tokenwatt.policy.decisions", dimensions, kept: false, amount: 1 });
  }
}
