// Totals of 128 series a row against a plain map: whatever is taken, written, rolled back, forgotten and opened again, the file
// says of every series what was taken last before a write, to the last digit.
import { DatabaseSync } from "node:sqlite";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Histogram } from "../../../agent/model.ts";
import { migrate } from "../../../agent/store/ledger/schema.ts";
import { SeriesPages } from "../../../agent/store/ledger/series-pages.ts";
import { runAtOnce } from "../../../agent/store/ledger/steps.ts";
import { ROWS_IN_ONE_TABLE } from "./fixture.ts";

type Total = bigint | Histogram;

const series = fc.integer({ min: 1, max: 400 });
const histogram = fc.record({
  bounds: fc.constant([0.1, 2.5]),
  counts: fc.array(fc.nat(), { minLength: 3, maxLength: 3 }),
  sum: fc.double({ min: 0, max: 1e12, noNaN: true }).map(Math.abs),
  count: fc.nat(),
});
const small = fc.bigInt({ min: 0n, max: BigInt(Number.MAX_SAFE_INTEGER) });
const total: fc.Arbitrary<Total> = fc.oneof(
  { weight: 20, arbitrary: small },
  { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }) },
  { weight: 1, arbitrary: histogram },
);
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ take: fc.array(fc.tuple(series, total), { maxLength: 40 }) }) },
  { weight: 1, arbitrary: fc.constant({ fail: true }) },
  { weight: 1, arbitrary: fc.constant({ forget: true }) },
  { weight: 1, arbitrary: fc.constant({ open: true }) },
);

function addNames(database: DatabaseSync): void {
  database.exec(`
    WITH RECURSIVE ids(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM ids WHERE id < 400)
    INSERT INTO names (id, metric, dimensions, "check", start, announced)
      SELECT id, 'm', '{}', '', '0', 1 FROM ids`);
}

/** What the file says, as any reader of it sees it. */
function stored(database: DatabaseSync): Map<number, unknown> {
  const statement = database.prepare("SELECT id, total, histogram FROM series ORDER BY id");
  statement.setReadBigInts(true);
  return new Map(
    statement
      .all()
      .filter((row) => row["total"] !== null || row["histogram"] !== null)
      .map((row) => [Number(row["id"]), row["total"] ?? JSON.parse(String(row["histogram"]))]),
  );
}

test("a file of pages says what a map says, and `move` which series had a total", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const database = new DatabaseSync(":memory:");
      migrate(database, ":memory:");
      addNames(database);
      let pages = SeriesPages.ofTotals(database);
      const truth = new Map<number, Total>();
      // What a transaction that failed had taken: its caller takes it once more.
      let waiting: (readonly [number, Total])[] = [];
      for (const one of steps) {
        if ("forget" in one) pages.forgetResting();
        else if ("open" in one && waiting.length === 0) pages = SeriesPages.ofTotals(database);
        const taken = "take" in one ? one.take : [];
        database.exec("BEGIN");
        for (const [id, amount] of [...waiting, ...taken]) {
          if (waiting.length === 0) expect(pages.has(id)).toBe(truth.has(id));
          pages.take(id, amount);
          expect(pages.has(id)).toBe(true);
          expect(pages.sumOf(id)).toBe(typeof amount === "bigint" ? amount : 0n);
          truth.set(id, amount);
        }
        runAtOnce(pages.write());
        if ("fail" in one) {
          database.exec("ROLLBACK");
          waiting = [...truth];
          continue;
        }
        database.exec("COMMIT");
        waiting = [];
        const expected = [...truth].sort(([left], [right]) => left - right);
        expect([...stored(database)]).toEqual(expected);
      }
      database.close();
    }),
    { numRuns: 60 },
  );
});

test("pages made of a file that held totals a row each say of every series what it said", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(series, total), { maxLength: 200, size: "max" }), (all) => {
      const database = new DatabaseSync(":memory:");
      migrate(database, ":memory:");
      // As format 5 held them.
      database.exec(`
        ${ROWS_IN_ONE_TABLE}
        DROP VIEW series;
        DROP TABLE total_pages;
        CREATE TABLE totals (series INTEGER PRIMARY KEY, total INTEGER, histogram TEXT);
        CREATE VIEW series AS
          SELECT names.*, total, histogram FROM names LEFT JOIN totals ON totals.series = names.id;
        PRAGMA user_version = 5`);
      addNames(database);
      const truth = new Map(all);
      const insert = database.prepare("INSERT INTO totals VALUES (?, ?, ?)");
      for (const [id, one] of truth) {
        if (typeof one === "bigint") insert.run(id, one, null);
        else insert.run(id, null, JSON.stringify(one));
      }
      migrate(database, ":memory:");
      expect([...stored(database)]).toEqual([...truth].sort(([left], [right]) => left - right));
      database.close();
    }),
    { numRuns: 30 },
  );
});
