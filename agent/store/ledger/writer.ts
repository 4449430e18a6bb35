// The statements behind a commit: series, state, bucket rows, closed buckets and the audit chain.
// Every method expects to run inside the caller's transaction; those that go over many rows do it in steps.
import type { DatabaseSync, StatementSync } from "node:sqlite";
import type {
  AmountColumn,
  AuditEntry,
  BucketColumn,
  BucketNumber,
  BucketQuality,
  BucketRow,
  ClosedBucket,
  Histogram,
  LateRow,
  SeriesState,
  StateRow,
} from "../../model.ts";
import type { DigestRow } from "./digests.ts";
import { BucketHash, canonicalText, chainHash, chainStart, checkOf, dimensionsText } from "./digests.ts";
import { OpenRows } from "./open-rows.ts";
import { bucketsPerDay, Rollups } from "./rollups.ts";
import { SeriesPages } from "./series-pages.ts";
import type { Steps } from "./steps.ts";
import { forEach, forEachPlace } from "./steps.ts";

/** Why a bucket was sealed again, or for the first time, when usage came after its end. */
export const lateReason = "usage that arrived late";

/** State rows that name a counted usage record and the unix second until which its id is remembered. */
const usageKey = /^\["usage","([0-9a-f]+)",(\d+)\]$/;

/** Quality of a bucket in which the agent did not run. */
const unobserved: BucketQuality = {
  observedNanos: 0n,
  expectedNanos: 0n,
  estimatedMillijoules: 0n,
  millijoules: 0n,
  resets: 0,
};

/** Writes into an open ledger database. */
export class LedgerWriter {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  readonly #rollups: Rollups;
  #totals: SeriesPages | undefined;
  #open: OpenRows | undefined;

  constructor(database: DatabaseSync) {
    this.#database = database;
    this.#rollups = new Rollups(database, this);
  }

  meta(key: string): string | undefined {
    const row = this.#run("SELECT value FROM meta WHERE key = ?").get(key);
    return row === undefined ? undefined : String(row["value"]);
  }

