// The audit record of a ledger, entry by entry, each checked against the chain before it is handed out.
// Reads only, and may run beside the agent: what is written meanwhile is found by the next look.
import type { DatabaseSync } from "node:sqlite";
import type { AuditEntry } from "../../model.ts";
import { chainHash, chainStart } from "./digests.ts";
import { openReadOnly } from "./read-only.ts";

/** An entry as it is stored. */
export interface StoredAudit {
  readonly sequence: number;
  /** Unix nanoseconds. */
  readonly at: bigint;
  readonly kind: AuditEntry["kind"];
  readonly body: Readonly<Record<string, unknown>>;
  readonly hash: string;
}

/** The chain does not go on here: this entry, or its hash, is not what was written. */
export interface BrokenChain {
  readonly sequence: number;
  readonly kind: string;
  readonly message: string;
}

/** Reads the record of one ledger. Throws when it cannot be opened; close it when done. */
export class AuditReader {
  readonly #database: DatabaseSync;
  readonly #close: () => void;
  #sequence = 0;
  #hash = chainStart;

  constructor(path: string) {
    const { close, database } = openReadOnly(path);
    this.#database = database;
    this.#close = close;
  }

  /** What was written since the last call, oldest first. Ends with the first entry that does not fit the chain. */
  *read(): Generator<StoredAudit | BrokenChain> {
    const rows = this.#database.prepare(
      "SELECT sequence, at, kind, body, hash FROM audit WHERE sequence > ? ORDER BY sequence",
    );
    for (const row of rows.iterate(this.#sequence)) {
      const [sequence, kind] = [Number(row["sequence"]), String(row["kind"]) as AuditEntry["kind"]];
      const [at, text, hash] = [String(row["at"]), String(row["body"]), String(row["hash"])];
      const message = this.#fault(sequence, { at, kind, body: {} }, text, hash);
      if (message !== undefined) {
        yield { sequence, kind, message };
        return;
      }
      [this.#sequence, this.#hash] = [sequence, hash];
      yield { sequence, at: BigInt(at), kind, body: JSON.parse(text), hash };
    }
  }

  close(): void {
    this.#close();
  }

  #fault(sequence: number, entry: AuditEntry, text: string, hash: string): string | undefined {
    if (sequence !== this.#sequence + 1)
      return `records ${this.#sequence + 1} to ${sequence - 1} are missing`;
    if (chainHash(this.#hash, sequence, entry, text) === hash) return undefined;
    return "it or its hash was changed: the chain does not go on here";
  }
}
