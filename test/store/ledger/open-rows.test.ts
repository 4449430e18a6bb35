// What moved in open buckets against a plain map: whatever is written, added, closed, rolled back and opened again, `rows` says
// of each series in each bucket what was written last, to the last digit, and a bucket that closed is in pages no more.
import { DatabaseSync } from "node:sqlite";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { BucketColumn, BucketRow, Histogram } from "../../../agent/model.ts";
import { migrate } from "../../../agent/store/ledger/schema.ts";
import { runAtOnce } from "../../../agent/store/ledger/steps.ts";
import { LedgerWriter } from "../../../agent/store/ledger/writer.ts";
import { ROWS_IN_ONE_TABLE } from "./fixture.ts";

type Moved = bigint | Histogram;
type Truth = Map<string, Moved>;

const bucket = fc.integer({ min: 7, max: 9 });
const series = fc.integer({ min: 1, max: 300 });
const sum = fc.oneof(
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.bigInt({ min: 0n, max: 10n ** 13n }),
);
const histogram = fc.record({
  bounds: fc.constant([0.1, 2.5]),
  counts: fc.array(fc.nat(), { minLength: 3, maxLength: 3 }),
  sum: fc.double({ min: 0, max: 1e12, noNaN: true }).map(Math.abs),
  count: fc.nat(),
});
/** A series is a sum or a distribution, never both: every third is one. */
const row = fc
  .tuple(bucket, series, sum, histogram)
  .map(([at, id, amount, distribution]) => [at, id, id % 3 === 0 ? distribution : amount] as const);
const step = fc.record({
  rows: fc.array(row, { maxLength: 40 }),
  close: fc.option(bucket, { freq: 4 }),
  fails: fc.boolean(),
  opens: fc.boolean(),
});

function opened(): DatabaseSync {
  const database = new DatabaseSync(":memory:");
  migrate(database, ":memory:");
  return database;
}

function columnOf(bucket: number, sums: readonly (readonly [number, bigint])[]): BucketColumn {
  return {
    bucket,
    series: Float64Array.from(sums, ([one]) => one),
    high: Int32Array.from(sums, ([, amount]) => Number(amount >> 32n)),
    low: Uint32Array.from(sums, ([, amount]) => Number(amount & 0xffff_ffffn)),
  };
}

/** Rows that are sums, by bucket. */
function columnsOf(rows: readonly BucketRow[]): readonly BucketColumn[] {
  return [...new Set(rows.map((row) => row.bucket))].map((at) => {
    const sums = rows.filter((row) => row.bucket === at);
    return columnOf(
      at,
      sums.flatMap(({ amount, series }) => (typeof amount === "bigint" ? [[series, amount] as const] : [])),
    );
  });
}

/** What a table or view has, as any reader of the file sees it. */
function stored(database: DatabaseSync, table = "rows"): Truth {
  const read = database.prepare(`SELECT bucket, series, amount, histogram, revision FROM ${table}`);
  read.setReadBigInts(true);
  const all = read.all().map((row) => {
    expect(row["revision"]).toBe(0n);
    const { amount, bucket: at, histogram: text, series: one } = row;
    return [`${at} ${one}`, (amount ?? JSON.parse(String(text))) as Moved] as const;
  });
  const found = new Map(all);
  expect(found.size).toBe(all.length);
  return found;
}

const quality = {
  observedNanos: 0n,
  expectedNanos: 0n,
  estimatedMillijoules: 0n,
  millijoules: 0n,
  resets: 0,
};

test("a file says of every bucket what a map says, in pages while it is open and in rows once it is closed", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
      const database = opened();
      let writer = new LedgerWriter(database);
      const truth: Truth = new Map();
      const closed = new Set<number>();
      // What a transaction that failed had taken: its caller takes it once more.
      let waiting: readonly BucketRow[] = [];
      for (const { close, fails, opens, rows } of steps) {
        if (opens && waiting.length === 0) writer = new LedgerWriter(database);
        const taken = rows
          .map(([at, id, amount]) => ({ bucket: at, series: id, revision: 0, amount }))
          .filter((row) => !closed.has(row.bucket));
        const closes = close !== null && !closed.has(close);
        database.exec("BEGIN");
        runAtOnce(writer.rows(waiting));
        runAtOnce(writer.amounts(columnsOf(taken)));
        runAtOnce(writer.rows(taken.filter(({ amount }) => typeof amount !== "bigint")));
        if (closes) runAtOnce(writer.close({ bucket: close, revision: 0, quality, figures: {} }, "0"));
        if (fails) {
          database.exec("ROLLBACK");
          waiting = [...waiting, ...taken];
          continue;
        }
        database.exec("COMMIT");
        for (const row of [...waiting, ...taken]) truth.set(`${row.bucket} ${row.series}`, row.amount);
        waiting = [];
        if (closes) closed.add(close);
        expect(stored(database)).toEqual(truth);
        const inRows = [...truth].filter(([key]) => closed.has(Number(key.split(" ")[0])));
        expect(stored(database, "closed_rows")).toEqual(new Map(inRows));
      }
      database.close();
    }),
    { numRuns: 80 },
  );
});

