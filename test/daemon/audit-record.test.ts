// What sources did, on the audit record: complete where it matters, bounded whatever they do.
import { describe, expect, test } from "vitest";
import { createCore } from "../../agent/daemon/accounting.ts";
import type { RecordedLoss } from "../../agent/daemon/audit-record.ts";
import { LossRecord, RecordKeeper } from "../../agent/daemon/audit-record.ts";
import { Intake } from "../../agent/daemon/intake.ts";
import { standalone } from "../../agent/daemon/life.ts";
import { Pipeline } from "../../agent/daemon/pipeline.ts";
import { Books } from "../../agent/meter/books.ts";
import { defaultWeights } from "../../agent/meter/money/tenants.ts";
import type { AuditEntry, LedgerRestored, SettledInterval, TokenSample } from "../../agent/model.ts";
import { virtualClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import type { GpuSource } from "../../agent/source.ts";
import { engine, h100, intervalOf, START } from "../meter/fixtures.ts";

const clock = virtualClock(START);
const unix = (second: number): string => String(START + BigInt(second) * 1_000_000_000n);

function keeper(): { readonly record: RecordKeeper; readonly entries: () => readonly AuditEntry[] } {
  const books = new Books({ start: START, unixNanos: (at) => clock.unixNanos(at) });
  let second = 0;
  const entries = (): readonly AuditEntry[] =>
    books.commit(clock.unixNanos(++second * 1e9), second * 1e9).batch.audit;
  return { record: new RecordKeeper(books, clock), entries };
}

describe("RecordKeeper gaps", () => {
  test("have their start and end on record, and not every poll between", () => {
    const { entries, record } = keeper();
    for (let second = 10; second <= 60; second++)
      record.failing("gpu", 10e9, second * 1e9, "the driver does not answer");
    record.recovered("gpu", 10e9, 61e9);
    expect(entries()).toEqual([
      {
        at: unix(15),
        kind: "gap",
        body: { source: "gpu", from: unix(10), why: "the driver does not answer" },
      },
      { at: unix(61), kind: "gap", body: { source: "gpu", from: unix(10), to: unix(61) } },
    ]);
  });

  test("that are shorter than 5 s are left to the counter", () => {
    const { entries, record } = keeper();
    record.failing("gpu", 10e9, 14e9, "late");
    record.recovered("gpu", 10e9, 14.5e9);
    expect(entries()).toEqual([]);
  });

  test("of a source that flaps all hour are bounded, and what was left out is counted", () => {
    const { entries, record } = keeper();
    for (let second = 0; second < 3600; second += 10) {
      record.failing("gpu", second * 1e9, (second + 6) * 1e9, "flaps");
      record.recovered("gpu", second * 1e9, (second + 7) * 1e9);
    }
    expect(entries()).toHaveLength(24);
    record.recovered("gpu", 3600e9, 3700e9);
    expect(entries()).toMatchObject([{ body: { source: "gpu", skipped: 696 } }]);
  });

  test("whose start was told have their end told, bound or not", () => {
    const { entries, record } = keeper();
    for (let second = 0; second < 230; second += 20) {
      record.failing("s", second * 1e9, (second + 6) * 1e9, "flaps");
      if (second < 220) record.recovered("s", second * 1e9, (second + 7) * 1e9);
    }
    record.recovered("s", 220e9, 240e9);
    expect(entries().filter(({ body }) => body["to"] === undefined)).toHaveLength(12);
  });
});

const refused = (second: number, millijoules: number): SettledInterval => {
  const interval = intervalOf({ from: second, to: second + 1 });
  return { ...interval, gpus: interval.gpus.map((gpu) => ({ ...gpu, rejectedMillijoules: millijoules })) };
};

describe("RecordKeeper.recordEnergy()", () => {
  test("notes each reset of a counter once, and counts it", () => {
    const { entries, record } = keeper();
    for (const [second, resets] of [0, 1, 1, 3].entries())
      record.recordEnergy(intervalOf({ from: second, to: second + 1 }), { "GPU-1": { resets } });
    expect(entries()).toEqual([
      { at: unix(2), kind: "reset", body: { gpu: "GPU-1", counter: "energy", times: 1 } },
      { at: unix(4), kind: "reset", body: { gpu: "GPU-1", counter: "energy", times: 2 } },
    ]);
  });

  test("notes the first refused window at once and the rest once a quarter of an hour", () => {
    const { entries, record } = keeper();
    for (let second = 0; second < 1000; second++) record.recordEnergy(refused(second, 500), {});
    expect(entries()).toEqual([
      {
        at: unix(1),
        kind: "rejected",
        body: { gpu: "GPU-1", counter: "energy", windows: 1, millijoules: 500 },
      },
      {
        at: unix(901),
        kind: "rejected",
        body: { gpu: "GPU-1", counter: "energy", windows: 900, millijoules: 450_000 },
      },
    ]);
  });
});

function core(restored?: LedgerRestored): ReturnType<typeof createCore> {
  return createCore({
    clock,
    intervalMs: 1000,
    gpuPollMs: 1000,
    correlate: { stallAfterSeconds: 60, settleMsMax: 30_000, shares: {}, weights: defaultWeights },
    series: { max: 1000, tenantsMax: 10, latencyTenants: [], idleSeconds: 86_400 },
    strict: true,
    restored,
  });
}

describe("Intake and Pipeline", () => {
  test("put a counter of 22 MJ that falls to 200 J, and a GPU that went away, on record", async () => {
    const time = virtualClock(START);
    const parts = {
      ...core(),
      clock: time,
      log: silentLog,
      gpuPollMs: 1000,
      inventoryMs: 60_000,
      life: standalone,
    };
    const gpu: GpuSource = {
      backend: "test",
      generation: 0,
      inventory: async () => [{ ...h100, powerLimitWatts: 700 }],
      poll: async () => {
        const at = time.now();
        const second = at / 1e9;
        if (second >= 30 && second < 50) throw new Error("the driver does not answer");
        const energyMillijoules = (second < 10 ? 22e9 : 200e3) + second * 100e3;
        return {
          sent: at,
          received: at,
          samples: [{ gpu: "GPU-1", at, energyMillijoules, powerWatts: 100 }],
          gaps: [],
        };
      },
      close: async () => {},
      status: () => ({}),
    };
    const pipeline = new Pipeline({ ...parts, tickMs: 1000 });
    await pipeline.start(gpu, []);
    await time.advance(70e9);
    await pipeline.stop();
    const { batch, snapshot } = parts.books.commit(time.unixNanos(70e9), 70e9);
    expect(batch.audit.map(({ body, kind }) => [kind, body["gpu"] ?? body["source"], body["to"]])).toEqual([
      ["reset", "GPU-1", undefined],
      ["gap", "gpu", undefined],
      ["gap", "gpu", unix(50)],
    ]);
    const joules = snapshot.points
      .filter(({ metric }) => metric === "tokenwatt.gpu.energy")
      .reduce((sum, { value }) => sum + Number(value), 0);
    // 100 W throughout; the counter bridges the gap. Nothing of the 22 MJ fall, nothing of the 200 J base.
    expect(joules).toBe(70 * 100e3);
    const resets = snapshot.points.filter(({ metric }) => metric === "tokenwatt.counter_resets");
    expect(resets).toMatchObject([{ value: 1n, dimensions: { "tokenwatt.source": "gpu:GPU-1" } }]);
  });

  test("say `unmetered` when a server restarted while the agent was away, not when it went on", () => {
    for (const [epoch, expected] of [
      ["two", ["unmetered"]],
      ["one", []],
    ] as const) {
      const first = core();
      const parts = { clock, log: silentLog, gpuPollMs: 1000, inventoryMs: 60_000, life: standalone };
      const sample = (named: string, output: number): TokenSample => ({
        server: "s",
        family: "engine",
        sent: 0,
        received: 0,
        at: clock.now(),
        completeEpoch: named,
        readings: [{ role: "combined", tokens: { output }, requests: {}, volume: "step", epoch: named }],
        ignoredSamples: 0,
        errors: [],
      });
      new Intake({ ...first, ...parts }).acceptTokens(engine, sample("one", 10));
      const state = first.increments.takeChanges((at) => clock.unixNanos(at));
      const restored = { ...first.books.ledger.state(), state, rows: [] };
      const second = core(restored);
      const intake = new Intake({ ...second, ...parts });
      intake.acceptTokens(engine, sample(epoch, 12));
      intake.acceptTokens(engine, sample(epoch, 15));
      const { audit } = second.books.commit(START + 1_000_000_000n, 1e9).batch;
      expect(audit.map(({ kind }) => kind)).toEqual(expected);
    }
  });
});

const MINUTE = 60e9;

function loss(from: number, points: number, rest: Partial<RecordedLoss> = {}): RecordedLoss {
  return { from: BigInt(from), to: BigInt(from + 1), records: 1, points, why: "evicted_bytes", ...rest };
}

describe("LossRecord", () => {
  test("writes the first at once, later ones as a sum per quarter of an hour, the rest at the end", () => {
    const written: Record<string, unknown>[] = [];
    const record = new LossRecord((at, body) => written.push({ at: at / MINUTE, ...body }));
    for (let minute = 0; minute <= 40; minute++) {
      record.addLoss(loss(minute, 10));
      record.writeDue(minute * MINUTE);
    }
    record.writeDue(41 * MINUTE, true);
    expect(written.map(({ at, from, to, points, records }) => [at, from, to, points, records])).toEqual([
      [0, "0", "1", 10, 1],
      [15, "1", "16", 150, 15],
      [30, "16", "31", 150, 15],
      [41, "31", "41", 100, 10],
    ]);
  });

  test("tells kinds apart by why, reason and destination, and says nothing without a loss", () => {
    const written: unknown[] = [];
    const record = new LossRecord((_, body) => written.push(body));
    record.writeDue(0);
    record.addLoss(loss(1, 1));
    record.addLoss(loss(1, 2, { why: "refused", reason: "UNAUTHENTICATED", destination: "main" }));
    record.addLoss(loss(1, 4, { why: "refused", reason: "INVALID_ARGUMENT", destination: "main" }));
    record.writeDue(0);
    record.writeDue(90 * MINUTE, true);
    expect(written).toHaveLength(3);
    expect(written[1]).toEqual({
      why: "refused",
      reason: "UNAUTHENTICATED",
      destination: "main",
      from: "1",
      to: "2",
      records: 1,
      points: 2,
    });
  });

  test("drops none of many reasons: beyond 200 kinds they are written as one", () => {
    const written: Record<string, unknown>[] = [];
    const record = new LossRecord((_, body) => written.push(body));
    for (let n = 0; n < 1000; n++) record.addLoss(loss(n, 3, { why: "refused", reason: `words ${n}` }));
    record.writeDue(0);
    expect(written).toHaveLength(201);
    expect(written.at(-1)).toEqual({
      why: "refused",
      reason: "other",
      from: "200",
      to: "1000",
      records: 800,
      points: 2400,
    });
  });
});
