// Where the ledger lies; apart from the database, so that naming the file does not load SQLite.
import { join } from "node:path";

/** The ledger's file in a state directory. */
export function ledgerPath(folder: string): string {
  return join(folder, "ledger.db");
}
