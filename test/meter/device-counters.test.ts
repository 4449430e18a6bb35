import { describe, expect, test } from "vitest";
import { DeviceCounters, GapTimes } from "../../agent/meter/device-counters.ts";
import type { GpuInfo, GpuSample } from "../../agent/model.ts";

const info: GpuInfo = { uuid: "GPU-a", index: 0, name: "NVIDIA Test", weight: 1 };
const sample = (fields: Partial<GpuSample>): GpuSample => ({ gpu: "GPU-a", at: 0, ...fields });
const amounts = (postings: readonly { metric: string; amount: number }[]): Record<string, number> =>
  Object.fromEntries(postings.map(({ metric, amount }) => [metric, amount]));

describe("DeviceCounters", () => {
  test("counts what moved since it first looked, not what happened before", () => {
    const counters = new DeviceCounters();
    const first = {
      energyMillijoules: 5000,
      energyEpoch: "a",
      eccErrors: { corrected: 3 },
      throttleSeconds: { power: 9 },
    };
    expect(counters.countSample(info, sample(first))).toEqual([]);
    const next = {
      energyMillijoules: 5700,
      energyEpoch: "a",
      eccErrors: { corrected: 4 },
      throttleSeconds: { power: 9.5 },
    };
    expect(amounts(counters.countSample(info, sample(next)))).toEqual({
      "hw.energy": 700,
      "hw.errors": 1,
      "tokenwatt.gpu.throttle_time": 500_000_000,
    });
  });

  test("counts XID events from the first on: their source begins at zero", () => {
    const counters = new DeviceCounters();
    expect(counters.countSample(info, sample({ xidEvents: { "79": 1 } }))).toEqual([
      expect.objectContaining({ metric: "tokenwatt.gpu.xid_events", amount: 1 }),
    ]);
    expect(counters.countSample(info, sample({ xidEvents: { "79": 1 } }))).toEqual([]);
  });

  test("never counts energy down, nor the whole counter after a new driver", () => {
    const counters = new DeviceCounters();
    counters.countSample(info, sample({ energyMillijoules: 9_000_000, energyEpoch: "a" }));
    expect(counters.countSample(info, sample({ energyMillijoules: 200, energyEpoch: "a" }))).toEqual([]);
    expect(counters.countSample(info, sample({ energyMillijoules: 300, energyEpoch: "b" }))).toEqual([]);
    expect(amounts(counters.countSample(info, sample({ energyMillijoules: 400, energyEpoch: "b" })))).toEqual(
      {
        "hw.energy": 100,
      },
    );
  });

  test("ignores what is no number", () => {
    const counters = new DeviceCounters();
    counters.countSample(info, sample({ energyMillijoules: 10, eccErrors: { corrected: 1 } }));
    expect(
      counters.countSample(info, sample({ energyMillijoules: Number.NaN, eccErrors: { corrected: -5 } })),
    ).toEqual([]);
  });
});

describe("GapTimes", () => {
  test("books the whole time between the first failure and the recovery, by reason", () => {
    const gaps = new GapTimes();
    const booked = [
      ...gaps.noteFailure("server:a", 1e9, "nothing listens there"),
      ...gaps.noteFailure("server:a", 3e9, "no answer in time"),
      ...gaps.succeeded("server:a", 4e9),
      ...gaps.succeeded("server:a", 9e9),
    ];
    expect(booked.map(({ amount, dimensions }) => [dimensions["tokenwatt.reason"], amount])).toEqual([
      ["unreachable", 2e9],
      ["timeout", 1e9],
    ]);
  });
});
