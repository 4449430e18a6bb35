// The law of durability, against an oracle: whatever the instants at which an agent is killed, started and killed again,
// what was acknowledged is booked once, and every second of wall time is in exactly one state of every GPU.
// All of the agent but its sockets and its thread: time is virtual, and the "disk" is a real ledger whose commits either
// happen or do not. Since nothing survives but what was committed, killing before or after any commit is killing anywhere.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import fc from "fast-check";
import { afterEach, expect, test } from "vitest";
import { loadConfig } from "../../agent/config/load.ts";
import { Agent } from "../../agent/daemon/agent.ts";
import type { Durable } from "../../agent/daemon/durable-state.ts";
import type { GpuSample, LedgerBatch, TokenReading, TokenSample, UnixNanos } from "../../agent/model.ts";
import type { VirtualClock } from "../../agent/platform/clock.ts";
import { virtualClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import type { GpuSource, PullServerSource, PushServerSource } from "../../agent/source.ts";
import type { LedgerStore } from "../../agent/store/ledger/store.ts";
import { verifyLedger } from "../../agent/store/ledger/verify.ts";
import { memorySpool } from "../../agent/store/spool/memory-spool.ts";
import { ledgerPath } from "../../agent/store/state-folder.ts";
import { LedgerAtOnce } from "../store/ledger/ledger-at-once.ts";

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

const GPUS = ["GPU-0", "GPU-1"];
const TOTAL_KEY = '["receiver","push","total"]';

/** One run of an agent: how it begins, what happens, and how it ends. */
interface Life {
  readonly downMs: number;
  readonly gpus: "fine" | "hung" | "failing";
  readonly steps: readonly { readonly ms: number; readonly pushed: number; readonly served: number }[];
  /** Killed at this commit, before or after it reached the disk; where there are fewer, after the last step. */
  readonly killAtCommit: number;
  readonly applied: boolean;
}

const life: fc.Arbitrary<Life> = fc.record({
  downMs: fc.oneof(fc.integer({ min: 0, max: 40_000 }), fc.integer({ min: 0, max: 2_000_000 })),
  gpus: fc.constantFrom("fine", "hung", "failing"),
  steps: fc.array(
    fc.record({
      ms: fc.integer({ min: 1, max: 4000 }),
      pushed: fc.integer({ min: 0, max: 50 }),
      served: fc.integer({ min: 0, max: 900 }),
    }),
    { minLength: 1, maxLength: 6 },
  ),
  killAtCommit: fc.integer({ min: 1, max: 8 }),
  applied: fc.boolean(),
});

/** None told apart, one on each GPU, or more than there are GPUs here: some work on another host. */
const ranksOfEngine = fc.constantFrom(1, 2, 4);

/** What lives on while agents come and go: the host's clock, the servers, the callers. */
class World {
  readonly folder = mkdtempSync(join(tmpdir(), "tokenwatt-law-"));
  readonly started: UnixNanos = 1_800_000_123_456_789_000n;
  wall = this.started;
  served = 7_000_000;
  /** The engine's counter when an agent first read it. */
  base: number | undefined;
  sent = 0;
  acknowledged = 0;
  /** Data-parallel ranks of the engine; 1 = it tells none apart. */
  readonly ranks: number;

  constructor(ranks: number) {
    this.ranks = ranks;
    folders.push(this.folder);
  }

  async live(one: Life, ending: "killed" | "stopped"): Promise<void> {
    this.wall += BigInt(one.downMs) * 1_000_000n;
    const clock = virtualClock(this.wall, this.started - 3_600_000_000_000n);
    const database = new LedgerAtOnce({ folder: this.folder, pid: 1 });
    const killed = Promise.withResolvers<"killed">();
    const { agentId, restored } = database.opened;
    const last = ending === "stopped" ? Number.POSITIVE_INFINITY : one.killAtCommit;
    const disk = { isGone: false };
    const store = this.#store(database, last, one.applied, disk, () => killed.resolve("killed"));
    const durable: Durable = {
      store,
      restored,
      agentId,
      outdated: undefined,
      openSpool: async () => memorySpool([]),
    };
    const kept = Number(restored?.state.find(({ key }) => key === TOTAL_KEY)?.value ?? 0);
    const push = this.#push(clock, kept);
    const servers = [this.#pull(clock), push.source];
    const { config } = loadConfig({
      env: {},
      file: false,
      settings: ["export.prometheus.listen=", "rates.exportMs=1000"],
    });
    const options = {
      config,
      clock,
      log: silentLog,
      env: {},
      gpu: gpuSource(clock, one.gpus),
      servers,
      strict: true,
    };
    const agent = new Agent(options, durable, memorySpool([]), new AbortController());
    void agent.start(undefined);
    for (const { ms, pushed, served } of one.steps) {
      this.served += served;
      if (pushed > 0) push.send(pushed);
      const to = clock.now() + ms * 1e6;
      if ((await Promise.race([clock.advance(to), killed.promise])) === "killed") break;
    }
    if (ending === "stopped") await agent.stop();
    this.wall = clock.unixNanos(clock.now());
    disk.isGone = true;
    if (ending === "killed") database.close();
  }

  /** A disk on which commit `last` is the last that is tried; from then on nothing answers. */
  #store(
    database: LedgerAtOnce,
    last: number,
    applied: boolean,
    disk: { readonly isGone: boolean },
    kill: () => void,
  ): LedgerStore {
    let commits = 0;
    const never = new Promise<never>(() => {});
    const store: Pick<LedgerStore, "commit" | "delivered" | "writeAudit" | "close" | "opened"> = {
      opened: database.opened,
      commit: async (batch: LedgerBatch) => {
        if (disk.isGone) return never;
        commits++;
        if (commits < last) return database.commit(batch);
        if (commits === last && applied) database.commit(batch);
        kill();
        return never;
      },
      delivered: async () => {},
      writeAudit: async () => {},
      close: async () => database.close(),
    };
    return store as LedgerStore;
  }

  #pull(clock: VirtualClock): PullServerSource {
    return {
      kind: "pull",
      info: { id: "pull", type: "test", family: "engine", address: "127.0.0.1:1", pollMs: 500, gpus: GPUS },
      poll: async () => {
        this.base ??= this.served;
        return sampleOf("pull", "engine", clock, this.served, this.ranks);
      },
      close: async () => {},
    };
  }

  /** A receiver that keeps its total with the ledger, as ours keep the ids they have seen. */
  #push(clock: VirtualClock, kept: number): { source: PushServerSource; send(tokens: number): void } {
    let total = kept;
    let accept: ((sample: TokenSample) => Promise<void>) | undefined;
    const source: PushServerSource = {
      kind: "push",
      acknowledges: true,
      info: { id: "push", type: "test", family: "gateway", address: "127.0.0.1:2", pollMs: 1000 },
      run: (take) => {
        accept = take;
        void take(sampleOf("push", "gateway", clock, total));
        return new Promise(() => {});
      },
      state: () => [{ key: TOTAL_KEY, value: String(total) }],
      close: async () => {},
    };
    const send = (tokens: number): void => {
      // A receiver that does not listen yet refuses, and the caller keeps its usage.
      if (accept === undefined) return;
      total += tokens;
      this.sent += tokens;
      void accept(sampleOf("push", "gateway", clock, total)).then(() => {
        this.acknowledged += tokens;
      });
    };
    return { source, send };
  }
}

