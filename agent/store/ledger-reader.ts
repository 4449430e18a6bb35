// Reads a ledger file beside the running agent: sums of any range of buckets, and single rows for delivery.
// Whole days that were rolled up are read from their rollups, the rest from the rows.
import { existsSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import type { BucketNumber, Dimensions, Histogram } from "../model.ts";
import { addStored } from "./histogram-texts.ts";
import { bucketsPerDay } from "./ledger-writer.ts";

/** Identity of a stored series. */
export interface StoredSeries {
  readonly metric: string;
  readonly dimensions: Dimensions;
  /** `dimensions` as stored: sorted keys. */
  readonly text: string;
}

/** One row of a closed bucket. */
export interface StoredRow extends StoredSeries {
  readonly bucket: BucketNumber;
  readonly revision: number;
  readonly amount: bigint;
  /** What the row held before its last revision. */
  readonly before: bigint | undefined;
}

/** There is no ledger to read. */
export class NoLedger extends Error {
  readonly kind = "misconfigured";
  readonly hint =
    "the agent writes it into its state directory (stateDir); name that with --state-dir or --config";

  constructor(path: string) {
    super(`Cannot read ledger ${path}: there is no such file`);
    this.name = "NoLedger";
  }
}

/** An open ledger, for reading only. */
export class LedgerReader {
  readonly #database: DatabaseSync;

  /** Opens a ledger file; throws `NoLedger` where there is none. */
  constructor(path: string) {
    if (!existsSync(path)) throw new NoLedger(path);
    this.#database = new DatabaseSync(path, { readOnly: true, timeout: 5000 });
  }

  /** Identity of the agent that keeps the ledger. */
  get agentId(): string {
    return String(this.#meta("agentId") ?? "unknown");
  }

  /** End of the last stored interval in unix nanoseconds; undefined in an empty ledger. */
  get time(): bigint | undefined {
    const time = this.#meta("time");
    return time === undefined ? undefined : BigInt(time);
  }

  /** Every series of these metrics, by id. */
  series(metrics: ReadonlySet<string>): ReadonlyMap<number, StoredSeries> {
    const found = new Map<number, StoredSeries>();
    const marks = [...metrics].map(() => "?").join(", ");
    const statement = this.#database.prepare(
      `SELECT id, metric, dimensions FROM series WHERE metric IN (${marks})`,
    );
    for (const row of statement.iterate(...metrics)) {
      const text = String(row["dimensions"]);
      found.set(Number(row["id"]), { metric: String(row["metric"]), dimensions: JSON.parse(text), text });
    }
    return found;
  }

  /** What each of these series moved in the buckets `[from, to)`. */
  sums(
    from: BucketNumber,
    to: BucketNumber,
    series: ReadonlyMap<number, unknown>,
  ): Map<number, bigint | Histogram> {
    const sums = new Map<number, bigint | Histogram>();
    const [firstDay, lastDay] = this.#rolledDays(from, to);
    if (firstDay >= lastDay) {
      this.#addRows(sums, series, "rows", "bucket", from, to);
      return sums;
    }
    this.#addRows(sums, series, "rows", "bucket", from, firstDay * bucketsPerDay);
    this.#addRows(sums, series, "days", "day", firstDay, lastDay);
    this.#addRows(sums, series, "rows", "bucket", lastDay * bucketsPerDay, to);
    return sums;
  }

  /** Rows of closed buckets in `[from, to)` of one metric, in order. */
  *rows(from: BucketNumber, to: BucketNumber, metric: string): Generator<StoredRow> {
    const statement = this.#database.prepare(`
      SELECT r.bucket AS bucket, r.amount AS amount, r.revision AS revision, s.metric AS metric, s.dimensions AS dimensions,
        (SELECT amount FROM superseded o WHERE o.bucket = r.bucket AND o.series = r.series
          ORDER BY revision DESC LIMIT 1) AS before
      FROM rows r JOIN series s ON s.id = r.series
      WHERE r.bucket >= ? AND r.bucket < ? AND s.metric = ? AND r.amount IS NOT NULL
        AND r.bucket IN (SELECT bucket FROM buckets) ORDER BY r.bucket, r.series`);
    statement.setReadBigInts(true);
    for (const row of statement.iterate(from, to, metric)) {
      const text = String(row["dimensions"]);
      yield {
        bucket: Number(row["bucket"]),
        revision: Number(row["revision"]),
        amount: row["amount"] as bigint,
        before: (row["before"] as bigint | null) ?? undefined,
        metric: String(row["metric"]),
        dimensions: JSON.parse(text),
        text,
      };
    }
  }

  close(): void {
    this.#database.close();
  }

  /** Whole rolled-up days inside a range of buckets, half-open. */
  #rolledDays(from: BucketNumber, to: BucketNumber): readonly [number, number] {
    const rolled = Number(this.#meta("rolledDay") ?? -1);
    return [Math.ceil(from / bucketsPerDay), Math.min(Math.floor(to / bucketsPerDay), rolled + 1)];
  }

  #addRows(
    sums: Map<number, bigint | Histogram>,
    series: ReadonlyMap<number, unknown>,
    table: "rows" | "days",
    key: "bucket" | "day",
    from: number,
    to: number,
  ): void {
    if (from >= to) return;
    const where = `WHERE ${key} >= ? AND ${key} < ?`;
    const amounts = this.#database.prepare(
      `SELECT series, sum(amount) AS amount FROM ${table} ${where} AND amount IS NOT NULL GROUP BY series`,
    );
    amounts.setReadBigInts(true);
    for (const row of amounts.iterate(from, to)) {
      const id = Number(row["series"]);
      if (!series.has(id)) continue;
      sums.set(id, ((sums.get(id) as bigint | undefined) ?? 0n) + (row["amount"] as bigint));
    }
    const histograms = this.#database.prepare(
      `SELECT series, histogram FROM ${table} ${where} AND histogram IS NOT NULL`,
    );
    for (const row of histograms.iterate(from, to)) {
      const id = Number(row["series"]);
      if (!series.has(id)) continue;
      const [known, more] = [sums.get(id), JSON.parse(String(row["histogram"])) as Histogram];
      sums.set(id, known === undefined ? more : addStored(known as Histogram, more));
    }
  }

  #meta(key: string): string | undefined {
    const row = this.#database.prepare("SELECT value FROM meta WHERE key = ?").get(key);
    return row === undefined ? undefined : String(row["value"]);
  }
}
