// Bucket rows that a full disk keeps from being stored: they wait in memory, bounded, while totals go on being saved.
import type { BucketRow } from "../../model.ts";

/** Buckets whose rows may wait for a store that cannot take them; over it the oldest are lost, and counted. */
const waitingMax = 192;

/** Rows that a full disk keeps from being stored, bounded. */
export class WaitingRows {
  readonly #rows = new Map<string, BucketRow>();
  /** Rows lost because the wait was too long. */
  lost = 0;

  get size(): number {
    return this.#rows.size;
  }

  /** Keeps the newest form of each row. */
  add(rows: readonly BucketRow[]): void {
    for (const row of rows) {
      this.#rows.delete(`${row.bucket} ${row.series} ${row.revision}`);
      this.#rows.set(`${row.bucket} ${row.series} ${row.revision}`, row);
    }
    const newest = rows.reduce((latest, row) => Math.max(latest, row.bucket), 0);
    for (const [key, row] of this.#rows) {
      if (row.bucket > newest - waitingMax) continue;
      this.#rows.delete(key);
      this.lost++;
    }
  }

  all(): Iterable<BucketRow> {
    return this.#rows.values();
  }

  clear(): void {
    this.#rows.clear();
  }
}