function sampleOf(
  server: string,
  family: "engine" | "gateway",
  clock: VirtualClock,
  output: number,
  ranks = 1,
): TokenSample {
  const at = clock.now();
  const tenant = family === "gateway" ? { tenant: "t" } : {};
  // All of them make the same, but that the first makes what cannot be divided.
  const share = Math.floor(output / ranks);
  const byRank = Array.from({ length: ranks }, (_, rank) => ({
    rank: String(rank),
    tokens: { output: rank === 0 ? output - share * (ranks - 1) : share },
  }));
  const reading: TokenReading = {
    model: "m",
    role: "combined",
    epoch: "e",
    volume: "step",
    tokens: { output },
    requests: {},
    ...tenant,
    ...(ranks > 1 ? { ranks: byRank } : {}),
  };
  return {
    server,
    family,
    sent: at,
    received: at,
    at,
    readings: [reading],
    ignoredSamples: 0,
    errors: [],
  };
}

function gpuSource(clock: VirtualClock, how: Life["gpus"]): GpuSource {
  const never = new Promise<never>(() => {});
  const sample = (gpu: string): GpuSample => ({
    gpu,
    at: clock.now(),
    energyMillijoules: Math.round(clock.now() / 1e4),
    energyEpoch: String(clock.unixNanos(0)),
    powerWatts: 100,
    utilizationRatio: 0.5,
    processes: [],
  });
  return {
    backend: "test",
    generation: 0,
    inventory: () =>
      how === "hung"
        ? never
        : Promise.resolve(GPUS.map((uuid, index) => ({ uuid, weight: 1, index, name: "H100" }))),
    poll: async () => {
      if (how === "failing") throw new Error("the reader died");
      return { sent: clock.now(), received: clock.now(), samples: GPUS.map(sample), gaps: [] };
    },
    close: async () => {},
    status: () => ({}),
  };
}

