// Everything some series booked, in the order of its buckets, each revision of a closed bucket by itself: what was there when
// it was closed, and what came later and when. Of days whose rows were pruned the day's sum is all there is. One read
// transaction, so that an agent that writes meanwhile changes nothing half-way.
import type { DatabaseSync } from "node:sqlite";
import type { BucketNumber } from "../../model.ts";
import { bucketsPerDay } from "./rollups.ts";
import { lateReason } from "./writer.ts";

/** What a series moved in the buckets `[from, to)`: one of them, or a whole day. */
export interface Booked {
  readonly series: number;
  readonly from: BucketNumber;
  readonly to: BucketNumber;
  readonly amount: bigint;
  /** When it was booked, unix nanoseconds, where the bucket had been closed before. */
  readonly arrived: bigint | undefined;
}

/** Where to look. `rowsFrom`: first bucket whose rows are kept. */
export interface BookedRange {
  readonly from: BucketNumber;
  readonly to: BucketNumber;
  readonly rowsFrom: BucketNumber;
}

/** Amounts of series of these metrics; days that the range only touches are whole. */
export function* booked(
  database: DatabaseSync,
  metrics: readonly string[],
  { from, rowsFrom, to }: BookedRange,
): Generator<Booked> {
  database.exec("BEGIN");
  try {
    const names = JSON.stringify(metrics);
    if (from < rowsFrom) yield* ofDays(database, names, from, Math.min(to, rowsFrom));
    if (to > rowsFrom) yield* ofBuckets(database, names, Math.max(from, rowsFrom), to);
  } finally {
    database.exec("COMMIT");
  }
}

const ofMetrics = "+series IN (SELECT id FROM series WHERE metric IN (SELECT value FROM json_each(?)))";

function* ofDays(database: DatabaseSync, metrics: string, from: number, to: number): Generator<Booked> {
  const rows = database.prepare(
    `SELECT day, series, amount FROM days WHERE day >= ? AND day < ? AND ${ofMetrics} AND amount IS NOT NULL ORDER BY day`,
  );
  rows.setReadBigInts(true);
  const [first, end] = [Math.floor(from / bucketsPerDay), Math.ceil(to / bucketsPerDay)];
  for (const row of rows.iterate(first, end, metrics)) {
    const start = Number(row["day"]) * bucketsPerDay;
    const series = Number(row["series"]);
    const amount = row["amount"] as bigint;
    yield { series, from: start, to: start + bucketsPerDay, amount, arrived: undefined };
  }
}

function* ofBuckets(database: DatabaseSync, metrics: string, from: number, to: number): Generator<Booked> {
  const arrivals = arrivalTimes(database, from, to);
  const before = supersededRows(database, metrics, from, to);
  // Each table by itself: both are read in order then, and nothing has to be sorted.
  const [closed, open] = ["closed_rows", "open_rows"].map(
    (table) => `SELECT bucket, series, amount, revision FROM ${table}
      WHERE bucket >= ? AND bucket < ? AND ${ofMetrics} AND amount IS NOT NULL`,
  );
  const rows = database.prepare(`${closed} UNION ALL ${open} ORDER BY bucket`);
  rows.setReadBigInts(true);
  for (const row of rows.iterate(from, to, metrics, from, to, metrics)) {
    const [bucket, series] = [Number(row["bucket"]), Number(row["series"])];
    const last = { amount: row["amount"] as bigint, revision: Number(row["revision"]) };
    const replaced = before.size === 0 ? undefined : before.get(`${bucket} ${series}`);
    if (replaced === undefined && arrivals.size === 0) {
      if (last.amount !== 0n)
        yield { series, from: bucket, to: bucket + 1, amount: last.amount, arrived: undefined };
      continue;
    }
    let known = 0n;
    for (const { amount, revision } of [...(replaced ?? []), last]) {
      const arrived = arrivals.get(`${bucket} ${revision}`);
      if (amount !== known) yield { series, from: bucket, to: bucket + 1, amount: amount - known, arrived };
      known = amount;
    }
  }
}

/** When each revision after the first was sealed; of a bucket in which no agent ran the first one too. */
function arrivalTimes(database: DatabaseSync, from: number, to: number): ReadonlyMap<string, bigint> {
  const rows = database.prepare(
    `SELECT bucket, revision, closed FROM buckets WHERE bucket >= ? AND bucket < ?
      AND (revision > 0 OR instr(figures, '${lateReason}') > 0)`,
  );
  const times = new Map<string, bigint>();
  for (const row of rows.iterate(from, to))
    times.set(`${row["bucket"]} ${row["revision"]}`, BigInt(String(row["closed"])));
  return times;
}

interface Revision {
  readonly amount: bigint;
  readonly revision: number;
}

/** What revisions replaced, oldest first. */
function supersededRows(
  database: DatabaseSync,
  metrics: string,
  from: number,
  to: number,
): ReadonlyMap<string, readonly Revision[]> {
  const rows = database.prepare(
    `SELECT bucket, series, amount, revision FROM superseded WHERE bucket >= ? AND bucket < ? AND ${ofMetrics}
      AND amount IS NOT NULL ORDER BY bucket, series, revision`,
  );
  rows.setReadBigInts(true);
  const found = new Map<string, Revision[]>();
  for (const row of rows.iterate(from, to, metrics)) {
    const key = `${row["bucket"]} ${row["series"]}`;
    const known = found.get(key) ?? [];
    known.push({ amount: row["amount"] as bigint, revision: Number(row["revision"]) });
    found.set(key, known);
  }
  return found;
}
