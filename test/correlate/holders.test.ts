// Who holds a GPU by name: a second view that sums to what it was held for, whoever comes and goes.
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Correlator } from "../../agent/correlate/correlator.ts";
import type { GpuInfo, Holder, SettledInterval } from "../../agent/model.ts";

const second = 1_000_000_000;
const gpu: GpuInfo = { uuid: "GPU-1", index: 0, name: "H100", weight: 1, powerLimitWatts: 700 };
const pod = (name: string): Holder => ({ kind: "pod", name: `ns/${name}`, namespace: "ns", pod: name });
const holders: readonly Holder[] = [
  pod("train"),
  pod("serve"),
  { kind: "job", name: "42", account: "physics" },
];

/** One list of processes a second; process n belongs to holder n % 4, the fourth of which nothing says. */
function play(
  lists: readonly (readonly number[] | undefined)[],
  given: ReadonlyMap<string, readonly Holder[]> = new Map(),
): readonly SettledInterval[] {
  const correlator = new Correlator({ origin: 0, intervalNanos: second, gpuPollMs: 1000, strict: true });
  correlator.setGpus([gpu], 0);
  correlator.setGivenGpus(given);
  correlator.setProcessFacts(
    Array.from({ length: 12 }, (_, pid) => {
      const holder = holders[pid % 4];
      return { pid: pid + 1, ...(holder === undefined ? {} : { holder }) };
    }),
  );
  const intervals: SettledInterval[] = [];
  lists.forEach((pids, index) => {
    const at = index * second;
    correlator.acceptGpu({
      gpu: gpu.uuid,
      at,
      energyMillijoules: index * 300_000,
      powerWatts: 300,
      utilizationRatio: 0.5,
      ...(pids === undefined ? {} : { processes: pids.map((pid) => ({ pid, type: "compute" as const })) }),
    });
    intervals.push(...correlator.settle(at));
  });
  return [...intervals, ...correlator.finish((lists.length - 1) * second)];
}

function held(intervals: readonly SettledInterval[]): {
  readonly nanos: number;
  readonly millijoules: number;
} {
  const rows = intervals.flatMap(({ gpus }) => gpus);
  const of = (field: "nanos" | "millijoules"): number =>
    rows.reduce(
      (sum, row) => sum + row[field].other + row[field].parked + row[field].stalled + row[field].token_active,
      0,
    );
  return { nanos: of("nanos"), millijoules: of("millijoules") };
}

function byName(
  intervals: readonly SettledInterval[],
): ReadonlyMap<string, { nanos: number; millijoules: number }> {
  const sums = new Map<string, { nanos: number; millijoules: number }>();
  for (const { holder, millijoules, nanos } of intervals
    .flatMap(({ gpus }) => gpus)
    .flatMap((row) => row.holders ?? [])) {
    const sum = sums.get(holder.name) ?? { nanos: 0, millijoules: 0 };
    sums.set(holder.name, { nanos: sum.nanos + nanos, millijoules: sum.millijoules + millijoules });
  }
  return sums;
}

describe("holders", () => {
  test("sum to what the GPU was held for, to the nanosecond and millijoule", () => {
    const list = fc.option(fc.uniqueArray(fc.integer({ min: 1, max: 12 }), { maxLength: 4 }), {
      nil: undefined,
    });
    fc.assert(
      fc.property(fc.array(list, { minLength: 3, maxLength: 40 }), (lists) => {
        const intervals = play(lists);
        const sums = [...byName(intervals).values()];
        const total = (field: "nanos" | "millijoules"): number =>
          sums.reduce((sum, one) => sum + one[field], 0);
        expect({ nanos: total("nanos"), millijoules: total("millijoules") }).toEqual(held(intervals));
      }),
    );
  });

  test("share a GPU equally by name, however many processes each has", () => {
    // Processes 1, 5 and 9 are the training pod's, 2 the serving one's.
    const sums = byName(play(Array.from({ length: 21 }, () => [1, 2, 5, 9])));
    expect(sums.get("ns/train")?.nanos).toBe(10 * second);
    expect(sums.get("ns/serve")?.nanos).toBe(10 * second);
    expect(sums.get("ns/train")?.millijoules).toBe(3_000_000);
  });

  test("are named by the kubelet where no process is, and unknown where nothing says", () => {
    const given = new Map([[gpu.uuid, [pod("given")]]]);
    const lists = Array.from({ length: 11 }, () => [4]);
    expect([...byName(play(lists, given)).keys()]).toEqual(["ns/given"]);
    expect([...byName(play(lists)).keys()]).toEqual(["unknown"]);
  });

  test("of a free GPU are none", () => {
    expect(
      play(Array.from({ length: 5 }, () => []))
        .flatMap(({ gpus }) => gpus)
        .every((row) => row.holders === undefined),
    ).toBe(true);
  });
});
