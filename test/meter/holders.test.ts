// GPU-seconds, joules and cost by holder: additive, bounded, and ended when the holder is gone.
import { describe, expect, test } from "vitest";
import { HolderSeries } from "../../agent/daemon/holder-series.ts";
import { Books } from "../../agent/meter/books.ts";
import { HolderSets } from "../../agent/meter/holders.ts";
import type { HolderShare, SettledInterval } from "../../agent/model.ts";
import { factsOf, intervalOf, START } from "./fixtures.ts";

const share = (name: string, nanos: number): HolderShare => ({
  holder: { kind: "pod", name, namespace: "ns", pod: name },
  nanos,
  millijoules: nanos / 1e7,
});

function held(from: number, to: number, holders: readonly HolderShare[]): SettledInterval {
  const interval = intervalOf({ from, to, seconds: { other: to - from } });
  return { ...interval, gpus: interval.gpus.map((row) => ({ ...row, holders })) };
}

function totals(books: Books, at: number): ReadonlyMap<string, { value: number; ended: boolean }> {
  const { snapshot } = books.commit(START + BigInt(at) * 1_000_000_000n, at * 1e9);
  return new Map(
    snapshot.points
      .filter(({ metric }) => metric.startsWith("tokenwatt.holder."))
      .map(({ dimensions, ended, metric, value }) => [
        `${metric} ${dimensions["tokenwatt.holder.name"]}`,
        { value: Number(value), ended },
      ]),
  );
}

describe("holders", () => {
  test("are booked under names of their own and cost what their seconds cost", () => {
    const catalogue = {
      version: "1",
      currency: "USD",
      gpus: [
        { gpu: "NVIDIA H100 80GB HBM3", version: "1", perGpuHour: 3_600_000_000n, energyIncluded: true },
      ],
      energy: [],
      tokens: [],
      capacities: [],
    };
    const books = new Books({
      start: START,
      unixNanos: (at) => START + BigInt(at),
      catalogue: catalogue as never,
    });
    books.bookInterval(held(0, 10, [share("a", 7e9), share("b", 3e9)]), factsOf());
    const seen = totals(books, 10);
    expect(seen.get("tokenwatt.holder.gpu_time a")?.value).toBe(7e9);
    expect(seen.get("tokenwatt.holder.energy b")?.value).toBe(300);
    // 3.6 USD an hour is a thousandth a second.
    expect(seen.get("tokenwatt.holder.cost a")?.value).toBe(7_000_000);
    expect(seen.get("tokenwatt.holder.cost b")?.value).toBe(3_000_000);
  });

  test("beyond the bound count under other, and nothing is lost", () => {
    const sets = new HolderSets();
    const names = new Set(
      Array.from(
        { length: 700 },
        (_, index) => sets.of({ kind: "job", name: String(index) })["tokenwatt.holder.name"],
      ),
    );
    expect(names.size).toBe(501);
    expect(names).toContain("other");
    sets.forget("job 3");
    expect(sets.of({ kind: "job", name: "late" })["tokenwatt.holder.name"]).toBe("late");
  });

  test("end half an hour after they were seen last", () => {
    const books = new Books({ start: START, unixNanos: (at) => START + BigInt(at) });
    const series = new HolderSeries(books);
    const both = held(0, 10, [share("a", 5e9), share("b", 5e9)]);
    const one = held(10, 1900, [share("b", 1890e9)]);
    for (const interval of [both, one]) {
      books.bookInterval(interval, factsOf());
      series.follow(interval);
    }
    const seen = totals(books, 1900);
    expect(seen.get("tokenwatt.holder.gpu_time a")?.ended).toBe(true);
    expect(seen.get("tokenwatt.holder.gpu_time b")?.ended).toBe(false);
  });
});
