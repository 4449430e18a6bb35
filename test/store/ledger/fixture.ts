// Builds ledgers in temporary folders: books that post, beats that are stored, and a way to bend bytes afterwards.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BooksOptions } from "../../../agent/meter/books.ts";
import { Books } from "../../../agent/meter/books.ts";
import type { LedgerRestored, Posting } from "../../../agent/model.ts";
import type { Stored } from "../../../agent/store/ledger/database.ts";
import type { Retention } from "../../../agent/store/ledger/retention.ts";
import { LedgerAtOnce } from "./ledger-at-once.ts";

/** 2026-11-01T00:00Z, on the bucket grid. */
export const START = 1_793_491_200_000_000_000n;
const SECOND = 1_000_000_000n;

/** A temporary folder, and a way to remove it. */
export function temporaryFolder(): { readonly folder: string; readonly remove: () => void } {
  const folder = mkdtempSync(join(tmpdir(), "ledger-"));
  return { folder, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** Takes a file back to format 7: buckets that are open have rows like the others. */
export const ROWS_IN_ONE_TABLE = `
  INSERT INTO closed_rows SELECT bucket, series, amount, histogram, revision FROM open_rows;
  DROP VIEW rows;
  DROP VIEW open_rows;
  DROP TABLE open_pages;
  ALTER TABLE closed_rows RENAME TO rows;
  PRAGMA user_version = 7;`;

/** Tokens of one server and tenant. */
export function tokens(server: string, amount: number, more: Record<string, string> = {}): Posting {
  const dimensions = { "tokenwatt.server.id": server, "tokenwatt.token.kind": "output", ...more };
  return { metric: "tokenwatt.tokens", dimensions, amount };
}

/** An agent reduced to its accounting: posts at instants, beats into a database. */
export class Bookkeeper {
  readonly database: LedgerAtOnce;
  readonly books: Books;

  constructor(
    folder: string,
    options: {
      retention?: Retention;
      freeBytesMin?: number;
      freeBytes?: () => number;
      pid?: number;
      seconds?: number;
    } = {},
  ) {
    const { freeBytesMin, retention } = options;
    this.database = new LedgerAtOnce(
      {
        folder,
        pid: options.pid ?? 4711,
        ...(retention === undefined ? {} : { retention }),
        freeBytesMin: freeBytesMin ?? 0,
      },
      options.freeBytes,
    );
    this.books = booksOf(options.seconds ?? 0, this.database.opened.restored);
  }

  /** Books postings into the interval that ends at `seconds` after START. */
  post(seconds: number, ...postings: Posting[]): void {
    this.books.ledger.postUntil(postings, START + BigInt(Math.round(seconds)) * SECOND);
  }

  beat(seconds: number): { readonly stored: Stored; readonly beat: ReturnType<Books["commit"]> } {
    const beat = this.books.commit(START + BigInt(seconds) * SECOND, seconds * 1e9);
    return { beat, stored: this.database.commit(beat.batch) };
  }

  close(): void {
    this.database.close();
  }
}

/** Books whose instant 0 is START. */
export function booksOf(seconds: number, restored?: LedgerRestored, more: Partial<BooksOptions> = {}): Books {
  return new Books(
    { start: START + BigInt(seconds) * SECOND, unixNanos: (at) => START + BigInt(Math.round(at)), ...more },
    restored,
  );
}
