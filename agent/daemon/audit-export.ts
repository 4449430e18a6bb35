// The audit record on its way out: a sender for each destination that wants it, woken with every stored beat. How far each
// came is stored with the ledger, a beat later than it was: an agent that is killed sends the last entries again.
import { SCHEMA_URL } from "../export/metrics/conventions.ts";
import type { Attributes } from "../export/otlp/attributes.ts";
import { requestHead } from "../export/otlp/attributes.ts";
import type { AuditStatus } from "../export/otlp/audit-sender.ts";
import { AuditSender } from "../export/otlp/audit-sender.ts";
import type { Destination } from "../export/otlp/config.ts";
import { grpcTransport } from "../export/otlp/transport.ts";
import type { StateRow } from "../model.ts";
import type { Clock } from "../platform/clock.ts";
import type { Log } from "../platform/log.ts";
import type { LedgerStore } from "../store/ledger/store.ts";

const KEY = "audit-sent";
const TOGETHER_NANOS = 900e9;
const FLUSH_MS_MAX = 2000;

/** What it is made of. */
export interface AuditExportParts {
  readonly destinations: readonly Destination[];
  readonly store: Pick<LedgerStore, "auditAfter"> | undefined;
  readonly restored: readonly StateRow[];
  readonly resource: Attributes;
  readonly version: string;
  readonly clock: Clock;
  readonly log: Log;
}

/** Every destination's sender of the audit record. */
export class AuditExport {
  readonly #senders: readonly AuditSender[];
  readonly #stored = new Map<string, number>();
  readonly #clock: Clock;
  readonly #losses = new Map<string, { destination: string; reason: string; entries: number }>();
  #lossesTaken = Number.NEGATIVE_INFINITY;
  /** Length of the record as last stored. */
  #length = 0;

  constructor({ clock, destinations, log, resource, restored, store, version }: AuditExportParts) {
    this.#clock = clock;
    const wanted = destinations.filter(({ audit }) => audit);
    if (store === undefined && wanted.length > 0)
      log.warn("audit records cannot be sent: without a state folder there are none");
    const head = requestHead(resource, { name: "tokenwatt.audit", version }, SCHEMA_URL);
    this.#senders = (store === undefined ? [] : wanted).map(({ gzip, name, target, timeoutMs }) => {
      const row = restored.find(({ key }) => key === JSON.stringify([KEY, name]));
      const position = Number(row?.value || 0);
      this.#stored.set(name, position);
      return new AuditSender({
        ...{ clock, log, head, position, timeoutMs, destination: name },
        transport: grpcTransport(target, { gzip, clock, signal: "logs" }),
        read: (after, max) => (store as Pick<LedgerStore, "auditAfter">).auditAfter(after, max),
        onLoss: (entries, why) => this.#noteLoss(name, entries, why.slice(0, 200)),
      });
    });
  }

  /** The record is stored up to this length. */
  wake(length: number): void {
    this.#length = length;
    for (const sender of this.#senders) void sender.wake();
  }

  /** What was refused for good, for the record, a quarter of an hour together: each is an entry to be sent, too. */
  takeLosses(): readonly Readonly<Record<string, unknown>>[] {
    const now = this.#clock.now();
    if (this.#losses.size === 0 || now - this.#lossesTaken < TOGETHER_NANOS) return [];
    this.#lossesTaken = now;
    const bodies = [...this.#losses.values()].map((one) => ({ why: "refused", signal: "audit", ...one }));
    this.#losses.clear();
    return bodies;
  }

  /** How far each came, where that changed: to be stored with the next beat. */
  takeRows(): readonly StateRow[] {
    return this.#senders.flatMap(({ destination, status }) => {
      if (this.#stored.get(destination) === status.position) return [];
      this.#stored.set(destination, status.position);
      return { key: JSON.stringify([KEY, destination]), value: String(status.position) };
    });
  }

  /** Entries that wait for each destination. */
  get waiting(): Readonly<Record<string, number>> {
    return this.#by(({ position }) => Math.max(0, this.#length - position));
  }

  /** Entries each refused for good, since the start. */
  get lost(): Readonly<Record<string, number>> {
    return this.#by(({ lost }) => lost);
  }

  /** For `/-/status`. */
  status(): readonly Readonly<Record<string, unknown>>[] {
    return this.#senders.map(({ destination, status }) => ({
      destination,
      ...status,
      waiting: Math.max(0, this.#length - status.position),
    }));
  }

  /** Sends what is left once more, for at most so long, and ends. */
  async stop(flushMs: number): Promise<void> {
    const clock = this.#clock;
    const all = Promise.all(this.#senders.map((sender) => sender.wake()));
    const over = Promise.withResolvers<void>();
    const cancel = clock.at(clock.now() + Math.min(flushMs, FLUSH_MS_MAX) * 1e6, over.resolve);
    await Promise.race([all, over.promise]);
    cancel();
    await Promise.all(this.#senders.map((sender) => sender.stop()));
  }

  #noteLoss(destination: string, entries: number, reason: string): void {
    const key = JSON.stringify([destination, reason]);
    const before = this.#losses.get(key)?.entries ?? 0;
    this.#losses.set(key, { destination, reason, entries: before + entries });
  }

  #by(pick: (status: AuditStatus) => number): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#senders.map(({ destination, status }) => [destination, pick(status)]));
  }
}
