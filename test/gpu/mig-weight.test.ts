// Shares of MIG instances by profile name: every profile of NVIDIA's guide on every product of it, and what is not known.
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { migWeight, profileName, sharesOf } from "../../agent/gpu/mig-weight.ts";

const SEVENTHS = [
  "NVIDIA A100-SXM4-40GB",
  "NVIDIA H100 80GB HBM3",
  "NVIDIA H200",
  "NVIDIA B200",
  "NVIDIA GB300",
  "NVIDIA H20",
  "NVIDIA GH200 480GB",
];
const QUARTERS = [
  "NVIDIA A30",
  "NVIDIA RTX PRO 6000 Blackwell Server Edition",
  "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
];
const HALVES = ["NVIDIA RTX PRO 5000 Blackwell", "NVIDIA RTX PRO 4500 Blackwell Server Edition"];
const SUFFIXES = ["", "+me", "+gfx", "+me.all", "-me"];

describe("migWeight()", () => {
  test("is the slices of the profile over those of the product, whatever its suffix", () => {
    const products = fc.constantFrom(
      ...SEVENTHS.map((name) => ({ name, slices: 7 })),
      ...QUARTERS.map((name) => ({ name, slices: 4 })),
      ...HALVES.map((name) => ({ name, slices: 2 })),
    );
    fc.assert(
      fc.property(
        products,
        fc.integer({ min: 1, max: 7 }),
        fc.constantFrom(...SUFFIXES),
        fc.integer({ min: 4, max: 269 }),
        ({ name, slices }, own, suffix, gib) => {
          const weight = migWeight(`${own}g.${gib}gb${suffix}`, { name });
          expect(weight).toBe(own > slices ? undefined : own / slices);
          for (let compute = 1; compute <= own; compute++) {
            const part = migWeight(`${compute}c.${own}g.${gib}gb${suffix}`, { name });
            expect(part).toBe(own > slices ? undefined : compute / slices);
          }
        },
      ),
    );
  });

  test.each([
    ["1g.34gb", 269, 1 / 7],
    ["3g.135gb", 269, 3 / 7],
    ["4g.135gb", 269, 4 / 7],
    ["7g.269gb", undefined, 1],
    ["2g.48gb", 96, 2 / 4],
    ["2g.32gb", 32, 1],
    // A quarter, or a slice of seven with twice its memory.
    ["1g.24gb", 96, undefined],
    ["1g.24gb", undefined, undefined],
  ])("of %s on an unlisted board of %s GiB is %s", (profile, gib, weight) => {
    const board = { name: "NVIDIA X1", ...(gib === undefined ? {} : { memoryTotalBytes: gib * 2 ** 30 }) };
    expect(migWeight(profile, board)).toBe(weight);
  });

  test("of anything that is no profile is not known", () => {
    for (const text of ["<<<NULL>>>", "", "0g.5gb", "3g", "2c.1g.5gb", "1g.5gb)", "N/A", undefined]) {
      expect(migWeight(text, { name: "NVIDIA A30" })).toBeUndefined();
      expect(profileName(text)).toBeUndefined();
    }
    fc.assert(
      fc.property(fc.string(), (text) => {
        const weight = migWeight(text, { name: "NVIDIA H100" });
        expect(weight === undefined || (weight > 0 && weight <= 1)).toBe(true);
      }),
    );
  });
});

test("sharesOf() knows all instances of a board or none", () => {
  const board = { name: "NVIDIA A30" };
  const one = { index: 1, migProfile: "2g.12gb" };
  expect(sharesOf(board, [one, { index: 2, migProfile: "1g.6gb" }])).toEqual({
    instances: [
      { ...one, weight: 0.5 },
      { index: 2, migProfile: "1g.6gb", weight: 0.25 },
    ],
  });
  expect(sharesOf(board, [one, { index: 2 }])).toEqual({
    unknown: expect.stringContaining("2 (no profile)"),
  });
});
