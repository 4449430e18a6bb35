// Everything between the spool and the destinations: a sender for each, the dead letters of what they refuse, and
// every loss on the audit record.

import type { Config } from "../config/load.ts";
import { destinations } from "../export/otlp/config.ts";
import { timesOf } from "../export/otlp/reader.ts";
import { Sender } from "../export/otlp/sender.ts";
import type { SenderStatus } from "../export/otlp/sender-status.ts";
import { grpcTransport } from "../export/otlp/transport.ts";
import type { Books } from "../meter/books.ts";
import type { Clock } from "../platform/clock.ts";
import { proxyOf } from "../platform/grpc.ts";
import type { Log } from "../platform/log.ts";
import { deadLetterFolder, openDeadLetters } from "../store/dead-letters.ts";
import type { Spool } from "../store/spool/spool.ts";
import type { RecordedLoss } from "./audit-record.ts";
import { LossRecord } from "./audit-record.ts";

/** What deliveries are made from. */
export interface DeliveriesOptions {
  readonly config: Config;
  readonly clock: Clock;
  readonly log: Log;
  readonly spool: Spool;
  readonly books: Books;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Whether there is a state directory for dead letters. */
  readonly keepsLetters: boolean;
}

/** The senders of one agent. */
export class Deliveries {
  readonly senders: readonly Sender[];
  readonly #options: DeliveriesOptions;
  readonly #losses: LossRecord;
  readonly #letters: ReturnType<typeof openDeadLetters>;
  #waiting = 0;

  constructor(options: DeliveriesOptions) {
    const { books, clock, config, log, spool } = options;
    this.#options = options;
    this.#losses = new LossRecord((at, body) => books.noteAudit("loss", at, body));
    this.#letters = openDeadLetters({
      folder: deadLetterFolder(config.stateDir),
      onDrop: ({ destination, id, points, why }) =>
        log.error("dead letter dropped, there are too many", {
          destination,
          id,
          points: points ?? null,
          cause: why,
        }),
    });
    this.senders = destinations(config.export.otlp).map(
      (one) =>
        new Sender({
          destination: one.name,
          transport: grpcTransport(one.target, { gzip: one.gzip, clock }),
          spool,
          clock,
          log,
          timeoutMs: one.timeoutMs,
          backlog: one.backlog,
          park: (destination, bytes, why, points) => this.#park(destination, bytes, why, points),
        }),
    );
    for (const { name, target } of destinations(config.export.otlp)) {
      const proxy = proxyOf(target.target, options.env);
      if (proxy !== undefined) log.info("a proxy stands before a destination", { destination: name, proxy });
    }
    spool.onLoss((loss) => {
      log.error("telemetry lost", { ...loss, cause: loss.why, from: String(loss.from), to: String(loss.to) });
      this.#losses.addLoss(loss);
    });
  }

  /** Dead letters that wait for a person. */
  get deadLetters(): number {
    return this.#waiting;
  }

  /** How each sender stands. */
  statuses(): readonly SenderStatus[] {
    return this.senders.map((sender) => sender.status());
  }

  /** Puts what was lost on record, for the commit that follows, and counts dead letters: others may remove them. */
  async beforeCommit(isLast: boolean): Promise<void> {
    this.#losses.writeDue(this.#options.clock.now(), isLast);
    if (!this.#options.keepsLetters) return;
    this.#waiting = (await this.#letters.list().catch(() => [])).length;
  }

  async #park(destination: string, bytes: Uint8Array, reason: string, points: number): Promise<void> {
    const { clock, keepsLetters, log } = this.#options;
    const { from, to } = timesOf(bytes);
    const loss: RecordedLoss = { why: "refused", reason, destination, from, to, records: 1, points };
    this.#losses.addLoss(loss);
    if (!keepsLetters) return;
    const dataSeconds = Number(to / 1_000_000_000n);
    const unixMs = Number(clock.unixNanos(clock.now()) / 1_000_000n);
    const refusal = { destination, why: reason, points, dataSeconds, unixMs };
    if (await this.#letters.put(refusal, bytes)) return;
    log.error("a refused request cannot be kept, it is gone", {
      source: `otlp:${destination}`,
      cause: reason,
      points,
    });
  }
}
