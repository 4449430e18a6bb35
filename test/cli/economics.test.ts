import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatDurationMs, parseDurationMs } from "../../agent/cli/common/durations.ts";
import { formatNano, NANO, parseNano, parseNanoRatio } from "../../agent/cli/common/numbers.ts";
import { computeEconomics } from "../../agent/cli/report/economics.ts";
import { runCommand } from "./capture-io.ts";

async function economics(...flags: string[]): Promise<Record<string, number | null>> {
  const { stdout, exitCode } = await runCommand(["economics", "--json", ...flags]);
  expect(exitCode).toBe(0);
  return JSON.parse(stdout) as Record<string, number | null>;
}

describe("tokenwatt economics", () => {
  test("prints the published example: 18,396 by the hour, 157,680 by the token", async () => {
    expect(await economics()).toMatchObject({
      gpu_hour_usd_per_year: 18396,
      token_usd_per_year: 157680,
      tokens_per_gpu_hour: 18_000_000,
      token_usd_per_gpu_hour: 18,
      token_over_gpu_hour: 8.571428571,
      cost_usd_per_million_tokens: 0.166666666,
      break_even_token_active: 0.07,
    });
  });

  test("gives 315,360 for a GPU twice as fast", async () => {
    const faster = await economics("--capacity-tokens-per-hour", "60e6");
    expect(faster).toMatchObject({ gpu_hour_usd_per_year: 18396, token_usd_per_year: 315360 });
  });

  test("takes the figures as named in its flags", async () => {
    const flags =
      "--gpu-hour-price 3 --utilization 0.7 --capacity-tokens-per-hour 30e6 --price-per-million 1 --token-active 0.6";
    expect(await economics(...flags.split(" "))).toEqual(await economics());
  });

  test("gives null where a denominator is empty", async () => {
    expect(await economics("--gpu-hour-price", "0")).toMatchObject({ token_over_gpu_hour: null });
    expect(await economics("--token-active", "0")).toMatchObject({ cost_usd_per_million_tokens: null });
  });

  test("prints a table with both yearly sums", async () => {
    const { stdout } = await runCommand(["economics"]);
    expect(stdout).toMatch(/USD per GPU and year\s+18,396\s+157,680/);
  });

  test("refuses a ratio above 1 with exit code 2", async () => {
    const { stderr, exitCode } = await runCommand(["economics", "--utilization", "70"]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain("Wanted a ratio between 0 and 1");
  });

  test("computeEconomics() is exact: a year is 8,760 times the hour to the last 1e-9", () => {
    const amount = fc.bigInt({ min: 0n, max: 10n ** 15n });
    fc.assert(
      fc.property(amount, amount, (gpuHourPrice, pricePerMillion) => {
        const ratio = { utilization: NANO, tokenActive: NANO, capacityTokensPerHour: 1_000_000n * NANO };
        const result = computeEconomics({ gpuHourPrice, pricePerMillion, ...ratio });
        expect(result.gpuHourPerYear).toBe(gpuHourPrice * 8760n);
        expect(result.tokenPerYear).toBe(pricePerMillion * 8760n);
      }),
    );
  });
});

describe("numbers", () => {
  test("parseNano() reads what formatNano() writes", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 10n ** 24n }), (value) => {
        expect(parseNano(formatNano(value))).toBe(value);
      }),
    );
  });

  test("parseNano() is exact where a double is not", () => {
    expect(parseNano("0.1") + parseNano("0.2")).toBe(parseNano("0.3"));
    expect(parseNano("30e6")).toBe(30_000_000n * NANO);
    expect(parseNano("1.5e-3")).toBe(1_500_000n);
  });

  test("numbers that mean something else are refused", () => {
    for (const text of ["", "-1", "1,5", "0x10", "1e", "NaN", "1e-10", "0.0000000001"]) {
      expect(() => parseNano(text), text).toThrow(/Wanted/);
    }
    expect(() => parseNanoRatio("1.000000001")).toThrow(/between 0 and 1/);
  });
});

describe("durations", () => {
  test("parseDurationMs() reads a number with its unit", () => {
    expect(["200ms", "20s", "5m", "1h", "2d", "1.5s", ".5s"].map(parseDurationMs)).toEqual([
      200, 20_000, 300_000, 3_600_000, 172_800_000, 1500, 500,
    ]);
  });

  test("parseDurationMs() refuses what has no unit, sign or length", () => {
    for (const text of ["", "20", "s", "-1s", "0s", "1 s", "1w", "1s2"]) {
      expect(() => parseDurationMs(text), text).toThrow(/Wanted a duration/);
    }
  });

  test("parseDurationMs() reads what formatDurationMs() writes", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 10 ** 12 }), (milliseconds) => {
        expect(parseDurationMs(formatDurationMs(milliseconds))).toBe(milliseconds);
      }),
    );
  });
});
