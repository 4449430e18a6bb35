// What the ledger forgets and when: bucket rows after their day was rolled up and every sink has them, rollups later.
// What a pruned rollup held is carried in its series, so that running totals can still be proved. Each pruning is
// an audit entry.
import type { DatabaseSync } from "node:sqlite";
import type { LedgerWriter } from "./writer.ts";
import { bucketsPerDay } from "./writer.ts";

/** How long is kept what. */
export interface Retention {
  /** Days of 15-minute rows. */
  readonly rowDays?: number;
  /** Days of daily rollups. */
  readonly rollupDays?: number;
}

const rowDaysDefault = 62;
const rollupDaysDefault = 400;

/** Drops whole days that are old enough, rolled up and delivered to every known sink; returns the rows dropped. */
export function pruneLedger(
  database: DatabaseSync,
  writer: LedgerWriter,
  retention: Retention,
  time: bigint,
): number {
  const today = Number(time / 86_400_000_000_000n);
  const rolled = Number(writer.meta("rolledDay") ?? -1);
  const delivered = database.prepare("SELECT min(bucket) AS bucket FROM deliveries").get()?.["bucket"];
  const deliveredDay = delivered == null ? today : Math.floor(Number(delivered) / bucketsPerDay);
  const keptFrom = Math.min(today - (retention.rowDays ?? rowDaysDefault), rolled + 1, deliveredDay);
  let dropped = 0;
  for (const table of ["rows", "superseded", "buckets"]) {
    const result = database.prepare(`DELETE FROM ${table} WHERE bucket < ?`).run(keptFrom * bucketsPerDay);
    if (table === "rows") dropped = Number(result.changes);
  }
  if (dropped > 0) {
    writer.setMeta("prunedDay", String(keptFrom - 1));
    writer.audit({ at: String(time), kind: "retention", body: { rowsBefore: keptFrom, rows: dropped } });
  }
  const rollupsFrom = Math.min(today - (retention.rollupDays ?? rollupDaysDefault), keptFrom);
  dropRollups(database, writer, rollupsFrom, time);
  return dropped;
}

function dropRollups(database: DatabaseSync, writer: LedgerWriter, from: number, time: bigint): void {
  const any = database.prepare("SELECT count(*) AS rows FROM days WHERE day < ?").get(from);
  if (Number(any?.["rows"] ?? 0) === 0) return;
  database
    .prepare(`
      UPDATE names SET carried = carried + old.amount
      FROM (SELECT series, sum(amount) AS amount FROM days WHERE day < ? AND amount IS NOT NULL GROUP BY series) AS old
      WHERE names.id = old.series`)
    .run(from);
  const result = database.prepare("DELETE FROM days WHERE day < ?").run(from);
  // Identities nothing refers to any more.
  database.exec(`
    DELETE FROM names WHERE live = 0
      AND id NOT IN (SELECT series FROM rows) AND id NOT IN (SELECT series FROM days)`);
  database.exec("DELETE FROM totals WHERE series NOT IN (SELECT id FROM names)");
  writer.audit({
    at: String(time),
    kind: "retention",
    body: { daysBefore: from, rows: Number(result.changes) },
  });
}
