// Sends the audit record to one destination: every entry at least once, in order, from the ledger itself, which keeps all of
// them, so that no outage loses one. The position is stored with the ledger. A destination that takes no logs is asked again
// every few minutes; an entry that cannot be taken by itself is passed over, counted and put on record.
import type { ChainedAudit } from "../../model.ts";
import type { Cancel, Clock } from "../../platform/clock.ts";
import { NANOS_PER_MS } from "../../platform/clock.ts";
import type { Log } from "../../platform/log.ts";
import type { RequestHead } from "./attributes.ts";
import { encodeAudit } from "./audit-logs.ts";
import type { Delivery, Transport } from "./transport.ts";

const ENTRIES_MAX = 500;
/** Receivers refuse 4 MiB; an entry has a few hundred bytes. */
const BYTES_MAX = 2_000_000;
const RETRY_MS = { first: 1000, longest: 60_000 };
/** A destination that takes none now: it has no pipeline of logs, does not know us, or is full. */
const HELD_MS = 300_000;
/** The one code that says an entry itself cannot be taken; whatever else is refused may be taken another day. */
const UNFIT = "INVALID_ARGUMENT";

/** What a sender is made of. */
export interface AuditSenderOptions {
  readonly destination: string;
  readonly transport: Transport;
  readonly head: RequestHead;
  /** Entries after a sequence number, oldest first. */
  readonly read: (after: number, max: number) => Promise<readonly ChainedAudit[]>;
  /** The last entry that was taken. */
  readonly position: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly timeoutMs: number;
  /** Entries that the destination refused for good. */
  readonly onLoss: (entries: number, why: string) => void;
}

/** How it stands. */
export interface AuditStatus {
  readonly position: number;
  readonly lost: number;
  readonly lastError: string | undefined;
}

/** The sender of one destination. */
export class AuditSender {
  readonly #options: AuditSenderOptions;
  readonly #stop = new AbortController();
  #position: number;
  #lost = 0;
  #lastError: string | undefined;
  #attempt = 0;
  /** Entries at a time; fewer once a request was refused. */
  #batch = ENTRIES_MAX;
  #pumping: Promise<void> | undefined;
  #again = false;
  #timer: Cancel | undefined;

  constructor(options: AuditSenderOptions) {
    this.#options = options;
    this.#position = options.position;
  }

  get destination(): string {
    return this.#options.destination;
  }

  /** How it stands. */
  get status(): AuditStatus {
    return { position: this.#position, lost: this.#lost, lastError: this.#lastError };
  }

  /** There may be more: sends until nothing is left, or a pause is due. */
  wake(): Promise<void> {
    this.#again = true;
    if (this.#timer !== undefined) return Promise.resolve();
    this.#pumping ??= this.#pump().finally(() => {
      this.#pumping = undefined;
    });
    return this.#pumping;
  }

  /** Ends; a call under way is cancelled. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#timer?.();
    await this.#pumping;
    this.#options.transport.close();
  }

  async #pump(): Promise<void> {
    while (this.#again && !this.#stop.signal.aborted && this.#timer === undefined) {
      this.#again = false;
      try {
        while (await this.#sendNext());
      } catch (error) {
        // The ledger cannot be read now; what it holds is not lost by it.
        this.#pause(RETRY_MS.longest, (error as Error).message);
      }
    }
  }

  /** Sends the next entries; whether to go on at once. */
  async #sendNext(): Promise<boolean> {
    const { clock, head, read, transport } = this.#options;
    const entries = within(await read(this.#position, this.#batch), BYTES_MAX);
    const last = entries.at(-1);
    if (last === undefined || this.#stop.signal.aborted) return false;
    const bytes = encodeAudit(head, entries, clock.unixNanos(clock.now()));
    const { delivery, cancel } = await this.#call(transport, bytes);
    cancel();
    if (this.#stop.signal.aborted && delivery.kind === "retry") return false;
    return this.#settle(delivery, entries.length, last.sequence);
  }

  async #call(transport: Transport, bytes: Uint8Array): Promise<{ delivery: Delivery; cancel: Cancel }> {
    const { clock, timeoutMs } = this.#options;
    const call = new AbortController();
    const cancel = clock.at(clock.now() + timeoutMs * NANOS_PER_MS, () => call.abort());
    const signal = AbortSignal.any([call.signal, this.#stop.signal]);
    return { delivery: await transport.send(bytes, signal), cancel };
  }

  #settle(delivery: Delivery, entries: number, last: number): boolean {
    if (delivery.kind === "retry") {
      const grown = Math.min(RETRY_MS.longest, RETRY_MS.first * 2 ** Math.min(this.#attempt++, 10));
      return this.#pause(Math.max(delivery.delayMs ?? 0, grown), `${delivery.code}: ${delivery.message}`);
    }
    if (delivery.kind === "refused" && delivery.code !== UNFIT)
      return this.#pause(HELD_MS, `${delivery.code}: ${delivery.message}`);
    if ((delivery.kind === "refused" || delivery.kind === "too_large") && entries > 1) {
      // One of them is at fault: the others shall not be lost with it.
      this.#batch = Math.ceil(entries / 2);
      return true;
    }
    this.#attempt = 0;
    this.#position = last;
    this.#batch = Math.min(ENTRIES_MAX, this.#batch * 2);
    if (delivery.kind === "accepted") this.#lastError = undefined;
    else this.#lose(delivery.kind === "partial" ? delivery.rejectedPoints : 1, reasonOf(delivery));
    return true;
  }

  #lose(entries: number, why: string): void {
    const { destination, log, onLoss } = this.#options;
    this.#lost += entries;
    this.#lastError = why;
    log.error("destination refused audit records for good", {
      source: `otlp:${destination}`,
      entries,
      cause: why,
    });
    onLoss(entries, why);
  }

  /** Waits before the next attempt; says why where that is news. */
  #pause(ms: number, why: string): false {
    const { clock, destination, log } = this.#options;
    if (why !== this.#lastError) {
      log.warn("cannot deliver audit records, will retry", { source: `otlp:${destination}`, cause: why });
    }
    this.#lastError = why;
    if (this.#stop.signal.aborted) return false;
    this.#timer = clock.at(clock.now() + Math.ceil(ms * NANOS_PER_MS), () => {
      this.#timer = undefined;
      return this.wake();
    });
    return false;
  }
}

/** The first of them, at least one, of so many bytes. */
function within(entries: readonly ChainedAudit[], bytesMax: number): readonly ChainedAudit[] {
  let bytes = 0;
  const over = entries.findIndex(({ body }) => {
    bytes += Buffer.byteLength(body) + 200;
    return bytes > bytesMax;
  });
  return over < 0 ? entries : entries.slice(0, Math.max(1, over));
}

function reasonOf(delivery: Exclude<Delivery, { kind: "retry" | "accepted" }>): string {
  if (delivery.kind === "refused") return `${delivery.code}: ${delivery.message}`;
  return `${delivery.kind}: ${delivery.message}`;
}
