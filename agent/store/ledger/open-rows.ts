// What moved in the buckets that are open, as the file holds it: in pages (series-pages.ts), because all of it is written at
// every beat. A bucket that closes gets its rows then, once for all of its beats, and is in pages no more. `rows` shows both.
import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { BucketColumn, BucketRow } from "../../model.ts";
import { SeriesPages } from "./series-pages.ts";
import type { Steps } from "./steps.ts";
import { forEach, forEachPlace } from "./steps.ts";

/** Writes what moved in open buckets into a ledger database. */
export class OpenRows {
  readonly #read: StatementSync;
  readonly #write: StatementSync;
  readonly #database: DatabaseSync;
  readonly #buckets = new Map<number, SeriesPages>();

  constructor(database: DatabaseSync) {
    this.#database = database;
    this.#read = database.prepare(
      "SELECT key, type, value FROM open_pages, json_each(amounts) WHERE bucket = ? AND page = ?",
    );
    this.#read.setReadBigInts(true);
    this.#write = database.prepare(`
      INSERT INTO open_pages VALUES (?, ?, ?) ON CONFLICT (bucket, page) DO UPDATE SET amounts = excluded.amounts`);
  }

  /** Writes rows, each in place of the one its series had in the bucket. */
  *rows(rows: Iterable<BucketRow>): Steps<void> {
    yield* forEach(rows, ({ amount, bucket, series }) => this.#pagesOf(bucket).take(series, amount));
    yield* this.#writePages();
  }

  /** The same of sums as columns. */
  *amounts(columns: readonly BucketColumn[]): Steps<void> {
    for (const column of columns) {
      const pages = this.#pagesOf(column.bucket);
      yield* forEachPlace(column.series.length, (place) => pages.takeAt(column, place));
    }
    yield* this.#writePages();
  }

  /** Adds to the sum a series has in a bucket. */
  *add(bucket: number, sums: Iterable<readonly [series: number, more: bigint]>): Steps<void> {
    const pages = this.#pagesOf(bucket);
    yield* forEach(sums, ([series, more]) => pages.take(series, pages.sumOf(series) + more));
    yield* pages.write();
  }

  /** Gives a bucket its rows. One that was opened again has some: what came since is added. */
  *close(bucket: number): Steps<void> {
    this.#buckets.delete(bucket);
    const settle = this.#database.prepare(`
      INSERT INTO closed_rows (bucket, series, amount, histogram, revision)
      SELECT bucket, series, amount, histogram, revision FROM open_rows WHERE bucket = ? AND page = ?
      ON CONFLICT (bucket, series) DO UPDATE
        SET amount = amount + excluded.amount, histogram = coalesce(excluded.histogram, histogram)`);
    const pages = this.#database.prepare("SELECT page FROM open_pages WHERE bucket = ? ORDER BY page");
    for (const { page } of pages.all(bucket)) {
      settle.run(bucket, Number(page));
      yield "turn";
    }
    this.#database.prepare("DELETE FROM open_pages WHERE bucket = ?").run(bucket);
  }

  /** Gives the buckets of `[from, to)` their rows. */
  *closeAll(from: number, to: number): Steps<void> {
    const open = this.#database.prepare(
      "SELECT DISTINCT bucket FROM open_pages WHERE bucket >= ? AND bucket < ?",
    );
    for (const { bucket } of open.all(from, to)) yield* this.close(Number(bucket));
  }

  *#writePages(): Steps<void> {
    for (const pages of this.#buckets.values()) yield* pages.write();
  }

  #pagesOf(bucket: number): SeriesPages {
    let pages = this.#buckets.get(bucket);
    if (pages === undefined) {
      pages = new SeriesPages({ read: this.#read, write: this.#write, keys: [bucket] });
      this.#buckets.set(bucket, pages);
    }
    return pages;
  }
}
