// Reads a ledger file beside the running agent: sums of any range of buckets, and single rows for delivery.
// Whole days that were rolled up are read from their rollups, the rest from the rows; a local day that shares most of
// its length with a rolled-up UTC day is read as that day less the rest of it.
import { existsSync } from "node:fs";
import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { BucketNumber, Dimensions, Histogram, StateRow } from "../../model.ts";
import { BUCKET_NANOS } from "../../model.ts";
import type { Booked } from "./booked.ts";
import { booked } from "./booked.ts";
import { addStored } from "./digests.ts";
import { openReadOnly } from "./read-only.ts";
import { bucketsPerDay, FIRST_ROW } from "./rollups.ts";
import { SEALED_BUCKETS } from "./schema.ts";
import type { Moved } from "./series-pages.ts";
import { rowsWait } from "./settle.ts";
import type { Steps } from "./steps.ts";
import { forEach } from "./steps.ts";

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
  /** What the row held before this revision; undefined for its first. */
  readonly before: bigint | undefined;
}

/** Sums of series from some bucket on, and since when everything is held, unix milliseconds; undefined in an empty ledger. */
export interface SumsSince {
  readonly rows: readonly (readonly [metric: string, dimensions: Dimensions, amount: bigint])[];
  readonly heldSince: number | undefined;
}

