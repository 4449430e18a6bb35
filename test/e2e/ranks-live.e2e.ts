// The daemon as users run it, in real time, beside a vLLM page of three data-parallel ranks whose GPUs are in another order, one rank
// idle: the GPU of the idle rank is parked, the others are token-active as they really were, and each GPU has its own rank's
// tokens. Once the processes are named after their ranks, once nothing but what they do says where they are.
import { expect, test } from "vitest";
import type { LiveDaemon } from "./accuracy/live-daemon.ts";
import { startLiveDaemon } from "./accuracy/live-daemon.ts";
import { countersAt } from "./accuracy/live-host.ts";
import { gpuOf, LiveRanks, rankCount, seconds } from "./accuracy/live-ranks.ts";
import type { Received } from "./accuracy/received.ts";
import { afterTest, scratchFolder, until } from "./peers.ts";

/** Token-active and parked seconds of each GPU from a millisecond on, and the truth. */
function statesOf(live: LiveRanks, received: Received, beganNanos: bigint, fromMs: number) {
  const msAt = (instant: bigint): number => Math.round(Number(instant - beganNanos) / 1e6);
  const instants = received.instants("tokenwatt.gpu.time").filter((instant) => msAt(instant) >= fromMs);
  const [first, last] = [instants[0] as bigint, instants.at(-1) as bigint];
  const length = Number(last - first) / 1e9;
  return Array.from({ length: rankCount }, (_, rank) => {
    const share = (state: string): number => {
      const wanted = { "hw.id": live.uuids[gpuOf(rank)] as string, "tokenwatt.gpu.state": state };
      const at = (instant: bigint): number => received.at("tokenwatt.gpu.time", wanted, instant);
      return (at(last) - at(first)) / length;
    };
    const truth = live.truth.rankActive[rank] ?? new Uint8Array();
    const active = truth.subarray(msAt(first), msAt(last)).filter((ms) => ms === 1).length / 1000 / length;
    return { active, found: share("token_active"), parked: share("parked"), stalled: share("stalled") };
  });
}

/** Share of the judged time by which real time may miss; the regimes without it are held to half of it. */
const BAR = 0.03;
/** Longer than an interval waits for its readings. */
const settleMs = 8000;

interface Status {
  readonly correlation: { readonly ranks: readonly { readonly place: string }[] };
}

interface Look {
  readonly view: {
    readonly gpus: readonly { readonly uuid: string; readonly output_tokens_per_second: number | null }[];
  };
}

test("ranks in another order than their GPUs are metered each on its own", async () => {
  const live = new LiveRanks(scratchFolder("ranks-host"), 1);
  const endpoint = await live.serve();
  afterTest(() => live.close());
  const pids = Array.from({ length: rankCount }, (_, gpu) => 7001 + gpu);
  const pages = [{ id: "ranks", endpoint, pids, pollMs: 1000 }];
  const daemons = {
    named: await startLiveDaemon(pages, { path: live.smi.named, intervalMs: 200 }),
    learned: await startLiveDaemon(pages, { path: live.smi.nameless, intervalMs: 200 }),
  };
  await until(async () =>
    (await Promise.all(Object.values(daemons).map(({ isReady }) => isReady()))).every(Boolean),
  );
  live.begin();
  const beganNanos = BigInt(Math.round((Date.now() - live.now()) * 1e6));
  const ranksOf = async ({ ask }: Pick<LiveDaemon, "ask">): Promise<readonly { readonly place: string }[]> =>
    ((await (await ask("/-/status")).json()) as Status).correlation.ranks;
  await until(async () => {
    const places = await ranksOf(daemons.learned);
    return places.length === rankCount && places.every(({ place }) => place === "learned");
  });
  // What was waiting when the places were learned is settled by then.
  const fromMs = live.now() + settleMs;
  await until(() => live.now() >= fromMs + 1000 * seconds.judged);
  for (const [place, { ask, end }] of Object.entries(daemons)) {
    expect.soft(await ranksOf({ ask }), place).toEqual(
      Array.from({ length: rankCount }, (_, rank) => ({
        ...{ server: "ranks", rank: String(rank), gpus: [live.uuids[gpuOf(rank)]], place },
        ...(place === "learned" && gpuOf(rank) !== rank ? { is_out_of_order: true } : {}),
      })),
    );
    const { gpus } = ((await (await ask("/-/view")).json()) as Look).view;
    const pace = Array.from(
      { length: rankCount },
      (_, rank) => gpus.find(({ uuid }) => uuid === live.uuids[gpuOf(rank)])?.output_tokens_per_second ?? 0,
    );
    const endMs = Math.floor(live.now());
    const received = await end();
    const states = statesOf(live, received, beganNanos, fromMs);
    console.log(place, JSON.stringify(states), JSON.stringify(pace));
    for (const { active, found, stalled } of states) {
      expect.soft(Math.abs(found - active), place).toBeLessThanOrEqual(BAR);
      expect.soft(stalled, place).toBeLessThanOrEqual(BAR);
    }
    expect.soft(states[2]?.parked, place).toBeGreaterThanOrEqual(1 - BAR);
    // In the last minute the idle rank's GPU made nothing, the others what they made.
    expect.soft(pace[2], place).toBe(0);
    const made = (rank: number): number => {
      const counters = live.truth.rankCounters[rank] ?? [];
      return countersAt({ counters }, endMs).output - countersAt({ counters }, endMs - 60_000).output;
    };
    const ratio = (pace[0] as number) / ((pace[0] as number) + (pace[1] as number));
    expect.soft(Math.abs(ratio - made(0) / (made(0) + made(1))), place).toBeLessThanOrEqual(0.1);
    const tokens = received.by("tokenwatt.token.kind", "tokenwatt.tokens", {
      "tokenwatt.server.id": "ranks",
    });
    // Every token as the page had it at one of the last polls.
    const pages = live.truth.counters.filter(({ at }) => at > endMs - settleMs);
    const wanted = [tokens["input_unsplit"], tokens["output"]];
    expect.soft(pages.map(({ input, output }) => [input, output])).toContainEqual(wanted);
  }
});
