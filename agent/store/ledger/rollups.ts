// A day's rows summed by series, once it has ended and again when one of its rows changed: what remains of it when its rows
// are dropped. Each rollup is an audit entry with its digest.
// Half a million rows in a day: they are summed a few thousand at a time (steps.ts), within the caller's transaction.
import type { DatabaseSync } from "node:sqlite";
import type { AuditEntry, BucketNumber } from "../../model.ts";
import { addHistogramTexts, checkOf } from "./digests.ts";
import type { Steps } from "./steps.ts";
import { forEach } from "./steps.ts";

/** Buckets in a UTC day. */
export const bucketsPerDay = 96;
/** Rows, of some 1 microsecond each, that are summed in one step. */
const SUMMED_A_STEP = 2_000;

/** The first bucket that has a row. Of each table by itself: `min` looks it up there, and would scan the view of both. */
export const FIRST_ROW = `
  SELECT min(bucket) AS bucket FROM (
    SELECT min(bucket) AS bucket FROM closed_rows UNION ALL SELECT min(bucket) FROM open_pages)`;

/** What rollups need of the writer whose transaction they run in. */
interface Writing {
  meta(key: string): string | undefined;
  setMeta(key: string, value: string): void;
  closeRows(from: BucketNumber, to: BucketNumber): Steps<void>;
  audit(entry: AuditEntry): void;
}

/** Writes rollups into an open ledger database. */
export class Rollups {
  readonly #database: DatabaseSync;
  readonly #writer: Writing;

  constructor(database: DatabaseSync, writer: Writing) {
    this.#database = database;
    this.#writer = writer;
  }

  /** Writes the rollup of every day that ended before `time` and has none yet. */
  *rollUp(time: bigint): Steps<void> {
    const today = Number(time / 86_400_000_000_000n);
    const rolled = Number(this.#writer.meta("rolledDay") ?? -1);
    if (rolled + 1 >= today) return;
    const first = this.#database.prepare(FIRST_ROW).get()?.["bucket"];
    if (first == null) return;
    for (let day = Math.max(rolled + 1, Math.floor(Number(first) / bucketsPerDay)); day < today; day++) {
      yield* this.record(day, String(time), yield* this.sum(day));
      this.#writer.setMeta("rolledDay", String(day));
    }
  }

  /** Puts a rollup of so many rows on record. */
  *record(day: number, at: string, rows: number): Steps<void> {
    if (rows === 0) return;
    const texts: string[] = [];
    yield* forEach(rollupTexts(this.#database, day), (text) => texts.push(text));
    this.#writer.audit({ at, kind: "rollup", body: { day, rows, digest: digestOf(day, texts) } });
  }

  /** Sums a day whose rows are all there, in the place of its last rollup; returns the rows of the new one. */
  *sum(day: number): Steps<number> {
    // A bucket that a crash kept from being sealed has no rows yet.
    yield* this.#writer.closeRows(day * bucketsPerDay, (day + 1) * bucketsPerDay);
    this.#database.prepare("DELETE FROM days WHERE day = ?").run(day);
    const upTo = this.#database.prepare(
      "SELECT series FROM closed_rows WHERE bucket = ? AND series >= ? ORDER BY series LIMIT 1 OFFSET ?",
    );
    const add = this.#database.prepare(`
      INSERT INTO days (day, series, amount, histogram)
      SELECT ?, series, amount, NULL FROM closed_rows WHERE bucket = ? AND series >= ? AND series < ? AND amount IS NOT NULL
      ON CONFLICT (day, series) DO UPDATE SET amount = amount + excluded.amount`);
    const distributions = this.#database.prepare(
      "SELECT series, histogram FROM closed_rows WHERE bucket = ? AND series >= ? AND series < ? AND histogram IS NOT NULL",
    );
    const histograms = new Map<number, string>();
    for (let bucket = day * bucketsPerDay; bucket < (day + 1) * bucketsPerDay; bucket++) {
      for (let first = 0; first < Number.MAX_SAFE_INTEGER; ) {
        const next = upTo.get(bucket, first, SUMMED_A_STEP)?.["series"];
        const end = next == null ? Number.MAX_SAFE_INTEGER : Number(next);
        add.run(day, bucket, first, end);
        yield "turn";
        yield* forEach(distributions.iterate(bucket, first, end), ({ histogram, series }) => {
          const id = Number(series);
          histograms.set(id, addHistogramTexts(histograms.get(id), String(histogram)));
        });
        first = end;
      }
    }
    const write = this.#database.prepare(
      "INSERT OR REPLACE INTO days (day, series, amount, histogram) VALUES (?, ?, NULL, ?)",
    );
    yield* forEach(histograms, ([series, histogram]) => write.run(day, series, histogram));
    const count = this.#database.prepare("SELECT count(*) AS rows FROM days WHERE day = ?").get(day);
    return Number(count?.["rows"] ?? 0);
  }
}

/** Digest of a day's rollup. */
export function rollupDigest(database: DatabaseSync, day: number): string {
  return digestOf(day, [...rollupTexts(database, day)]);
}

function* rollupTexts(database: DatabaseSync, day: number): Generator<string> {
  const rows = database.prepare("SELECT series, amount, histogram FROM days WHERE day = ? ORDER BY series");
  rows.setReadBigInts(true);
  for (const row of rows.iterate(day)) yield `${row["series"]} ${row["amount"] ?? row["histogram"]}`;
}

function digestOf(day: number, texts: readonly string[]): string {
  return checkOf(String(day), ...texts);
}
