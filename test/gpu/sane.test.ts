// The last look at a GPU reading: nothing absurd passes, nothing good is touched.
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Now } from "../../agent/gpu/nvml/child/driver-clock.ts";
import { DriverClock } from "../../agent/gpu/nvml/child/driver-clock.ts";
import { Cell, decodeValue } from "../../agent/gpu/nvml/child/layouts.ts";
import { FreshRings } from "../../agent/gpu/nvml/over-restarts.ts";
import { unpack } from "../../agent/gpu/nvml/unpack.ts";
import { sane } from "../../agent/gpu/sane.ts";
import type { GpuSample } from "../../agent/model.ts";
import { ringOf } from "../tools/rings.ts";

const NOW = 100e9;
const anything = fc.oneof(
  fc.double(),
  fc.integer(),
  fc.constantFrom(Number.NaN, -1, 0, 2 ** 53, 2 ** 64, 0xffffffff),
);
const at = fc.oneof(fc.integer({ min: 0, max: 200e9 }), anything);
const point = fc.record({ at, value: anything });
const counts = fc.dictionary(fc.string(), anything);
const sample = fc.record(
  {
    gpu: fc.constant("GPU-1"),
    at,
    energyMillijoules: anything,
    powerWatts: anything,
    powerInstantWatts: anything,
    utilizationRatio: anything,
    memoryUsedBytes: anything,
    temperatureCelsius: anything,
    smActiveRatio: anything,
    utilizationRing: fc.array(point).map(ringOf),
    powerRing: fc.array(point).map(ringOf),
    processes: fc.array(fc.record({ pid: anything, type: fc.constant("compute" as const) })),
    processShares: fc.array(fc.record({ pid: anything, at, smRatio: anything })),
    throttleSeconds: counts,
    xidEvents: counts,
    trafficBytes: counts,
  },
  { requiredKeys: ["gpu", "at"] },
);

function numbersOf(value: unknown): number[] {
  if (typeof value === "number") return [value];
  return typeof value === "object" && value !== null ? Object.values(value).flatMap(numbersOf) : [];
}

describe("sane()", () => {
  test("lets nothing negative, infinite or not a number through, and no instant of another time", () => {
    fc.assert(
      fc.property(sample, (reading) => {
        const checked = sane(reading as GpuSample, NOW);
        if (checked === undefined) return;
        for (const value of numbersOf(checked.sample)) {
          expect(Number.isFinite(value)).toBe(true);
          expect(value).toBeGreaterThanOrEqual(0);
        }
        const { utilizationRing, powerRing, processShares = [] } = checked.sample;
        const instants = powerRing?.instants ?? [];
        const shares = processShares.map((share) => share.at);
        for (const instant of [...(utilizationRing?.instants ?? []), ...instants, ...shares]) {
          expect(instant).toBeLessThanOrEqual(NOW + 1e9);
          expect(instant).toBeGreaterThanOrEqual(NOW - 60e9);
        }
        expect(instants).toEqual([...instants].sort((left, right) => left - right));
      }),
    );
  });

  test("leaves a good reading as it is", () => {
    const good: GpuSample = {
      gpu: "GPU-1",
      at: NOW,
      energyMillijoules: 123456789,
      powerWatts: 700.5,
      utilizationRatio: 1,
      utilizationRing: { instants: [NOW - 1e8], values: [0.5] },
      processes: [{ pid: 1, type: "mps" }],
      xidEvents: {},
      energyEpoch: "boot/580",
    };
    expect(sane(good, NOW)).toEqual({ sample: good, dropped: 0 });
  });

  test("puts the points of a ring in order and drops none that is good", () => {
    const instants = fc.array(fc.integer({ min: NOW - 60e9, max: NOW }), { minLength: 1, maxLength: 30 });
    fc.assert(
      fc.property(instants, (all) => {
        const even = (stamps: readonly number[]) => ringOf(stamps.map((stamp) => ({ at: stamp, value: 1 })));
        const { sample: checked } = sane({ gpu: "g", at: NOW, powerRing: even(all) }, NOW) ?? {};
        expect(checked?.powerRing).toEqual(even(all.toSorted((left, right) => left - right)));
      }),
    );
  });

  test("leaves a value that is absurd out, as if it had not been read", () => {
    const read = { gpu: "g", at: NOW, powerWatts: -1, utilizationRatio: 1, eccErrors: { corrected: -1 } };
    expect(sane(read, NOW)).toStrictEqual({
      sample: { gpu: "g", at: NOW, utilizationRatio: 1 },
      dropped: 2,
    });
  });
});

