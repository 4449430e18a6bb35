// What usage of single requests was booked under, by the instant it was counted: who bills for a model, and what a gateway is
// called. Both change while records can still be taken back; a take-back must land on the row it corrects. Values are
// kept as long as records are (35 days) and are stored; of a change too many the oldest is forgotten.
import type { StateRow, UnixNanos } from "../model.ts";

const rowKind = "booked-then";
const keptNanos = 36n * 86_400_000_000_000n;
const changesMax = 200;
const keysMax = 10_000;

interface Change {
  /** From this instant on, included. */
  readonly since: UnixNanos;
  /** The value as text. */
  readonly text: string;
}

/** Values by name and instant. What was answered for an instant is answered for ever. */
export class BookedThen {
  readonly #changes = new Map<string, Change[]>();
  /** When the last value was last found to hold. */
  readonly #confirmed = new Map<string, UnixNanos>();
  readonly #dirty = new Set<string>();

  /** Notes what holds `now`, and gives what held at `then`, which lies before. */
  valueAt<T>(name: string, value: T, now: UnixNanos, then: UnixNanos): T {
    const text = JSON.stringify(value);
    const changes = this.#changes.get(name) ?? this.#begin(name);
    const last = changes.at(-1);
    if (last?.text !== text) {
      const confirmed = this.#confirmed.get(name);
      const since = last === undefined ? 0n : confirmed === undefined ? now : confirmed + 1n;
      changes.push({ since, text });
      while (changes.length > changesMax || (changes[1]?.since ?? now) < now - keptNanos) changes.shift();
      this.#dirty.add(name);
    }
    this.#confirmed.set(name, now);
    const found = changes.findLast(({ since }) => since <= then) ?? changes[0];
    return found === undefined || found.text === text ? value : (JSON.parse(found.text) as T);
  }

  /** What changed since the last call, for the store. */
  takeChanges(): readonly StateRow[] {
    const rows = [...this.#dirty].map((name) => {
      const changes = this.#changes.get(name)?.map(({ since, text }) => [String(since), text]);
      return {
        key: JSON.stringify([rowKind, name]),
        value: changes === undefined ? "" : JSON.stringify(changes),
      };
    });
    this.#dirty.clear();
    return rows;
  }

  /** Continues from rows of an earlier run; those of others are passed over. */
  restore({ key, value }: StateRow): void {
    if (!key.startsWith(`["${rowKind}",`) || value === "") return;
    const name = (JSON.parse(key) as string[])[1] ?? "";
    const changes = (JSON.parse(value) as [string, string][]).map(([since, text]) => ({
      since: BigInt(since),
      text,
    }));
    this.#changes.set(name, changes);
  }

  #begin(name: string): Change[] {
    if (this.#changes.size >= keysMax) {
      const [oldest = ""] = this.#changes.keys();
      this.#changes.delete(oldest);
      this.#confirmed.delete(oldest);
      this.#dirty.add(oldest);
    }
    const changes: Change[] = [];
    this.#changes.set(name, changes);
    return changes;
  }
}
