// The ledger database as the rest of the agent uses it: one job after the other, each between everything else that the main
// thread does. A commit resolves once it is on disk; only then may its snapshot be shown to anyone (METERING.md 1).
import type { AuditEntry, BucketNumber, ChainedAudit, LedgerBatch } from "../../model.ts";
import { StateLocked } from "../state-folder.ts";
import type { LedgerFileOptions, LedgerOpened, Stored } from "./database.ts";
import { LedgerDatabase } from "./database.ts";
import { LedgerGone } from "./files.ts";
import type { SumsSince } from "./reader.ts";
import type { Steps } from "./steps.ts";
import { runInTurns } from "./steps.ts";

/**
 * Why the ledger cannot do what was asked. `pid` names the agent that has the state directory; `gone`: what is on disk is no
 * longer what is committed to, and only opening it again helps.
 */
export class LedgerStoreError extends Error {
  readonly hint: string | undefined;
  readonly pid: number | undefined;
  readonly gone: boolean;

  constructor(cause: Error) {
    super(cause.message, { cause });
    this.name = "LedgerStoreError";
    const locked = cause instanceof StateLocked ? cause : undefined;
    this.hint = locked?.hint;
    this.pid = locked?.pid;
    this.gone = cause instanceof LedgerGone;
  }
}

/** An open ledger store. */
export class LedgerStore {
  readonly opened: LedgerOpened;
  readonly #ledger: LedgerDatabase;
  #last: Promise<unknown> = Promise.resolve();

  private constructor(ledger: LedgerDatabase) {
    this.#ledger = ledger;
    this.opened = ledger.opened;
  }

  /** Opens or creates the ledger in a folder. Rejects with a `LedgerStoreError` when another agent has it. */
  static async open(options: LedgerFileOptions): Promise<LedgerStore> {
    try {
      return new LedgerStore(new LedgerDatabase(options));
    } catch (error) {
      throw new LedgerStoreError(error as Error);
    }
  }

  /**
   * Stores a beat, whose rows and columns are not to be changed. Rejects when the disk takes nothing; the next call stores
   * both beats.
   */
  commit(batch: LedgerBatch): Promise<Stored> {
    // What entries say may go on changing with those who made them; it is stored in a later turn.
    const [audit, closed] = [structuredClone(batch.audit), structuredClone(batch.closed)];
    return this.#do((ledger) => ledger.commit({ ...batch, audit, closed }));
  }

  /** Remembers that a sink has every bucket before `bucket`. */
  delivered(sink: string, bucket: number): Promise<void> {
    return this.#do((ledger) => ledger.delivered(sink, bucket));
  }

  /** Remembers where the spool stood before this ledger's first commit with it. */
  startSpool(sequence: number): Promise<void> {
    return this.#do((ledger) => ledger.startSpool(sequence));
  }

  /** What counted usage records were stored with, by key, as of the last commit. */
  findUsage(keys: readonly string[]): Promise<ReadonlyMap<string, string>> {
    return this.#do((ledger) => ledger.findUsage(keys));
  }

  /** What the series of these metrics moved from a bucket on, as of the last commit. */
  sumsSince(metrics: readonly string[], from: BucketNumber): Promise<SumsSince> {
    return this.#do((ledger) => ledger.sumsSince(metrics, from));
  }

  /** Entries of the audit record after `sequence`, oldest first, as of the last commit. */
  auditAfter(sequence: number, max: number): Promise<readonly ChainedAudit[]> {
    return this.#do((ledger) => ledger.auditAfter(sequence, max));
  }

  /** Appends to the audit record outside a beat. */
  writeAudit(entry: AuditEntry): Promise<void> {
    return this.#do((ledger) => ledger.writeAudit(entry));
  }

  /** Closes the file and gives the state directory back, when what was asked before is done. */
  async close(): Promise<void> {
    await this.#last;
    this.#ledger.close();
  }

  /** One job after the other: the next one sees all of the last one, or nothing. */
  #do<T>(job: (ledger: LedgerDatabase) => Steps<T>): Promise<T> {
    const { files } = this.#ledger;
    const done = this.#last
      .then(() => runInTurns(job(this.#ledger), (what) => files.sync(what)))
      .catch((error: Error) => {
        throw new LedgerStoreError(error);
      });
    this.#last = done.catch(() => {});
    return done;
  }
}
