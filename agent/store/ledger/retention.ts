// What the ledger forgets and when: bucket rows after their day was rolled up and every sink has them, rollups later.
// What a pruned rollup held is carried in its series, so that running totals can still be proved. Each pruning is
// an audit entry. A day has half a million rows: they go a few thousand at a time (steps.ts), in the caller's transaction.
import type { DatabaseSync } from "node:sqlite";
import { bucketsPerDay } from "./rollups.ts";
import type { Steps } from "./steps.ts";
import type { LedgerWriter } from "./writer.ts";

/** How long is kept what. */
export interface Retention {
  /** Days of 15-minute rows. */
  readonly rowDays?: number;
  /** Days of daily rollups. */
  readonly rollupDays?: number;
}

const rowDaysDefault = 62;
const rollupDaysDefault = 400;
/** Rows, of some 1 microsecond each, that are dropped in one step. */
const DROPPED_A_STEP = 2_000;

/** Drops whole days that are old enough, rolled up and delivered to every known sink; returns the rows dropped. */
export function* pruneLedger(
  database: DatabaseSync,
  writer: LedgerWriter,
  retention: Retention,
  time: bigint,
): Steps<number> {
  const today = Number(time / 86_400_000_000_000n);
  const rolled = Number(writer.meta("rolledDay") ?? -1);
  const delivered = database.prepare("SELECT min(bucket) AS bucket FROM deliveries").get()?.["bucket"];
  const deliveredDay = delivered == null ? today : Math.floor(Number(delivered) / bucketsPerDay);
  const keptFrom = Math.min(today - (retention.rowDays ?? rowDaysDefault), rolled + 1, deliveredDay);
  const before = keptFrom * bucketsPerDay;
  const dropped = yield* dropBefore(database, {
    table: "closed_rows",
    key: "bucket",
    second: "series",
    before,
  });
  yield* dropBefore(database, { table: "superseded", key: "bucket", second: "series", before });
  yield* dropBefore(database, { table: "buckets", key: "bucket", second: "revision", before });
  if (dropped > 0) {
    writer.setMeta("prunedDay", String(keptFrom - 1));
    writer.audit({ at: String(time), kind: "retention", body: { rowsBefore: keptFrom, rows: dropped } });
  }
  const rollupsFrom = Math.min(today - (retention.rollupDays ?? rollupDaysDefault), keptFrom);
  yield* dropRollups(database, writer, rollupsFrom, time);
  return dropped;
}

/** Drops ids of counted usage records that nobody may send again. */
export function* forgetUsage(database: DatabaseSync, time: bigint): Steps<void> {
  const drop = database.prepare(
    "DELETE FROM usage WHERE key IN (SELECT key FROM usage WHERE until < ? LIMIT ?)",
  );
  const until = time / 1_000_000_000n;
  while (Number(drop.run(until, DROPPED_A_STEP).changes) > 0) yield "turn";
}

function* dropRollups(
  database: DatabaseSync,
  writer: LedgerWriter,
  before: number,
  time: bigint,
): Steps<void> {
  const carry = database.prepare(`
    UPDATE names SET carried = carried + old.amount
    FROM (SELECT series, amount FROM days WHERE day = ? AND series <= ? AND amount IS NOT NULL) AS old
    WHERE names.id = old.series`);
  const days = { table: "days", key: "day", second: "series", before };
  const rows = yield* dropBefore(database, days, (day, last) => carry.run(day, last));
  if (rows === 0) return;
  yield* dropNames(database, Number(writer.meta("rolledDay") ?? -1));
  writer.audit({ at: String(time), kind: "retention", body: { daysBefore: before, rows } });
}

/** Identities nothing refers to any more: in no rollup, and in no row of a day without one. */
function* dropNames(database: DatabaseSync, rolledDay: number): Steps<void> {
  database.exec("CREATE TEMP TABLE referred (series INTEGER PRIMARY KEY)");
  try {
    for (const { key, table, from } of [
      { table: "days", key: "day", from: 0 },
      { table: "closed_rows", key: "bucket", from: (rolledDay + 1) * bucketsPerDay },
      { table: "open_rows", key: "bucket", from: 0 },
    ]) {
      const next = database.prepare(`SELECT min(${key}) AS next FROM ${table} WHERE ${key} >= ?`);
      const refer = database.prepare(
        `INSERT OR IGNORE INTO referred SELECT series FROM ${table} WHERE ${key} = ?`,
      );
      for (let at = next.get(from)?.["next"]; at != null; at = next.get(Number(at) + 1)?.["next"]) {
        refer.run(at);
        yield "turn";
      }
    }
    database.exec("DELETE FROM names WHERE live = 0 AND id NOT IN (SELECT series FROM referred)");
    database.exec("DELETE FROM total_pages WHERE page NOT IN (SELECT id / 128 FROM names)");
  } finally {
    database.exec("DROP TABLE referred");
  }
}

/** Rows of a table that is clustered by a key and then by a second one. */
interface Before {
  readonly table: string;
  readonly key: string;
  readonly second: string;
  readonly before: number;
}

/** Drops rows, a key after the other; `first` is called with the key and the last second key of those that go next. */
function* dropBefore(
  database: DatabaseSync,
  { before, key, second, table }: Before,
  first: (key: number, last: number) => void = () => {},
): Steps<number> {
  const oldest = database.prepare(`SELECT min(${key}) AS oldest FROM ${table} WHERE ${key} < ?`);
  const upTo = database.prepare(
    `SELECT ${second} AS last FROM ${table} WHERE ${key} = ? ORDER BY ${second} LIMIT 1 OFFSET ?`,
  );
  const drop = database.prepare(`DELETE FROM ${table} WHERE ${key} = ? AND ${second} <= ?`);
  let dropped = 0;
  for (let at = oldest.get(before)?.["oldest"]; at != null; at = oldest.get(before)?.["oldest"]) {
    const last = Number(upTo.get(at, DROPPED_A_STEP)?.["last"] ?? Number.MAX_SAFE_INTEGER);
    first(Number(at), last);
    dropped += Number(drop.run(at, last).changes);
    yield "turn";
  }
  return dropped;
}