  setMeta(key: string, value: string): void {
    this.#run("INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value").run(
      key,
      value,
    );
  }

  *series(changed: Iterable<SeriesState>, removed: Iterable<number>): Steps<void> {
    const upsert = this.#run(`
      INSERT INTO names (id, metric, dimensions, "check", start, announced, ended, role, live)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1)
      ON CONFLICT (id) DO UPDATE SET start = excluded.start, announced = excluded.announced, ended = excluded.ended,
        role = excluded.role, live = 1`);
    const totals = this.#totalPages();
    yield* forEach(changed, (one) => {
      const dimensions = dimensionsText(one.dimensions);
      upsert.run(
        one.series,
        one.metric,
        dimensions,
        checkOf(one.metric, dimensions),
        one.start,
        one.announced,
        one.ended ?? null,
        one.role ?? null,
      );
      totals.take(one.series, typeof one.total === "string" ? BigInt(one.total) : one.total);
    });
    yield* totals.write();
    const forget = this.#run("UPDATE names SET live = 0 WHERE id = ?");
    yield* forEach(removed, (id) => forget.run(id));
  }

  /** New totals of series that are there. Throws when one is not: its name was never given. */
  *totals(
    sums: AmountColumn,
    others: Iterable<readonly [series: number, total: bigint | Histogram]>,
  ): Steps<void> {
    const pages = this.#totalPages();
    const check = (series: number): void => {
      if (!pages.has(series))
        throw new Error(`Cannot store a total of series ${series}: its name is not known`);
    };
    yield* forEachPlace(sums.series.length, (place) => {
      check(sums.series[place] ?? 0);
      pages.takeAt(sums, place);
    });
    yield* forEach(others, ([series, total]) => {
      check(series);
      pages.take(series, total);
    });
    yield* pages.write();
  }

  /** Gives up the memory of totals that rest. */
  forgetRestingTotals(): void {
    this.#totals?.forgetResting();
  }

  state(rows: Iterable<StateRow>): Steps<void> {
    const upsert = this.#run(
      `INSERT INTO state VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value, "check" = excluded."check"`,
    );
    const forget = this.#run("DELETE FROM state WHERE key = ?");
    const counted = this.#run(
      "INSERT INTO usage VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET content = excluded.content",
    );
    return forEach(rows, ({ key, value }) => {
      const usage = usageKey.exec(key);
      if (usage !== null) counted.run(usage[1] ?? "", Number(usage[2]), value);
      else if (value === "") forget.run(key);
      else upsert.run(key, value, checkOf(key, value));
    });
  }

  /** Rows of buckets that are open, or close in this transaction. */
  rows(rows: Iterable<BucketRow>): Steps<void> {
    return this.#openRows().rows(rows);
  }

  /** The same of sums as columns. */
  amounts(columns: readonly BucketColumn[]): Steps<void> {
    return this.#openRows().amounts(columns);
  }

  /** Gives buckets of `[from, to)` that were never sealed their rows. */
  closeRows(from: BucketNumber, to: BucketNumber): Steps<void> {
    return this.#openRows().closeAll(from, to);
  }

  /** Adds to sums of a bucket that is open. */
  addToOpen(bucket: number, sums: Iterable<readonly [series: number, more: bigint]>): Steps<void> {
    return this.#openRows().add(bucket, sums);
  }

  /** Seals a bucket: its digest goes into the audit chain, so that no row can change unseen afterwards. */
  *close({ revision: given, ...closed }: ClosedBucket, at: string): Steps<void> {
    const open = this.#run(
      "SELECT max(revision) AS revision FROM buckets WHERE bucket = ? AND digest = ''",
    ).get(closed.bucket);
    // Closed before, and opened again by a step of the clock.
    const revision = open?.["revision"] == null ? given : Math.max(given, Number(open["revision"]) + 1);
    yield* this.#openRows().close(closed.bucket);
    const hash = new BucketHash(closed.bucket);
    yield* forEach(this.digestRows(closed.bucket), (row) => hash.add(row));
    const { digest, checks, count } = hash.end();
    const quality = canonicalText(closed.quality);
    const figures = canonicalText(closed.figures);
    this.#run("INSERT OR REPLACE INTO buckets VALUES (?, ?, ?, ?, ?, ?, ?)").run(
      closed.bucket,
      revision,
      at,
      quality,
      figures,
      digest,
      checks,
    );
    const body = { bucket: closed.bucket, revision, rows: count, digest };
    const record = { ...body, quality: JSON.parse(quality), figures: JSON.parse(figures) };
    this.audit({ at, kind: revision === 0 ? "close" : "revision", body: record });
  }

  /**
   * Opens the buckets from `first` on again: their seals are taken off, which the record says, and each gets one as its
   * next revision when it ends once more. Days they lie in are rolled up again.
   */
  reopen(first: number, at: string): void {
    const { changes } = this.#run("UPDATE buckets SET digest = '' WHERE bucket >= ? AND digest <> ''").run(
      first,
    );
    const day = Math.floor(first / bucketsPerDay);
    // Of days whose rows were pruned the rollup is all there is.
    const from = Math.max(day, Number(this.meta("prunedDay") ?? -1) + 1);
    if (from <= Number(this.meta("rolledDay") ?? -1)) {
      this.#run("DELETE FROM days WHERE day >= ?").run(from);
      this.setMeta("rolledDay", String(from - 1));
    }
    if (Number(changes) === 0) return;
    this.audit({ at, kind: "clock_step", body: { reopened: first, buckets: Number(changes), seconds: 0 } });
  }

  /** Adds usage that arrived after its bucket was closed: each bucket gets a revision, the old rows are superseded. */
  *addLate(late: Iterable<LateRow>, at: string): Steps<void> {
    const byBucket = new Map<number, LateRow[]>();
    for (const row of late) {
      const known = byBucket.get(row.bucket) ?? [];
      known.push(row);
      byBucket.set(row.bucket, known);
    }
    const prunedDay = Number(this.meta("prunedDay") ?? -1);
    for (const [bucket, rows] of byBucket) {
      if (Math.floor(bucket / bucketsPerDay) <= prunedDay) yield* this.#addToDay(bucket, rows, at);
      else yield* this.#addToBucket(bucket, rows, at);
    }
  }

  /** Replaces amounts in a closed bucket: the old rows are kept as superseded, the bucket is sealed again. */
  *revise(
    bucket: number,
    changes: readonly { readonly series: number; readonly amount: bigint | Histogram }[],
    at: string,
    reason: string,
  ): Steps<void> {
    const sealed = this.#run("SELECT max(revision) AS revision FROM buckets WHERE bucket = ?").get(bucket);
    if (sealed?.["revision"] == null) throw new Error(`Cannot revise bucket ${bucket}: it was never closed`);
    const revision = Number(sealed["revision"]) + 1;
    const keep = this.#run(
      "INSERT INTO superseded SELECT bucket, series, revision, amount, histogram FROM closed_rows WHERE bucket = ? AND series = ?",
    );
    const write = this.#run("INSERT OR REPLACE INTO closed_rows VALUES (?, ?, ?, ?, ?)");
    // The running total stays what was exported; the difference is carried, so that it can still be proved.
    const carry = this.#run(`
      UPDATE names SET carried = carried + coalesce((SELECT amount FROM closed_rows WHERE bucket = ? AND series = id), 0) - ?
      WHERE id = ?`);
    yield* forEach(changes, ({ amount, series }) => {
      keep.run(bucket, series);
      if (typeof amount === "bigint") carry.run(bucket, amount, series);
      const [number, histogram] =
        typeof amount === "bigint" ? [amount, null] : [null, JSON.stringify(amount)];
      write.run(bucket, series, number, histogram, revision);
    });
    yield* this.#sealAgain(bucket, revision, at, reason);
  }

  *#addToBucket(bucket: number, rows: readonly LateRow[], at: string): Steps<void> {
    const sealed = this.#run("SELECT max(revision) AS revision FROM buckets WHERE bucket = ?").get(bucket);
    const revision = sealed?.["revision"] == null ? 0 : Number(sealed["revision"]) + 1;
    const keep = this.#run(
      "INSERT INTO superseded SELECT bucket, series, revision, amount, histogram FROM closed_rows WHERE bucket = ? AND series = ?",
    );
    const write = this.#run(`
      INSERT INTO closed_rows (bucket, series, amount, histogram, revision) VALUES (?, ?, ?, NULL, ?)
      ON CONFLICT (bucket, series) DO UPDATE SET amount = amount + excluded.amount, revision = excluded.revision`);
    yield* forEach(rows, ({ amount, series }) => {
      if (revision > 0) keep.run(bucket, series);
      write.run(bucket, series, amount, revision);
    });
    yield* this.#sealAgain(bucket, revision, at, lateReason);
  }

  /** Of a day whose rows were pruned the rollup is all there is. */
  *#addToDay(bucket: number, rows: readonly LateRow[], at: string): Steps<void> {
    const day = Math.floor(bucket / bucketsPerDay);
    const write = this.#run(`
      INSERT INTO days (day, series, amount, histogram) VALUES (?, ?, ?, NULL)
      ON CONFLICT (day, series) DO UPDATE SET amount = amount + excluded.amount`);
    yield* forEach(rows, ({ amount, series }) => write.run(day, series, amount));
    yield* this.#rollups.record(day, at, rows.length);
  }

  *#sealAgain(bucket: number, revision: number, at: string, reason: string): Steps<void> {
    const quality = this.#run("SELECT quality FROM buckets WHERE bucket = ? ORDER BY revision DESC").get(
      bucket,
    );
    const known = quality === undefined ? unobserved : JSON.parse(String(quality["quality"]));
    yield* this.close({ bucket, revision, quality: known, figures: { reason } }, at);
    const day = Math.floor(bucket / bucketsPerDay);
    if (day > Number(this.meta("rolledDay") ?? -1)) return;
    yield* this.#rollups.record(day, at, yield* this.#rollups.sum(day));
  }

  /** Appends to the chain. */
  audit(entry: AuditEntry): void {
    const last = this.#run("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1").get();
    const sequence = Number(last?.["sequence"] ?? 0) + 1;
    const body = canonicalText(entry.body);
    const hash = chainHash(String(last?.["hash"] ?? chainStart), sequence, entry, body);
    this.#run("INSERT INTO audit VALUES (?, ?, ?, ?, ?)").run(sequence, entry.at, entry.kind, body, hash);
  }

  /** Writes the rollup of every day that ended before `time` and has none yet. */
  rollUp(time: bigint): Steps<void> {
    return this.#rollups.rollUp(time);
  }

  /** The rows of a bucket as they enter its digest. */
  *digestRows(bucket: number): Generator<DigestRow> {
    const rows = this.#run(`
      SELECT r.series AS series, r.amount AS amount, r.histogram AS histogram, r.revision AS revision, s."check" AS identity
      FROM closed_rows r LEFT JOIN series s ON s.id = r.series WHERE r.bucket = ? ORDER BY r.series`);
    rows.setReadBigInts(true);
    for (const row of rows.iterate(bucket)) {
      yield {
        series: Number(row["series"]),
        identity: String(row["identity"] ?? ""),
        revision: Number(row["revision"]),
        value: String(row["amount"] ?? row["histogram"]),
      };
    }
  }

  /** Made when it is asked for: older files, which are read by this too, have none. */
  #totalPages(): SeriesPages {
    this.#totals ??= SeriesPages.ofTotals(this.#database);
    return this.#totals;
  }

  #openRows(): OpenRows {
    this.#open ??= new OpenRows(this.#database);
    return this.#open;
  }

  #run(sql: string): StatementSync {
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    const statement = this.#database.prepare(sql);
    this.#statements.set(sql, statement);
    return statement;
  }
}
