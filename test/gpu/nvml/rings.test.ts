// The driver's rings: what a reader makes of what any driver may write there.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Device } from "../../../agent/gpu/nvml/child/device.ts";
import type { Cell } from "../../../agent/gpu/nvml/child/layouts.ts";
import { RING, SAMPLE } from "../../../agent/gpu/nvml/child/layouts.ts";
import type { Nvml } from "../../../agent/gpu/nvml/child/library.ts";
import { RingReader } from "../../../agent/gpu/nvml/child/rings.ts";
import { CODE } from "../../../agent/gpu/nvml/codes.ts";
import type { Draft } from "../../../agent/gpu/nvml/protocol.ts";

interface Written {
  readonly stampMicros: number;
  readonly milliwatts: number;
}

const UNSIGNED_INT = 1;
const MILLIWATTS_MAX = 20_000_000;

/** A driver whose power ring holds these samples, and which has nothing else. */
function driver(samples: readonly Written[]): Nvml {
  const call = (name: string, ...given: unknown[]): number => {
    if (name !== "nvmlDeviceGetSamples" || given[1] !== RING.power) return CODE.notFound;
    const [type, count, cell] = given.slice(3) as [Cell, Cell, Cell];
    type.setU32(0, UNSIGNED_INT);
    count.setU32(0, samples.length);
    for (const [place, { milliwatts, stampMicros }] of samples.entries()) {
      cell.setU64(place * SAMPLE.size + SAMPLE.at, stampMicros);
      cell.setU32(place * SAMPLE.size + SAMPLE.value, milliwatts);
    }
    return CODE.success;
  };
  return { call } as unknown as Nvml;
}

/** Samples about now, in any order, with stamps twice, without a stamp, far ahead, and with values no board has. */
const written = fc
  .record({
    agoMicros: fc.oneof(
      fc.integer({ min: 0, max: 5_000_000 }),
      fc.constantFrom(0, 1, 20_000, 20_000, -60_000_000),
    ),
    milliwatts: fc.oneof(
      fc.integer({ min: 0, max: 700_000 }),
      fc.constantFrom(MILLIWATTS_MAX + 1, 2 ** 32 - 1),
    ),
    isUnset: fc.boolean(),
  })
  .map(({ agoMicros, isUnset, milliwatts }) => ({
    milliwatts,
    stampMicros: isUnset && agoMicros % 7 === 0 ? 0 : Date.now() * 1000 - agoMicros,
  }));

describe("RingReader", () => {
  test("gives each sample once, by rising time, whatever order the driver has, and counts what is absurd", () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(written, { maxLength: 60 }), { minLength: 1, maxLength: 4 }),
        (rounds) => {
          const reader = new RingReader();
          const device = new Device({ handle: 1, uuid: "GPU-1", index: 0 });
          let newest = 0;
          let absurd = 0;
          let reached = 0;
          for (const samples of rounds) {
            const ahead = Date.now() * 1000 + 30_000_000;
            const draft: Draft = { gpu: "GPU-1", at: 0 };
            reader.read(driver(samples), device, draft);
            const fresh = samples.filter(({ stampMicros }) => stampMicros > newest);
            const isGood = ({ milliwatts, stampMicros }: Written): boolean =>
              milliwatts <= MILLIWATTS_MAX && stampMicros < ahead;
            const good = fresh.filter(isGood).sort((left, right) => left.stampMicros - right.stampMicros);
            absurd += fresh.length - good.length;
            newest = good.at(-1)?.stampMicros ?? newest;
            expect(reader.absurd).toBe(absurd);
            const points = [...(draft.powerRing ?? [])];
            const instants = points.filter((_, place) => place % 2 === 0);
            const watts = points.filter((_, place) => place % 2 === 1);
            expect(instants).toEqual([...instants].sort((left, right) => left - right));
            for (const at of instants) expect(at).toBeGreaterThan(reached);
            // The oldest may be of an instant that was reached before: the clocks were told apart by a little.
            expect(watts).toEqual(
              good.slice(good.length - watts.length).map(({ milliwatts }) => milliwatts / 1000),
            );
            if (reached === 0) expect(watts.length).toBe(good.length);
            reached = instants.at(-1) ?? reached;
          }
        },
      ),
    );
  });
});
