// The dcgm-exporter backend on pages of both name eras, put together from published excerpts of real ones.
import { readFileSync } from "node:fs";
import type { Server } from "node:http";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import * as fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { dcgmExporterBackend, readPage } from "../../agent/gpu/dcgm-exporter.ts";
import { DcgmScale, isBlank } from "../../agent/gpu/dcgm-readings.ts";
import { parsePage } from "../../agent/page/parse.ts";
import { systemClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import type { GpuPoll, GpuSource } from "../../agent/source.ts";

const page = (name: string): string =>
  readFileSync(new URL(`../fixtures/gpu/dcgm-exporter-${name}.prom`, import.meta.url), "utf8");
const context = { clock: systemClock(), log: silentLog, signal: new AbortController().signal };
const A30 = "GPU-603a8873-0000-4000-8000-000000000000";
let server: Server;
let body = "";
let url = "";

beforeEach(async () => {
  server = createServer((_, answer) => answer.setHeader("content-type", "text/plain").end(body));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`;
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

/** Polls until the page, which is asked for at its interval, holds something new. */
async function nextReading(gpu: GpuSource): Promise<GpuPoll> {
  for (;;) {
    const poll = await gpu.poll();
    if (poll.samples.length > 0) return poll;
    await context.clock.sleep(20);
  }
}

describe("dcgm-exporter", () => {
  test("reads classic names, one reading per GPU however many pods repeat it, blanks left out", async () => {
    body = page("classic");
    const gpu = await dcgmExporterBackend.open(dcgmExporterBackend.config.parse({ url }), context);
    const infos = await gpu.inventory();
    expect(infos).toMatchObject([
      { uuid: A30, name: "NVIDIA A30", weight: 1, driverVersion: "565.63", memoryTotalBytes: 24 * 2 ** 30 },
      { uuid: `MIG-${A30}/1/0`, parent: A30, weight: 0.5, migProfile: "2g.12gb" },
    ]);
    const { samples } = await gpu.poll();
    expect(samples).toHaveLength(2);
    expect(samples[0]).toEqual({
      gpu: A30,
      at: expect.any(Number),
      powerWatts: 92.15,
      energyMillijoules: 3456789012,
      utilizationRatio: 0.37,
      memoryUsedBytes: 4 * 2 ** 30,
      smClockHertz: 1440e6,
    });
    expect(samples[1]?.graphicsActiveRatio).toBeCloseTo(0.381124);
    await gpu.close();
  });

  test("reads 4.9 names with their units, and percentages under the name of a ratio", () => {
    const rows = readPage(parsePage(Buffer.from(page("4.9"))), new DcgmScale());
    const [row] = [...rows.values()];
    expect(Object.fromEntries(row?.readings ?? [])).toEqual({
      smClockHertz: 1980e6,
      powerWatts: 412.5,
      energyMillijoules: 3456789012,
      utilizationRatio: 0.97,
      memoryUsedBytes: 2 ** 32,
      smActiveRatio: 0.75,
    });
    expect(row?.info.driverVersion).toBe("590.10");
  });

  test.each([
    ["dcgm-mig-board-values", [3 / 7, 2 / 7, 1 / 7]],
    ["dcgm-mig-rtx-pro-6000", [2 / 4, 1 / 4, 1 / 4]],
  ])("%s: what the board has once is read once, its instances have their shares", async (name, weights) => {
    body = readFileSync(new URL(`../fixtures/gpu/${name}.prom`, import.meta.url), "utf8");
    const gpu = await dcgmExporterBackend.open(dcgmExporterBackend.config.parse({ url }), context);
    const [board, ...instances] = await gpu.inventory();
    expect(instances.map(({ weight }) => weight)).toEqual(weights);
    expect(instances.every(({ parent }) => parent === board?.uuid)).toBe(true);
    const { gaps, samples } = await gpu.poll();
    expect(gaps).toEqual([]);
    const powers = samples.flatMap(({ gpu: uuid, powerWatts }) =>
      powerWatts === undefined ? [] : [[uuid, powerWatts]],
    );
    expect(powers).toEqual([[board?.uuid, 300.18]]);
    const owners = samples.filter(
      ({ energyMillijoules, temperatureCelsius }) => energyMillijoules ?? temperatureCelsius,
    );
    expect(owners.map((sample) => sample.gpu)).toEqual([board?.uuid]);
    expect(samples.slice(1).map(({ graphicsActiveRatio }) => graphicsActiveRatio)).toEqual([0.6, 0.2, 0]);
    await gpu.close();
  });

  test("an idle instance is read as long as anything on its board moves", async () => {
    body = readFileSync(new URL("../fixtures/gpu/dcgm-mig-board-values.prom", import.meta.url), "utf8");
    const options = dcgmExporterBackend.config.parse({ url, intervalMs: 500 });
    const gpu = await dcgmExporterBackend.open(options, context);
    expect((await gpu.poll()).samples).toHaveLength(4);
    body = body.replaceAll("5014800000", "5014950000");
    expect((await nextReading(gpu)).samples).toHaveLength(4);
    expect((await gpu.poll()).samples).toEqual([]);
    await gpu.close();
  });

  test("without a profile no share is invented: the board is one GPU, and says why", async () => {
    body = readFileSync(new URL("../fixtures/gpu/dcgm-mig-null-profile.prom", import.meta.url), "utf8");
    const gpu = await dcgmExporterBackend.open(dcgmExporterBackend.config.parse({ url }), context);
    const infos = await gpu.inventory();
    expect(infos).toHaveLength(1);
    expect(infos[0]).toMatchObject({
      weight: 1,
      unsupported: { mig_weight: expect.stringContaining("MIG instance 1 (no profile)") },
    });
    expect(JSON.stringify(infos)).not.toContain("NULL");
    const { samples } = await gpu.poll();
    expect(samples).toMatchObject([
      { powerWatts: 300.18, graphicsActiveRatio: 0.6, memoryUsedBytes: 16000 * 2 ** 20 },
    ]);
    await gpu.close();
  });

  test("a GPU the page stops naming, or names with blanks only, is a gap", async () => {
    const of = (index: number, power: string): string =>
      `DCGM_FI_DEV_POWER_USAGE{gpu="${index}",UUID="GPU-${index}",modelName="H100"} ${power}\n`;
    body = of(0, "100") + of(1, "200");
    const gpu = await dcgmExporterBackend.open(
      dcgmExporterBackend.config.parse({ url, intervalMs: 500 }),
      context,
    );
    await gpu.poll();
    for (const [left, reason] of [
      [of(0, "101"), /does not name it/],
      [of(0, "102") + of(1, "140737488355328.000000"), /blanks/],
    ] as const) {
      body = left;
      const { gaps, samples } = await nextReading(gpu);
      expect(samples.map((sample) => sample.gpu)).toEqual(["GPU-0"]);
      expect(gaps.map(({ source }) => source)).toEqual(["gpu:GPU-1"]);
      expect(gaps[0]?.reason).toMatch(reason);
      expect(await gpu.inventory()).toHaveLength(2);
    }
    await gpu.close();
  });

  test("a page that repeats itself gives no new reading, and a gap once it is stale", async () => {
    body = page("classic");
    const options = dcgmExporterBackend.config.parse({ url, intervalMs: 500, staleMs: 1000 });
    const gpu = await dcgmExporterBackend.open(options, context);
    expect((await gpu.poll()).samples).toHaveLength(2);
    let poll = await gpu.poll();
    expect(poll.samples).toEqual([]);
    while (poll.gaps.length === 0) {
      await context.clock.sleep(100);
      poll = await gpu.poll();
    }
    expect(poll.gaps[0]).toMatchObject({ source: `gpu:${A30}`, reason: expect.stringContaining("repeats") });
    body = page("classic").replace("3456789012", "3456799012");
    while (poll.samples.length === 0) poll = await gpu.poll();
    // The instance is collected with its board.
    expect(poll.samples).toMatchObject([
      { gpu: A30, energyMillijoules: 3456799012 },
      { gpu: `MIG-${A30}/1/0` },
    ]);
    await gpu.close();
  });

  test("detect() tells a page without GPUs and a closed port", async () => {
    body = "up 1\n";
    const there = await dcgmExporterBackend.detect(dcgmExporterBackend.config.parse({ url }), context);
    expect(there).toMatchObject({ usable: false, reason: expect.stringContaining("names no GPU") });
    const nowhere = dcgmExporterBackend.config.parse({ url: "http://127.0.0.1:1/metrics" });
    expect((await dcgmExporterBackend.detect(nowhere, context)).usable).toBe(false);
  });

  test("isBlank() knows every blank and no reading", () => {
    for (const blank of [2 ** 63 - 14, 140737488355328, 140737488355331, 0x7ffffff0, Number.NaN]) {
      expect(isBlank(blank)).toBe(true);
    }
    fc.assert(fc.property(fc.double({ min: 0, max: 2e9, noNaN: true }), (value) => !isBlank(value)));
  });
});
