// Sums as columns against a plain map: however many there are, each bucket has of each series what was written last.
import { DatabaseSync } from "node:sqlite";
import fc from "fast-check";
import { expect, test } from "vitest";
import { migrate } from "../../../agent/store/ledger/schema.ts";
import { runAtOnce } from "../../../agent/store/ledger/steps.ts";
import { LedgerWriter } from "../../../agent/store/ledger/writer.ts";

const sum = fc.tuple(
  fc.integer({ min: 7, max: 8 }),
  fc.integer({ min: 1, max: 60 }),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
);

test("a column of any length is stored row by row, a row once more in its place", () => {
  fc.assert(
    fc.property(fc.array(fc.array(sum, { maxLength: 70 }), { maxLength: 3 }), (columns) => {
      const database = new DatabaseSync(":memory:");
      migrate(database, ":memory:");
      const writer = new LedgerWriter(database);
      const truth = new Map<string, bigint>();
      for (const column of columns) {
        runAtOnce(
          writer.amounts({
            buckets: Float64Array.from(column, ([bucket]) => bucket),
            series: Float64Array.from(column, ([, series]) => series),
            amounts: BigInt64Array.from(column, ([, , amount]) => amount),
          }),
        );
        for (const [bucket, series, amount] of column) truth.set(`${bucket} ${series}`, amount);
      }
      const read = database.prepare("SELECT bucket, series, amount, histogram, revision FROM rows");
      read.setReadBigInts(true);
      const stored = read.all().map((row) => {
        expect([row["histogram"], row["revision"]]).toEqual([null, 0n]);
        return [`${row["bucket"]} ${row["series"]}`, row["amount"]] as const;
      });
      database.close();
      expect(new Map(stored)).toEqual(truth);
    }),
  );
});

test("a long column gives others their turn every few hundred rows", () => {
  const database = new DatabaseSync(":memory:");
  migrate(database, ":memory:");
  const series = Float64Array.from({ length: 2000 }, (_, place) => place + 1);
  const [buckets, amounts] = [new Float64Array(2000).fill(7), new BigInt64Array(2000).fill(5n)];
  const turns = [...new LedgerWriter(database).amounts({ buckets, series, amounts })];
  expect(turns.every((turn) => turn === "turn")).toBe(true);
  expect(turns.length).toBeGreaterThanOrEqual(3);
  expect(database.prepare("SELECT count(*) AS n FROM rows").get()?.["n"]).toBe(2000);
});
