// steps.ts and what is done in steps: a job shares the main thread, goes on only when the disk has what it asked for, and
// comes to what one statement over all rows would have come to.
import { closeSync, existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { setImmediate } from "node:timers/promises";
import * as fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { LedgerDatabase } from "../../../agent/store/ledger/database.ts";
import { LedgerReader } from "../../../agent/store/ledger/reader.ts";
import type { Pause, Steps } from "../../../agent/store/ledger/steps.ts";
import { forEach, runAtOnce, runInTurns } from "../../../agent/store/ledger/steps.ts";
import { LedgerStore } from "../../../agent/store/ledger/store.ts";
import { verifyLedger } from "../../../agent/store/ledger/verify.ts";
import { ledgerPath } from "../../../agent/store/state-folder.ts";
import { Bookkeeper, booksOf, START, temporaryFolder, tokens } from "./fixture.ts";

const SECOND = 1_000_000_000n;
/** Rows of several steps. */
const MANY = 1_501;
const first = Number(START / 900_000_000_000n);
let folder: string;
let remove: () => void;
beforeEach(() => {
  ({ folder, remove } = temporaryFolder());
});
afterEach(() => remove());

describe("runInTurns()", () => {
  it("lets others have their turn between steps of many rows", async () => {
    let turns = 0;
    let isDone = false;
    const others = (async () => {
      for (; !isDone; turns++) await setImmediate();
    })();
    let rows = 0;
    await runInTurns(
      forEach(Array(MANY), () => rows++),
      async () => {},
    );
    isDone = true;
    await others;
    expect([rows, turns]).toEqual([MANY, expect.any(Number)]);
    expect(turns).toBeGreaterThanOrEqual(3);
  });
  it("goes on after each sync, throws one that failed into the job, and ends with what the job ends with", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.constantFrom<Pause>("turn", "disk", "journal", "file"), fc.boolean())),
        async (plan) => {
          const seen: string[] = [];
          function* job(): Steps<number> {
            let failed = 0;
            for (const [pause] of plan) {
              try {
                yield pause;
                seen.push(`after ${pause}`);
              } catch (error) {
                failed++;
                seen.push((error as Error).message);
              }
            }
            return failed;
          }
          const syncs = plan.filter(([pause]) => pause !== "turn");
          let at = 0;
          const failed = await runInTurns(job(), async (what) => {
            await setImmediate();
            if (syncs[at++]?.[1] === true) throw new Error(`no ${what}`);
          });
          expect(seen).toEqual(
            plan.map(([pause, fails]) => (fails && pause !== "turn" ? `no ${pause}` : `after ${pause}`)),
          );
          expect(failed).toBe(syncs.filter(([, fails]) => fails).length);
        },
      ),
      { numRuns: 50 },
    );
  });
});

