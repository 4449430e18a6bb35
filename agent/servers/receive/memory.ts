// What a receiver must still know after a restart so that nothing is counted twice: ids, last points, who is read by what.
// Kept as state rows (`["receiver", server, kind, name]`) that the agent commits together with the tokens they belong to.
import type { StateRow } from "../../model.ts";

/** The kind of key all rows of receivers have in common. */
const KIND = "receiver";

/** One remembered value, as it was committed. */
export interface Remembered {
  readonly name: string;
  readonly value: unknown;
}

/** Rows of one receiver: those of an earlier run, and those changed since the last commit. */
export class ReceiverMemory {
  readonly #server: string;
  readonly #restored = new Map<string, Remembered[]>();
  readonly #changed = new Map<string, () => unknown>();

  /** Rows of other sources, and rows that cannot be read, are passed over. */
  constructor(server: string, rows: readonly StateRow[] = []) {
    this.#server = server;
    for (const row of rows) {
      try {
        const [kind, owner, group, name] = JSON.parse(row.key) as string[];
        if (kind !== KIND || owner !== server || group === undefined || name === undefined) continue;
        const all = this.#restored.get(group) ?? [];
        this.#restored.set(group, all);
        all.push({ name, value: JSON.parse(row.value) });
      } catch {
        // A row of somebody else's making says nothing about what was received.
      }
    }
  }

  /** What an earlier run remembered under `group`. Given out once: the reader owns it from then on. */
  restored(group: string): readonly Remembered[] {
    const all = this.#restored.get(group) ?? [];
    this.#restored.delete(group);
    return all;
  }

  /** Has `value` asked and stored with the next commit; `undefined` forgets the name. */
  set(group: string, name: string, value: () => unknown): void {
    this.#changed.set(JSON.stringify([KIND, this.#server, group, name]), value);
  }

  /** Stores a counted usage record with the next commit, where `CountedUsage` finds it until then and a while longer. */
  setCounted(key: string, untilUnixSeconds: number, content: string): void {
    this.#changed.set(JSON.stringify(["usage", key, untilUnixSeconds]), () => content);
  }

  /** Rows changed since the last call. */
  takeChanges(): readonly StateRow[] {
    const rows = [...this.#changed].map(([key, value]) => {
      const now = value();
      return { key, value: now === undefined ? "" : typeof now === "string" ? now : JSON.stringify(now) };
    });
    this.#changed.clear();
    return rows;
  }
}
