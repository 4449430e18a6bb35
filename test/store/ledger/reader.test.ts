// reader.ts: any range read from rollups, rows and differences is what the rows alone sum to.
import { cpSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { LedgerReader, NoLedger } from "../../../agent/store/ledger/reader.ts";
import { verifyLedger } from "../../../agent/store/ledger/verify.ts";
import { ledgerPath } from "../../../agent/store/state-folder.ts";
import { Bookkeeper, ROWS_IN_ONE_TABLE, START, temporaryFolder, tokens } from "./fixture.ts";

const { folder, remove } = temporaryFolder();
const first = Number(START / 900_000_000_000n);

beforeAll(() => {
  const keeper = new Bookkeeper(folder);
  for (let quarter = 0; quarter < 96 * 3 + 10; quarter += 3) {
    const latency = { bounds: [1], counts: [quarter, 1], sum: 0.25, count: quarter + 1 };
    keeper.books.ledger.postUntil(
      [{ metric: "tokenwatt.server.queue_time", dimensions: {}, histogram: latency }],
      START + BigInt(quarter * 900 + 10) * 1_000_000_000n,
    );
    keeper.post(quarter * 900 + 10, tokens("a", quarter * quarter + 1));
    keeper.beat(quarter * 900 + 20);
  }
  keeper.close();
});
afterAll(() => remove());

describe("LedgerReader.sums()", () => {
  it("sums any range like the rows do, whatever part of it was rolled up", () => {
    const reader = new LedgerReader(ledgerPath(folder));
    const plain = new DatabaseSync(ledgerPath(folder), { readOnly: true });
    const truth = plain.prepare(
      "SELECT coalesce(sum(amount), 0) AS amount FROM rows WHERE bucket >= ? AND bucket < ?",
    );
    const series = reader.series(new Set(["tokenwatt.tokens", "tokenwatt.server.queue_time"]));
    const histogram = [...series].find(([, one]) => one.metric === "tokenwatt.server.queue_time")?.[0] ?? 0;
    const edge = fc.integer({ min: 0, max: 96 * 3 + 20 });
    fc.assert(
      fc.property(edge, edge, (one, other) => {
        const [from, to] = [first + Math.min(one, other), first + Math.max(one, other)];
        const sums = reader.sums(from, to, series);
        let [amount, quarters, posts] = [0n, 0, 0];
        for (const moved of sums.values()) if (typeof moved === "bigint") amount += moved;
        for (let quarter = 0; quarter < 96 * 3 + 10; quarter += 3) {
          if (quarter < from - first || quarter >= to - first) continue;
          quarters += quarter;
          posts++;
        }
        expect(amount).toBe(BigInt(Number(truth.get(from, to)?.["amount"])));
        const found = sums.get(histogram);
        if (posts > 0 || found !== undefined) expect(found).toMatchObject({ counts: [quarters, posts] });
      }),
      { numRuns: 60 },
    );
    reader.close();
    plain.close();
  });
  it("takes no longer for a range far beyond what it holds", () => {
    const reader = new LedgerReader(ledgerPath(folder));
    const series = reader.series(new Set(["tokenwatt.tokens"]));
    expect(reader.sums(0, 2 ** 31, series)).toEqual(reader.sums(first, first + 400, series));
    reader.close();
  });
  it("leaves out series nobody asked for", () => {
    const reader = new LedgerReader(ledgerPath(folder));
    expect(reader.sums(first, first + 300, reader.series(new Set(["tokenwatt.requests"]))).size).toBe(0);
    reader.close();
  });
  it("says where it looked when there is no ledger", () => {
    expect(() => new LedgerReader("/nonexistent/ledger.db")).toThrow(NoLedger);
  });
});

describe("a ledger of an older program", () => {
  it("is read alike, and proved, where it may not be written to", () => {
    const { folder: older, remove: removeOlder } = temporaryFolder();
    cpSync(folder, older, { recursive: true });
    const look = (path: string) => {
      const reader = new LedgerReader(path);
      const metrics = ["tokenwatt.tokens"];
      const sums = reader.sums(first, first + 400, reader.series(new Set(metrics)));
      const rows = [...reader.rows(first, first + 400, "tokenwatt.tokens")];
      const booked = [...reader.booked(metrics, first, first + 400)];
      const found = { sums, rows, booked, held: reader.held, heldSince: reader.heldSince };
      reader.close();
      return { ...found, verdict: verifyLedger(path) };
    };
    const database = new DatabaseSync(ledgerPath(older));
    database.exec(ROWS_IN_ONE_TABLE);
    database.close();
    expect(look(ledgerPath(older))).toEqual(look(ledgerPath(folder)));
    expect(verifyLedger(ledgerPath(older))).toMatchObject({ problems: [], buckets: 99 });
    removeOlder();
  });
});

describe("LedgerReader.heldSince", () => {
  it("is the first start of an agent, neither the bucket nor the rolled-up day it lies in", () => {
    const { folder: own, remove: removeOwn } = temporaryFolder();
    const keeper = new Bookkeeper(own, { seconds: 3 * 3600 + 100 });
    const start = { version: "1", pid: 1 };
    keeper.books.noteAudit("start", (3 * 3600 + 100) * 1e9, start);
    keeper.post(3 * 3600 + 110, tokens("a", 1));
    keeper.beat(3 * 3600 + 110);
    keeper.post(30 * 3600, tokens("a", 1));
    keeper.beat(30 * 3600);
    keeper.close();
    const reader = new LedgerReader(ledgerPath(own));
    expect(reader.held?.from).toBe(first);
    expect(reader.heldSince).toBe(Number(START / 1_000_000n) + (3 * 3600 + 100) * 1000);
    reader.close();
    removeOwn();
  });
});

describe("LedgerReader.booked()", () => {
  it("hands out every token once: pruned days whole, the rest by bucket, what came late with when it came", () => {
    const { folder: own, remove: removeOwn } = temporaryFolder();
    const keeper = new Bookkeeper(own, { retention: { rowDays: 2 } });
    const hour = 3600;
    let posted = 0;
    for (let at = 1; at <= 24 * 5; at++) {
      posted += at;
      keeper.post(at * hour, tokens("a", at));
      keeper.beat(at * hour);
    }
    // Used in a bucket that is closed, told in another; and once more, later.
    for (const [at, amount] of [
      [24 * 5 + 1, 7],
      [24 * 5 + 2, 5],
    ] as const) {
      posted += amount;
      const late = START + BigInt((24 * 4 + 3) * hour - 1) * 1_000_000_000n;
      keeper.post(at * hour, { ...tokens("a", amount), at: late });
      keeper.beat(at * hour);
    }
    keeper.database.prune(START + BigInt(24 * 5 * hour) * 1_000_000_000n);
    keeper.close();
    const reader = new LedgerReader(ledgerPath(own));
    expect(reader.rowsFrom).toBe(first + 96 * 3);
    const found = [...reader.booked(["tokenwatt.tokens"], first + 5, first + 96 * 6)];
    expect(found.reduce((sum, { amount }) => sum + amount, 0n)).toBe(BigInt(posted));
    expect(found.filter(({ from, to }) => to - from === 96).map(({ from }) => from - first)).toEqual([
      0, 96, 192,
    ]);
    const late = found.filter(({ arrived }) => arrived !== undefined);
    const bucket = first + (24 * 4 + 3) * 4 - 1;
    expect(late.map(({ amount, arrived, from }) => [from, amount, arrived])).toEqual([
      [bucket, 7n, START + BigInt((24 * 5 + 1) * hour) * 1_000_000_000n],
      [bucket, 5n, START + BigInt((24 * 5 + 2) * hour) * 1_000_000_000n],
    ]);
    expect(found.map(({ from }) => from)).toEqual(found.map(({ from }) => from).toSorted((a, b) => a - b));
    reader.close();
    removeOwn();
  });
});