/** The descriptor of a file that was opened for reading only: SQLite's own can write. */
function readersDescriptor(path: string): number {
  const found = readdirSync("/proc/self/fd").find((name) => {
    try {
      const flags = /^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${name}`, "latin1"))?.[1] ?? "1";
      return readlinkSync(`/proc/self/fd/${name}`) === path && Number.parseInt(flags, 8) % 4 === 0;
    } catch {
      return false;
    }
  });
  return Number(found);
}

describe("LedgerStore", () => {
  it("does one thing after the other: what is read between two beats is a whole beat", async () => {
    const books = booksOf(0);
    const store = await LedgerStore.open({ folder, pid: 1, freeBytesMin: 0 });
    const beat = (seconds: number) => {
      const names = Array.from({ length: MANY }, (_, at) => tokens(`s${at}`, 1));
      books.ledger.postUntil(names, START + BigInt(seconds) * SECOND);
      return books.commit(START + BigInt(seconds) * SECOND, seconds * 1e9).batch;
    };
    const sums: Promise<number>[] = [];
    const commits: Promise<unknown>[] = [];
    for (const seconds of [10, 20, 30]) {
      commits.push(store.commit(beat(seconds)));
      sums.push(
        store
          .sumsSince(["tokenwatt.tokens"], 0)
          .then(({ rows }) => rows.reduce((sum, [, , amount]) => sum + Number(amount), 0)),
      );
    }
    await Promise.all(commits);
    expect(await Promise.all(sums)).toEqual([1, 2, 3].map((beats) => beats * MANY));
    await store.close();
    expect(verifyLedger(ledgerPath(folder)).problems).toEqual([]);
  });
  it("stores an entry of the record as it was handed over, whatever becomes of it meanwhile", async () => {
    const books = booksOf(0);
    const store = await LedgerStore.open({ folder, pid: 1, freeBytesMin: 0 });
    const body = { version: 1 };
    books.noteAudit("config", 1e9, body);
    const stored = store.commit(books.commit(START + SECOND, 1e9).batch);
    body.version = 2;
    await stored;
    expect(await store.auditAfter(0, 10)).toMatchObject([{ kind: "config", body: '{"version":1}' }]);
    await store.close();
  });
  it("holds no lock and writes nothing while the disk does not answer", async () => {
    const ledger = new LedgerDatabase({ folder, pid: 1, freeBytesMin: 0 });
    const books = booksOf(0);
    books.ledger.postUntil([tokens("a", 100)], START + SECOND);
    const { promise: answer, resolve } = Promise.withResolvers<void>();
    const asked: Pause[] = [];
    const done = runInTurns(ledger.commit(books.commit(START + SECOND, 1e9).batch), async (what) => {
      asked.push(what);
      if (what === "disk") await answer;
    });
    await setImmediate();
    const other = new DatabaseSync(ledgerPath(folder), { timeout: 0 });
    const rows = other.prepare("SELECT count(*) AS rows FROM rows");
    other.exec("BEGIN IMMEDIATE; ROLLBACK");
    expect([asked, rows.get()]).toEqual([["disk"], { rows: 0 }]);
    resolve();
    expect(await done).toMatchObject({ stored: "all" });
    expect([asked.slice(0, 2), rows.get()]).toEqual([["disk", "journal"], { rows: 1 }]);
    other.close();
    ledger.close();
  });
  it("takes nothing more once the disk failed to keep its journal, and loses nothing it took before", async () => {
    const books = booksOf(0);
    const store = await LedgerStore.open({ folder, pid: 1, freeBytesMin: 0 });
    const beat = (seconds: number) => {
      books.ledger.postUntil([tokens("a", 100)], START + BigInt(seconds) * SECOND);
      return books.commit(START + BigInt(seconds) * SECOND, seconds * 1e9).batch;
    };
    await store.commit(beat(10));
    const journal = `${ledgerPath(folder)}-wal`;
    closeSync(readersDescriptor(journal));
    const refused = {
      name: "LedgerStoreError",
      gone: true,
      message: expect.stringContaining("did not keep it: EBADF"),
    };
    await expect(store.commit(beat(20))).rejects.toMatchObject(refused);
    await expect(store.commit(beat(30))).rejects.toMatchObject(refused);
    await expect(store.delivered("billing", 1)).rejects.toMatchObject(refused);
    await store.close();
    // Closed by SQLite the journal would be gone, on the strength of a sync that never was.
    expect(existsSync(journal)).toBe(true);
    const next = await LedgerStore.open({ folder, pid: 2, freeBytesMin: 0 });
    expect(next.opened.restored?.series).toMatchObject([{ total: "100" }]);
    await next.close();
  });
});

describe("LedgerDatabase", () => {
  it("writes a small change once the disk answers, and is done when the journal is on it", () => {
    const ledger = new LedgerDatabase({ folder, pid: 1 });
    const small = [
      ledger.startSpool(7),
      ledger.delivered("billing", 7),
      ledger.writeAudit({ at: "0", kind: "config", body: {} }),
    ];
    expect(small.map((steps) => [...steps])).toEqual(small.map(() => ["disk", "journal"]));
    expect(ledger.head().length).toBe(1);
    ledger.close();
  });
  it("moves a long journal into the file and asks for that on the disk before anything else is written", async () => {
    const ledger = new LedgerDatabase({ folder, pid: 1, freeBytesMin: 0 });
    const books = booksOf(0);
    const other = new DatabaseSync(ledgerPath(folder), { readOnly: true });
    const pages = (): unknown => ({ ...other.prepare("PRAGMA wal_checkpoint(NOOP)").get() });
    const asked: (readonly [Pause, unknown])[] = [];
    for (let beat = 1; !asked.some(([what]) => what === "file") && beat <= 20; beat++) {
      asked.length = 0;
      const names = Array.from({ length: MANY }, (_, at) => tokens(`s${beat}-${at}`, 1));
      books.ledger.postUntil(names, START + BigInt(beat) * SECOND);
      const { batch } = books.commit(START + BigInt(beat) * SECOND, beat * 1e9);
      await runInTurns(ledger.commit(batch), async (what) => {
        asked.push([what, pages()]);
      });
    }
    const log = expect.any(Number);
    expect(asked.slice(0, 3)).toEqual([
      ["disk", { busy: 0, log, checkpointed: 0 }],
      ["journal", { busy: 0, log, checkpointed: 0 }],
      ["file", pages()],
    ]);
    const moved = asked[2]?.[1] as { readonly log: number; readonly checkpointed: number };
    expect(moved.log).toBeGreaterThanOrEqual(1000);
    expect(moved.checkpointed).toBe(moved.log);
    other.close();
    ledger.close();
  });
  /** More rows a bucket than are summed or dropped in one step. */
  const many = Array.from({ length: 4_100 }, (_, at) => at);

  it("rolls up and drops days of many rows as one statement would", () => {
    const keeper = new Bookkeeper(folder, { retention: { rowDays: 1, rollupDays: 2 } });
    const day = 86_400;
    for (const at of [100, 1000, day + 100, 4 * day + 100]) {
      keeper.post(
        at,
        ...many.filter((one) => at > day || one % 3 > 0).map((one) => tokens(`s${one}`, one + at)),
      );
      keeper.beat(at + 10);
    }
    const read = (sql: string): unknown[] => {
      const plain = new DatabaseSync(ledgerPath(folder), { readOnly: true });
      const rows = plain.prepare(sql).all();
      plain.close();
      return rows;
    };
    const summed = "SELECT bucket / 96 AS day, series, sum(amount) AS amount FROM rows WHERE bucket / 96 IN";
    const days = read("SELECT day, series, amount FROM days ORDER BY day, series");
    expect(days).toEqual(read(`${summed} (SELECT day FROM days) GROUP BY 1, 2 ORDER BY 1, 2`));
    expect(days.length).toBeGreaterThan(many.length);
    keeper.database.prune(START + BigInt(4 * day + 120) * SECOND);
    keeper.close();
    expect(read("SELECT count(*) AS rows FROM rows UNION ALL SELECT count(*) FROM days")).toEqual([
      { rows: many.length },
      { rows: 0 },
    ]);
    expect(verifyLedger(ledgerPath(folder)).problems).toEqual([]);
  });
  it("forgets the names nothing refers to any more, with pages of totals that hold none of another, and no other", () => {
    const keeper = new Bookkeeper(folder, { retention: { rowDays: 1, rollupDays: 2 } });
    const day = 86_400;
    const post = (at: number, ...servers: string[]) => {
      keeper.post(at, ...servers.map((server) => tokens(server, 7)));
      return keeper.books.commit(START + BigInt(at + 10) * SECOND, (at + 10) * 1e9).batch;
    };
    // Totals lie 128 to a page: in the first two are none of those that stay.
    const gone = Array.from({ length: 256 }, (_, at) => `gone-${at}`);
    keeper.database.commit(post(100, ...gone, "rolled-up", "today", "live"));
    keeper.database.commit(post(3 * day + 100, "rolled-up"));
    keeper.database.commit(post(4 * day + 100, "today"));
    const id = (server: string): number =>
      keeper.books.ledger.state().series.find((one) => one.dimensions["tokenwatt.server.id"] === server)
        ?.series ?? 0;
    const removed = [...gone, "rolled-up", "today"].map(id);
    keeper.database.commit({ ...post(4 * day + 200, "live"), removed });
    keeper.database.prune(START + BigInt(4 * day + 300) * SECOND);
    const file = new DatabaseSync(ledgerPath(folder), { readOnly: true });
    expect(file.prepare("SELECT page FROM total_pages").all()).toEqual([{ page: 2 }]);
    file.close();
    keeper.database.commit(post(4 * day + 300, "live"));
    keeper.close();
    const reader = new LedgerReader(ledgerPath(folder));
    const left = [...reader.series(new Set(["tokenwatt.tokens"])).values()];
    expect(left.map(({ dimensions }) => dimensions["tokenwatt.server.id"])).toEqual([
      "rolled-up",
      "today",
      "live",
    ]);
    reader.close();
    expect(verifyLedger(ledgerPath(folder)).problems).toEqual([]);
  });
});

describe("LedgerReader.sumsSince()", () => {
  it("comes in steps to what the rows sum to from any bucket on, rolled up or not", () => {
    const keeper = new Bookkeeper(folder);
    const booked: [bucket: number, amount: number][] = [];
    for (let quarter = 5; quarter < 96 * 3 + 20; quarter += 7) {
      keeper.post(quarter * 900 + 10, tokens("a", quarter));
      keeper.beat(quarter * 900 + 20);
      booked.push([first + quarter, quarter]);
    }
    keeper.close();
    const reader = new LedgerReader(ledgerPath(folder));
    fc.assert(
      fc.property(fc.integer({ min: -5, max: 96 * 3 + 30 }), (quarter) => {
        const { rows } = runAtOnce(reader.sumsSince(["tokenwatt.tokens"], first + quarter));
        const truth = booked.filter(([bucket]) => bucket >= first + quarter);
        const sum = truth.reduce((all, [, amount]) => all + amount, 0);
        expect(rows.map(([, , amount]) => Number(amount))).toEqual(sum === 0 ? [] : [sum]);
      }),
      { numRuns: 60 },
    );
    reader.close();
  });
});
