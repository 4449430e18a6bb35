// database.ts: what was committed is there after a restart, exactly once, and damage never stops metering.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import * as fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { LedgerFiles } from "../../../agent/store/ledger/files.ts";
import { LedgerStore } from "../../../agent/store/ledger/store.ts";
import { verifyLedger } from "../../../agent/store/ledger/verify.ts";
import { ledgerPath, StateLocked } from "../../../agent/store/state-folder.ts";
import { Bookkeeper, ROWS_IN_ONE_TABLE, START, temporaryFolder, tokens } from "./fixture.ts";
import { LedgerAtOnce } from "./ledger-at-once.ts";

let folder: string;
let remove: () => void;
beforeEach(() => {
  ({ folder, remove } = temporaryFolder());
});
afterEach(() => remove());

/** Makes of the view of names and totals the one of files that held a row for each total. */
const rowsOfTheirOwn = `
  DROP VIEW series;
  CREATE VIEW series AS
    SELECT id, metric, dimensions, "check", start, total, histogram, carried, announced, ended, live, role
    FROM names LEFT JOIN totals ON totals.series = names.id;`;

function read(sql: string): Record<string, unknown>[] {
  const database = new DatabaseSync(ledgerPath(folder), { readOnly: true });
  try {
    return database.prepare(sql).all();
  } finally {
    database.close();
  }
}

