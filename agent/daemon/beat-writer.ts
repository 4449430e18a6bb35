// One beat, from what was handed over to what may be shown: segment on disk, then the ledger's transaction. Whatever fails
// on the way, nothing is owed twice and nothing is forgotten: rows wait for the batch that takes them, the store keeps a
// batch the disk refused, and what a snapshot says once is said again where the spool did not take it.

import type { OtlpEncoder } from "../export/otlp/encoder.ts";
import type { Books } from "../meter/books.ts";
import type { LedgerSnapshot, Nanos, StateRow, UnixNanos } from "../model.ts";
import type { Stored } from "../store/ledger/database.ts";
import type { LedgerStore } from "../store/ledger/store.ts";
import type { Spool } from "../store/spool/spool.ts";
import { spoolRows } from "./durable-state.ts";

/** Where beats go. */
export interface BeatWriterParts {
  readonly books: Pick<Books, "commit" | "sayAgain">;
  /** Undefined: nothing survives this process. */
  readonly store: Pick<LedgerStore, "commit"> | undefined;
  readonly spool: Pick<Spool, "append" | "commit" | "isDurable">;
  /** Undefined: nothing is sent to anyone. */
  readonly encoder: Pick<OtlpEncoder, "stream"> | undefined;
}

/** A beat that was stored. */
export interface WrittenBeat {
  readonly snapshot: LedgerSnapshot;
  /** Undefined where there is no store. */
  readonly stored: Stored | undefined;
  /** Why the spool did not take it; what it says once comes with the next. */
  readonly unspooled: Error | undefined;
}

/** Writes the beats of one agent, one after the other. */
export class BeatWriter {
  readonly #parts: BeatWriterParts;
  /** Rows that are in no batch yet, by key. */
  readonly #rows = new Map<string, StateRow>();

  constructor(parts: BeatWriterParts) {
    this.#parts = parts;
  }

  /** Takes rows to be stored with the next batch, be it of this beat or of a later one; the newest of a key counts. */
  takeRows(rows: readonly StateRow[]): void {
    for (const row of rows) this.#rows.set(row.key, row);
  }

  /**
   * Commits the books, spools and stores them. `rowsOf`: rows that name the beat they are stored with. Rejects where the
   * store did not take the batch, which it then keeps; what only the spool did not take is stored and may be shown.
   */
  async write(
    time: UnixNanos,
    at: Nanos,
    rowsOf: (sequence: number) => readonly StateRow[] = () => [],
  ): Promise<WrittenBeat> {
    const { books, spool, store } = this.#parts;
    const { batch, snapshot } = books.commit(time, at, [...this.#rows.values()]);
    this.#rows.clear();
    const rows = [...batch.state, ...rowsOf(batch.sequence)];
    const spooled = await this.#append(snapshot);
    if (typeof spooled === "number") rows.push(...spoolRows(spool, spooled, batch.sequence));
    const stored = await store?.commit({ ...batch, state: rows });
    if (typeof spooled === "number") spool.commit(spooled);
    return { snapshot, stored, unspooled: spooled instanceof Error ? spooled : undefined };
  }

  /** Sequence of the snapshot in the spool; undefined where nobody is sent anything, why where it could not be put there. */
  async #append(snapshot: LedgerSnapshot): Promise<number | Error | undefined> {
    const { books, encoder, spool } = this.#parts;
    if (encoder === undefined) return undefined;
    try {
      return await spool.append(encoder.stream(snapshot));
    } catch (error) {
      books.sayAgain();
      return error as Error;
    }
  }
}
