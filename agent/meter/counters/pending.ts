// Tokens that were read but whose interval has not settled: stored with every beat, because the readings they came from
// are. Without them a crash between a poll and its settling would lose what that poll saw.
// What was read of a server at one instant is booked at once. It is known by that and not by its objects: what an interval
// books may be copies, as where data-parallel ranks share an increment or GPUs of another host made a part of it.
import type { Nanos, SettledInterval, StateRow, TokenIncrement } from "../../model.ts";
import { pendingIncrements, pendingText } from "./pending-row.ts";

const KEY = '["pending"]';

/** What one sample of a server moved. */
interface Batch {
  readonly at: Nanos;
  readonly increments: readonly TokenIncrement[];
}

/** Increments on their way from the poll to the ledger. */
export class Pending {
  readonly #byServer = new Map<string, readonly Batch[]>();

  /** `increments`: all that one sample of one server moved. */
  holdBack(increments: readonly TokenIncrement[]): void {
    const first = increments[0];
    if (first === undefined) return;
    const { at, server } = first;
    this.#byServer.set(server, [...(this.#byServer.get(server) ?? []), { at, increments }]);
  }

  /** The interval was booked: what it carried waits no longer. */
  booked(interval: SettledInterval): void {
    for (const { increments, server } of interval.servers) {
      let waiting = this.#byServer.get(server);
      // By place: V8 makes an object for each step of an iteration, and a gateway has thousands.
      for (let place = 0, last = Number.NaN; place < increments.length && waiting !== undefined; place++) {
        const { at } = increments[place] as TokenIncrement;
        if (at !== last) waiting = waiting.filter((batch) => batch.at !== at);
        last = at;
      }
      if (waiting === undefined) continue;
      if (waiting.length === 0) this.#byServer.delete(server);
      else this.#byServer.set(server, waiting);
    }
  }

  /** Increments that wait now. */
  get size(): number {
    let size = 0;
    for (const batches of this.#byServer.values())
      for (const { increments } of batches) size += increments.length;
    return size;
  }

  /** What waits, to be stored in the transaction that stores the readings. */
  row(): StateRow {
    const waiting = [...this.#byServer.values()].flat();
    return { key: KEY, value: pendingText(waiting.map(({ increments }) => increments)) };
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