/** Sums of a metric in a ledger, by one attribute: as it was exported, or as rows of it are kept. */
function sums(
  folder: string,
  metric: string,
  attribute: string,
  view: "exported" | "kept" = "exported",
): Record<string, bigint> {
  const database = new DatabaseSync(ledgerPath(folder), { readOnly: true });
  try {
    const statement = database.prepare(
      "SELECT dimensions, total FROM series WHERE metric = ? AND coalesce(role, ?) = ?",
    );
    statement.setReadBigInts(true);
    const found: Record<string, bigint> = {};
    for (const row of statement.all(metric, view, view)) {
      const key = (JSON.parse(String(row["dimensions"])) as Record<string, string>)[attribute] ?? "";
      found[key] = (found[key] ?? 0n) + BigInt(row["total"] as bigint);
    }
    return found;
  } finally {
    database.close();
  }
}

const quiet = { ms: 1500, pushed: 0, served: 0 };
const first: Life = { downMs: 0, gpus: "fine", steps: Array(4).fill(quiet), killAtCommit: 4, applied: true };
const final: Life = {
  downMs: 3000,
  gpus: "fine",
  steps: Array(4).fill(quiet),
  killAtCommit: 0,
  applied: true,
};

test("an agent that is killed at any commit, any number of times, loses and doubles no acknowledged token and no second", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(life, { minLength: 1, maxLength: 6 }), ranksOfEngine, async (lives, ranks) => {
      const world = new World(ranks);
      await world.live(first, "killed");
      for (const one of lives) await world.live(one, "killed");
      await world.live(final, "stopped");
      for (const view of ["exported", "kept"] as const) {
        const booked = (metric: string, attribute: string, value: string): number =>
          Number(sums(world.folder, metric, attribute, view)[value] ?? 0n);
        const pushed = booked("tokenwatt.gateway.tokens", "tokenwatt.tenant", "t");
        expect(pushed).toBeGreaterThanOrEqual(world.acknowledged);
        expect(pushed).toBeLessThanOrEqual(world.sent);
        expect(booked("tokenwatt.tokens", "tokenwatt.server.id", "pull")).toBe(
          world.served - (world.base ?? 0),
        );
      }
      const wall = world.wall - world.started;
      expect(sums(world.folder, "tokenwatt.gpu.time", "hw.id")).toEqual(
        Object.fromEntries(GPUS.map((gpu) => [gpu, wall])),
      );
      expect(verifyLedger(ledgerPath(world.folder)).problems).toEqual([]);
    }),
    { numRuns: 40 },
  );
}, 120_000);
