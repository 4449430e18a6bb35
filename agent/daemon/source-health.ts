// Health of every source, kept apart from its data: when it was last read, since when it fails and why.
// `/-/status`, `/-/ready` and the self-metrics show it.
import type { Nanos, NoteKind } from "../model.ts";

/** What is known of one source. */
export interface Health {
  readonly ok: boolean;
  readonly lastReadAt: Nanos | undefined;
  /** When the present failure began. */
  readonly failingSince: Nanos | undefined;
  readonly reason: string | undefined;
  readonly reads: number;
  readonly failures: number;
  /** How long the last read took, nanoseconds. */
  readonly tookNanos: Nanos;
  /** How long all reads took together. */
  readonly readNanos: Nanos;
}

/** Something its counters did that they should not do, as last seen. */
export interface Noted {
  readonly kind: NoteKind;
  /** Series, or pages, of all times together. */
  readonly amount: number;
  readonly text: string;
  readonly hint: string | undefined;
  readonly at: Nanos;
}

/** A kind is news again when it was not seen for this long. */
const NEWS_NANOS = 3600 * 1e9;

const FRESH: Health = {
  ok: false,
  lastReadAt: undefined,
  failingSince: undefined,
  reason: undefined,
  reads: 0,
  failures: 0,
  tookNanos: 0,
  readNanos: 0,
};

/** The health of each source by name. */
export class SourceHealth {
  readonly #sources = new Map<string, Health>();
  readonly #notes = new Map<string, Map<NoteKind, Noted>>();

  /** Books a read; returns true when the source had been failing. */
  bookRead(source: string, at: Nanos, tookNanos: Nanos): boolean {
    const before = this.#sources.get(source) ?? FRESH;
    const wasFailing = before.failingSince !== undefined;
    this.#sources.set(source, {
      ...before,
      ok: true,
      lastReadAt: at,
      failingSince: undefined,
      reason: undefined,
      reads: before.reads + 1,
      tookNanos,
      readNanos: before.readNanos + tookNanos,
    });
    return wasFailing;
  }

  /** Books a failure; returns true when it is the first, or has another reason than the one before. */
  bookFailure(source: string, at: Nanos, reason: string): boolean {
    const before = this.#sources.get(source) ?? FRESH;
    this.#sources.set(source, {
      ...before,
      ok: false,
      failingSince: before.failingSince ?? at,
      reason,
      failures: before.failures + 1,
    });
    return before.reason !== reason;
  }

  /** Remembers what a source's counters did; returns true when that is news. */
  noted(source: string, note: Noted): boolean {
    const notes = this.#notes.get(source) ?? new Map<NoteKind, Noted>();
    this.#notes.set(source, notes);
    const before = notes.get(note.kind);
    notes.set(note.kind, { ...note, amount: note.amount + (before?.amount ?? 0) });
    return before === undefined || note.at - before.at > NEWS_NANOS;
  }

  /** What a source's counters did, by kind. */
  notes(source: string): readonly Noted[] {
    return [...(this.#notes.get(source)?.values() ?? [])];
  }

  /** Drops a source that is no longer read. */
  forget(source: string): void {
    this.#sources.delete(source);
    this.#notes.delete(source);
  }

  /** The health of one source; undefined before its first read or failure. */
  get(source: string): Health | undefined {
    return this.#sources.get(source);
  }

  /** Every source with its health. */
  entries(): IterableIterator<[string, Health]> {
    return this.#sources.entries();
  }
}
