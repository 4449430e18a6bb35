// Bookings that a nearly full disk kept in memory die with the process, while the totals they belong to were committed.
// At the next start the difference is booked in the bucket of the last commit: every token stays in the ledger, only the
// quarter of an hour it is booked in is later than it was. An audit entry says so.
import type { DatabaseSync } from "node:sqlite";
import { BUCKET_NANOS } from "../../model.ts";
import { SEALED_BUCKETS } from "./schema.ts";
import { runAtOnce } from "./steps.ts";
import type { LedgerWriter } from "./writer.ts";

const WAITING = "rowsWait";

/** Remembers, within a commit, whether rows of it were left in memory. */
export function noteWaiting(writer: LedgerWriter, isWaiting: boolean): void {
  const value = isWaiting ? "1" : "0";
  if ((writer.meta(WAITING) ?? "0") !== value) writer.setMeta(WAITING, value);
}

/** Whether rows of the last commit were left in memory. */
export function rowsWait(database: DatabaseSync): boolean {
  return database.prepare("SELECT value FROM meta WHERE key = ?").get(WAITING)?.["value"] === "1";
}

/** Books what totals say beyond the rows, where the last process left rows. A disk still full leaves it to the next start. */
export function settleWaiting(database: DatabaseSync, writer: LedgerWriter): void {
  const time = writer.meta("time");
  if (writer.meta(WAITING) !== "1" || time === undefined) return;
  try {
    database.exec("BEGIN IMMEDIATE");
    const missing = missingBookings(database, Number(writer.meta("prunedDay") ?? -1));
    const bucket = firstOpen(database, Number(BigInt(time) / BUCKET_NANOS));
    runAtOnce(writer.addToOpen(bucket, missing));
    const body = {
      why: "bookings waited for room on the disk when the agent ended",
      bucket,
      rows: missing.length,
    };
    if (missing.length > 0) writer.audit({ at: time, kind: "gap", body });
    noteWaiting(writer, false);
    database.exec("COMMIT");
  } catch {
    if (database.isTransaction) database.exec("ROLLBACK");
  }
}

/** Series whose total says more than is booked: the check of `tokenwatt verify`. */
function missingBookings(database: DatabaseSync, prunedDay: number): (readonly [number, bigint])[] {
  const statement = database.prepare(`
    SELECT id, total - carried - coalesce((SELECT sum(amount) FROM days d WHERE d.series = id AND day <= ?), 0)
      - coalesce(r.booked, 0) AS missing
    FROM series LEFT JOIN (SELECT series, sum(amount) AS booked FROM rows GROUP BY series) r ON r.series = id
    WHERE total IS NOT NULL AND role IS NOT 'exported'`);
  statement.setReadBigInts(true);
  return statement
    .all(prunedDay)
    .map((row) => [Number(row["id"]), row["missing"] as bigint] as const)
    .filter(([, amount]) => amount > 0n);
}

function firstOpen(database: DatabaseSync, from: number): number {
  const sealed = database.prepare(`SELECT max(bucket) AS bucket FROM ${SEALED_BUCKETS}`).get()?.["bucket"];
  return Math.max(from, sealed == null ? from : Number(sealed) + 1);
}