describe("FreshRings.keep()", () => {
  test("lets each point through once, in order, however readings overlap", () => {
    fc.assert(
      fc.property(fc.array(fc.uniqueArray(fc.integer({ min: 1, max: 500 }), { minLength: 1 })), (polls) => {
        const rings = new FreshRings();
        const seen: number[] = [];
        for (const stamps of polls) {
          const powerRing = ringOf(
            stamps.sort((left, right) => left - right).map((stamp) => ({ at: stamp, value: stamp })),
          );
          const kept = rings.keep({ gpu: "g", at: 500, powerRing }).powerRing;
          expect(kept?.values).toEqual(kept?.instants);
          seen.push(...(kept?.instants ?? []));
        }
        expect(seen).toEqual([...new Set(seen)].sort((left, right) => left - right));
      }),
    );
  });
});

describe("DriverClock", () => {
  const now = (monotonicNanos: number): Now => ({
    monotonicNanos,
    unixMicros: 1_795_000_000_000_000 + monotonicNanos / 1000,
    bootMicros: 5_000_000_000 + monotonicNanos / 1000,
  });

  test.each([
    ["unix", 1_795_000_000_000_000],
    ["boot", 5_000_000_000],
  ])("maps %s stamps exactly", (kind, base) => {
    const clock = new DriverClock();
    clock.observe(base + 900_000, now(1e9));
    expect(clock.kind).toBe(kind);
    expect(clock.nanos(base + 700_000, now(1e9))).toBe(0.7e9);
  });

  test("maps an unknown clock by the smallest lag seen", () => {
    const clock = new DriverClock();
    clock.observe(42_000_000 - 150_000, now(1e9));
    clock.observe(43_000_000 - 10_000, now(2e9));
    expect(clock.kind).toBe("unknown");
    expect(clock.nanos(43_000_000 - 10_000, now(2e9))).toBe(2e9);
    expect(clock.nanos(42_500_000 - 10_000, now(2e9))).toBe(1.5e9);
  });
});

describe("wire and memory", () => {
  test("decodeValue() never throws and gives a finite number or nothing", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 8, maxLength: 8 }),
        fc.integer({ min: -5, max: 300 }),
        (bytes, type) => {
          const value = decodeValue(new DataView(bytes.buffer, bytes.byteOffset, 8), 0, type);
          expect(value === undefined || Number.isFinite(value)).toBe(true);
        },
      ),
    );
  });

  test("Cell tells what the driver did not write", () => {
    const cell = new Cell(16).fresh();
    expect([cell.u32OrAbsent(), cell.u64(8)]).toEqual([undefined, undefined]);
    cell.setU64(8, 2 ** 40 + 5);
    expect(cell.u64(8)).toBe(2 ** 40 + 5);
  });

  test("unpack() keeps the last list of processes for a reading that says same", () => {
    const lists = new Map();
    const table = {
      pids: Float64Array.of(7),
      memory: Float64Array.of(Number.NaN),
      mps: Uint8Array.of(1),
      names: ["x"],
    };
    unpack({ gpu: "g", at: 1, processes: table }, (at) => at + 10, lists);
    expect(
      unpack(
        { gpu: "g", at: 2, processes: "same", powerRing: Float64Array.of(1, 5) },
        (at) => at + 10,
        lists,
      ),
    ).toEqual({
      gpu: "g",
      at: 12,
      powerRing: { instants: [11], values: [5] },
      processes: [{ pid: 7, type: "mps", name: "x" }],
    });
  });
});