/** Stretches whose sums are kept. */
const cachedMax = 8;
const bucketMillis = Number(BUCKET_NANOS / 1_000_000n);

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
  readonly #close: () => void;
  readonly #statements = new Map<string, StatementSync>();
  readonly #cached = new Map<string, ReadonlyMap<number, Moved>>();
  #cachedFor: ReadonlyMap<number, StoredSeries> | undefined;

  /** Opens a ledger file; throws `NoLedger` where there is none. */
  constructor(path: string) {
    if (!existsSync(path)) throw new NoLedger(path);
    const { close, database } = openReadOnly(path);
    this.#database = database;
    this.#close = close;
  }

  /** Identity of the agent that keeps the ledger. */
  get agentId(): string {
    return String(this.#meta("agentId") ?? "unknown");
  }

  /** Length and last hash of the audit chain, unproved. */
  get head(): { readonly length: number; readonly hash: string } {
    const row = this.#prepared("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1").get();
    return { length: Number(row?.["sequence"] ?? 0), hash: String(row?.["hash"] ?? "") };
  }

  /** End of the last stored interval in unix nanoseconds; undefined in an empty ledger. */
  get time(): bigint | undefined {
    const time = this.#meta("time");
    return time === undefined ? undefined : BigInt(time);
  }

  /** First bucket whose rows are kept; of earlier days only rollups are, and those only as whole UTC days. */
  get rowsFrom(): BucketNumber {
    return (Number(this.#meta("prunedDay") ?? -1) + 1) * bucketsPerDay;
  }

  /** First bucket that is not closed yet: what is shared out when a bucket closes is known before it. */
  get closedUntil(): BucketNumber {
    const last = this.#prepared(`SELECT max(bucket) AS bucket FROM ${SEALED_BUCKETS}`).get()?.["bucket"];
    return last == null ? 0 : Number(last) + 1;
  }

  /** First and last instant anything is kept of, in buckets; undefined in an empty ledger. */
  get held(): { readonly from: BucketNumber; readonly to: BucketNumber } | undefined {
    const held = this.#held();
    return held.from < held.to ? held : undefined;
  }

  /**
   * Since when everything that was metered is held, unix milliseconds: the first start of an agent with this ledger, else the
   * first bucket that has a row. Of a first day whose rows were pruned its start. Undefined in an empty ledger.
   */
  get heldSince(): number | undefined {
    const { held } = this;
    if (held === undefined) return undefined;
    const row = this.#prepared(FIRST_ROW).get()?.["bucket"];
    // The rollup of a day begins with it, whenever its first row does.
    const isFirstDayKept = row != null && Number(row) - held.from < bucketsPerDay;
    const first = (isFirstDayKept ? Number(row) : held.from) * bucketMillis;
    const entry = this.#prepared(
      "SELECT kind, at FROM audit WHERE kind IN ('start', 'close') ORDER BY sequence LIMIT 1",
    ).get();
    if (entry?.["kind"] !== "start") return first;
    return Math.max(first, Math.ceil(Number(BigInt(String(entry["at"])) / 1000n) / 1000));
  }

  /** When an agent with quotas began with a ledger that was a copy or brought back, unix milliseconds. */
  get doubtedAt(): readonly number[] {
    const found = this.#prepared(
      "SELECT at FROM audit WHERE kind = 'policy' AND instr(body, '\"outdated\"') > 0",
    );
    return found.all().map((row) => Number(BigInt(String(row["at"])) / 1_000_000n));
  }

  /** Whether rows of the last commit wait in the agent's memory for room on the disk: sums lack them. */
  get rowsWait(): boolean {
    return rowsWait(this.#database);
  }

  /** Every series of these metrics, by id. */
  series(metrics: ReadonlySet<string>): ReadonlyMap<number, StoredSeries> {
    return new Map(this.#seriesOf(metrics));
  }

  *#seriesOf(metrics: ReadonlySet<string>): Generator<[id: number, StoredSeries]> {
    const marks = [...metrics].map(() => "?").join(", ");
    const statement = this.#database.prepare(
      `SELECT id, metric, dimensions FROM series WHERE metric IN (${marks})`,
    );
    for (const row of statement.iterate(...metrics)) {
      const text = String(row["dimensions"]);
      yield [Number(row["id"]), { metric: String(row["metric"]), dimensions: JSON.parse(text), text }];
    }
  }

  /** What each of these series moved in the buckets `[from, to)`. */
  sums(
    wantedFrom: BucketNumber,
    wantedTo: BucketNumber,
    series: ReadonlyMap<number, StoredSeries>,
  ): Map<number, Moved> {
    const sums = new Map<number, Moved>();
    const held = this.#held();
    const [from, to] = [Math.max(wantedFrom, held.from), Math.min(wantedTo, held.to)];
    if (from >= to) return sums;
    const rolled = Number(this.#meta("rolledDay") ?? -1);
    const [firstDay, endDay] = [Math.ceil(from / bucketsPerDay), Math.floor(to / bucketsPerDay)];
    const wholeEnd = Math.min(endDay, rolled + 1);
    if (firstDay < wholeEnd) add(sums, this.#read("days", firstDay, wholeEnd, series), 1);
    const parts =
      firstDay < wholeEnd
        ? [[from, firstDay * bucketsPerDay] as const, [wholeEnd * bucketsPerDay, to] as const]
        : splitAtMidnight(from, to);
    for (const [start, end] of parts) this.#addPart(sums, start, end, rolled, series);
    // A day less the rest of it: what moved in the rest alone is nothing here, not a zero.
    for (const [id, moved] of sums) {
      if (moved === 0n || (typeof moved !== "bigint" && moved.count === 0)) sums.delete(id);
    }
    return sums;
  }

  /** What the series of these metrics moved from a bucket on, the open one included. */
  *sumsSince(metrics: readonly string[], wantedFrom: BucketNumber): Steps<SumsSince> {
    const series = new Map<number, StoredSeries>();
    yield* forEach(this.#seriesOf(new Set(metrics)), ([id, one]) => series.set(id, one));
    const sums = new Map<number, Moved>();
    const { from, to } = this.#held();
    const [rolled, rowsFrom] = [Number(this.#meta("rolledDay") ?? -1), this.rowsFrom];
    for (let at = Math.max(wantedFrom, from); at < to; ) {
      const day = Math.floor(at / bucketsPerDay);
      const midnight = (day + 1) * bucketsPerDay;
      const isWhole = at % bucketsPerDay === 0 && day <= rolled;
      const end = isWhole || at < rowsFrom ? Math.min(midnight, to) : at + 1;
      add(sums, this.sums(at, end, series), 1);
      yield "turn";
      at = end;
    }
    const rows: SumsSince["rows"][number][] = [];
    for (const [id, moved] of sums) {
      const known = series.get(id);
      if (known !== undefined && typeof moved === "bigint" && moved !== 0n)
        rows.push([known.metric, known.dimensions, moved]);
    }
    return { rows, heldSince: this.heldSince };
  }

  /** Rows of the stored state whose key begins so. */
  state(prefix: string): readonly StateRow[] {
    const found = this.#prepared("SELECT key, value FROM state WHERE substr(key, 1, ?) = ?");
    return found.all(prefix.length, prefix).map((row) => ({
      key: String(row["key"]),
      value: String(row["value"]),
    }));
  }

  /** Sequence of the last stored beat. */
  get sequence(): number {
    return Number(this.#meta("sequence") ?? 0);
  }

  /** Rows of closed buckets in `[from, to)` of one metric, in order: of each its first revision first. */
  *rows(from: BucketNumber, to: BucketNumber, metric: string): Generator<StoredRow> {
    const statement = this.#database.prepare(`
      SELECT r.bucket AS bucket, r.series AS series, r.amount AS amount, r.revision AS revision, s.metric AS metric,
        s.dimensions AS dimensions
      FROM (SELECT bucket, series, amount, revision FROM closed_rows
        UNION ALL SELECT bucket, series, amount, revision FROM superseded) r JOIN series s ON s.id = r.series
      WHERE r.bucket >= ? AND r.bucket < ? AND s.metric = ? AND r.amount IS NOT NULL
        AND r.bucket IN ${SEALED_BUCKETS} ORDER BY r.bucket, r.series, r.revision`);
    statement.setReadBigInts(true);
    let [place, last] = ["", 0n];
    for (const row of statement.iterate(from, to, metric)) {
      const text = String(row["dimensions"]);
      const [bucket, amount] = [Number(row["bucket"]), row["amount"] as bigint];
      const here = `${bucket} ${String(row["series"])}`;
      const before = here === place ? last : undefined;
      [place, last] = [here, amount];
      yield {
        bucket,
        revision: Number(row["revision"]),
        amount,
        before,
        metric: String(row["metric"]),
        dimensions: JSON.parse(text),
        text,
      };
    }
  }

  /** Everything series of these metrics booked in `[from, to)`, in order, what came late by itself. */
  booked(metrics: readonly string[], from: BucketNumber, to: BucketNumber): Generator<Booked> {
    return booked(this.#database, metrics, { from, to, rowsFrom: this.rowsFrom });
  }

  close(): void {
    this.#close();
  }

  /** The buckets anything is held of: a range may be wished far beyond them. */
  #held(): { readonly from: BucketNumber; readonly to: BucketNumber } {
    // One aggregate a query: SQLite looks an end of the key up, but scans the whole table for both ends at once.
    const edges = (table: string, key: string): Record<string, unknown> | undefined =>
      this.#prepared(
        `SELECT (SELECT min(${key}) FROM ${table}) AS first, (SELECT max(${key}) FROM ${table}) AS last`,
      ).get();
    const buckets = [edges("closed_rows", "bucket"), edges("open_pages", "bucket")];
    const days = edges("days", "day");
    const starts: number[] = [];
    const ends: number[] = [];
    for (const rows of buckets) {
      if (rows?.["last"] == null) continue;
      starts.push(Number(rows["first"]));
      ends.push(Number(rows["last"]) + 1);
    }
    if (days?.["last"] != null) {
      starts.push(Number(days["first"]) * bucketsPerDay);
      ends.push((Number(days["last"]) + 1) * bucketsPerDay);
    }
    return { from: Math.min(...starts), to: Math.max(...ends) };
  }

  /** A part of a day is read from its rows; the larger part of a rolled-up day is the day less the smaller one. */
  #addPart(
    sums: Map<number, Moved>,
    from: BucketNumber,
    to: BucketNumber,
    rolled: number,
    series: ReadonlyMap<number, StoredSeries>,
  ): void {
    if (from >= to) return;
    const day = Math.floor(from / bucketsPerDay);
    const [start, end] = [day * bucketsPerDay, (day + 1) * bucketsPerDay];
    if (day > rolled || to > end || to - from <= bucketsPerDay / 2) {
      add(sums, this.#read("rows", from, to, series), 1);
      return;
    }
    add(sums, this.#read("days", day, day + 1, series), 1);
    if (start < from) add(sums, this.#read("rows", start, from, series), -1);
    if (to < end) add(sums, this.#read("rows", to, end, series), -1);
  }

  /** Sums of a stretch of one table. The last few are kept: neighbouring local days share their edges. */
  #read(
    table: "rows" | "days",
    from: number,
    to: number,
    series: ReadonlyMap<number, StoredSeries>,
  ): ReadonlyMap<number, Moved> {
    if (this.#cachedFor !== series) this.#cached.clear();
    this.#cachedFor = series;
    const name = `${table} ${from} ${to}`;
    const known = this.#cached.get(name);
    if (known !== undefined) return known;
    const metrics = JSON.stringify([...new Set([...series.values()].map((one) => one.metric))]);
    const sums = new Map<number, Moved>();
    for (const one of table === "rows" ? ["closed_rows", "open_rows"] : [table])
      this.#addTable(sums, one, [from, to, metrics]);
    if (this.#cached.size >= cachedMax) this.#cached.delete(this.#cached.keys().next().value ?? "");
    this.#cached.set(name, sums);
    return sums;
  }

  /** Adds what one table says of a stretch. */
  #addTable(
    sums: Map<number, Moved>,
    table: string,
    stretch: [from: number, to: number, metrics: string],
  ): void {
    const key = table === "days" ? "day" : "bucket";
    const where = `WHERE ${key} >= ? AND ${key} < ?
      AND +series IN (SELECT id FROM series WHERE metric IN (SELECT value FROM json_each(?)))`;
    const amounts = this.#prepared(
      `SELECT series, sum(amount) AS amount FROM ${table} ${where} AND amount IS NOT NULL GROUP BY series`,
    );
    amounts.setReadBigInts(true);
    for (const row of amounts.iterate(...stretch))
      add(sums, new Map([[Number(row["series"]), row["amount"] as bigint]]), 1);
    const histograms = this.#prepared(
      `SELECT series, histogram FROM ${table} ${where} AND histogram IS NOT NULL`,
    );
    for (const row of histograms.iterate(...stretch)) {
      const more = new Map([[Number(row["series"]), JSON.parse(String(row["histogram"])) as Histogram]]);
      add(sums, more, 1);
    }
  }

  #meta(key: string): string | undefined {
    const row = this.#prepared("SELECT value FROM meta WHERE key = ?").get(key);
    return row === undefined ? undefined : String(row["value"]);
  }

  #prepared(sql: string): StatementSync {
    const known = this.#statements.get(sql) ?? this.#database.prepare(sql);
    this.#statements.set(sql, known);
    return known;
  }
}

/** Pieces of a range that lie in one UTC day each. */
function splitAtMidnight(
  from: BucketNumber,
  to: BucketNumber,
): readonly (readonly [BucketNumber, BucketNumber])[] {
  const parts: [BucketNumber, BucketNumber][] = [];
  for (let at = from; at < to; ) {
    const end = Math.min(to, (Math.floor(at / bucketsPerDay) + 1) * bucketsPerDay);
    parts.push([at, end]);
    at = end;
  }
  return parts;
}

function add(sums: Map<number, Moved>, more: ReadonlyMap<number, Moved>, sign: 1 | -1): void {
  for (const [series, moved] of more) {
    const known = sums.get(series);
    if (typeof moved === "bigint") {
      sums.set(series, ((known as bigint | undefined) ?? 0n) + BigInt(sign) * moved);
    } else if (known === undefined) sums.set(series, moved);
    else sums.set(series, addStored(known as Histogram, moved, sign));
  }
}
