// A state directory that was brought back from a copy: nothing seen outside is shown again, and the record says so.
import { cpSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { loadConfig } from "../../agent/config/load.ts";
import { createCore } from "../../agent/daemon/accounting.ts";
import type { Durable } from "../../agent/daemon/durable-state.ts";
import { continueState, openDurable, spoolRows } from "../../agent/daemon/durable-state.ts";
import { destinations } from "../../agent/export/otlp/config.ts";
import type { Books } from "../../agent/meter/books.ts";
import type { LedgerSnapshot } from "../../agent/model.ts";
import { virtualClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import type { Spool } from "../../agent/store/spool/spool.ts";
import { START, tokens } from "../store/ledger/fixture.ts";

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "durable-"));
  folders.push(folder);
  return folder;
}

interface Life {
  readonly durable: Durable;
  readonly spool: Spool;
  readonly books: Books;
  /** Books tokens, commits, spools and delivers one request; or none, where the spool does not take it. */
  beat(amount: number, isSpooled?: boolean): Promise<LedgerSnapshot>;
  audit(): readonly string[];
  end(): Promise<void>;
}

/** An agent from its state to its spool, `seconds` after START. */
async function live(
  stateDir: string,
  seconds: number,
  origin = START,
  endpoint = "http://localhost:4317",
): Promise<Life> {
  const { config } = loadConfig({
    env: {},
    settings: [`stateDir=${stateDir}`, `export.otlp.endpoint=${endpoint}`],
  });
  const clock = virtualClock(origin + BigInt(seconds) * 1_000_000_000n);
  const opened = await openDurable(config, silentLog);
  const { durable, spool } = await continueState(opened, destinations(config.export.otlp), silentLog);
  const { books } = createCore({
    ...config,
    clock,
    intervalMs: 1000,
    gpuPollMs: 1000,
    restored: durable.restored,
    outdated: durable.outdated,
    strict: true,
  });
  const kinds: string[] = [];
  return {
    durable,
    spool,
    books,
    audit: () => kinds,
    beat: async (amount, isSpooled = true) => {
      await clock.advance(clock.now() + 1e9);
      const time = clock.unixNanos(clock.now());
      books.ledger.postUntil([tokens("a", amount)], time);
      const { batch, snapshot } = books.commit(time, clock.now());
      kinds.push(...batch.audit.map(({ kind }) => kind));
      const entry = { bytes: Uint8Array.of(1), points: 1, time, layout: 0 };
      if (!isSpooled) {
        await durable.store?.commit(batch);
        return snapshot;
      }
      const sequence = await spool.append([entry]);
      await durable.store?.commit({
        ...batch,
        state: [...batch.state, ...spoolRows(spool, sequence, batch.sequence)],
      });
      spool.commit(sequence);
      await spool.acknowledge("main", sequence);
      return snapshot;
    },
    end: async () => {
      await spool.close();
      await durable.store?.close();
    },
  };
}

async function lived(
  stateDir: string,
  seconds: number,
  amounts: readonly number[],
  endpoint?: string,
): Promise<void> {
  const life = await live(stateDir, seconds, START, endpoint);
  for (const amount of amounts) await life.beat(amount);
  await life.end();
}