describe("LedgerDatabase.commit()", () => {
  it("continues totals, start times and open buckets after a restart", () => {
    const first = new Bookkeeper(folder);
    first.post(5, tokens("a", 100));
    first.beat(10);
    first.post(15, tokens("a", 20));
    first.beat(20);
    first.close();
    const second = new Bookkeeper(folder, { seconds: 60 });
    second.post(65, tokens("a", 3));
    const point = second.beat(70).beat.snapshot.points.find((one) => one.metric === "tokenwatt.tokens");
    expect(point).toMatchObject({ value: 123n, start: START, isNew: false });
    expect(read("SELECT bucket, amount FROM rows")).toEqual([
      { bucket: Number(START / 900_000_000_000n), amount: 123 },
    ]);
    second.close();
    expect(verifyLedger(ledgerPath(folder)).problems).toEqual([]);
  });
  it("shows nothing that a crash before the commit would take back", () => {
    const first = new Bookkeeper(folder);
    first.post(5, tokens("a", 100));
    first.beat(10);
    first.post(15, tokens("a", 20));
    first.close();
    const second = new Bookkeeper(folder, { seconds: 60 });
    expect(second.beat(70).beat.snapshot.points).toMatchObject([{ value: 100n }]);
    second.close();
  });
  it("forgets a state key whose value is empty", () => {
    const keeper = new Bookkeeper(folder);
    const beat = (value: string) =>
      keeper.database.commit({ ...keeper.books.commit(START, 0).batch, state: [{ key: "k", value }] });
    beat("1");
    expect(read("SELECT value FROM state WHERE key = 'k'")).toEqual([{ value: "1" }]);
    beat("");
    expect(read("SELECT value FROM state WHERE key = 'k'")).toEqual([]);
    keeper.close();
  });
  it("closes buckets with a seal in the chain and keeps what came before", () => {
    const keeper = new Bookkeeper(folder);
    for (let bucket = 0; bucket < 4; bucket++) {
      keeper.post(bucket * 900 + 10, tokens("a", bucket + 1));
      keeper.beat(bucket * 900 + 20);
    }
    keeper.close();
    const base = Number(START / 900_000_000_000n);
    expect(read(`SELECT bucket - ${base} AS bucket, amount FROM rows ORDER BY bucket`)).toEqual([
      { bucket: 0, amount: 1 },
      { bucket: 1, amount: 2 },
      { bucket: 2, amount: 3 },
      { bucket: 3, amount: 4 },
    ]);
    expect(read("SELECT kind FROM audit").map((row) => row["kind"])).toEqual(["close", "close", "close"]);
    expect(verifyLedger(ledgerPath(folder))).toMatchObject({ buckets: 3, problems: [] });
  });
  it("rolls a day up when it is over, and a report may drop its rows later without losing a total", () => {
    const keeper = new Bookkeeper(folder, { retention: { rowDays: 1, rollupDays: 3 } });
    const day = 86_400;
    for (let at = 0; at < 6; at++) {
      keeper.post(at * day + 100, tokens("a", 10));
      keeper.beat(at * day + 110);
    }
    keeper.database.prune(START + BigInt(5 * day + 200) * 1_000_000_000n);
    keeper.close();
    expect(read("SELECT count(*) AS rows FROM rows")).toEqual([{ rows: 2 }]);
    expect(read("SELECT count(*) AS days FROM days")).toEqual([{ days: 3 }]);
    expect(read("SELECT carried, total FROM series WHERE metric = 'tokenwatt.tokens'")).toEqual([
      { carried: 20, total: 60 },
    ]);
    expect(verifyLedger(ledgerPath(folder)).problems).toEqual([]);
  });
  it("never drops what a sink has not received", () => {
    const keeper = new Bookkeeper(folder, { retention: { rowDays: 1 } });
    const day = 86_400;
    keeper.database.delivered("billing", Number(START / 900_000_000_000n) + 96);
    for (let at = 0; at < 6; at++) {
      keeper.post(at * day + 100, tokens("a", 10));
      keeper.beat(at * day + 110);
    }
    keeper.database.prune(START + BigInt(5 * day + 200) * 1_000_000_000n);
    keeper.close();
    expect(read("SELECT count(*) AS rows FROM rows")).toEqual([{ rows: 5 }]);
  });
  it("keeps totals and lets rows wait while the disk is nearly full, and writes them when there is room", () => {
    let free = 1000;
    const full = new Bookkeeper(folder, { freeBytesMin: 2000, freeBytes: () => free });
    full.post(5, tokens("a", 100));
    expect(full.beat(10).stored).toMatchObject({ stored: "totals", waitingRows: 1 });
    full.post(905, tokens("a", 1));
    expect(full.beat(910).stored).toMatchObject({ stored: "totals", waitingRows: 2 });
    expect(read("SELECT count(*) AS rows FROM rows")).toEqual([{ rows: 0 }]);
    expect(read("SELECT total FROM series")).toEqual([{ total: 101 }]);
    free = 3000;
    expect(full.beat(920).stored).toMatchObject({ stored: "all", waitingRows: 0, lostRows: 0 });
    full.close();
    expect(read("SELECT sum(amount) AS amount FROM rows")).toEqual([{ amount: 101 }]);
    expect(verifyLedger(ledgerPath(folder))).toMatchObject({ buckets: 1, problems: [] });
  });
  it("stores both beats when the first one failed as a whole", () => {
    const keeper = new Bookkeeper(folder);
    keeper.post(5, tokens("a", 1));
    keeper.beat(10);
    const other = new DatabaseSync(ledgerPath(folder), { timeout: 0 });
    other.exec(
      "CREATE TRIGGER refuse BEFORE UPDATE ON total_pages BEGIN SELECT raise(ABORT, 'disk is full'); END",
    );
    keeper.post(15, tokens("a", 2), tokens("b", 5));
    expect(() => keeper.beat(20)).toThrow("disk is full");
    other.exec("DROP TRIGGER refuse");
    other.close();
    keeper.post(25, tokens("b", 1), tokens("c", 7));
    keeper.beat(30);
    keeper.close();
    expect(read("SELECT total FROM series ORDER BY id")).toEqual([{ total: 3 }, { total: 6 }, { total: 7 }]);
    expect(verifyLedger(ledgerPath(folder)).problems).toEqual([]);
  });
  it("refuses the total of a series whose name it was never given", () => {
    const keeper = new Bookkeeper(folder);
    keeper.post(5, tokens("a", 1));
    keeper.books.commit(START + 10_000_000_000n, 10e9).batch;
    keeper.post(15, tokens("a", 2));
    const later = keeper.books.commit(START + 20_000_000_000n, 20e9).batch;
    expect(() => keeper.database.commit(later)).toThrow("Cannot store a total of series 1");
    keeper.post(25, tokens("b", 1));
    // What could not be stored is tried once more with each beat.
    expect(() => keeper.beat(30)).toThrow("Cannot store a total of series 1");
    keeper.close();
  });
  it("refuses a total that does not fit 64 bits, rather than wrapping it around", () => {
    const keeper = new Bookkeeper(folder);
    keeper.post(5, tokens("a", 1));
    const { batch } = keeper.books.commit(START + 10_000_000_000n, 10e9);
    const series = batch.series.map((one) => ({ ...one, total: String(2n ** 63n) }));
    expect(() => keeper.database.commit({ ...batch, series })).toThrow(
      "Cannot store a total of series 1: 9223372036854775808 is larger than 64 bits hold",
    );
    keeper.close();
    expect(read("SELECT total FROM series")).toEqual([]);
  });
  it("revises a closed bucket under a new revision and keeps the old row", () => {
    const keeper = new Bookkeeper(folder);
    keeper.post(5, tokens("a", 100));
    keeper.beat(10);
    keeper.beat(910);
    const bucket = Number(START / 900_000_000_000n);
    keeper.database.revise(bucket, [{ series: 1, amount: 90n }], "1", "engine restarted unseen");
    expect(() => keeper.database.revise(bucket + 1, [], "1", "x")).toThrow("never closed");
    keeper.close();
    expect(read("SELECT amount, revision FROM rows")).toEqual([{ amount: 90, revision: 1 }]);
    expect(read("SELECT amount, revision FROM superseded")).toEqual([{ amount: 100, revision: 0 }]);
    expect(read("SELECT kind FROM audit").map((row) => row["kind"])).toEqual(["close", "revision"]);
    expect(verifyLedger(ledgerPath(folder)).problems).toEqual([]);
  });
  it("rolls a revised day up again", () => {
    const keeper = new Bookkeeper(folder);
    keeper.post(5, tokens("a", 100));
    keeper.beat(10);
    keeper.beat(86_400 + 10);
    keeper.database.revise(Number(START / 900_000_000_000n), [{ series: 1, amount: 90n }], "1", "x");
    keeper.close();
    expect(read("SELECT amount FROM days")).toEqual([{ amount: 90 }]);
    expect(verifyLedger(ledgerPath(folder)).problems).toEqual([]);
  });
  it("books each token once over any pattern of beats, restarts and crashes", () => {
    const step = fc.record({
      seconds: fc.integer({ min: 1, max: 2000 }),
      amount: fc.nat(1000),
      server: fc.constantFrom("a", "b"),
      crash: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 8 }), (steps) => {
        const place = temporaryFolder();
        try {
          let [now, truth] = [0, 0];
          for (const one of steps) {
            const keeper = new Bookkeeper(place.folder, { seconds: now });
            now += one.seconds;
            keeper.post(now, tokens(one.server, one.amount));
            if (!one.crash) {
              keeper.beat(now);
              truth += one.amount;
            }
            keeper.close();
          }
          const { problems } = verifyLedger(ledgerPath(place.folder));
          expect(problems).toEqual([]);
          const database = new DatabaseSync(ledgerPath(place.folder), { readOnly: true });
          const sums = database
            .prepare(
              "SELECT coalesce(sum(amount), 0) AS rows, (SELECT coalesce(sum(total), 0) FROM series) AS totals FROM rows",
            )
            .get();
          database.close();
          expect(sums).toEqual({ rows: truth, totals: truth });
        } finally {
          place.remove();
        }
      }),
      { numRuns: 8 },
    );
  });
});

