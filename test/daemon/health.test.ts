// What health says: an agent without sockets on virtual time, over a store that fails as a disk fails.
import { expect, test } from "vitest";
import { loadConfig } from "../../agent/config/load.ts";
import { Agent } from "../../agent/daemon/agent.ts";
import type { Durable } from "../../agent/daemon/durable-state.ts";
import { forgetful } from "../../agent/daemon/durable-state.ts";
import type { VirtualClock } from "../../agent/platform/clock.ts";
import { virtualClock } from "../../agent/platform/clock.ts";
import type { Facts, Log } from "../../agent/platform/log.ts";
import { silentLog } from "../../agent/platform/log.ts";
import type { GpuSource } from "../../agent/source.ts";
import type { Stored } from "../../agent/store/ledger/database.ts";
import type { LedgerStore } from "../../agent/store/ledger/store.ts";
import { memorySpool } from "../../agent/store/spool/memory-spool.ts";

const SECOND = 1e9;
const noGpus: GpuSource = {
  backend: "test",
  generation: 0,
  inventory: async () => [],
  poll: async () => ({ sent: 0, received: 0, samples: [], gaps: [] }),
  close: async () => {},
  status: () => ({}),
};

/** An agent whose every commit ends as `disk.commit` says. */
async function agentOn(
  disk: { commit(): Promise<Stored> },
  log: Log = silentLog,
): Promise<{ agent: Agent; clock: VirtualClock }> {
  const store: Pick<LedgerStore, "commit" | "delivered" | "writeAudit" | "close"> = {
    commit: () => disk.commit(),
    delivered: async () => {},
    writeAudit: async () => {},
    close: async () => {},
  };
  const durable: Durable = { ...forgetful, store: store as LedgerStore, agentId: "a" };
  const settings = ["export.prometheus.listen=", "rates.exportMs=10000"];
  const { config } = loadConfig({ env: {}, file: false, settings });
  const clock = virtualClock(1_800_000_000_000_000_000n);
  const options = { config, clock, log, env: {}, gpu: noGpus, servers: [] };
  const agent = new Agent(options, durable, memorySpool([]), new AbortController());
  await agent.start(undefined);
  return { agent, clock };
}

const stored = (rest: Partial<Stored> = {}): Stored => ({
  stored: "all",
  waitingRows: 0,
  lostRows: 0,
  head: { length: 0, hash: "" },
  ...rest,
});

test("an agent whose commits fail is unhealthy after two minutes, says why, and is healthy with the next commit", async () => {
  let failure: Error | undefined;
  const { agent, clock } = await agentOn({
    commit: async () => {
      if (failure !== undefined) throw failure;
      return stored();
    },
  });
  await clock.advance(30 * SECOND);
  failure = new Error("database or disk is full");
  await clock.advance(140 * SECOND);
  expect(agent.unhealthy()).toBeUndefined();
  await clock.advance(160 * SECOND);
  expect(agent.unhealthy()).toMatch(/^nothing was committed for 1\d\d s: database or disk is full$/);
  failure = undefined;
  await clock.advance(180 * SECOND);
  expect(agent.unhealthy()).toBeUndefined();
});

test("an agent whose commit never ends is unhealthy too", async () => {
  const { agent, clock } = await agentOn({ commit: () => new Promise(() => {}) });
  void clock.advance(SECOND);
  await new Promise((resolve) => setImmediate(resolve));
  // The beat holds its own timer; the clock goes on.
  const later = virtualClock(0n);
  await later.advance(300 * SECOND);
  Object.assign(clock, { now: later.now });
  expect(agent.unhealthy()).toMatch(/a beat does not end/);
});

test("rows that wait for room are one line and a degraded health, until they are stored", async () => {
  const lines: [string, Facts | undefined][] = [];
  const log: Log = {
    ...silentLog,
    warn: (event, facts) => lines.push([event, facts]),
    info: (event, facts) => lines.push([event, facts]),
  };
  let answer = stored({ stored: "totals", waitingRows: 17 });
  const { agent, clock } = await agentOn({ commit: async () => answer }, log);
  await clock.advance(60 * SECOND);
  const about = (): string[] => lines.map(([event]) => event).filter((event) => /ledger rows/.test(event));
  expect(agent.unhealthy()).toBeUndefined();
  expect(agent.degraded()).toBe("the disk is nearly full: 17 ledger rows wait in memory, 0 were lost");
  expect(about()).toEqual(["the disk is nearly full: totals are stored, ledger rows wait in memory"]);
  answer = stored();
  await clock.advance(90 * SECOND);
  expect(agent.degraded()).toBeUndefined();
  expect(about()).toHaveLength(2);
});
