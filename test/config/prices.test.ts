// readPrices(): what is in the file and nothing else; every problem at once with line and nearest key; exact money.
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ConfigError } from "../../agent/config/load.ts";
import { readPrices } from "../../agent/config/prices.ts";
import { inForce, productRank } from "../../agent/meter/money/catalogue.ts";
import { catalogueOf } from "../fakes/catalogue.ts";

const example = fileURLToPath(new URL("../../deploy/config/prices.example.yaml", import.meta.url));

function problems(file: object | string): string {
  try {
    catalogueOf(file);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.message.replaceAll(/\S*prices\.yaml/g, "prices.yaml");
  }
  throw new Error("the price file was accepted");
}

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

describe("readPrices()", () => {
  test("reads the example, with one H100 price at each instant", () => {
    const { capacity, currency, gpus, tokens } = readPrices(example);
    const at = (day: string): bigint | undefined =>
      inForce(gpus, BigInt(Date.parse(day)) * 1_000_000n, (one) =>
        productRank(one.gpu, "NVIDIA H100 80GB HBM3"),
      )?.perGpuHour;
    expect([at("2026-11-30"), at("2026-12-01")]).toEqual([3_000_000_000n, 2_800_000_000n]);
    expect([currency, tokens.length, capacity[0]?.tokensPerGpuHour]).toEqual(["USD", 4, 30_000_000n]);
  });

  test("reads prices as exact integers, under versions that tell successive prices apart", () => {
    const catalogue = catalogueOf(good);
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

  test("tells two prices of one day apart by the time of day", () => {
    const { gpus } = catalogueOf({
      ...good,
      gpus: [
        { gpu: "H100", pricePerGpuHour: 3, from: "2026-11-01", to: "2026-11-01T12:00:00Z" },
        { gpu: "H100", pricePerGpuHour: 4, from: "2026-11-01T13:00:00+01:00" },
      ],
    });
    expect(gpus.map(({ version }) => version)).toEqual([
      "2026-11/2026-11-01",
      "2026-11/2026-11-01T12:00:00.000Z",
    ]);
  });

  test("keeps each digit of a number written without quotes, and of a version and a product", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 10n ** 30n }), (nanos) => {
        const digits = String(nanos).padStart(10, "0");
        const price = `${digits.slice(0, -9)}.${digits.slice(-9)}`;
        const text = `version: 2026.10\ncurrency: EUR\ngpus:\n- {gpu: 4090, pricePerGpuHour: ${price}}\n`;
        const { gpus, version } = catalogueOf(text);
        expect([version, gpus[0]?.gpu, gpus[0]?.perGpuHour]).toEqual(["2026.10", "4090", nanos]);
      }),
      { numRuns: 50 },
    );
  });

  test("reports every problem at once with line, value seen, value wanted and nearest key", async () => {
    const text = problems(`
version: "1"
currencyy: USD
gpus:
  - gpu: ""
    pricePerGpuHour: cheap
  - gpu: H100
    pricePerGpuHour: 3
    from: 2026-02-01
    to: 2026-01-01
  - { gpu: H100, pricePerGpuHour: -3 }
  - { gpu: H200, pricePerGpuHour: 0x10, from: 2026-02-30 }
tokens:
  - { model: m, kind: outputs, pricePerMillionTokens: 1.0000000001 }
  - { model: m, kind: output, pricePerMillionToken: 1 }
energy:
  - { pricePerKilowattHour: .nan, from: yesterday, powerUsageEffectiveness: 1.2345 }
  - { pricePerKilowattHour: true, to: "2026-01-01T10:00:00" }
capacity: { gpu: H100 }
`);
    await expect(`${text}\n`).toMatchFileSnapshot("../fixtures/config/price-problems.txt");
  });

  test.each([
    ["a file of another kind", "logLevel: info\nservers: {}\n", "Cannot use logLevel: there is no such key"],
    ["an empty file", "", "Cannot find version: wanted text"],
    ["text", "-----BEGIN PRIVATE KEY-----", "Cannot read the price file as a section of keys: got text"],
    ["a list", "- 1", "Cannot read the price file as a section of keys: got a list of 1"],
    ["bad YAML", "version: [1\n", "Cannot read YAML"],
  ])("refuses %s", (_what, text, message) => {
    expect(problems(text)).toContain(message);
  });

  test("refuses two entries of one name that hold at one instant, and no others", () => {
    const days = (day: number): string => new Date(Date.UTC(2026, 0, 1 + day)).toISOString().slice(0, 10);
    const span = fc.record({
      gpu: fc.constantFrom("A", "B"),
      from: fc.option(fc.integer({ min: 0, max: 20 }), { nil: undefined }),
      length: fc.option(fc.integer({ min: 1, max: 6 }), { nil: undefined }),
    });
    fc.assert(
      fc.property(fc.array(span, { maxLength: 6 }), (spans) => {
        const ends = spans.map(({ from, gpu, length }) => ({
          gpu,
          from: from ?? Number.NEGATIVE_INFINITY,
          to: length === undefined ? Number.POSITIVE_INFINITY : (from ?? 0) + length,
        }));
        const clash = ends.some((one, index) =>
          ends
            .slice(0, index)
            .some((other) => one.gpu === other.gpu && one.from < other.to && other.from < one.to),
        );
        const gpus = ends.map(({ from, gpu, to }) => ({
          gpu,
          pricePerGpuHour: 1,
          ...(Number.isFinite(from) ? { from: days(from) } : {}),
          ...(Number.isFinite(to) ? { to: days(to) } : {}),
        }));
        const read = (): unknown => catalogueOf({ version: "v", currency: "USD", gpus });
        if (clash) expect(read).toThrow(/holds at the same time as gpus\[\d\] \([AB]\)/);
        else expect(read).not.toThrow();
      }),
      { numRuns: 60 },
    );
  });

  test("sees that `input` and `input_unsplit` name one kind", () => {
    const twice = { model: "m", kind: "input_unsplit", pricePerMillionTokens: 1 };
    expect(problems({ ...good, tokens: [good.tokens[0], twice] })).toContain(
      "Cannot use tokens[1]: it holds at the same time as tokens[0] (m input_unsplit)",
    );
  });
});
