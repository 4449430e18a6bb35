// Room for the ledger before it is needed: on a full disk SQLite can write over what its files have, and no more. With
// room for a whole checkpoint in the WAL and for new pages in the database, totals go on being committed, and exported.
// SQLite reads a WAL up to the first frame that is not its own: zeros behind the last one change nothing
// (sqlite.org/fileformat2.html, 4.5). It holds no lock on that file, so closing ours gives none away.
import { closeSync, constants, existsSync, fstatSync, openSync, writeSync } from "node:fs";
import type { DatabaseSync } from "node:sqlite";

const PAGE_BYTES = 4096;
/** It is moved into the database after 1,000 pages (checkpoint.ts); the commit that crosses that line may be larger. */
const JOURNAL_BYTES = 32 + 1_250 * (PAGE_BYTES + 24);
const FREE_PAGES = 256;
const ZEROS = Buffer.alloc(256 * 1024);

/** Takes the room where the disk has it; on one that is full already nothing happens. */
export function reserveRoom(database: DatabaseSync, path: string): void {
  try {
    reservePages(database);
    extendJournal(`${path}-wal`);
  } catch {
    if (database.isTransaction) database.exec("ROLLBACK");
  }
}

/** Pages on the free list are taken before the file grows. */
function reservePages(database: DatabaseSync): void {
  const free = Number(database.prepare("PRAGMA freelist_count").get()?.["freelist_count"] ?? 0);
  if (free >= FREE_PAGES) return;
  database.exec("CREATE TABLE reserve (filler BLOB)");
  database.prepare("INSERT INTO reserve VALUES (zeroblob(?))").run(FREE_PAGES * PAGE_BYTES);
  database.exec("DROP TABLE reserve");
  database.exec("PRAGMA wal_checkpoint(PASSIVE)");
}

function extendJournal(journal: string): void {
  if (!existsSync(journal)) return;
  const file = openSync(journal, constants.O_RDWR | constants.O_NOFOLLOW);
  try {
    for (let at = fstatSync(file).size; at < JOURNAL_BYTES; at += ZEROS.length) {
      writeSync(file, ZEROS, 0, Math.min(ZEROS.length, JOURNAL_BYTES - at), at);
    }
  } finally {
    closeSync(file);
  }
}