describe("LedgerDatabase opened on trouble", () => {
  it("refuses a second agent on one state directory and names the first's pid", () => {
    const first = new Bookkeeper(folder, { pid: 4242 });
    expect(() => new LedgerAtOnce({ folder, pid: 1 })).toThrow(/4242/);
    try {
      new LedgerAtOnce({ folder, pid: 1 });
    } catch (error) {
      expect(error).toBeInstanceOf(StateLocked);
      expect((error as StateLocked).pid).toBe(4242);
    }
    first.close();
    new LedgerAtOnce({ folder, pid: 1 }).close();
  });
  it.each(["header", "everywhere"])("puts a damaged file aside and meters on in a new one (%s)", (where) => {
    const first = new Bookkeeper(folder);
    first.post(5, tokens("a", 100));
    first.beat(10);
    first.close();
    const bytes = readFileSync(ledgerPath(folder));
    bytes.fill(0x5a, where === "header" ? 0 : 4096, where === "header" ? 64 : bytes.length);
    writeFileSync(ledgerPath(folder), bytes);
    const second = new Bookkeeper(folder);
    expect(second.database.opened.quarantined?.path).toBe(`${ledgerPath(folder)}.damaged-1`);
    expect(second.database.opened.restored).toBeUndefined();
    second.post(15, tokens("a", 1));
    expect(second.beat(20).stored.stored).toBe("all");
    second.close();
    expect(readdirSync(folder)).toContain("ledger.db.damaged-1");
    expect(readFileSync(join(folder, "ledger.db.damaged-1"))).toEqual(bytes);
    expect(read("SELECT kind FROM audit")).toEqual([{ kind: "quarantine" }]);
  });
  it("does not go on under a series whose name was bent", () => {
    const first = new Bookkeeper(folder);
    first.post(5, tokens("server-one", 100));
    first.beat(10);
    first.close();
    const bytes = readFileSync(ledgerPath(folder));
    bytes.write("server-two", bytes.indexOf("server-one"));
    writeFileSync(ledgerPath(folder), bytes);
    const second = new Bookkeeper(folder);
    expect(second.database.opened.quarantined?.reason).toContain("series 1 does not fit its check");
    second.close();
  });
  it.each([
    {
      held: "beside the names",
      sql: `
        DROP VIEW series;
        ALTER TABLE names RENAME TO series;
        ALTER TABLE series ADD COLUMN total INTEGER;
        ALTER TABLE series ADD COLUMN histogram TEXT;
        UPDATE series SET (total, histogram) = (SELECT total, histogram FROM totals WHERE series = id);
        DROP TABLE totals;
        PRAGMA user_version = 3`,
    },
    {
      held: "apart from the names, with no view of both",
      sql: "DROP VIEW series; ALTER TABLE names RENAME TO series; PRAGMA user_version = 4",
    },
    {
      held: "apart from the names, a row each",
      sql: `${rowsOfTheirOwn} PRAGMA user_version = 5`,
    },
    {
      held: "apart from the names, a row each, under the number of the format without a view",
      sql: `${rowsOfTheirOwn} PRAGMA user_version = 4`,
    },
  ])("goes on from a file that held totals $held, and verifies one that cannot be written", ({ sql }) => {
    const first = new Bookkeeper(folder);
    first.post(5, tokens("a", 100));
    first.beat(10);
    first.close();
    const database = new DatabaseSync(ledgerPath(folder));
    database.exec(`
      ${ROWS_IN_ONE_TABLE}
      CREATE TABLE totals (series INTEGER PRIMARY KEY, total INTEGER, histogram TEXT);
      INSERT INTO totals SELECT id, total, histogram FROM series;
      DROP TABLE total_pages;
      ${sql}`);
    database.close();
    expect(verifyLedger(ledgerPath(folder)).problems).toEqual([]);
    const second = new Bookkeeper(folder);
    expect(second.database.opened.restored?.series.map(({ total }) => total)).toEqual(["100"]);
    second.post(15, tokens("a", 11));
    second.beat(20);
    second.close();
    expect(read("SELECT total FROM series")).toEqual([{ total: 111 }]);
    expect(verifyLedger(ledgerPath(folder)).problems).toEqual([]);
  });
  it("puts a file aside in which a series has no total", () => {
    const first = new Bookkeeper(folder);
    first.post(5, tokens("a", 100));
    first.beat(10);
    first.close();
    const database = new DatabaseSync(ledgerPath(folder));
    database.exec("DELETE FROM total_pages");
    database.close();
    expect(verifyLedger(ledgerPath(folder)).problems.map(({ message }) => message)).toEqual([
      "its total is missing",
    ]);
    const second = new Bookkeeper(folder);
    expect(second.database.opened.quarantined?.reason).toContain("series 1 has no total");
    second.close();
  });
  it("puts no file aside that the disk would not sync: it is not damaged", () => {
    const first = new Bookkeeper(folder);
    first.post(5, tokens("a", 100));
    first.beat(10);
    first.close();
    const sync = vi.spyOn(LedgerFiles.prototype, "syncNow").mockImplementation(() => {
      throw new Error("EIO: i/o error, fdatasync");
    });
    expect(() => new Bookkeeper(folder)).toThrow("EIO");
    sync.mockRestore();
    const second = new Bookkeeper(folder);
    expect(second.database.opened).toMatchObject({ quarantined: undefined, restored: { sequence: 1 } });
    second.close();
  });
  it("writes a format that no program opens which would miss rows of several label sets", () => {
    new Bookkeeper(folder).close();
    const database = new DatabaseSync(ledgerPath(folder), { readOnly: true });
    // That one knows formats up to 6: it would begin without the rows, and count again what was counted.
    expect(Number(database.prepare("PRAGMA user_version").get()?.["user_version"])).toBeGreaterThan(6);
    database.close();
  });

  it("refuses a file of a newer program and leaves it alone", () => {
    new Bookkeeper(folder).close();
    const database = new DatabaseSync(ledgerPath(folder));
    database.exec("PRAGMA user_version = 99");
    database.close();
    expect(() => new Bookkeeper(folder)).toThrow(/ledger format 99/);
    expect(readdirSync(folder)).not.toContain("ledger.db.damaged-1");
  });
});

describe("LedgerStore", () => {
  it("commits and restores in the next one", async () => {
    const keeper = new Bookkeeper(temporaryFolder().folder);
    keeper.post(5, tokens("a", 2 ** 50));
    const { batch } = keeper.books.commit(START + 10_000_000_000n, 10e9);
    keeper.close();
    const store = await LedgerStore.open({ folder, pid: 7, freeBytesMin: 0 });
    expect(store.opened.restored).toBeUndefined();
    expect(await store.commit(batch)).toMatchObject({ stored: "all" });
    await expect(LedgerStore.open({ folder, pid: 8 })).rejects.toMatchObject({
      pid: 7,
      hint: expect.stringContaining("stateDir"),
    });
    await store.close();
    const next = await LedgerStore.open({ folder, pid: 9 });
    expect(next.opened.restored?.series).toMatchObject([{ total: String(2 ** 50) }]);
    await next.close();
  });
});
