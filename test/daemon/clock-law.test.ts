// The law of time: whatever the wall clock does under a running agent (steps forward, steps back, sleep of the host), the
// ledger stays one that `verify` proves, every token is in it once, every GPU has as many seconds as really passed, and
// usage lies in the hours that the wall clock gave it. Virtual time; the real clock's rules; a real ledger.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { loadConfig } from "../../agent/config/load.ts";
import { Agent } from "../../agent/daemon/agent.ts";
import type { Durable } from "../../agent/daemon/durable-state.ts";
import type { TokenSample } from "../../agent/model.ts";
import type { SystemClock } from "../../agent/platform/clock.ts";
import { systemClock, virtualClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import type { GpuSource, PullServerSource } from "../../agent/source.ts";
import type { LedgerStore } from "../../agent/store/ledger/store.ts";
import { verifyLedger } from "../../agent/store/ledger/verify.ts";
import { memorySpool } from "../../agent/store/spool/memory-spool.ts";
import { ledgerPath } from "../../agent/store/state-folder.ts";
import { LedgerAtOnce } from "../store/ledger/ledger-at-once.ts";

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

const SECOND = 1_000_000_000;
const HOUR = 3600;
/** 40 minutes past an hour, hour 0. */
const WALL = 1_800_002_400;

/** A host whose hands are moved: time passes for timers, the wall clock and sleep as the test says. */
class Host {
  readonly folder = mkdtempSync(join(tmpdir(), "tokenwatt-time-"));
  readonly #virtual = virtualClock(0n);
  served = 5000;
  base: number | undefined;
  /** Seconds that really passed, sleep included. */
  passed = 0;
  #wallOff = WALL;
  #slept = 50_000;
  #agent: Agent | undefined;
  clock = this.#newClock();

  constructor() {
    folders.push(this.folder);
  }

  /** The clock of a process that starts now. */
  #newClock(): SystemClock {
    const { advance: _, ...timers } = this.#virtual;
    const sources = {
      monotonic: () => BigInt(this.#virtual.now()),
      wall: () => (this.#wallOff + this.#virtual.now() / SECOND) * 1000,
      uptime: () => this.#slept + this.#virtual.now() / SECOND,
    };
    const system = systemClock({ sources });
    const started = this.#virtual.now();
    const now = (): number => this.#virtual.now() - started;
    return { ...system, now, at: (at, run) => timers.at(at + started, run), sleep: timers.sleep };
  }

  /** Starts an agent, which reads its server before anything else happens. */
  async start(): Promise<void> {
    this.clock = this.#newClock();
    const database = new LedgerAtOnce({ folder: this.folder, pid: 1 });
    const store: Pick<LedgerStore, "commit" | "delivered" | "writeAudit" | "close"> = {
      commit: async (batch) => database.commit(batch),
      delivered: async () => {},
      writeAudit: async () => {},
      close: async () => database.close(),
    };
    const { agentId, restored } = database.opened;
    const openSpool = async () => memorySpool([]);
    const durable: Durable = {
      store: store as LedgerStore,
      restored,
      agentId,
      outdated: undefined,
      openSpool,
    };
    const settings = [
      "export.prometheus.listen=",
      "rates.exportMs=20000",
      "rates.gpuMs=2000",
      "rates.tickMs=5000",
    ];
    const { config } = loadConfig({ env: {}, file: false, settings });
    const parts = {
      config,
      clock: this.clock,
      log: silentLog,
      env: {},
      gpu: this.#gpu(),
      servers: [this.#server()],
    };
    this.#agent = new Agent({ ...parts, strict: true }, durable, memorySpool([]), new AbortController());
    await this.#agent.start(undefined);
    await this.pass(6);
  }

  /** Tokens since an agent first read the server. */
  get made(): number {
    return this.served - (this.base ?? this.served);
  }

  async stop(): Promise<void> {
    await this.#agent?.stop();
  }

  async pass(seconds: number, tokens = 0): Promise<void> {
    this.served += tokens;
    this.passed += seconds;
    await this.#virtual.advance(this.#virtual.now() + seconds * SECOND);
  }

  async sleep(seconds: number): Promise<void> {
    this.#slept += seconds;
    this.#wallOff += seconds;
    this.passed += seconds;
    await this.pass(2);
  }

  step(seconds: number): void {
    this.#wallOff += seconds;
  }

  get wall(): number {
    return this.#wallOff + this.#virtual.now() / SECOND;
  }

  #server(): PullServerSource {
    const poll = async (): Promise<TokenSample> => {
      this.base ??= this.served;
      const at = this.clock.now();
      return {
        server: "s",
        family: "engine",
        sent: at,
        received: at,
        at,
        readings: [
          {
            model: "m",
            role: "combined",
            epoch: "e",
            volume: "step",
            tokens: { output: this.served },
            requests: {},
          },
        ],
        ignoredSamples: 0,
        errors: [],
      };
    };
    const info = { id: "s", type: "test", family: "engine", address: "127.0.0.1:1", pollMs: 5000 } as const;
    return { kind: "pull", info, poll, close: async () => {} };
  }

  #gpu(): GpuSource {
    return {
      backend: "test",
      generation: 0,
      inventory: async () => [{ uuid: "GPU-0", weight: 1, index: 0, name: "H100" }],
      poll: async () => {
        const at = this.clock.now();
        return {
          sent: at,
          received: at,
          samples: [{ gpu: "GPU-0", at, powerWatts: 80, processes: [] }],
          gaps: [],
        };
      },
      close: async () => {},
      status: () => ({}),
    };
  }

  /** Sums of rows of a metric by hour of the wall clock, seconds and tokens alike in their own unit. */
  byHour(metric: string, unit: number): Record<number, number> {
    const database = new DatabaseSync(ledgerPath(this.folder), { readOnly: true });
    const rows = database
      .prepare(
        "SELECT r.bucket / 4 AS hour, sum(r.amount) AS amount FROM rows r JOIN series s ON s.id = r.series WHERE s.metric = ? GROUP BY hour",
      )
      .all(metric);
    database.close();
    const first = Math.floor(WALL / HOUR);
    return Object.fromEntries(rows.map((row) => [Number(row["hour"]) - first, Number(row["amount"]) / unit]));
  }

  total(metric: string, unit: number): number {
    return Object.values(this.byHour(metric, unit)).reduce((sum, one) => sum + one, 0);
  }

  problems(): readonly string[] {
    return verifyLedger(ledgerPath(this.folder)).problems.map(({ message, where }) => `${where}: ${message}`);
  }
}

describe("the wall clock under a running agent", { timeout: 120_000 }, () => {
  test("a sleep of the host is `unobserved`, not a hole", async () => {
    const host = new Host();
    await host.start();
    await host.pass(100, 10);
    await host.sleep(1800);
    await host.pass(100, 10);
    await host.stop();
    expect(host.problems()).toEqual([]);
    expect(host.total("tokenwatt.gpu.time", SECOND)).toBeCloseTo(host.passed, 3);
    expect(host.total("tokenwatt.tokens", 1)).toBe(host.made);
  });

  test("a step back of an hour leaves a ledger that verify proves, and books usage in the hours it goes back to", async () => {
    const host = new Host();
    await host.start();
    // 40 to 70 minutes past the hour, then the clock goes back to 10 minutes past it.
    await host.pass(1800, 100);
    host.step(-HOUR);
    // Ten minutes long it may come back.
    await host.pass(610, 7);
    await host.pass(600, 30);
    expect(host.problems()).toEqual([]);
    await host.pass(1.2 * HOUR, 50);
    await host.stop();
    expect(host.problems()).toEqual([]);
    expect(host.total("tokenwatt.tokens", 1)).toBe(host.made);
    // 100 and 30 in the hour that came twice, 7 while the anchor was kept, 50 right after.
    expect(host.byHour("tokenwatt.tokens", 1)).toEqual({ 0: 180, 1: 7 });
    expect(host.total("tokenwatt.gpu.time", SECOND)).toBeCloseTo(host.passed, 3);
  });

  test("goes on where an agent that is started after a step back of an hour finds its buckets closed", async () => {
    const host = new Host();
    await host.start();
    await host.pass(1800, 100);
    await host.stop();
    host.step(-HOUR);
    await host.start();
    await host.pass(20, 5);
    await host.stop();
    await host.start();
    await host.pass(1.2 * HOUR, 50);
    await host.stop();
    expect(host.problems()).toEqual([]);
    expect(host.total("tokenwatt.tokens", 1)).toBe(host.made);
  });

  test("a step in the first seconds takes nothing of what waited", async () => {
    for (const seconds of [7200, -7200]) {
      const host = new Host();
      await host.start();
      await host.pass(3, 100);
      host.step(seconds);
      await host.pass(seconds > 0 ? 30 : 700, 11);
      await host.stop();
      expect(host.problems()).toEqual([]);
      expect(host.total("tokenwatt.tokens", 1)).toBe(host.made);
    }
  });

  test("any steps and sleeps leave a sound ledger with every token and every second", async () => {
    const action = fc.oneof(
      fc.record({ kind: fc.constant("pass" as const), seconds: fc.integer({ min: 1, max: 2000 }) }),
      fc.record({ kind: fc.constant("step" as const), seconds: fc.integer({ min: -9000, max: 9000 }) }),
      fc.record({ kind: fc.constant("sleep" as const), seconds: fc.integer({ min: 3, max: 5000 }) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(action, { minLength: 1, maxLength: 8 }), async (actions) => {
        const host = new Host();
        await host.start();
        await host.pass(30);
        for (const { kind, seconds } of actions) {
          if (kind === "step") host.step(seconds);
          else if (kind === "sleep") await host.sleep(seconds);
          else await host.pass(seconds, seconds);
        }
        await host.pass(700);
        await host.stop();
        expect(host.problems()).toEqual([]);
        expect(host.total("tokenwatt.tokens", 1)).toBe(host.made);
        expect(host.total("tokenwatt.gpu.time", SECOND)).toBeCloseTo(host.passed, 3);
      }),
      { numRuns: 10 },
    );
  });
});
