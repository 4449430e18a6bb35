// The ledger database of one agent: opened, checked, restored from, committed to, pruned. Synchronous: it lives in the
// ledger worker, where a slow disk does not stop metering. WAL with synchronous=FULL: what a commit returned survives a power cut.
// A damaged file is put aside under another name and metering goes on in a new one; nothing is repaired in place.
import { randomUUID } from "node:crypto";
import { existsSync, renameSync, statfsSync, statSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import type { AuditEntry, BucketNumber, ChainedAudit, LedgerBatch, LedgerRestored } from "../../model.ts";
import { makeFolder, makePrivateFile } from "../private-files.ts";
import { ledgerPath, lockState } from "../state-folder.ts";
import { rowsOf, totalsOf } from "./batch-columns.ts";
import { checkOf } from "./digests.ts";
import { fileIdentity, isCopy, isSameFile } from "./file-identity.ts";
import { reserveRoom } from "./journal.ts";
import type { SumsSince } from "./reader.ts";
import { LedgerReader } from "./reader.ts";
import { readRestored } from "./restore.ts";
import type { Retention } from "./retention.ts";
import { pruneLedger } from "./retention.ts";
import { migrate } from "./schema.ts";
import { noteWaiting, settleWaiting } from "./settle.ts";
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

/** The file was removed or replaced while it was open: what is written to it is gone with this process. */
export class LedgerGone extends Error {
  constructor(path: string) {
    super(`Cannot commit to ${path}: it was removed or replaced while in use`);
    this.name = "LedgerGone";
  }
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

/** An open ledger. */
export class LedgerDatabase {
  readonly opened: LedgerOpened;
  readonly #database: DatabaseSync;
  readonly #writer: LedgerWriter;
  readonly #unlock: () => void;
  readonly #folder: string;
  readonly #freeBytes: (folder: string) => number;
  readonly #freeBytesMin: number;
  readonly #retention: Retention;
  readonly #waiting = new WaitingBatch();
  readonly #inode: bigint;
  /** Inode of the journal, once there is one. */
  #journal: bigint | undefined;
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
      const { database, ...opened } = openChecked(ledgerPath(options.folder));
      this.#database = database;
      this.#writer = new LedgerWriter(database);
      const path = ledgerPath(options.folder);
      this.#inode = statSync(path, { bigint: true }).ino;
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
  commit(batch: LedgerBatch): Stored {
    const path = ledgerPath(this.#folder);
    let room: boolean;
    try {
      // First: of a folder that was removed nothing else can be asked.
      if (!isSameFile(path, this.#inode)) throw new LedgerGone(path);
      // What was committed last lies in the journal alone: without its name a kill would lose it.
      const journal = `${path}-wal`;
      if (this.#journal !== undefined && !isSameFile(journal, this.#journal)) throw new LedgerGone(journal);
      room = this.#freeBytes(this.#folder) >= this.#freeBytesMin;
      this.#transaction(() => this.#write(batch, room));
      this.#journal ??= statSync(journal, { bigint: true, throwIfNoEntry: false })?.ino;
    } catch (error) {
      this.#isIdentityKept = false;
      this.#waiting.keepTotals(batch);
      this.#waiting.keepRows(batch);
      throw error;
    }
    this.#waiting.totalsStored();
    if (room) this.#waiting.rowsStored();
    else this.#waiting.keepRows(batch);
    if (this.#commits++ % pruneEveryCommits === 0 && room) this.prune(BigInt(batch.time));
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
  startSpool(sequence: number): void {
    this.#writer.setMeta("spoolStart", String(sequence));
  }

  /** Appends to the record outside a beat. */
  writeAudit(entry: AuditEntry): void {
    this.#transaction(() => this.#writer.audit(entry));
  }

  /** Replaces amounts in a closed bucket by a new revision. */
  revise(...args: Parameters<LedgerWriter["revise"]>): void {
    this.#transaction(() => this.#writer.revise(...args));
  }

  /** Remembers that a sink has every bucket before `bucket`: until then nothing of it is pruned. */
  delivered(sink: string, bucket: number): void {
    this.#database
      .prepare(
        "INSERT INTO deliveries VALUES (?, ?) ON CONFLICT (sink) DO UPDATE SET bucket = max(bucket, excluded.bucket)",
      )
      .run(sink, bucket);
  }

  /** Drops what is older than it is kept for, and delivered; returns the number of rows dropped. */
  prune(time: bigint): number {
    let pruned = 0;
    this.#transaction(() => {
      pruned = pruneLedger(this.#database, this.#writer, this.#retention, time);
      this.#database.prepare("DELETE FROM usage WHERE until < ?").run(time / 1_000_000_000n);
    });
    return pruned;
  }

  /** What counted usage records were stored with, by key. */
  findUsage(keys: readonly string[]): ReadonlyMap<string, string> {
    const find = this.#database.prepare(
      "SELECT key, content FROM usage WHERE key IN (SELECT value FROM json_each(?))",
    );
    const found = find.all(JSON.stringify(keys));
    return new Map(found.map((row) => [String(row["key"]), String(row["content"])]));
  }

  /** What the series of these metrics moved from a bucket on. */
  sumsSince(metrics: readonly string[], from: BucketNumber): SumsSince {
    const reader = new LedgerReader(ledgerPath(this.#folder));
    try {
      return reader.sumsSince(metrics, from);
    } finally {
      reader.close();
    }
  }

  /** Entries of the audit record after `sequence`, oldest first, as they are stored. */
  auditAfter(sequence: number, max: number): readonly ChainedAudit[] {
    const rows = this.#database
      .prepare(
        "SELECT sequence, at, kind, body, hash FROM audit WHERE sequence > ? ORDER BY sequence LIMIT ?",
      )
      .all(sequence, max);
    return rows.map((row) => ({
      sequence: Number(row["sequence"]),
      at: String(row["at"]),
      kind: String(row["kind"]),
      body: String(row["body"]),
      hash: String(row["hash"]),
    }));
  }

  /** Length and hash of the audit chain. */
  head(): Stored["head"] {
    const row = this.#database
      .prepare("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1")
      .get();
    return { length: Number(row?.["sequence"] ?? 0), hash: String(row?.["hash"] ?? "") };
  }

  close(): void {
    this.#database.close();
    this.#unlock();
  }

  /** What waits from earlier beats, then this one: a series' name is written before its later totals. */
  #write(batch: LedgerBatch, room: boolean): void {
    const writer = this.#writer;
    this.#waiting.writeTotals(writer);
    writer.series(batch.series, batch.removed);
    writer.totals(totalsOf(batch));
    writer.state(batch.state);
    writer.setMeta("sequence", String(batch.sequence));
    writer.setMeta("time", batch.time);
    this.#keepIdentity();
    const late = this.#waiting.late.length + (batch.late?.length ?? 0);
    const rows = this.#waiting.rows + (batch.amounts?.series.length ?? 0) + batch.rows.length + late;
    noteWaiting(writer, !room && rows > 0);
    if (!room) return;
    const { audit, closed } = this.#waiting;
    this.#waiting.writeRows(writer);
    const { reopened } = this.#waiting;
    if (reopened !== undefined) writer.reopen(reopened, batch.time);
    if (batch.reopened !== undefined) writer.reopen(batch.reopened, batch.time);
    writer.rows(rowsOf(batch));
    for (const one of [...closed, ...batch.closed]) writer.close(one, batch.time);
    writer.addLate([...this.#waiting.late, ...(batch.late ?? [])], batch.time);
    for (const entry of [...audit, ...batch.audit]) writer.audit(entry);
    writer.rollUp(BigInt(batch.time));
  }

  /** Only once the totals that follow from it are stored: until then a copy can be distinguished from its original. */
  #keepIdentity(): void {
    if (this.#isIdentityKept) return;
    const identity = fileIdentity(ledgerPath(this.#folder));
    if (identity === undefined) return;
    this.#writer.setMeta("file", identity);
    this.#isIdentityKept = true;
  }

  #transaction(run: () => void): void {
    this.#database.exec("BEGIN IMMEDIATE");
    try {
      run();
      this.#database.exec("COMMIT");
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
      throw error;
    }
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

function openChecked(
  path: string,
): Omit<LedgerOpened, "agentId" | "copiedAt" | "spoolStart"> & { readonly database: DatabaseSync } {
  const existed = existsSync(path);
  try {
    const database = openDatabase(path);
    settleWaiting(database, new LedgerWriter(database));
    return { database, restored: readRestored(database), quarantined: undefined };
  } catch (error) {
    const reason = (error as Error).message;
    if (!existed || reason.startsWith("Cannot use")) throw error;
    const aside = quarantine(path);
    const database = openDatabase(path);
    const writer = new LedgerWriter(database);
    writer.audit({ at: "0", kind: "quarantine", body: { file: aside, reason } });
    return { database, restored: undefined, quarantined: { path: aside, reason } };
  }
}

function openDatabase(path: string): DatabaseSync {
  makePrivateFile(path);
  const database = new DatabaseSync(path, { timeout: 5000 });
  try {
    database.exec("PRAGMA journal_mode = WAL");
    database.exec("PRAGMA synchronous = FULL");
    database.exec("PRAGMA journal_size_limit = 16777216");
    const found = database.prepare("PRAGMA quick_check(1)").get()?.["quick_check"];
    if (found !== "ok") throw new Error(`quick_check says: ${String(found)}`);
    migrate(database, path);
    checkIdentities(database);
    reserveRoom(database, path);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

/** A series under a changed name or without its total, or a base that was altered, would meter wrong for ever: better a new file. */
function checkIdentities(database: DatabaseSync): void {
  const series = database.prepare(`SELECT id, metric, dimensions, "check" FROM series WHERE live = 1`);
  for (const row of series.iterate()) {
    if (checkOf(String(row["metric"]), String(row["dimensions"])) === row["check"]) continue;
    throw new Error(`series ${row["id"]} does not fit its check`);
  }
  const bare = database.prepare(
    "SELECT id FROM series WHERE live = 1 AND total IS NULL AND histogram IS NULL",
  );
  for (const row of bare.iterate()) throw new Error(`series ${row["id"]} has no total`);
  for (const row of database.prepare(`SELECT key, value, "check" FROM state`).iterate()) {
    if (checkOf(String(row["key"]), String(row["value"])) === row["check"]) continue;
    throw new Error(`state ${row["key"]} does not fit its check`);
  }
}

/** Puts the file and its journal aside under the first free name. */
function quarantine(path: string): string {
  let number = 1;
  while (existsSync(`${path}.damaged-${number}`)) number++;
  const aside = `${path}.damaged-${number}`;
  for (const suffix of ["", "-wal", "-shm"]) {
    if (existsSync(path + suffix)) renameSync(path + suffix, aside + suffix);
  }
  return aside;
}
