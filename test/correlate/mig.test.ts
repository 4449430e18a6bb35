// MIG through the Correlator: slices weigh, the board's energy is booked once.
import { describe, expect, test } from "vitest";
import type { GpuSample } from "../../agent/model.ts";
import { gpuInfo, polls, readings, repeated, rowsOf, run, second, serverInfo, sum, totals } from "./scene.ts";

describe("MIG", () => {
  const board = gpuInfo("board", { weight: 1 });
  const slices = [
    gpuInfo("big", { parent: "board", weight: 3 / 7 }),
    gpuInfo("small", { parent: "board", weight: 1 / 7 }),
  ];
  const onBig = serverInfo("a", { gpus: ["big"] });
  const onSmall = serverInfo("b", { gpus: ["small"] });

  const scene = (more: { repeatEnergy?: boolean; active?: [number, number] } = {}) => {
    const [big = 1, small = 1] = more.active ?? [];
    const seconds = [
      ...repeated(10, { watts: 100, pids: [1] }),
      ...repeated(10, { watts: 400, busy: 1, pids: [1] }),
    ];
    const withActive = (ratio: number) =>
      seconds.map((entry, k) => ({ ...entry, active: k < 10 ? 0 : ratio }));
    const strip = (sample: GpuSample): GpuSample => {
      const { energyMillijoules, powerWatts, ...rest } = sample;
      return more.repeatEnergy ? sample : rest;
    };
    return run({
      gpus: [board, ...slices],
      servers: [onBig, onSmall],
      samples: [
        ...readings("board", seconds).map(({ processes, ...rest }) => rest),
        ...readings("big", withActive(big)).map(strip),
        ...readings("small", withActive(small)).map(strip),
      ],
      polls: {
        a: polls([...repeated(10, 0), ...repeated(10, 100)]),
        b: polls([...repeated(10, 0), ...repeated(10, small > 0 ? 100 : 0)]),
      },
      seconds: 20,
    }).intervals;
  };

  test("instances weigh their slices, the remainder is free under the parent, the board is whole", () => {
    const intervals = scene();
    const wall = (uuid: string) => sum(Object.values(totals(rowsOf(intervals, uuid), "nanos")));
    expect(wall("big")).toBeCloseTo((20 * second * 3) / 7, -1);
    expect(wall("small")).toBeCloseTo((20 * second) / 7, -1);
    expect(wall("big") + wall("small") + wall("board")).toBe(20 * second);
    expect(totals(rowsOf(intervals, "board"), "nanos")["free"]).toBe(wall("board"));
    expect(rowsOf(intervals, "big")[12]?.residents[0]).toMatchObject({ method: "mig", timeMethod: "mig" });
  });

  test("board energy is booked once, even where every instance repeats it", () => {
    for (const repeatEnergy of [false, true]) {
      const intervals = scene({ repeatEnergy });
      const all = ["board", "big", "small"].flatMap((uuid) => rowsOf(intervals, uuid));
      expect(sum(Object.values(totals(all, "millijoules")))).toBe(10 * 100_000 + 10 * 400_000);
    }
  });

  test("energy above the floor goes by activity x slices, a busy small slice is no big one", () => {
    const intervals = scene({ active: [0.5, 1] }).slice(11, 19);
    const energy = (uuid: string) => sum(Object.values(totals(rowsOf(intervals, uuid), "millijoules")));
    const [floor, above] = [8 * 100_000, 8 * 300_000];
    const big = (3 * 0.5) / (3 * 0.5 + 1 * 1);
    expect(energy("big")).toBeCloseTo((floor * 3) / 7 + above * big, -2);
    expect(energy("small")).toBeCloseTo(floor / 7 + above * (1 - big), -2);
    expect(energy("board")).toBeCloseTo((floor * 3) / 7, -2);
  });

  test("energy above the floor goes by what minutes say an instance draws; before, it says how little that is known", () => {
    // The small slice draws as much as the big one for its time, and works otherwise.
    const [idle, length] = [10, 80];
    const ratio = (uuid: string, at: number): number => {
      const cycle = uuid === "big" ? [1, 0.4, 0.8, 0.2] : [0.2, 1, 0.6];
      return at < idle ? 0 : (cycle[at % cycle.length] ?? 0);
    };
    const watts = (at: number): number => 100 + 300 * (ratio("big", at) + ratio("small", at));
    const at = <T>(value: (index: number) => T): T[] => Array.from({ length }, (_, index) => value(index));
    const on = (uuid: string) =>
      readings(
        uuid,
        at((index) => ({ pids: [1], active: ratio(uuid, index), busy: index < idle ? 0 : 1 })),
      ).map(({ energyMillijoules: _energy, powerWatts: _power, ...rest }) => rest);
    const tokens = polls(at((index) => (index < idle ? 0 : 100)));
    const { intervals } = run({
      gpus: [board, ...slices],
      servers: [onBig, onSmall],
      samples: [
        ...readings(
          "board",
          at((index) => ({ watts: watts(index), busy: index < idle ? 0 : 1 })),
        ),
        ...on("big"),
        ...on("small"),
      ],
      polls: { a: tokens, b: tokens },
      seconds: length,
    });
    const rows = rowsOf(intervals, "small");
    const reasons = (from: number, to: number) =>
      new Set(rows.slice(from, to).flatMap(({ uncertain = [] }) => uncertain.map(({ reason }) => reason)));
    expect(reasons(idle, idle + 8)).toContain("equal_watts");
    expect(reasons(60, length)).not.toContain("equal_watts");
    const wanted = sum(at((index) => (index < 60 ? 0 : 100_000 / 7 + 300_000 * ratio("small", index))));
    const found = sum(Object.values(totals(rows.slice(60), "millijoules")));
    expect(Math.abs(found / wanted - 1)).toBeLessThan(0.1);
  });

  test("energy of a counter that is read seldom falls where the instance worked that draws more", () => {
    // One works after the other, in turns of different lengths; the counter is read once in both.
    const [idle, turns, cycle] = [12, 60, 3];
    const length = idle + turns * cycle;
    const bigFor = (turn: number): number => [2, 1, 1, 2, 1][turn % 5] as number;
    const worker = (at: number): string | undefined => {
      if (at < idle) return undefined;
      return (at - idle) % cycle < bigFor(Math.floor((at - idle) / cycle)) ? "big" : "small";
    };
    const drawn = { big: 300, small: 100 };
    const watts = (at: number): number => 100 + (drawn[worker(at) as keyof typeof drawn] ?? 0);
    const at = <T>(value: (index: number) => T): T[] => Array.from({ length }, (_, index) => value(index));
    const bare = ({ energyMillijoules: _energy, powerWatts: _power, ...rest }: GpuSample) => rest;
    const on = (uuid: string) =>
      readings(
        uuid,
        at((index) => ({
          pids: [1],
          active: worker(index) === uuid ? 1 : 0,
          busy: worker(index) === uuid ? 1 : 0,
        })),
      ).map(bare);
    const tokensOf = (uuid: string) => {
      const moved = at((index) => (worker(index) === uuid ? 100 : 0));
      return polls(
        moved,
        at((index) => (worker(index) === uuid && worker(index + 1) === uuid ? 1 : 0)),
      );
    };
    const { intervals } = run({
      gpus: [board, ...slices],
      servers: [onBig, onSmall],
      samples: [
        ...readings(
          "board",
          at((index) => ({ watts: watts(index), busy: index < idle ? 0 : 1 })),
        ).map(({ powerWatts: _power, ...sample }) =>
          (sample.at / second) % cycle === 0 ? sample : bare(sample),
        ),
        ...on("big"),
        ...on("small"),
      ],
      polls: { a: tokensOf("big"), b: tokensOf("small") },
      ...{ seconds: length, intervalNanos: cycle * second },
    });
    const late = intervals.filter(({ from }) => from >= (length / 2) * second);
    for (const [uuid, weight] of [
      ["big", 3],
      ["small", 1],
    ] as const) {
      const wanted = sum(
        late.map(({ from }) =>
          sum(
            Array.from({ length: cycle }, (_, index) => {
              const works = worker(from / second + index) === uuid;
              return (100_000 * weight) / 7 + (works ? 1000 * drawn[uuid] : 0);
            }),
          ),
        ),
      );
      const found = sum(Object.values(totals(rowsOf(late, uuid), "millijoules")));
      expect(Math.abs(found / wanted - 1)).toBeLessThan(0.05);
    }
  });

  test("overlapping slices are scaled to the board", () => {
    const { intervals } = run({
      gpus: [0, 1, 2].map((index) => gpuInfo(`i${index}`, { parent: "board", weight: 0.5 })),
      samples: [0, 1, 2].flatMap((index) => readings(`i${index}`, repeated(3, { watts: 100, pids: [] }))),
      seconds: 3,
    });
    expect(sum(intervals.flatMap(({ gpus }) => gpus.map(({ nanos }) => nanos.free)))).toBe(3 * second);
    expect(sum(intervals.flatMap(({ gpus }) => gpus.flatMap((row) => Object.values(row.millijoules))))).toBe(
      300_000,
    );
  });

  test("a change of topology ends series and opens others at one instant, no energy lost", () => {
    const samples = readings("board", repeated(8, { watts: 200, pids: [] }));
    const { intervals } = run({
      gpus: [board],
      samples: [...samples, ...readings("big", repeated(4, { watts: 0, pids: [] }), 4.5 * second)],
      seconds: 8,
      prepare: (correlator) => correlator.setGpus([board, ...slices], 4.5 * second),
    });
    const rows = (uuid: string) => rowsOf(intervals, uuid);
    for (const { gpus } of intervals) expect(new Set(gpus.map(({ gpu }) => gpu)).size).toBe(gpus.length);
    expect(["board", "big", "small"].map((uuid) => rows(uuid).length)).toEqual([8, 4, 4]);
    const wall = sum(["board", "big", "small"].flatMap((uuid) => Object.values(totals(rows(uuid), "nanos"))));
    expect(wall).toBe(8 * second);
    const energy = ["board", "big", "small"].flatMap((uuid) =>
      Object.values(totals(rows(uuid), "millijoules")),
    );
    expect(sum(energy)).toBe(8 * 200_000);
  });
});
