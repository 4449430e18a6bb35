// Schedulers that repeat each other count once, wherever their ranks begin: firstRanks() and what SGLang's reader makes of it.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import fc from "fast-check";
import { expect, test } from "vitest";
import { parsePage } from "../../../agent/page/parse.ts";
import { systemClock } from "../../../agent/platform/clock.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { sglang } from "../../../agent/servers/sglang.ts";
import type { PullServerSource } from "../../../agent/source.ts";

interface Scheduler {
  readonly dp: number;
  readonly pp: number;
  readonly tp: number;
  readonly running: number;
  readonly decoded: number;
}

/** A page of schedulers; numbered through (data-parallel attention) or each rank from 0. */
function pageOf(schedulers: readonly Scheduler[], size: number, isThrough: boolean): string {
  const lines = ['sglang:generation_tokens_total{model_name="m"} 7'];
  for (const { decoded, dp, pp, running, tp } of schedulers) {
    const rank = isThrough ? dp * size + tp : tp;
    const labels = `dp_rank="${dp}",engine_type="unified",model_name="m",moe_ep_rank="${rank}",pp_rank="${pp}",tp_rank="${rank}"`;
    lines.push(`sglang:num_running_reqs{${labels}} ${running}`);
    for (const mode of ["decode", "prefill_compute"])
      lines.push(`sglang:realtime_tokens_total{${labels},mode="${mode}"} ${decoded}`);
  }
  return `${lines.join("\n")}\n`;
}

test("firstRanks() counts every data-parallel rank once, wherever its tensor-parallel ranks begin", () => {
  const amount = fc.nat(1000);
  const shape = fc.record({
    ranks: fc.array(fc.record({ running: amount, decoded: amount }), { minLength: 1, maxLength: 5 }),
    tensor: fc.integer({ min: 1, max: 4 }),
    pipeline: fc.integer({ min: 1, max: 2 }),
    isThrough: fc.boolean(),
    all: fc.boolean(),
    gauged: fc.boolean(),
    order: fc.infiniteStream(fc.nat(1_000_000)),
  });
  fc.assert(
    fc.property(shape, ({ all, gauged, isThrough, order, pipeline, ranks, tensor }) => {
      const schedulers = ranks.flatMap((rank, dp) =>
        Array.from({ length: pipeline }, (_, pp) => pp).flatMap((pp) =>
          // Without --enable-metrics-for-all-schedulers only the first of each rank reports.
          Array.from({ length: all ? tensor : 1 }, (_, tp) => ({ ...rank, dp, pp, tp })),
        ),
      );
      const keys = new Map(schedulers.map((one) => [one, order.next().value]));
      const shuffled = schedulers.toSorted((one, other) => (keys.get(one) ?? 0) - (keys.get(other) ?? 0));
      const text = pageOf(shuffled, tensor, isThrough);
      const page = parsePage(Buffer.from(gauged ? text : text.replace(/.*num_running_reqs.*\n/g, "")));
      const [reading] = sglang.page?.read(page).readings ?? [];
      const sum = (of: (rank: { running: number; decoded: number }) => number): number =>
        ranks.reduce((total, rank) => total + of(rank), 0);
      expect(reading?.running).toBe(gauged ? sum(({ running }) => running) : undefined);
      expect(reading?.progress).toEqual({
        input: sum(({ decoded }) => decoded),
        output: sum(({ decoded }) => decoded),
      });
    }),
  );
});

test.each([
  { before: [4, 2], after: [2, 4] },
  { before: [2, 4], after: [4, 2] },
  { before: [2, 4], after: [2, 4] },
] as const)(
  "a server of $before ranks started again with $after is read on, rank by rank",
  async ({ after, before }) => {
    let page = "";
    const server = createServer((_, response) => response.end(page)).listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`;
    const context = { clock: systemClock(), log: silentLog, signal: new AbortController().signal };
    const source = sglang.open(sglang.config.parse({ id: "s", endpoint }), context) as PullServerSource;
    const decoded = async ([ranks, size]: readonly [number, number], count: number, start: number) => {
      const schedulers = Array.from({ length: ranks }, (_, dp) => ({
        dp,
        pp: 0,
        tp: 0,
        running: 1,
        decoded: count,
      }));
      page = `process_start_time_seconds ${start}\n${pageOf(schedulers, size, true)}`;
      const [reading] = (await source.poll()).readings;
      return reading?.ranks?.slice(0, ranks).map(({ progress }) => progress?.output ?? 0) ?? [];
    };
    await decoded(before, 1000, 1000);
    await decoded(before, 1200, 1000);
    // At the third start no series is new: only what the page shows says that it is another server.
    for (const [start, shape] of [after, before, after].entries()) {
      const first = await decoded(shape, 10, 2000 + start * 1000);
      const next = await decoded(shape, 110, 2000 + start * 1000);
      expect(next.map((output, rank) => output - (first[rank] ?? 0))).toEqual(Array(shape[0]).fill(100));
    }
    await source.close();
    server.close();
    server.closeAllConnections();
  },
);

test("a gauge that is asked for more than once is ignored once", () => {
  const labels = 'model_name="m",tp_rank="0"';
  const page = parsePage(
    Buffer.from(`sglang:generation_tokens_total{${labels}} 7\nsglang:num_running_reqs{${labels}} -1\n`),
  );
  expect(sglang.page?.read(page).ignoredSamples).toBe(1);
});
