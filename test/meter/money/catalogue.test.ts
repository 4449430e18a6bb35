// catalogue.ts and decimal.ts: which entry a product means and which is in force; money as exact integers.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { inForce, namesProduct } from "../../../agent/meter/money/catalogue.ts";
import { parseDecimal } from "../../../agent/meter/money/decimal.ts";

describe("parseDecimal()", () => {
  it.each([
    ["3", 3_000_000_000n],
    ["0.1", 100_000_000n],
    ["1e-9", 1n],
    ["1e-10", undefined],
    ["1_000", 1_000_000_000_000n],
    ["_1", undefined],
    ["0x10", undefined],
    [".inf", undefined],
    ["1.10000000000", 1_100_000_000n],
    ["9".repeat(101), undefined],
    ["30e6", 30_000_000_000_000_000n],
    ["1.5e1", 15_000_000_000n],
    ["0.0000000001", undefined],
    ["-1", undefined],
    ["", undefined],
  ])("reads %s in billionths", (text, wanted) => {
    expect(parseDecimal(text, 9)).toBe(wanted);
  });
  it("keeps every digit, however many, and wherever the exponent puts the point", () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: 0n, max: 10n ** 40n }),
        fc.integer({ min: 0, max: 9 }),
        fc.integer({ min: -9, max: 9 }),
        (amount, decimals, exponent) => {
          const digits = String(amount).padStart(decimals + 1, "0");
          const whole = digits.slice(0, digits.length - decimals);
          const text = `${whole}${decimals === 0 ? "" : `.${digits.slice(-decimals)}`}e${exponent}`;
          const scale = 9 - decimals + exponent;
          const exact = scale >= 0 ? amount * 10n ** BigInt(scale) : undefined;
          const wanted =
            exact ?? (amount % 10n ** BigInt(-scale) === 0n ? amount / 10n ** BigInt(-scale) : undefined);
          expect(parseDecimal(text, 9)).toBe(wanted);
        },
      ),
    );
  });
});

describe("namesProduct()", () => {
  it.each([
    ["H100", "NVIDIA H100 80GB HBM3", true],
    ["NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3", true],
    ["h100 hbm3", "NVIDIA H100 80GB HBM3", true],
    ["H100", "NVIDIA GH100X", false],
    ["H100 PCIe", "NVIDIA H100 80GB HBM3", false],
  ])("%s means %s: %s", (pattern, product, wanted) => {
    expect(namesProduct(pattern, product)).toBe(wanted);
  });
});

describe("inForce()", () => {
  it("takes the entry of the instant, from included and to excluded", () => {
    const entries = [
      { from: undefined, to: 10n, name: "old" },
      { from: 10n, to: 20n, name: "new" },
    ];
    const at = (instant: bigint): string | undefined => inForce(entries, instant, () => 0)?.name;
    expect([at(9n), at(10n), at(19n), at(20n)]).toEqual(["old", "new", "new", undefined]);
  });
});