test("what is added to a sum is the sum and it, in a bucket that had none too", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(bucket, series, fc.bigInt({ min: 0n, max: 2n ** 56n })), { maxLength: 40 }),
      (sums) => {
        const database = opened();
        const truth: Truth = new Map();
        for (const [at, id, more] of sums) {
          runAtOnce(new LedgerWriter(database).addToOpen(at, [[id, more]]));
          truth.set(`${at} ${id}`, ((truth.get(`${at} ${id}`) as bigint | undefined) ?? 0n) + more);
        }
        expect(stored(database)).toEqual(truth);
        database.close();
      },
    ),
  );
});

test("a sum that 64 bits do not hold is refused, with its series", () => {
  const write = (amount: bigint): void =>
    runAtOnce(new LedgerWriter(opened()).rows([{ bucket: 7, series: 3, revision: 0, amount }]));
  write(2n ** 63n - 1n);
  expect(() => write(2n ** 63n)).toThrow("series 3: 9223372036854775808 is larger than 64 bits hold");
});

test("a bucket that was opened again gets what came since beside what it had", () => {
  const database = opened();
  const writer = new LedgerWriter(database);
  for (const amount of [5n, 8n]) {
    runAtOnce(writer.amounts([columnOf(7, [[1, amount]])]));
    runAtOnce(writer.close({ bucket: 7, revision: 0, quality, figures: {} }, "0"));
  }
  expect(stored(database)).toEqual(new Map([["7 1", 13n]]));
});

test("a day that ended is rolled up with all of it, a bucket that a crash left without a seal too", () => {
  const database = opened();
  const writer = new LedgerWriter(database);
  runAtOnce(writer.amounts([columnOf(7, [[1, 5n]]), columnOf(8, [[1, 8n]])]));
  runAtOnce(writer.close({ bucket: 7, revision: 0, quality, figures: {} }, "0"));
  runAtOnce(writer.rollUp(86_400_000_000_000n));
  expect(database.prepare("SELECT day, series, amount FROM days").all()).toEqual([
    { day: 0, series: 1, amount: 13 },
  ]);
  expect(stored(database, "closed_rows")).toEqual(
    new Map([
      ["7 1", 5n],
      ["8 1", 8n],
    ]),
  );
});

test("buckets that were open when an older program ended are in pages, all others stay as they are", () => {
  fc.assert(
    fc.property(
      fc.array(row, { maxLength: 200, size: "max" }),
      fc.integer({ min: 6, max: 9 }),
      (rows, sealed) => {
        const database = opened();
        database.exec(ROWS_IN_ONE_TABLE);
        database.prepare("INSERT INTO buckets VALUES (?, 0, '0', '{}', '{}', 'digest', '')").run(sealed);
        const insert = database.prepare("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, 0)");
        const truth: Truth = new Map();
        for (const [at, id, moved] of rows) {
          truth.set(`${at} ${id}`, moved);
          if (typeof moved === "bigint") insert.run(at, id, moved, null);
          else insert.run(at, id, null, JSON.stringify(moved));
        }
        migrate(database, ":memory:");
        expect(stored(database)).toEqual(truth);
        const inRows = [...truth].filter(([key]) => Number(key.split(" ")[0]) <= sealed);
        expect(stored(database, "closed_rows")).toEqual(new Map(inRows));
        database.close();
      },
    ),
    { numRuns: 30 },
  );
});

test("a long column gives others their turn every few hundred rows", () => {
  const database = opened();
  const sums = Array.from({ length: 2000 }, (_, place) => [place + 1, 5n] as const);
  const turns = [...new LedgerWriter(database).amounts([columnOf(7, sums)])];
  expect(turns.every((turn) => turn === "turn")).toBe(true);
  expect(turns.length).toBeGreaterThanOrEqual(3);
  expect(database.prepare("SELECT count(*) AS n FROM rows").get()?.["n"]).toBe(2000);
});
