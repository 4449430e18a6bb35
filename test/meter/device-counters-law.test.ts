// What a device's own counters moved. The law, against sums that are kept under one text for each counter of each GPU: the
// first value of a counter counts nothing, a rise counts its difference, a fall the new value where falls count.
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { DeviceCounters } from "../../agent/meter/device-counters.ts";
import type { GpuInfo, GpuSample } from "../../agent/model.ts";

const value = fc.oneof({ weight: 8, arbitrary: fc.nat(50) }, fc.constantFrom(Number.NaN, -1, 2.6));
const some = { requiredKeys: [] };
const reading = fc.record({
  gpu: fc.constantFrom("GPU-a", "GPU-b"),
  /** The inventory was read again: what it says of a GPU is another object. */
  isRead: fc.boolean(),
  counters: fc.record(
    {
      energyEpoch: fc.constantFrom("", "x"),
      energyMillijoules: value,
      eccErrors: fc.record({ corrected: value, uncorrected: value }, some),
      throttleSeconds: fc.record({ power: value, thermal: value }, some),
      xidEvents: fc.record({ "31": value, "79": value }, some),
      trafficBytes: fc.record({ pcieTransmit: value, nvlinkReceive: value }, some),
    },
    some,
  ),
});

/** Everything that a reading counts: under which text, in the unit of the posting, and whether a fall counts. */
function* countersOf({
  counters,
  gpu,
}: {
  counters: Partial<GpuSample>;
  gpu: string;
}): Generator<
  readonly [metric: string, key: string, value: number | undefined, fallsCount: boolean, first?: number]
> {
  const key = (metric: string, name: string): string => `${gpu} ${metric} ${name}`;
  const {
    eccErrors,
    energyEpoch = "",
    energyMillijoules,
    throttleSeconds,
    trafficBytes,
    xidEvents,
  } = counters;
  yield ["hw.energy", key("hw.energy", energyEpoch), energyMillijoules, false];
  for (const [type, errors] of Object.entries(eccErrors ?? {}))
    yield ["hw.errors", key("hw.errors", type), errors, true];
  for (const [reason, seconds] of Object.entries(throttleSeconds ?? {}))
    yield ["tokenwatt.gpu.throttle_time", key("throttle", reason), seconds * 1e9, true];
  for (const [name, bytes] of Object.entries(trafficBytes ?? {}))
    yield ["hw.gpu.io", key("io", name), bytes, false];
  for (const [code, events] of Object.entries(xidEvents ?? {}))
    yield ["tokenwatt.gpu.xid_events", key("xid", code), events, true, 0];
}

test("DeviceCounters counts of each counter of each GPU what it moved", () => {
  fc.assert(
    fc.property(fc.array(reading, { maxLength: 20 }), (readings) => {
      const counters = new DeviceCounters();
      const infos = new Map<string, GpuInfo>();
      const last = new Map<string, number>();
      for (const one of readings) {
        const known = one.isRead ? undefined : infos.get(one.gpu);
        const info = known ?? { uuid: one.gpu, index: 0, name: "NVIDIA Test", weight: 1 };
        infos.set(one.gpu, info);
        const expected: Record<string, number> = {};
        for (const [metric, key, now, fallsCount, first] of countersOf(one)) {
          if (now === undefined || !(now >= 0)) {
            if (first !== undefined && !last.has(key)) last.set(key, first);
            continue;
          }
          const [whole, before] = [Math.round(now), last.get(key) ?? first];
          if (before !== undefined && whole < before && !fallsCount) continue;
          const amount = before === undefined ? 0 : whole < before ? whole : whole - before;
          last.set(key, whole);
          if (amount > 0) expected[metric] = (expected[metric] ?? 0) + amount;
        }
        const found: Record<string, number> = {};
        for (const { amount, dimensions, metric } of counters.countSample(info, {
          ...{ gpu: one.gpu, at: 0 },
          ...one.counters,
        } as GpuSample)) {
          found[metric] = (found[metric] ?? 0) + amount;
          expect(dimensions["hw.id"]).toBe(one.gpu);
        }
        expect(found).toEqual(expected);
      }
    }),
    { numRuns: 300 },
  );
});
