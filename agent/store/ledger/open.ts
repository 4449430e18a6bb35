// Opens the file of a ledger: made where there is none, checked, brought to this program's format, with room taken ahead.
// A damaged file is put aside under another name and metering goes on in a new one; nothing is repaired in place.
// What is written here is synced by SQLite itself (synchronous=FULL): nothing else runs yet that could be kept waiting.
import { existsSync, renameSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import type { LedgerRestored } from "../../model.ts";
import { makePrivateFile } from "../private-files.ts";
import { checkOf } from "./digests.ts";
import { LedgerFiles } from "./files.ts";
import { reserveRoom } from "./journal.ts";
import { readRestored } from "./restore.ts";
import { migrate } from "./schema.ts";
import { settleWaiting } from "./settle.ts";
import { LedgerWriter } from "./writer.ts";

/** A writer that is not ours (somebody at a prompt of SQLite) keeps the main thread waiting for so long at most. */
const BUSY_MS = 100;

/** A ledger that can be committed to. */
export interface OpenLedger {
  readonly database: DatabaseSync;
  readonly files: LedgerFiles;
  /** Absent in a new ledger. */
  readonly restored: LedgerRestored | undefined;
  /** Where a damaged file was put, and why. */
  readonly quarantined: { readonly path: string; readonly reason: string } | undefined;
}

/**
 * Opens or makes it. Throws where it is from a newer program, the folder cannot be written, or the disk keeps nothing.
 *
 * What the last process committed and was killed before it could sync is on the disk before anyone goes on from it. From
 * here on SQLite syncs only the head of a journal that begins again, without which old frames could be taken for new ones;
 * commits and checkpoints are synced by whoever runs the job.
 */
export function openLedger(path: string): OpenLedger {
  const open = openOrPutAside(path);
  // A failure here is the disk's, and no reason to put a sound file aside; what SQLite closes it syncs by itself.
  closing(open, () => open.files.syncNow());
  open.database.exec("PRAGMA synchronous = NORMAL");
  open.database.exec("PRAGMA wal_autocheckpoint = 0");
  open.database.exec(`PRAGMA busy_timeout = ${BUSY_MS}`);
  return open;
}

function openOrPutAside(path: string): OpenLedger {
  const existed = existsSync(path);
  try {
    const open = openDatabase(path);
    const restored = closing(open, () => {
      settleWaiting(open.database, new LedgerWriter(open.database));
      return readRestored(open.database);
    });
    return { ...open, restored, quarantined: undefined };
  } catch (error) {
    const reason = (error as Error).message;
    if (!existed || reason.startsWith("Cannot use")) throw error;
    const aside = quarantine(path);
    const open = openDatabase(path);
    const writer = new LedgerWriter(open.database);
    writer.audit({ at: "0", kind: "quarantine", body: { file: aside, reason } });
    return { ...open, restored: undefined, quarantined: { path: aside, reason } };
  }
}

type Open = Pick<OpenLedger, "database" | "files">;

/** Closes what is open where this throws. */
function closing<T>({ database, files }: Open, run: () => T): T {
  try {
    return run();
  } catch (error) {
    database.close();
    files.close();
    throw error;
  }
}

function openDatabase(path: string): Open {
  makePrivateFile(path);
  const files = new LedgerFiles(path);
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path, { timeout: 5000 });
    database.exec("PRAGMA journal_mode = WAL");
    database.exec("PRAGMA synchronous = FULL");
    database.exec("PRAGMA journal_size_limit = 16777216");
    const found = database.prepare("PRAGMA quick_check(1)").get()?.["quick_check"];
    if (found !== "ok") throw new Error(`quick_check says: ${String(found)}`);
    migrate(database, path);
    checkIdentities(database);
    reserveRoom(database, path);
    return { database, files };
  } catch (error) {
    database?.close();
    files.close();
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
