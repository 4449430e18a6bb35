// Rings of the driver as the reader child sends them: every sample once, on the agent's clock, however many there are.
import fc from "fast-check";
import { expect, test } from "vitest";
import { unpack } from "../../../agent/gpu/nvml/unpack.ts";

const sample = fc.tuple(fc.nat(1e9), fc.double({ min: 0, max: 1, noNaN: true }));

test("a ring comes out with all its samples, and is no other's", () => {
  fc.assert(
    fc.property(
      fc.array(fc.array(sample, { maxLength: 40 }), { maxLength: 5 }),
      fc.nat(300),
      (rings, length) => {
        const given = [...rings, Array.from({ length }, (_, at): [number, number] => [at, 0.25])];
        const unpacked = given.map((points) => {
          const reading = { gpu: "g", at: 1, powerRing: Float64Array.from(points.flat()) };
          return unpack(reading, (at) => at + 7, new Map()).powerRing;
        });
        expect(unpacked).toEqual(
          given.map((points) => ({
            instants: points.map(([at]) => at + 7),
            values: points.map(([, value]) => value),
          })),
        );
      },
    ),
  );
});
