import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { readPrices } from "../../agent/config/prices.ts";
import { inForce, productRank } from "../../agent/meter/money/catalogue.ts";

const example = fileURLToPath(new URL("../../deploy/config/prices.example.yaml", import.meta.url));

test("the example price file is a catalogue, with one H100 price at each instant", () => {
  const { capacity, currency, gpus, tokens } = readPrices(example);
  const at = (day: string): bigint | undefined =>
    inForce(gpus, BigInt(Date.parse(day)) * 1_000_000n, (one) =>
      productRank(one.gpu, "NVIDIA H100 80GB HBM3"),
    )?.perGpuHour;
  expect([at("2026-11-30"), at("2026-12-01")]).toEqual([3_000_000_000n, 2_800_000_000n]);
  expect([currency, tokens.length, capacity[0]?.tokensPerGpuHour]).toEqual(["USD", 4, 30_000_000n]);
});

test("readPrices() reports every problem of a file that is no catalogue", () => {
  const other = fileURLToPath(new URL("../../deploy/config/tokenwatt.yaml", import.meta.url));
  expect(() => readPrices(other)).toThrow(/version|unknown key/);
});
