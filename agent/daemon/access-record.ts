// Who called which listener of this agent, on the audit record: one entry for each listener and 15 minutes in which it was
// called, with calls by caller and result. Tallies are stored with every commit, so that an agent that is killed forgets
// none that were; no single call is kept.
import { bucketOf } from "../meter/ledger/grid.ts";
import type { Nanos, StateRow, UnixNanos } from "../model.ts";
import type { AccessCount } from "../platform/access-counts.ts";
import { AccessCounts } from "../platform/access-counts.ts";

/** Key of the row that holds the tallies that are not on record yet. */
const ACCESS_KEY = '["access"]';

interface Tally {
  readonly from: UnixNanos;
  readonly counts: AccessCounts;
}

interface StoredTally {
  readonly listener: string;
  readonly from: string;
  readonly counts: readonly AccessCount[];
}

/** What the record needs of the books. */
export interface AccessBooks {
  noteAudit(kind: "access", at: Nanos, body: Readonly<Record<string, unknown>>): void;
}

/** Adds up what listeners counted, and writes it when a bucket ends. */
export class AccessRecord {
  readonly #books: AccessBooks;
  readonly #unixNanos: (at: Nanos) => UnixNanos;
  readonly #tallies = new Map<string, Tally>();
  #changed = false;
  /** When the calls that come now began to be counted. */
  #since: UnixNanos;

  /** Continues from the row an earlier run stored; one that cannot be read is left out. */
  constructor(
    books: AccessBooks,
    unixNanos: (at: Nanos) => UnixNanos,
    now: Nanos,
    restored: readonly StateRow[] = [],
  ) {
    this.#books = books;
    this.#unixNanos = unixNanos;
    this.#since = unixNanos(now);
    const row = restored.find(({ key }) => key === ACCESS_KEY);
    if (row !== undefined) this.#restore(row.value);
  }

  /** Takes what a listener counted since it was asked last. */
  take(listener: string, counted: readonly AccessCount[]): void {
    if (counted.length === 0) return;
    const tally = this.#tallies.get(listener) ?? { from: this.#since, counts: new AccessCounts() };
    this.#tallies.set(listener, tally);
    for (const { calls, caller, result } of counted) tally.counts.count(caller, result, calls);
    this.#changed = true;
  }

  /** Writes the tallies of buckets that ended; `all` also of the one that goes on: the agent stops. */
  writeDue(now: Nanos, all = false): void {
    const to = this.#unixNanos(now);
    for (const [listener, { counts, from }] of this.#tallies) {
      if (!all && bucketOf(from) === bucketOf(to)) continue;
      this.#tallies.delete(listener);
      this.#changed = true;
      const callers: Record<string, Record<string, number>> = {};
      for (const { calls, caller, result } of counts.counts())
        callers[caller] = { ...callers[caller], [result]: calls };
      this.#books.noteAudit("access", now, { listener, from: String(from), to: String(to), callers });
    }
    this.#since = to;
  }

  /** The tallies to be stored with a commit; nothing where they are stored as they stand. */
  takeChanges(): readonly StateRow[] {
    if (!this.#changed) return [];
    this.#changed = false;
    const stored: StoredTally[] = [...this.#tallies].map(([listener, { counts, from }]) => ({
      listener,
      from: String(from),
      counts: counts.counts(),
    }));
    return [{ key: ACCESS_KEY, value: stored.length === 0 ? "" : JSON.stringify(stored) }];
  }

  #restore(text: string): void {
    try {
      for (const { counts, from, listener } of JSON.parse(text) as readonly StoredTally[]) {
        const tally = { from: BigInt(from), counts: new AccessCounts() };
        for (const { calls, caller, result } of counts) tally.counts.count(caller, result, calls);
        this.#tallies.set(listener, tally);
      }
    } catch {
      // A damaged row says nothing about who called; what is counted from here on is on record.
    }
  }
}
