// Schedulers that repeat each other count once, wherever their ranks begin: firstRanks() and what SGLang's reader makes of it.
import fc from "fast-check";
import { expect, test } from "vitest";
import { parsePage } from "../../../agent/page/parse.ts";
import { sglang } from "../../../agent/servers/sglang.ts";

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
    order: fc.infiniteStream(fc.nat(1_000_000)),
  });
  fc.assert(
    fc.property(shape, ({ all, isThrough, order, pipeline, ranks, tensor }) => {
      const schedulers = ranks.flatMap((rank, dp) =>
        Array.from({ length: pipeline }, (_, pp) => pp).flatMap((pp) =>
          // Without --enable-metrics-for-all-schedulers only the first of each rank reports.
          Array.from({ length: all ? tensor : 1 }, (_, tp) => ({ ...rank, dp, pp, tp })),
        ),
      );
      const keys = new Map(schedulers.map((one) => [one, order.next().value]));
      const shuffled = schedulers.toSorted((one, other) => (keys.get(one) ?? 0) - (keys.get(other) ?? 0));
      const page = parsePage(Buffer.from(pageOf(shuffled, tensor, isThrough)));
      const [reading] = sglang.page?.read(page).readings ?? [];
      const sum = (of: (rank: { running: number; decoded: number }) => number): number =>
        ranks.reduce((total, rank) => total + of(rank), 0);
      expect(reading?.running).toBe(sum(({ running }) => running));
      expect(reading?.progress).toEqual({
        input: sum(({ decoded }) => decoded),
        output: sum(({ decoded }) => decoded),
      });
    }),
  );
});