describe("continueState()", { timeout: 30_000 }, () => {
  test.each([
    ["copied", (name: string) => name !== ""],
    ["behind", (name: string) => name.startsWith("ledger")],
  ])(
    "a state that is %s begins every series anew, once, and puts it on record",
    async (why, isBroughtBack) => {
      const [stateDir, backup] = [newFolder(), newFolder()];
      await lived(stateDir, 0, [100, 100]);
      await lived(stateDir, 50, [100]);
      cpSync(stateDir, backup, { recursive: true });
      await lived(stateDir, 100, [100, 100]);
      const names = readdirSync(stateDir).filter(isBroughtBack);
      for (const name of names) rmSync(join(stateDir, name), { recursive: true });
      for (const name of names) cpSync(join(backup, name), join(stateDir, name), { recursive: true });
      const life = await live(stateDir, 200);
      expect(life.durable.outdated).toBe(why);
      const snapshot = await life.beat(7);
      const shown = snapshot.points.filter(({ metric }) => metric === "tokenwatt.tokens");
      expect(shown).toMatchObject([{ value: 7n, isNew: true }]);
      expect(shown[0]?.start).toBeGreaterThanOrEqual(START + 200_000_000_000n);
      expect(life.audit()).toContain("restore");
      await life.end();
      const next = await live(stateDir, 300);
      expect(next.durable.outdated).toBeUndefined();
      const after = await next.beat(1);
      expect(after.points.filter(({ metric }) => metric === "tokenwatt.tokens")).toMatchObject([
        { value: 8n, start: shown[0]?.start, isNew: false },
      ]);
      await next.end();
    },
  );

  test("a state that was moved right after its last commit keeps its samples, under series that begin anew", async () => {
    const [from, to] = [newFolder(), newFolder()];
    const now = BigInt(Date.now()) * 1_000_000n - 60_000_000_000n;
    for (const seconds of [0, 20]) {
      const before = await live(from, seconds, now);
      await before.beat(100);
      await before.end();
    }
    cpSync(from, to, { recursive: true });
    const life = await live(to, 50, now);
    expect(life.durable.outdated).toBe("moved");
    const opened = life.durable.restored?.state.map(({ key }) => key) ?? [];
    expect(opened).toContain('["spool"]');
    expect((await life.beat(7)).points[0]).toMatchObject({ value: 7n, isNew: true });
    expect(life.audit()).toContain("restore");
    await life.end();
  });

  test("a series that began in the last commit is announced once, but again where the spool was lost", async () => {
    for (const isLost of [false, true]) {
      const stateDir = newFolder();
      await lived(stateDir, 0, [100]);
      if (isLost) rmSync(join(stateDir, "spool"), { recursive: true });
      const life = await live(stateDir, 50);
      expect((await life.beat(1)).points[0]).toMatchObject({ value: 101n, start: START, isNew: isLost });
      await life.end();
    }
  });

  test("a series that began in a last commit that the spool did not take is announced again", async () => {
    const stateDir = newFolder();
    const life = await live(stateDir, 0);
    await life.beat(0);
    life.books.ledger.postUntil([tokens("b", 5)], START + 2_000_000_000n);
    await life.beat(1, false);
    await life.end();
    const next = await live(stateDir, 50);
    const { points } = await next.beat(1);
    expect(points.map(({ isNew, value }) => [value, isNew])).toEqual([
      [2n, false],
      [5n, true],
    ]);
    await next.end();
  });

  const oneRecord = { bytes: Uint8Array.of(2), points: 1, time: START, layout: 0 };
  const removeLedger = (stateDir: string): void => {
    for (const name of readdirSync(stateDir).filter((one) => one.startsWith("ledger")))
      rmSync(join(stateDir, name));
  };

  test.each<[string, (stateDir: string) => Promise<void>]>([
    ["a new ledger", async () => {}],
    ["a ledger without destinations until now", (stateDir) => lived(stateDir, 0, [1], "")],
    [
      "a ledger in the place of one that was removed",
      (stateDir) => lived(stateDir, 0, [1, 1]).then(() => removeLedger(stateDir)),
    ],
  ])("a record that was synced before the first commit of %s is cut", async (_name, prepare) => {
    const stateDir = newFolder();
    await prepare(stateDir);
    // As power cuts between the two leave it: the segment is synced, the ledger knows nothing of it.
    for (let cut = 0; cut < 3; cut++) {
      const life = await live(stateDir, 100);
      const held = life.spool.head();
      await life.spool.append([oneRecord]);
      await life.end();
      const next = await live(stateDir, 200);
      expect(next.spool.head()).toBe(held);
      await next.end();
    }
  });

  test("what a removed ledger committed is still sent", async () => {
    const stateDir = newFolder();
    const life = await live(stateDir, 0);
    const sequence = await life.spool.append([oneRecord]);
    life.spool.commit(sequence);
    await life.end();
    removeLedger(stateDir);
    const next = await live(stateDir, 100);
    expect(next.spool.peek(next.spool.position("main"))).toMatchObject({ sequence });
    await next.end();
  });

  test("a run with its telemetry in memory does not cut what waits on disk", async () => {
    const stateDir = newFolder();
    await lived(stateDir, 0, [1, 1, 1]);
    const before = await live(stateDir, 50);
    const sequence = await before.spool.append([oneRecord]);
    const { batch } = before.books.commit(START + 60_000_000_000n, 60e9);
    await before.durable.store?.commit({
      ...batch,
      state: spoolRows(before.spool, sequence, batch.sequence),
    });
    await before.end();
    const spool = join(stateDir, "spool");
    renameSync(spool, `${spool}-away`);
    writeFileSync(spool, "");
    await lived(stateDir, 100, [1]);
    rmSync(spool);
    renameSync(`${spool}-away`, spool);
    const after = await live(stateDir, 150);
    expect(after.spool.peek(after.spool.position("main"))).toMatchObject({ sequence });
    await after.end();
  });

  test("a state that was only used goes on", async () => {
    const stateDir = newFolder();
    await lived(stateDir, 0, [100, 100]);
    const life = await live(stateDir, 50);
    expect(life.durable.outdated).toBeUndefined();
    expect((await life.beat(1)).points[0]).toMatchObject({ value: 201n, start: START });
    await life.end();
  });
});
