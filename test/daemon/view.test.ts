// What people who look at a running agent see, over its real endpoint: two GPUs, a server on one of them, a process that is
// nobody's on the other, a gateway's tenants. What is not known yet is null and never 0.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { loadConfig } from "../../agent/config/load.ts";
import type { Agent } from "../../agent/daemon/agent.ts";
import { startAgent } from "../../agent/daemon/agent.ts";
import type { View, ViewHistory } from "../../agent/export/page/view.ts";
import { CapacityMeter } from "../../agent/meter/money/capacity.ts";
import type { TokenSample } from "../../agent/model.ts";
import type { VirtualClock } from "../../agent/platform/clock.ts";
import { virtualClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import type { GpuSource, PullServerSource } from "../../agent/source.ts";
import { SourceError } from "../../agent/source.ts";
import { START } from "../meter/fixtures.ts";
import { ringOf } from "../tools/rings.ts";

const SECOND = 1e9;
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** Two boards at 300 W and 100 W, each held by one process, both busy; those of `dark` say nothing of their power. */
function twoGpus(clock: VirtualClock, dark: readonly number[] = []): GpuSource {
  return {
    backend: "test",
    generation: 0,
    inventory: async () =>
      [0, 1].map((index) => ({
        ...{ uuid: `GPU-${index}`, index, name: "NVIDIA Test", weight: 1 },
        ...{ powerLimitWatts: 700, memoryTotalBytes: 80e9 },
      })),
    poll: async () => {
      const at = clock.now();
      const samples = [300, 100].map((watts, index) => ({
        ...{ gpu: `GPU-${index}`, at, energyEpoch: "one", utilizationRatio: 0.9 },
        ...(dark.includes(index)
          ? {}
          : { powerWatts: watts, energyMillijoules: Math.round((watts * at) / 1e6) }),
        ...{ memoryUsedBytes: 40e9, temperatureCelsius: 55 },
        processes: [{ pid: 100 + index, type: "compute" as const }],
        utilizationRing: ringOf([1, 2, 3, 4, 5].map((step) => ({ at: at - (5 - step) * 200e6, value: 0.9 }))),
      }));
      return { sent: at, received: at, samples, gaps: [] };
    },
    close: async () => {},
    status: () => ({}),
  };
}

/** An engine of 100 tokens a second on GPU 0, or the gateway before it; `state.fails` makes polls fail. */
function server(
  clock: VirtualClock,
  family: "engine" | "gateway",
  state: { fails?: boolean } = {},
  id = family === "engine" ? "llama" : "gate",
): PullServerSource {
  const sample = (): TokenSample => {
    const at = clock.now();
    const made = Math.floor(at / 20e6);
    return {
      ...{ server: id, family, sent: at, received: at, at, ignoredSamples: 0, errors: [] },
      readings: [
        {
          ...{ role: "combined", volume: "step", model: "m", epoch: "one" },
          ...(family === "gateway" ? { tenant: "acme" } : { running: 2, waiting: 1 }),
          tokens: { input_unsplit: made, output: made },
          requests: { ok: made },
        },
      ],
      ...(family === "engine" ? { pids: [id === "llama" ? 100 : 101], activeNanos: at } : {}),
    };
  };
  return {
    kind: "pull",
    info: { id, type: "test", family, address: `${id}:1`, pollMs: 1000 },
    poll: async () => {
      if (state.fails === true) throw new SourceError("transient", "it does not answer");
      return sample();
    },
    close: async () => {},
  };
}

async function running(
  settings: readonly string[] = [],
  state: { fails?: boolean; dark?: readonly number[] } = {},
  more: readonly string[] = [],
): Promise<{ readonly agent: Agent; readonly clock: VirtualClock }> {
  const stateDir = mkdtempSync(join(tmpdir(), "tokenwatt-view-"));
  closing.push(() => rmSync(stateDir, { recursive: true, force: true }));
  const given = [
    `stateDir=${stateDir}`,
    "export.prometheus.listen=127.0.0.1:0",
    "export.otlp.endpoint=",
    ...settings,
  ];
  const { config } = loadConfig({ env: {}, file: false, settings: given });
  const clock = virtualClock(START);
  const agent = await startAgent({
    ...{ config, clock, log: silentLog, env: {}, stateless: true },
    gpu: twoGpus(clock, state.dark),
    servers: [
      server(clock, "engine", state),
      server(clock, "gateway"),
      ...more.map((id) => server(clock, "engine", {}, id)),
    ],
  });
  closing.push(() => agent.stop({ flushMs: 0 }));
  return { agent, clock };
}

async function look(agent: Agent): Promise<{ readonly view: View; readonly history: ViewHistory }> {
  const answer = await fetch(`http://${agent.exports.address}/-/view`);
  return (await answer.json()) as { readonly view: View; readonly history: ViewHistory };
}

test("a rate is null until a server was read twice, and is not 0 before", async () => {
  const { agent, clock } = await running();
  await clock.advance(0.5 * SECOND);
  expect((await look(agent)).view).toMatchObject({
    whole: { tokens_per_second: null, tokens_per_joule: null },
    servers: [
      { id: "llama", tokens_per_second: null },
      { id: "gate", tokens_per_second: null },
    ],
  });
  await clock.advance(12 * SECOND);
  const { view } = await look(agent);
  expect(view.whole.tokens_per_second).toBeGreaterThan(70);
  expect(view.servers[0]).toMatchObject({
    id: "llama",
    running: 2,
    waiting: 1,
    ok: true,
    gpus: ["GPU-0"],
    share: 1,
  });
});

test("GPUs, who holds them and tenants are shown; another's process is other, and no tokens are made up for it", async () => {
  const { agent, clock } = await running();
  await clock.advance(75 * SECOND);
  const { history, view } = await look(agent);
  const [first, second] = view.gpus;
  expect(first).toMatchObject({
    state: "token_active",
    power_watts: 300,
    memory_used_bytes: 40e9,
    problem: null,
  });
  expect(first?.held_by).toMatchObject([{ kind: "server", name: "llama", share: 1 }]);
  expect(first?.minute).toMatch(/^a{60}$/);
  expect(first?.tokens_per_second).toBeCloseTo(100, -1);
  expect(first?.tokens_per_joule).toBeCloseTo(1 / 3, 1);
  expect(second).toMatchObject({ state: "other", tokens_per_second: null, tokens_per_joule: null });
  expect(second?.held_by).toMatchObject([{ kind: "unknown", name: "unknown", share: 1, watts: 100 }]);
  expect(view.window_seconds).toBeCloseTo(60, -1);
  expect(view.tenants).toMatchObject([{ tenant: "acme" }]);
  // A gateway counts the same tokens once more.
  expect(view.whole.tokens_per_second).toBeCloseTo(100, -1);
  expect(history.gpus[0]?.cells.filter((cell) => cell.length > 0)).toEqual([
    [100, 0, 0, 0, 0, 0],
    [100, 0, 0, 0, 0, 0],
  ]);
  expect(history.tokens_per_second.filter((rate) => rate !== null)).toHaveLength(2);
});

test("what capacity was used is a share of what the held GPU-seconds could hold, and not known without a rate", async () => {
  const { agent, clock } = await running(["capacity.llama=720000"]);
  await clock.advance(75 * SECOND);
  const { view } = await look(agent);
  // 100 of 200 tokens a second, on the one GPU that it holds.
  expect(view.capacity).toMatchObject({ source: "config", age_seconds: null, utilization_max: null });
  expect(view.capacity?.utilization).toBeCloseTo(0.5, 1);
  expect(view.capacity).toMatchObject({ servers: 1, servers_known: 1 });
  // Tokens of a server without a rate are over nobody's capacity.
  const two = await running(["capacity.llama=720000"], {}, ["qwen"]);
  await two.clock.advance(75 * SECOND);
  const { capacity } = (await look(two.agent)).view;
  expect(capacity).toMatchObject({ servers: 2, servers_known: 1 });
  expect(capacity?.utilization).toBeCloseTo(0.5, 1);
  const other = await running();
  await other.clock.advance(15 * SECOND);
  expect((await look(other.agent)).view.capacity).toBeNull();
});

test.each([
  [[0], [null, 1]],
  [[1], [1, null]],
  [
    [0, 1],
    [null, null],
  ],
] as const)(
  "of GPUs of which %j have no power nothing is said per joule, and no zero",
  async (dark, perJoule) => {
    const { agent, clock } = await running([], { dark }, ["qwen"]);
    await clock.advance(75 * SECOND);
    const { history, view } = await look(agent);
    expect(view.whole.tokens_per_joule).toBeNull();
    for (const [index, wanted] of perJoule.entries()) {
      expect(view.gpus[index]?.tokens_per_joule === null).toBe(wanted === null);
      expect(view.gpus[index]?.power_watts === null).toBe(wanted === null);
    }
    if (dark.length === 2) expect(history.watts.every((watts) => watts === null)).toBe(true);
  },
);

test.each([
  [144_000, "limit_not_seen", [0.417, 0.625], false],
  [144_000, "fitted_work", [0.417, 0.625], true],
  [undefined, undefined, [null, null], true],
] as const)(
  "of a learned capacity that is off by %j (%s) between %j may have been used",
  async (doubt, reason, bounds, limitSeen) => {
    const learned = { tokensPerGpuHour: 720_000, source: "learned", minutes: 20, at: 0n } as const;
    const unsure = doubt === undefined ? {} : { uncertainPerGpuHour: doubt, reason };
    const rate = vi.spyOn(CapacityMeter.prototype, "rate").mockReturnValue({ ...learned, ...unsure });
    closing.push(() => rate.mockRestore());
    const { agent, clock } = await running();
    await clock.advance(75 * SECOND);
    const { capacity } = (await look(agent)).view;
    const [least, most] = bounds;
    if (least === null) expect([capacity?.utilization_min, capacity?.utilization_max]).toEqual([null, null]);
    else
      expect(
        [capacity?.utilization_min, capacity?.utilization_max].map((one) => Number(one?.toFixed(1))),
      ).toEqual([least, most].map((one) => Number(one.toFixed(1))));
    expect(capacity?.utilization).toBeCloseTo(0.5, 1);
    expect(capacity?.limit_seen).toBe(limitSeen);
  },
);

test("tenants are not told where /metrics may not show them", async () => {
  const { agent, clock } = await running(["export.prometheus.tenants=false"]);
  await clock.advance(30 * SECOND);
  const answer = await (await fetch(`http://${agent.exports.address}/-/view`)).text();
  expect(JSON.parse(answer)).toMatchObject({ view: { tenants: null } });
  expect(answer).not.toContain("acme");
});

test("what is wrong is said with what to do, and is gone when it is mended", async () => {
  const state = { fails: true };
  const { agent, clock } = await running([], state);
  await clock.advance(5 * SECOND);
  const { view } = await look(agent);
  expect(view.servers[0]).toMatchObject({ ok: false, tokens_per_second: null });
  expect(view.advice[0]).toEqual({
    id: "server.reachable",
    verdict: "fail",
    subject: "llama",
    seen: "it does not answer",
    remedy: "`tokenwatt probe llama:1` shows what it answers",
  });
  state.fails = false;
  await clock.advance(10 * SECOND);
  expect((await look(agent)).view.advice.filter(({ subject }) => subject === "llama")).toEqual([]);
});
