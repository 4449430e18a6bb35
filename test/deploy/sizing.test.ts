// The arithmetic of docs/sizing.md: every figure of its table follows from the measured base above it.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { wireCost } from "./wire-cost.ts";

const page = readFileSync(new URL("../../deploy/docs/sizing.md", import.meta.url), "utf8");
const base = (pattern: RegExp): number => Number(pattern.exec(page)?.[1]?.replaceAll(",", ""));
const seriesPerHost = base(/series of a host with 8 GPUs and 8 servers \| ([\d,]+)/);
const beatSeconds = base(/beat \(`rates.exportMs`\) \| (\d+) s/);
const bytesPerPoint = base(/bytes per point before compression \| (\d+)/);
const recordedPerHost = base(/recording rules add for a host \| ([\d,]+)/);
const coresPer10k = base(/gateway: processor seconds per 10,000 points \| ([\d.]+)/);
const mebibytesPerHost = base(/gateway: memory for each host connected \| ([\d.]+)/);

const UNITS: Readonly<Record<string, number>> = { kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12 };
const amount = (text = ""): number => {
  const [, number = "", unit = ""] = /([\d,.]+)(?: (kB|MB|GB|TB))?/.exec(text) ?? [];
  return Number(number.replaceAll(",", "")) * (UNITS[unit] ?? 1);
};
const rows = page
  .split("\n")
  .filter((line) => /^\| [\d,]+ \| [\d,]+ \|/.test(line))
  .map((line) =>
    line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );

test("what customers, their revenue and latencies cost on the wire is what the encoder makes of them", () => {
  const base = wireCost(500, "nothing");
  const lines = page
    .split("\n")
    .filter((line) => /^\| (tokens and requests, 3|revenue beside|a histogram of 14)/.test(line));
  const told = lines.map((line) =>
    line
      .split("|")
      .slice(2, 5)
      .map((cell) => amount(cell)),
  );
  const measured = [
    { ...base },
    ...(["revenue", "latencies"] as const).map((added) => {
      const { bytes, gzipBytes, points } = wireCost(500, added);
      return {
        points: points - base.points,
        bytes: bytes - base.bytes,
        gzipBytes: gzipBytes - base.gzipBytes,
      };
    }),
  ];
  for (const [row, { bytes, gzipBytes, points }] of measured.entries()) {
    const [toldPoints = 0, toldBytes = 0, toldGzip = 0] = told[row] ?? [];
    expect(toldPoints).toBe(points);
    expect(Math.abs(toldBytes / (bytes / points) - 1)).toBeLessThan(0.02);
    expect(Math.abs(toldGzip / (gzipBytes / points) - 1)).toBeLessThan(0.1);
  }
});

test("the table is of 1, 1,000 and 100,000 hosts", () => {
  expect(rows.map(([hosts]) => amount(hosts))).toEqual([1, 1000, 100_000]);
});

test.each(rows.map((row) => [row[0] as string, row] as const))("%s hosts follow from the base", (_, row) => {
  const [hosts, series, points, bytes, cores, gatewayMemory, memory, disk] = row;
  const near = (seen: number, wanted: number, part: number): void => {
    expect(Math.abs(seen / wanted - 1), `${seen} against ${wanted}`).toBeLessThan(part);
  };
  expect(amount(series)).toBe(amount(hosts) * seriesPerHost);
  const rate = amount(series) / beatSeconds;
  expect(amount(points)).toBe(rate);
  near(amount(bytes), rate * bytesPerPoint, 0.05);
  if (amount(hosts) > 1) near(amount(cores), (rate / 10_000) * coresPer10k, 0.05);
  if (amount(hosts) > 1) near(amount(gatewayMemory), amount(hosts) * mebibytesPerHost * 2 ** 20, 0.05);
  const kept = amount(series) + amount(hosts) * recordedPerHost;
  near(amount(memory?.replace("Mimir, ", "")), kept * 8000, amount(hosts) > 1 ? 0.05 : 0.15);
  near(amount(disk), rate * 2_592_000 * 1.5, 0.02);
});
