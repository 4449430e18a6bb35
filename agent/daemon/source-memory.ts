// What sources remember over restarts (ids that were counted, last points), kept in the ledger's state rows.
// Collected when a commit is made and when a source goes, so that it is stored in one transaction with the tokens.
// Here they only wait for a source to come back: long ones, such as the names of all series of a page, are kept deflated.
import { deflateRawSync, inflateRawSync } from "node:zlib";
import type { StateRow } from "../model.ts";
import type { ServerSource } from "../source.ts";

const MINE = '["receiver",';
/** Length of a text that is worth the time: names repeat themselves, to a twentieth; values are shorter than this. */
const LONG = 4096;

/** The rows of all sources, as far as they are known to be booked. */
export class SourceMemory {
  readonly #rows = new Map<string, string | Buffer>();
  readonly #changed = new Map<string, StateRow>();

  /** Continues from the rows of an earlier run; those of others are passed over. */
  constructor(restored: readonly StateRow[] = []) {
    for (const { key, value } of restored) if (key.startsWith(MINE)) this.#rows.set(key, packed(value));
  }

  /** The rows of one server. */
  of(server: string): readonly StateRow[] {
    const mine = `${MINE}${JSON.stringify(server)},`;
    return [...this.#rows].flatMap(([key, value]) =>
      key.startsWith(mine) ? [{ key, value: unpacked(value) }] : [],
    );
  }

  /** Takes over what a source has to remember of what it gave away so far. */
  collect(source: ServerSource): void {
    for (const row of source.state?.() ?? []) {
      if (row.value === "") this.#rows.delete(row.key);
      else if (row.key.startsWith(MINE)) this.#rows.set(row.key, packed(row.value));
      this.#changed.set(row.key, row);
    }
  }

  /** Rows to be committed: all that changed since the last call. */
  takeChanges(): readonly StateRow[] {
    const rows = [...this.#changed.values()];
    this.#changed.clear();
    return rows;
  }
}

function packed(text: string): string | Buffer {
  if (text.length < LONG) return text;
  const bytes = deflateRawSync(text, { level: 1 });
  // A memory of its own: what zlib gives is the begin of a larger one, and a small copy would hold a piece of Node's pool.
  const own = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(own);
  return own;
}

function unpacked(value: string | Buffer): string {
  return typeof value === "string" ? value : inflateRawSync(value).toString();
}
