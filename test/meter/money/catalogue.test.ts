// catalogue.ts: what is in the file and nothing else; every problem at once; overlaps refused.
import { describe, expect, it } from "vitest";
import { inForce, namesProduct, readCatalogue } from "../../../agent/meter/money/catalogue.ts";
import { parseDecimal } from "../../../agent/meter/money/catalogue-reader.ts";

const good = {
  version: "2026-11",
  currency: "USD",
  gpus: [
    { gpu: "H100", pricePerGpuHour: 3, to: "2026-12-01", source: "contract 17" },
    { gpu: "H100", pricePerGpuHour: "2.50", from: "2026-12-01", energyIncluded: false },
  ],
  tokens: [{ model: "m", kind: "input", pricePerMillionTokens: 0.1 }],
  energy: [{ pricePerKilowattHour: 0.12, powerUsageEffectiveness: 1.25 }],
  capacity: [{ gpu: "H100", model: "m", tokensPerGpuHour: 30e6 }],
};
const problemsOf = (more: object): string[] =>
  readCatalogue({ ...good, ...more }).problems.map(({ message, path }) => `${path}: ${message}`);

describe("readCatalogue()", () => {
  it("reads prices as exact integers, under versions that tell successive prices apart", () => {
    const { catalogue, problems } = readCatalogue(good);
    expect(problems).toEqual([]);
    expect(catalogue.gpus.map((one) => [one.perGpuHour, one.version, one.energyIncluded])).toEqual([
      [3_000_000_000n, "2026-11", true],
      [2_500_000_000n, "2026-11/2026-12-01", false],
    ]);
    expect(catalogue.tokens.map((one) => [one.kind, one.perMillion])).toEqual([
      ["input_uncached", 100_000_000n],
      ["input_unsplit", 100_000_000n],
    ]);
    expect(catalogue.energy).toMatchObject([
      { perKilowattHour: 120_000_000n, usageEffectivenessMilli: 1250n },
    ]);
    expect(catalogue.capacity).toMatchObject([{ tokensPerGpuHour: 30_000_000n }]);
  });
  it("refuses entries of one name that hold at one instant, and says how to part them", () => {
    const { problems } = readCatalogue({
      ...good,
      gpus: [good.gpus[0], { gpu: "H100", pricePerGpuHour: 2, from: "2026-11-30" }],
    });
    expect(problems).toEqual([
      {
        path: "gpus[1]",
        message: "holds at the same time as gpus[0] (H100)",
        hint: expect.stringContaining("exclusive"),
      },
    ]);
    expect(
      problemsOf({
        tokens: [good.tokens[0], { model: "m", kind: "input_unsplit", pricePerMillionTokens: 1 }],
      }),
    ).toHaveLength(1);
  });
  it("reports every problem at once with path, value seen and value wanted", () => {
    expect(
      problemsOf({
        currency: undefined,
        gpus: [{ gpu: "", pricePerGpuHour: -3 }],
        tokens: [{ model: "m", kind: "outputs", pricePerMillionTokens: "1.0000000001" }],
        energy: [{ pricePerKilowattHour: Number.NaN, from: "yesterday" }],
        capasity: [],
      }),
    ).toEqual([
      "capasity: unknown key",
      "currency: got nothing, wanted a text",
      'gpus[0].gpu: got "", wanted a text',
      "gpus[0].pricePerGpuHour: got -3, wanted an amount of at most 9 decimals, not negative",
      'tokens[0].pricePerMillionTokens: got "1.0000000001", wanted an amount of at most 9 decimals, not negative',
      'tokens[0].kind: got "outputs", wanted one of input, cached, output, input_uncached, input_cached, input_unsplit',
      'energy[0].from: got "yesterday", wanted a UTC day (2026-01-31) or an instant with its zone',
      "energy[0].pricePerKilowattHour: got null, wanted an amount of at most 9 decimals, not negative",
    ]);
  });
  it("refuses an end before the start, and a file that is none", () => {
    expect(
      problemsOf({ energy: [{ pricePerKilowattHour: 1, from: "2026-02-01", to: "2026-01-01" }] })[0],
    ).toContain("energy[0].to");
    expect(readCatalogue("no").problems[0]?.message).toContain("wanted an object");
  });
});

describe("parseDecimal()", () => {
  it.each([
    ["3", 3_000_000_000n],
    ["0.1", 100_000_000n],
    ["1e-9", undefined],
    ["30e6", 30_000_000_000_000_000n],
    ["1.5e1", 15_000_000_000n],
    ["0.0000000001", undefined],
    ["-1", undefined],
    ["", undefined],
  ])("reads %s in billionths", (text, wanted) => {
    expect(parseDecimal(text, 9)).toBe(wanted);
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
