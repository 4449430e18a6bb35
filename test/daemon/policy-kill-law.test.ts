// The law of quotas over kills, against the ledger itself: whatever commits an agent is killed at, what it says was used is
// the sum of the ledger's rows of that window, and never falls inside of it. All of the agent but its sockets and its
// thread, over the end of a month in Kathmandu; nothing survives but what was committed to a real ledger.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import fc from "fast-check";
import { afterEach, expect, test } from "vitest";
import { loadConfig } from "../../agent/config/load.ts";
import { readPolicy } from "../../agent/config/policy.ts";
import { Agent } from "../../agent/daemon/agent.ts";
import type { Durable } from "../../agent/daemon/durable-state.ts";
import type { LedgerBatch, TokenReading } from "../../agent/model.ts";
import type { VirtualClock } from "../../agent/platform/clock.ts";
import { virtualClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import type { PullServerSource } from "../../agent/source.ts";
import { LedgerReader } from "../../agent/store/ledger/reader.ts";
import { runAtOnce } from "../../agent/store/ledger/steps.ts";
import type { LedgerStore } from "../../agent/store/ledger/store.ts";
import { verifyLedger } from "../../agent/store/ledger/verify.ts";
import { memorySpool } from "../../agent/store/spool/memory-spool.ts";
import { ledgerPath } from "../../agent/store/state-folder.ts";
import { LedgerAtOnce } from "../store/ledger/ledger-at-once.ts";

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

const POLICY = `
version: law
timeZone: Asia/Kathmandu
quotas:
  - {name: by-hour, match: {tenant: "*"}, count: tokens, limit: 900, per: hour}
  - {name: by-day, match: {tenant: a}, count: tokens, limit: 900, per: day}
  - {name: by-month, count: weighted, weights: {output: 0.3}, limit: 900, per: month}
  - {name: by-minute, match: {tenant: "*"}, count: tokens, limit: 900, per: minute}
`;
/** Two minutes before the month ends there. */
const STARTED = BigInt(Date.parse("2026-11-30T18:13:00Z")) * 1_000_000n;
const GATEWAY = "tokenwatt.gateway.tokens";

interface Life {
  readonly downMs: number;
  readonly steps: readonly { readonly ms: number; readonly used: readonly [number, number] }[];
  readonly killAtCommit: number;
  readonly applied: boolean;
}

const life: fc.Arbitrary<Life> = fc.record({
  downMs: fc.integer({ min: 0, max: 50_000 }),
  steps: fc.array(
    fc.record({
      ms: fc.integer({ min: 1, max: 9000 }),
      used: fc.tuple(fc.integer({ min: 0, max: 90 }), fc.integer({ min: 0, max: 90 })),
    }),
    { minLength: 1, maxLength: 6 },
  ),
  killAtCommit: fc.integer({ min: 1, max: 8 }),
  applied: fc.boolean(),
});

interface Shown {
  readonly name: string;
  readonly key: Readonly<Record<string, string>>;
  readonly window: { readonly from: string };
  readonly used: number | null;
}

/** What lives on while agents come and go, and what was ever shown. */
class World {
  readonly folder = mkdtempSync(join(tmpdir(), "tokenwatt-policy-"));
  readonly #policy: string;
  readonly #highest = new Map<string, number>();
  #wall = STARTED;
  #served = [5000, 5000];

  constructor() {
    folders.push(this.folder);
    this.#policy = join(this.folder, "policy.yaml");
    writeFileSync(this.#policy, POLICY);
  }

  async live(one: Life, ending: "killed" | "stopped"): Promise<void> {
    this.#wall += BigInt(one.downMs) * 1_000_000n;
    const clock = virtualClock(this.#wall, STARTED - 3_600_000_000_000n);
    const database = new LedgerAtOnce({ folder: this.folder, pid: 1 });
    const killed = Promise.withResolvers<"killed">();
    const last = ending === "stopped" ? Number.POSITIVE_INFINITY : one.killAtCommit;
    const durable: Durable = {
      store: storeOf(database, last, one.applied, () => killed.resolve("killed")),
      restored: database.opened.restored,
      agentId: database.opened.agentId,
      outdated: undefined,
      openSpool: async () => memorySpool([]),
    };
    const { config } = loadConfig({
      env: {},
      file: false,
      settings: ["export.prometheus.listen=", "rates.exportMs=1000"],
    });
    const policy = readPolicy(this.#policy, { hasPrices: false });
    const servers = [this.#gateway(clock)];
    const options = { config, policy, clock, log: silentLog, env: {}, servers, strict: true };
    const agent = new Agent(options, durable, memorySpool([]), new AbortController());
    void agent.start(undefined);
    for (const { ms, used } of one.steps) {
      this.#served = this.#served.map((total, index) => total + (used[index] ?? 0));
      if ((await Promise.race([clock.advance(clock.now() + ms * 1e6), killed.promise])) === "killed") break;
      this.#see(agent, database);
    }
    if (ending === "stopped") {
      await agent.stop();
      return;
    }
    this.#wall = clock.unixNanos(clock.now());
    database.close();
  }

  /** What is shown is what the ledger has, and never less than was shown before of the same window. */
  #see(agent: Agent, database: LedgerAtOnce): void {
    const page = agent.policyPage() as { readonly quotas: readonly Shown[] };
    for (const { key, name, used, window } of page.quotas) {
      if (used === null) continue;
      const id = `${name} ${JSON.stringify(key)} ${window.from}`;
      expect(used, id).toBeGreaterThanOrEqual(this.#highest.get(id) ?? 0);
      this.#highest.set(id, used);
      if (name === "by-minute" || name === "by-month") continue;
      const { rows } = database.sumsSince([GATEWAY], Math.floor(Date.parse(window.from) / 900_000));
      const own = rows.filter(([, dimensions]) => dimensions["tokenwatt.tenant"] === key["tenant"]);
      expect(used, id).toBe(own.reduce((sum, [, , amount]) => sum + Number(amount), 0));
    }
  }

  #gateway(clock: VirtualClock): PullServerSource {
    const info = { id: "gw", type: "test", family: "gateway", address: "127.0.0.1:1", pollMs: 500 } as const;
    return {
      kind: "pull",
      info,
      poll: async () => {
        const at = clock.now();
        const readings = this.#served.map(
          (output, index): TokenReading => ({
            model: "m",
            tenant: ["a", "b"][index] ?? "",
            role: "combined",
            epoch: "e",
            volume: "step",
            tokens: { output },
            requests: {},
          }),
        );
        return {
          server: "gw",
          family: "gateway",
          sent: at,
          received: at,
          at,
          readings,
          ignoredSamples: 0,
          errors: [],
        };
      },
      close: async () => {},
    };
  }

  /** The exported totals of what was charged to a quota. */
  charged(name: string): number {
    const reader = new LedgerReader(ledgerPath(this.folder));
    try {
      return [...reader.series(new Set(["tokenwatt.quota.charged_tokens"]))]
        .filter(([, { dimensions }]) => dimensions["tokenwatt.quota.name"] === name)
        .reduce((sum, [id]) => sum + Number(totalOf(this.folder, id)), 0);
    } finally {
      reader.close();
    }
  }

  /** Everything the gateway counted since an agent first read it, as the ledger has it. */
  booked(): number {
    const reader = new LedgerReader(ledgerPath(this.folder));
    try {
      return runAtOnce(reader.sumsSince([GATEWAY], 0)).rows.reduce(
        (sum, [, , amount]) => sum + Number(amount),
        0,
      );
    } finally {
      reader.close();
    }
  }
}

function totalOf(folder: string, series: number): bigint {
  const database = new DatabaseSync(ledgerPath(folder), { readOnly: true });
  const row = database.prepare("SELECT total FROM series WHERE id = ?").get(series);
  database.close();
  return BigInt(Number(row?.["total"] ?? 0));
}

/** A disk on which commit `last` is the last that is tried; from then on nothing answers. */
function storeOf(database: LedgerAtOnce, last: number, applied: boolean, kill: () => void): LedgerStore {
  let commits = 0;
  const never = new Promise<never>(() => {});
  const store: Pick<LedgerStore, "commit" | "sumsSince" | "delivered" | "writeAudit" | "close" | "opened"> = {
    opened: database.opened,
    commit: async (batch: LedgerBatch) => {
      commits++;
      if (commits < last) return database.commit(batch);
      if (commits === last && applied) database.commit(batch);
      kill();
      return never;
    },
    sumsSince: async (metrics, from) => database.sumsSince(metrics, from),
    delivered: async () => {},
    writeAudit: async () => {},
    close: async () => database.close(),
  };
  return store as LedgerStore;
}

const quiet = { ms: 1500, used: [1, 1] as const };
const first: Life = { downMs: 0, steps: Array(3).fill(quiet), killAtCommit: 4, applied: true };

test("an agent that is killed at any commit shows what the ledger has of each window, and never less than before", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(life, { minLength: 1, maxLength: 6 }), async (lives) => {
      const world = new World();
      await world.live(first, "killed");
      for (const one of lives) await world.live(one, "killed");
      await world.live({ ...first, downMs: 2000 }, "stopped");
      // Both tenants have a counter of their own by the minute: what was charged is everything, over all windows.
      expect(world.charged("by-minute")).toBe(world.booked());
      expect(verifyLedger(ledgerPath(world.folder)).problems).toEqual([]);
    }),
    { numRuns: 8 },
  );
}, 120_000);
