// What earlier beats could not store: all of a beat the disk refused, or the rows of beats that found no room. Totals are
// kept as they stand last, rows in their newest form, bounded; the next beat writes them before its own.
import type {
  AuditEntry,
  BucketRow,
  ClosedBucket,
  Histogram,
  LateRow,
  LedgerBatch,
  SeriesState,
  StateRow,
} from "../../model.ts";
import { NO_TOTALS, rowsOf, totalsOf } from "./batch-columns.ts";
import type { Steps } from "./steps.ts";
import type { LedgerWriter } from "./writer.ts";

const ENTRIES_MAX = 10_000;
/** Buckets whose rows may wait for a store that cannot take them; over it the oldest are lost, and counted. */
const BUCKETS_MAX = 192;

/** Totals, rows, closed buckets and audit entries that wait for the disk. */
export class WaitingBatch {
  readonly #series = new Map<number, SeriesState>();
  readonly #totals = new Map<number, bigint | Histogram>();
  readonly #removed = new Set<number>();
  readonly #state = new Map<string, StateRow>();
  readonly #rows = new WaitingRows();
  #closed: ClosedBucket[] = [];
  #late: LateRow[] = [];
  #audit: AuditEntry[] = [];
  /** Entries there was no room for, by kind. */
  #unwritten: Partial<Record<AuditEntry["kind"], number>> = {};
  #lastTime = "0";
  #reopened: number | undefined;

  /** Rows that wait. */
  get rows(): number {
    return this.#rows.size;
  }

  get closed(): readonly ClosedBucket[] {
    return this.#closed;
  }

  get late(): readonly LateRow[] {
    return this.#late;
  }

  /** Audit entries that wait; of those there was no room for their sum. */
  get audit(): readonly AuditEntry[] {
    if (Object.keys(this.#unwritten).length === 0) return this.#audit;
    const body = { why: "too many audit entries waited for the disk", unwritten: this.#unwritten };
    return [...this.#audit, { at: this.#lastTime, kind: "loss", body }];
  }

  /** First bucket that was opened again meanwhile. */
  get reopened(): number | undefined {
    return this.#reopened;
  }

  /** Rows given up because the wait was too long. */
  get lostRows(): number {
    return this.#rows.lost;
  }

  keepTotals(batch: LedgerBatch): void {
    for (const series of batch.series) {
      this.#series.set(series.series, series);
      this.#totals.delete(series.series);
    }
    for (const [series, total] of totalsOf(batch)) this.#totals.set(series, total);
    for (const series of batch.removed) this.#removed.add(series);
    for (const row of batch.state) this.#state.set(row.key, row);
  }

  keepRows(batch: LedgerBatch): void {
    this.#rows.mergeRows(rowsOf(batch));
    this.#closed.push(...batch.closed);
    if (batch.reopened !== undefined)
      this.#reopened = Math.min(batch.reopened, this.#reopened ?? batch.reopened);
    // Never given up: what was used must be paid, and a reporter was told that it is kept.
    this.#late.push(...(batch.late ?? []));
    const room = Math.max(0, ENTRIES_MAX - this.#audit.length);
    this.#audit.push(...batch.audit.slice(0, room));
    for (const { kind } of batch.audit.slice(room)) this.#unwritten[kind] = (this.#unwritten[kind] ?? 0) + 1;
    this.#lastTime = batch.time;
  }

  *writeTotals(writer: LedgerWriter): Steps<void> {
    yield* writer.series(this.#series.values(), this.#removed);
    yield* writer.totals(NO_TOTALS, this.#totals);
    yield* writer.state(this.#state.values());
  }

  writeRows(writer: LedgerWriter): Steps<void> {
    return writer.rows(this.#rows.all());
  }

  totalsStored(): void {
    this.#series.clear();
    this.#totals.clear();
    this.#removed.clear();
    this.#state.clear();
  }

  rowsStored(): void {
    this.#rows.clear();
    this.#closed = [];
    this.#reopened = undefined;
    this.#late = [];
    this.#audit = [];
    this.#unwritten = {};
  }
}

/** Rows that a full disk keeps from being stored, bounded. */
class WaitingRows {
  /** By bucket, then by series and revision: of old buckets all are dropped at once. */
  readonly #rows = new Map<number, Map<string, BucketRow>>();
  /** Rows lost because the wait was too long. */
  lost = 0;

  get size(): number {
    return [...this.#rows.values()].reduce((sum, { size }) => sum + size, 0);
  }

  /** Keeps the newest form of each row. */
  mergeRows(rows: Iterable<BucketRow>): void {
    let newest = 0;
    for (const row of rows) {
      newest = Math.max(newest, row.bucket);
      const inBucket = this.#rows.get(row.bucket) ?? new Map<string, BucketRow>();
      this.#rows.set(row.bucket, inBucket.set(`${row.series} ${row.revision}`, row));
    }
    for (const [bucket, { size }] of this.#rows) {
      if (bucket > newest - BUCKETS_MAX) continue;
      this.#rows.delete(bucket);
      this.lost += size;
    }
  }

  *all(): Generator<BucketRow> {
    for (const rows of this.#rows.values()) yield* rows.values();
  }

  clear(): void {
    this.#rows.clear();
  }
}
