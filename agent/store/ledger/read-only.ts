// Opens a ledger for reading wherever it lies. SQLite reads a WAL through an index beside it, which it makes where there
// is none: in a folder that cannot be written it gives up on a ledger that was not closed (a mounted backup, a snapshot, a
// killed agent's folder). Such a ledger is read from a copy of its two files.
import { copyFileSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { showAsNew } from "./schema.ts";

/** The ledger cannot be read where it lies; read like a SourceError. */
class UnreadableLedger extends Error {
  readonly kind = "misconfigured";
  readonly hint =
    "copy ledger.db and ledger.db-wal together to a folder you can write to, and name that with --state-dir";

  constructor(path: string, cause: unknown) {
    super(`Cannot read ledger ${path}: ${(cause as Error).message}`, { cause });
    this.name = "UnreadableLedger";
  }
}

/** An open ledger; call `close` when done. Throws UnreadableLedger where neither it nor a copy of it can be read. */
export function openReadOnly(path: string): { readonly database: DatabaseSync; readonly close: () => void } {
  try {
    const database = new DatabaseSync(path, { readOnly: true, timeout: 5000 });
    try {
      // It is only opened in earnest with its first statement.
      database.prepare("SELECT count(*) FROM sqlite_schema").get();
      showAsNew(database);
      return { database, close: () => database.close() };
    } catch (error) {
      database.close();
      throw error;
    }
  } catch (error) {
    if (!hasJournal(path)) throw new UnreadableLedger(path, error);
    return openCopy(path, error);
  }
}

function openCopy(path: string, cause: unknown): ReturnType<typeof openReadOnly> {
  let folder: string | undefined;
  try {
    folder = mkdtempSync(join(tmpdir(), "tokenwatt-ledger-"));
    const copy = join(folder, "ledger.db");
    copyFileSync(path, copy);
    copyFileSync(`${path}-wal`, `${copy}-wal`);
    const database = new DatabaseSync(copy, { timeout: 5000 });
    database.prepare("SELECT count(*) FROM sqlite_schema").get();
    showAsNew(database);
    const made = folder;
    const close = (): void => {
      database.close();
      rmSync(made, { recursive: true, force: true });
    };
    return { database, close };
  } catch {
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
    throw new UnreadableLedger(path, cause);
  }
}

function hasJournal(path: string): boolean {
  return (statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0) > 0;
}
