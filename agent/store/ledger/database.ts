// The ledger database of one agent: opened, restored from, committed to, pruned. It lives on the main thread, so whatever
// may take long is a job in steps (steps.ts), one at a time. WAL, and a commit is done once its journal was synced: what it
// returned survives a power cut. Before a job writes, the disk must answer: one that hangs keeps a job waiting, not metering.
import { randomUUID } from "node:crypto";
import { statfsSync, statSync } from "node:fs";
import type { DatabaseSync } from "node:sqlite";
import type { AuditEntry, BucketNumber, ChainedAudit, LedgerBatch, LedgerRestored } from "../../model.ts";
import { makeFolder } from "../private-files.ts";
import { ledgerPath, lockState } from "../state-folder.ts";
import { NO_TOTALS } from "./batch-columns.ts";
import { checkpoint } from "./checkpoint.ts";
import { fileIdentity, isCopy } from "./file-identity.ts";
import type { LedgerFiles } from "./files.ts";
import { openLedger } from "./open.ts";
import type { SumsSince } from "./reader.ts";
import { LedgerReader } from "./reader.ts";
import type { Retention } from "./retention.ts";
import { forgetUsage, pruneLedger } from "./retention.ts";
import { noteWaiting } from "./settle.ts";
import type { Steps } from "./steps.ts";
import { forEach } from "./steps.ts";
import { WaitingBatch } from "./waiting-batch.ts";
import { LedgerWriter } from "./writer.ts";

/** How a ledger is kept. */
export interface LedgerFileOptions {
  readonly folder: string;
  /** The host's `service.instance.id`; a new ledger makes one where it is absent. */
  readonly agentId?: string;
  /** Shown to a second agent that wants the same folder. */
  readonly pid: number;
  /** Free bytes below which only running totals are written. */
  readonly freeBytesMin?: number;
  readonly retention?: Retention;
}

/** What opening found. */
export interface LedgerOpened {
  /** Who keeps this ledger: part of every row's id. */
  readonly agentId: string;
  /** Absent in a new ledger. */
  readonly restored: LedgerRestored | undefined;
  /** Where a damaged file was put, and why. */
  readonly quarantined: { readonly path: string; readonly reason: string } | undefined;
  /** When this copy was made of the file that was last written, unix ms; undefined where it is no copy. */
  readonly copiedAt: number | undefined;
  /** Head of the spool when its first record under this ledger was about to be written; absent before that. */
  readonly spoolStart: number | undefined;
}

/** What of a batch is on disk. `totals`: rows wait in memory because the disk is nearly full. */
export interface Stored {
  readonly stored: "all" | "totals";
  readonly waitingRows: number;
  readonly lostRows: number;
  /** Length and hash of the audit chain, to leave the host with the export. */
  readonly head: { readonly length: number; readonly hash: string };
}

const freeBytesMinDefault = 64 * 1024 * 1024;
const pruneEveryCommits = 360;

/** An open ledger. A job runs from its first step to its last before the next one begins. */
export class LedgerDatabase {
  readonly opened: LedgerOpened;
  readonly files: LedgerFiles;
  readonly #database: DatabaseSync;
  readonly #writer: LedgerWriter;
  readonly #unlock: () => void;
  readonly #folder: string;
  readonly #freeBytes: (folder: string) => number;
  readonly #freeBytesMin: number;
  readonly #retention: Retention;
  readonly #waiting = new WaitingBatch();
  #isIdentityKept = false;
  #commits = 0;

