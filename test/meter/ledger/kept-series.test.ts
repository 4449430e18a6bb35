// kept-series.ts: what an exported series remembers of the one that keeps it saves a look-up and changes nothing, whatever rests,
// is forgotten, folds or begins again meanwhile.
import fc from "fast-check";
import { expect, test } from "vitest";
import { SeriesChanges } from "../../../agent/meter/ledger/columns.ts";
import { KeptSeries } from "../../../agent/meter/ledger/kept-series.ts";
import { Series } from "../../../agent/meter/ledger/series.ts";
import type { Dimensions } from "../../../agent/model.ts";

const MINUTE = 60_000_000_000n;
const DAY = 1440n * MINUTE;
const METRIC = "tokenwatt.tokens";
/** The last says what the first says, as another object. */
const SETS: readonly Dimensions[] = ["a", "b", "c", "d", "a"].map((price) => ({ "tokenwatt.price": price }));

class Kept {
  readonly #remembers: boolean;
  #next = 1;
  readonly kept = new KeptSeries(3, () => this.#next++);
  readonly exported = Array.from({ length: 3 }, (_, place) => this.#made(place));

  constructor(remembers: boolean) {
    this.#remembers = remembers;
  }

  #made(place: number): Series {
    return new Series(-1 - place, "sum", METRIC, { server: String(place) }, 0n);
  }

  book(place: number, set: Dimensions, amount: number, now: bigint): unknown {
    const exported = this.exported[place] as Series;
    const found = this.#remembers
      ? this.kept.findFor(exported, set, now)
      : this.kept.find("sum", METRIC, set, now);
    found.addAmount(amount);
    return [found.id, found.dimensions, found.total, this.kept.isFolded];
  }

  giveUp(place: number): void {
    this.exported[place]?.letGo();
    this.exported[place] = this.#made(place);
  }

  store(sequence: number): void {
    this.kept.takeChanges(sequence, new SeriesChanges());
  }

  get all(): unknown {
    return [this.kept.states().toSorted((one, other) => one.series - other.series), this.kept.takeRemoved()];
  }
}

const step = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({ kind: fc.constant("book" as const), exported: fc.nat(2), set: fc.nat(4) }),
  },
  { weight: 2, arbitrary: fc.constant({ kind: "rest" as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: "forget" as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: "clear" as const }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("giveUp" as const), exported: fc.nat(2) }) },
);

test("KeptSeries finds for an exported series what it finds by name, and holds nothing that was given up", () => {
  fc.assert(
    fc.property(fc.array(step, { size: "max", maxLength: 40 }), (steps) => {
      const sides = [new Kept(true), new Kept(false)] as const;
      let now = MINUTE;
      for (const [sequence, one] of steps.entries()) {
        const [remembering, forgetful] = sides.map((side) => {
          if (one.kind === "book")
            return side.book(one.exported, SETS[one.set] as Dimensions, sequence + 1, now);
          if (one.kind === "giveUp") side.giveUp(one.exported);
          else if (one.kind === "clear") side.kept.clear();
          else {
            side.store(sequence);
            if (one.kind === "rest") side.kept.layToRest(now + 3n * MINUTE);
            else side.kept.forgetBefore(now + DAY);
          }
          return side.all;
        });
        expect(remembering).toEqual(forgetful);
        if (one.kind === "rest") now += 3n * MINUTE;
        const { exported, kept } = sides[0];
        const numbers = new Set(kept.states().map(({ series }) => series));
        if (one.kind === "rest" || one.kind === "forget" || one.kind === "clear")
          expect(exported.filter(({ link }) => link !== undefined && !numbers.has(link.kept.id))).toEqual([]);
      }
    }),
    { numRuns: 300 },
  );
});
