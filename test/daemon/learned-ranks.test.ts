// What was learned of the order of ranks goes with the ledger: an agent that starts again begins with it, as a guess.
import { expect, test } from "vitest";
import { coreState, createCore } from "../../agent/daemon/accounting.ts";
import { defaultWeights } from "../../agent/meter/money/tenants.ts";
import type { GpuSample, LedgerRestored, ServerPoll, StateRow } from "../../agent/model.ts";
import { virtualClock } from "../../agent/platform/clock.ts";
import { gpuInfo, second, serverInfo } from "../correlate/scene.ts";
import { START } from "../meter/fixtures.ts";
import { ringOf } from "../tools/rings.ts";

const length = 120;
const gpus = ["g0", "g1"].map((uuid, index) => gpuInfo(uuid, { index }));

/** Ranks take turns of five seconds; the GPU of each is the other one than by order. */
function worksAt(rank: number, at: number): boolean {
  return (Math.floor(at / 5) + rank) % 2 === 1;
}

function pollAt(at: number): ServerPoll {
  const ranks = [0, 1].map((rank) => {
    let outputTokens = 0;
    for (let before = 0; before < at; before++) if (worksAt(rank, before)) outputTokens += 50;
    const inFlight = worksAt(rank, at) && worksAt(rank, at - 1) ? 1 : 0;
    return { rank: String(rank), inputTokens: 0, outputTokens, inFlight };
  });
  const outputTokens = ranks.reduce((sum, rank) => sum + rank.outputTokens, 0);
  return { at: at * second, inputTokens: 0, outputTokens, inFlight: 1, progress: "step", ranks };
}

function sampleAt(gpu: number, at: number): GpuSample {
  const value = worksAt(1 - gpu, at - 1) ? 0.9 : 0;
  return {
    ...{ gpu: `g${gpu}`, at: at * second, powerWatts: 200, processes: [{ pid: gpu + 1, type: "compute" }] },
    utilizationRing: ringOf([4, 3, 2, 1, 0].map((back) => ({ at: at * second - back * 200_000_000, value }))),
  };
}

/** A life of the agent that begins with some rows; where its ranks are after some seconds, and its own rows. */
function lived(state: readonly StateRow[] | undefined, seconds: number) {
  const clock = virtualClock(START);
  const past: Omit<LedgerRestored, "state"> = {
    ...{ sequence: 1, time: String(clock.unixNanos(0)), nextSeries: 1, series: [], rows: [] },
  };
  const restored = state && { ...past, state };
  const core = createCore({
    ...{ clock, origin: 0, intervalMs: 1000, gpuPollMs: 1000, strict: true, restored },
    correlate: { stallAfterSeconds: 60, settleMsMax: 30_000, shares: {}, weights: defaultWeights },
    series: { max: 1000, tenantsMax: 10, latencyTenants: [], idleSeconds: 86_400 },
  });
  const { correlator } = core;
  correlator.setGpus(gpus, 0);
  correlator.setServers([serverInfo("a", { pids: [1, 2] })], 0);
  for (let at = 0; at <= seconds; at++) {
    for (const gpu of [0, 1]) correlator.acceptGpu(sampleAt(gpu, at));
    correlator.acceptTokens("a", pollAt(at), []);
    correlator.settle(at * second);
  }
  return {
    places: correlator.status().ranks.map(({ gpus: own, place, rank }) => `${rank} ${own} ${place}`),
    rows: coreState(core, clock).filter(({ key }) => key === '["ranks"]'),
  };
}

test("the order of ranks that an agent learned is what the next one begins with", () => {
  expect(lived(undefined, 4)).toEqual({ places: ["0 g0 assumed", "1 g1 assumed"], rows: [] });
  const first = lived(undefined, length);
  expect(first.places).toEqual(["0 g1 learned", "1 g0 learned"]);
  const next = lived(first.rows, 4);
  expect(next.places).toEqual(["0 g1 assumed", "1 g0 assumed"]);
  expect(next.rows).toEqual(first.rows);
});

test.each(["", "null", "7", '"x"', '{"a":null}', '{"a":3}', '{"b":{"g0":"1"}}'])(
  "a row that says %j is no order",
  (value) => {
    expect(lived([{ key: '["ranks"]', value }], 4).places).toEqual(["0 g0 assumed", "1 g1 assumed"]);
  },
);