  /** Opens or creates the ledger in a folder. Throws `StateLocked` when another agent has it. */
  constructor(options: LedgerFileOptions, freeBytes: (folder: string) => number = freeBytesOf) {
    makeFolder(options.folder);
    this.#folder = options.folder;
    this.#freeBytes = freeBytes;
    this.#freeBytesMin = options.freeBytesMin ?? freeBytesMinDefault;
    this.#retention = options.retention ?? {};
    this.#unlock = lockState(options.folder, options.pid);
    try {
      const path = ledgerPath(options.folder);
      const { database, files, ...opened } = openLedger(path);
      this.#database = database;
      this.files = files;
      this.#writer = new LedgerWriter(database);
      const copiedAt = isCopy(path, this.#writer.meta("file")) ? statSync(path).birthtimeMs : undefined;
      const agentId = agentIdOf(this.#writer, options.agentId);
      const spoolStart = this.#writer.meta("spoolStart");
      this.opened = {
        ...opened,
        copiedAt,
        agentId,
        spoolStart: spoolStart === undefined ? undefined : Number(spoolStart),
      };
    } catch (error) {
      this.#unlock();
      throw error;
    }
  }

  /** Stores a beat in one transaction. Throws when the disk takes nothing at all; the next call stores both beats. */
  *commit(batch: LedgerBatch): Steps<Stored> {
    let room: boolean;
    try {
      this.files.check();
      // A disk that does not answer is waited for here, where nothing else waits with us.
      yield "disk";
      room = this.#freeBytes(this.#folder) >= this.#freeBytesMin;
      yield* this.#transaction(this.#write(batch, room));
    } catch (error) {
      this.#isIdentityKept = false;
      this.#waiting.keepTotals(batch);
      this.#waiting.keepRows(batch);
      throw error;
    }
    this.#waiting.totalsStored();
    if (room) this.#waiting.rowsStored();
    else this.#waiting.keepRows(batch);
    yield* checkpoint(this.#database);
    if (this.#commits++ % pruneEveryCommits === 0 && room) yield* this.prune(BigInt(batch.time));
    return {
      stored: room ? "all" : "totals",
      waitingRows: this.#waiting.rows,
      lostRows: this.#waiting.lostRows,
      head: this.head(),
    };
  }

  /**
   * Remembers where the spool stood before this ledger's first commit with it. What a cut leaves behind that was never
   * committed can then be distinguished from what another ledger committed.
   */
  startSpool(sequence: number): Steps<void> {
    return this.#store(() => this.#writer.setMeta("spoolStart", String(sequence)));
  }

  /** Appends to the record outside a beat. */
  writeAudit(entry: AuditEntry): Steps<void> {
    return this.#store(() => this.#writer.audit(entry));
  }

  /** Replaces amounts in a closed bucket by a new revision. */
  *revise(...args: Parameters<LedgerWriter["revise"]>): Steps<void> {
    yield* this.#transaction(this.#writer.revise(...args));
  }

  /** Remembers that a sink has every bucket before `bucket`: until then nothing of it is pruned. */
  delivered(sink: string, bucket: number): Steps<void> {
    const upsert = this.#database.prepare(
      "INSERT INTO deliveries VALUES (?, ?) ON CONFLICT (sink) DO UPDATE SET bucket = max(bucket, excluded.bucket)",
    );
    return this.#store(() => upsert.run(sink, bucket));
  }

  /** Drops what is older than it is kept for, and delivered; returns the number of rows dropped. */
  *prune(time: bigint): Steps<number> {
    const pruned = yield* this.#transaction(pruneLedger(this.#database, this.#writer, this.#retention, time));
    yield* this.#transaction(forgetUsage(this.#database, time));
    this.#writer.forgetRestingTotals();
    return pruned;
  }

  /** What counted usage records were stored with, by key. */
  *findUsage(keys: readonly string[]): Steps<ReadonlyMap<string, string>> {
    const find = this.#database.prepare("SELECT content FROM usage WHERE key = ?");
    const found = new Map<string, string>();
    yield* forEach(keys, (key) => {
      const row = find.get(key);
      if (row !== undefined) found.set(key, String(row["content"]));
    });
    return found;
  }

  /** What the series of these metrics moved from a bucket on. */
  *sumsSince(metrics: readonly string[], from: BucketNumber): Steps<SumsSince> {
    const reader = new LedgerReader(ledgerPath(this.#folder));
    try {
      return yield* reader.sumsSince(metrics, from);
    } finally {
      reader.close();
    }
  }

  /** Entries of the audit record after `sequence`, oldest first, as they are stored. */
  *auditAfter(sequence: number, max: number): Steps<readonly ChainedAudit[]> {
    const rows = this.#database.prepare(
      "SELECT sequence, at, kind, body, hash FROM audit WHERE sequence > ? ORDER BY sequence LIMIT ?",
    );
    const found: ChainedAudit[] = [];
    yield* forEach(rows.iterate(sequence, max), (row) =>
      found.push({
        sequence: Number(row["sequence"]),
        at: String(row["at"]),
        kind: String(row["kind"]),
        body: String(row["body"]),
        hash: String(row["hash"]),
      }),
    );
    return found;
  }

  /** Length and hash of the audit chain. */
  head(): Stored["head"] {
    const row = this.#database
      .prepare("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1")
      .get();
    return { length: Number(row?.["sequence"] ?? 0), hash: String(row?.["hash"] ?? "") };
  }

  /** Closes the file and gives the folder back. A file the disk did not keep is left as it is: SQLite would tidy up. */
  close(): void {
    if (!this.files.isFailed) {
      this.#database.close();
      this.files.close();
    }
    this.#unlock();
  }

  /** What waits from earlier beats, then this one: a series' name is written before its later totals. */
  *#write(batch: LedgerBatch, room: boolean): Steps<void> {
    const writer = this.#writer;
    yield* this.#waiting.writeTotals(writer);
    yield* writer.series(batch.series, batch.removed);
    yield* writer.totals(batch.totals ?? NO_TOTALS, batch.histograms ?? []);
    yield* writer.state(batch.state);
    writer.setMeta("sequence", String(batch.sequence));
    writer.setMeta("time", batch.time);
    this.#keepIdentity();
    const late = this.#waiting.late.length + (batch.late?.length ?? 0);
    const sums = (batch.amounts ?? []).reduce((sum, { series }) => sum + series.length, 0);
    const rows = this.#waiting.rows + sums + batch.rows.length + late;
    noteWaiting(writer, !room && rows > 0);
    if (!room) return;
    const { audit, closed, reopened } = this.#waiting;
    yield* this.#waiting.writeRows(writer);
    if (reopened !== undefined) writer.reopen(reopened, batch.time);
    if (batch.reopened !== undefined) writer.reopen(batch.reopened, batch.time);
    if (batch.amounts !== undefined) yield* writer.amounts(batch.amounts);
    yield* writer.rows(batch.rows);
    for (const one of [...closed, ...batch.closed]) yield* writer.close(one, batch.time);
    yield* writer.addLate([...this.#waiting.late, ...(batch.late ?? [])], batch.time);
    yield* forEach([...audit, ...batch.audit], (entry) => writer.audit(entry));
    yield* writer.rollUp(BigInt(batch.time));
  }

  /** Only once the totals that follow from it are stored: until then a copy can be distinguished from its original. */
  #keepIdentity(): void {
    if (this.#isIdentityKept) return;
    const identity = fileIdentity(ledgerPath(this.#folder));
    if (identity === undefined) return;
    this.#writer.setMeta("file", identity);
    this.#isIdentityKept = true;
  }

  /** One small change, on the disk when it is done. */
  *#store(write: () => void): Steps<void> {
    yield "disk";
    write();
    yield "journal";
  }

  /** All of a job or nothing, on the disk when it is done. */
  *#transaction<T>(steps: Steps<T>): Steps<T> {
    let result: T;
    this.#database.exec("BEGIN IMMEDIATE");
    try {
      result = yield* steps;
      this.#database.exec("COMMIT");
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
      throw error;
    }
    yield "journal";
    return result;
  }
}

function freeBytesOf(folder: string): number {
  const { bavail, bsize } = statfsSync(folder);
  return bavail * bsize;
}

function agentIdOf(writer: LedgerWriter, given: string | undefined): string {
  const known = writer.meta("agentId");
  if (known !== undefined && (given === undefined || given === known)) return known;
  const fresh = given ?? randomUUID();
  writer.setMeta("agentId", fresh);
  return fresh;
}
