// What a ledger hands out beat by beat, taken in by a store that knows only what it was given: names once, numbers after.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Ledger } from "../../../agent/meter/ledger/ledger.ts";
import type { LedgerBatch, LedgerSnapshot, SeriesState } from "../../../agent/model.ts";
import { totalsOf } from "../../../agent/store/ledger/batch-columns.ts";

const SECOND = 1_000_000_000n;
const START = 1_796_083_200n * SECOND;

/** Names and totals by number, as the store has them. */
class Known {
  readonly series = new Map<number, SeriesState>();

  take(changes: Pick<LedgerBatch, "series" | "totals" | "histograms" | "removed">): number {
    for (const one of changes.series) this.series.set(one.series, one);
    let byNumber = 0;
    for (const [number, total] of totalsOf({ ...NOTHING, ...changes })) {
      const before = this.series.get(number);
      if (before === undefined) throw new Error(`a total of series ${number}, whose name is not known`);
      this.series.set(number, { ...before, total: typeof total === "bigint" ? String(total) : total });
      byNumber++;
    }
    for (const number of changes.removed) this.series.delete(number);
    return byNumber;
  }
}

const NOTHING: LedgerBatch = {
  sequence: 0,
  time: "0",
  series: [],
  removed: [],
  state: [],
  rows: [],
  closed: [],
  audit: [],
};

function byNumber(states: Iterable<SeriesState>): SeriesState[] {
  return [...states].toSorted((a, b) => a.series - b.series);
}

const POWER = { "hw.id": "GPU-0" };
const server = fc.constantFrom("a", "b", "c");
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ book: server, amount: fc.nat(1000), priced: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ observe: server, seconds: fc.nat(9) }) },
  { weight: 2, arbitrary: fc.record({ end: server }) },
  { weight: 1, arbitrary: fc.record({ stepBack: fc.constant(true) }) },
);

describe("Ledger.takeChanges()", () => {
  it("lets a store that knows only what it was given stand where the ledger stands, and changes no snapshot", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const ledger = new Ledger(START, {
          unixNanos: (at) => START + BigInt(Math.round(at)),
          onBooked: () => {},
        });
        const known = new Known();
        const shown: (readonly [LedgerSnapshot, unknown])[] = [];
        for (const [index, one] of steps.entries()) {
          // Far enough apart that names rest in between.
          const end = START + BigInt(index + 1) * 60n * SECOND;
          if ("book" in one) {
            const dimensions = { "tokenwatt.server.id": one.book };
            const kept = one.priced ? { ...dimensions, "tokenwatt.price.version": "v" } : dimensions;
            ledger.postUntil([{ metric: "tokenwatt.tokens", dimensions, kept, amount: one.amount }], end);
          } else if ("observe" in one) {
            const counts = [one.seconds, 1];
            const histogram = { bounds: [1], counts, sum: one.seconds, count: one.seconds + 1 };
            const dimensions = { "tokenwatt.server.id": one.observe };
            ledger.postUntil([{ metric: "tokenwatt.server.queue_time", dimensions, histogram }], end);
          } else if ("end" in one) {
            ledger.endWhere((dimensions) => dimensions["tokenwatt.server.id"] === one.end);
          } else if ("stepBack" in one) ledger.startAnew(end);
          const gauge = { metric: "hw.power", dimensions: POWER, at: 0, everyMs: 1000 };
          ledger.observe({ ...gauge, value: index });
          const snapshot = ledger.commit(end, 0);
          shown.push([snapshot, structuredClone(snapshot.points)]);
          known.take(ledger.takeChanges());
          expect(byNumber(known.series.values())).toEqual(byNumber(ledger.state().series));
        }
        for (const [{ points }, then] of shown) expect(points).toEqual(then);
      }),
    );
  });

  it("gives a name once", () => {
    const ledger = new Ledger(START, { unixNanos: () => START });
    const known = new Known();
    const beat = (seconds: bigint): LedgerBatch => {
      const end = START + seconds * SECOND;
      ledger.postUntil([{ metric: "tokenwatt.tokens", dimensions: {}, amount: 5 }], end);
      ledger.commit(end, 0);
      return { ...NOTHING, ...ledger.takeChanges() };
    };
    expect(known.take(beat(1n))).toBe(0);
    expect(known.take(beat(2n))).toBe(1);
    expect([...known.series.values()]).toMatchObject([{ total: "10" }]);
  });
});
