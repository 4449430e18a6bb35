// Moves what the journal holds into the database, without waiting for the disk on the main thread.
// SQLite does it in this order (sqlite.org/wal.html, 3.2): journal synced, pages copied, database synced, and only then may
// the journal begin again over what it held. Here the same is true with syncs from outside: the job before left the journal
// synced, SQLite copies without syncing, and no job writes before the sync that this one ends with.
import type { DatabaseSync } from "node:sqlite";
import type { Steps } from "./steps.ts";

/** Pages of journal from which on it is moved, as SQLite does by itself. */
const PAGES = 1_000;

/** To be run with a synced journal. What cannot be moved, for want of room or for a reader, stays in the journal. */
export function* checkpoint(database: DatabaseSync): Steps<void> {
  // What it says now, nothing done. SQLite before 3.51 moves it here, and syncs by itself.
  const { checkpointed, log } = database.prepare("PRAGMA wal_checkpoint(NOOP)").get() ?? {};
  if (Number(log) < PAGES || log === checkpointed) return;
  yield "turn";
  database.exec("PRAGMA synchronous = OFF");
  try {
    database.exec("PRAGMA wal_checkpoint(PASSIVE)");
  } catch {
    // The journal has it all, and is moved with a later commit.
  } finally {
    database.exec("PRAGMA synchronous = NORMAL");
  }
  yield "file";
}
