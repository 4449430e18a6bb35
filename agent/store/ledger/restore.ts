// What an agent continues from: running totals, start times, last samples, and the rows of buckets not closed yet.
import type { DatabaseSync } from "node:sqlite";
import type { BucketRow, LedgerRestored, SeriesRole, SeriesState } from "../../model.ts";
import { BUCKET_NANOS } from "../../model.ts";
import { SEALED_BUCKETS } from "./schema.ts";

/** The state of the last commit; undefined in a new file. */
export function readRestored(database: DatabaseSync): LedgerRestored | undefined {
  const meta = new Map(
    database
      .prepare("SELECT key, value FROM meta")
      .all()
      .map((row) => [String(row["key"]), String(row["value"])]),
  );
  const [sequence, time] = [meta.get("sequence"), meta.get("time")];
  if (sequence === undefined || time === undefined) return undefined;
  const last = database.prepare("SELECT max(id) AS id FROM series").get()?.["id"];
  const state = database.prepare("SELECT key, value FROM state").all();
  return {
    sequence: Number(sequence),
    time,
    nextSeries: Number(last ?? 0) + 1,
    series: readSeries(database),
    state: state.map((row) => ({ key: String(row["key"]), value: String(row["value"]) })),
    rows: readOpenRows(database, BigInt(time)),
  };
}

function readSeries(database: DatabaseSync): SeriesState[] {
  const statement = database.prepare("SELECT * FROM series WHERE live = 1 ORDER BY id");
  statement.setReadBigInts(true);
  return statement.all().map((row) => ({
    series: Number(row["id"]),
    metric: String(row["metric"]),
    dimensions: JSON.parse(String(row["dimensions"])),
    start: String(row["start"]),
    total: row["histogram"] === null ? String(row["total"]) : JSON.parse(String(row["histogram"])),
    announced: Number(row["announced"]),
    ...(row["ended"] === null ? {} : { ended: String(row["ended"]) }),
    ...(row["role"] === null ? {} : { role: row["role"] as SeriesRole }),
  }));
}

function readOpenRows(database: DatabaseSync, time: bigint): BucketRow[] {
  const statement = database.prepare(`
    SELECT bucket, series, amount, histogram, revision FROM rows
    WHERE bucket >= ? AND bucket NOT IN ${SEALED_BUCKETS}`);
  statement.setReadBigInts(true);
  return statement.all(time / BUCKET_NANOS).map((row) => ({
    bucket: Number(row["bucket"]),
    series: Number(row["series"]),
    revision: Number(row["revision"]),
    amount: row["histogram"] === null ? (row["amount"] as bigint) : JSON.parse(String(row["histogram"])),
  }));
}
