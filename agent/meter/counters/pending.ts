// Tokens that were read but whose interval has not settled: stored with every beat, because the readings they came from
// are. Without them a crash between a poll and its settling would lose what that poll saw.
import type { SettledInterval, StateRow, TokenIncrement } from "../../model.ts";
import { pendingIncrements, pendingText } from "./pending-row.ts";

const KEY = '["pending"]';

/** Increments on their way from the poll to the ledger. */
export class Pending {
  readonly #waiting = new Set<TokenIncrement>();

  holdBack(increments: readonly TokenIncrement[]): void {
    // By place, as below: V8 makes an object for each step of an iteration, and a gateway has thousands.
    for (let place = 0; place < increments.length; place++)
      this.#waiting.add(increments[place] as TokenIncrement);
  }

  /** The interval was booked: what it carried waits no longer. */
  booked(interval: SettledInterval): void {
    for (const { increments } of interval.servers) {
      for (let place = 0; place < increments.length; place++)
        this.#waiting.delete(increments[place] as TokenIncrement);
    }
  }

  /** Increments that wait now. */
  get size(): number {
    return this.#waiting.size;
  }

  /** What waits, to be stored in the transaction that stores the readings. */
  row(): StateRow {
    return { key: KEY, value: pendingText(this.#waiting) };
  }
}

/** Increments an earlier run had read and not booked, marked late: they met no GPU time of this run. */
export function restorePending(rows: readonly StateRow[]): readonly TokenIncrement[] {
  const row = rows.find(({ key }) => key === KEY);
  if (row === undefined) return [];
  try {
    return (pendingIncrements(row.value) ?? []).map((increment) => ({ ...increment, late: true }));
  } catch {
    return [];
  }
}
