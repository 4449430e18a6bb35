// The dcgmi dmon backend against a fake dcgmi that prints the layout of DCGM's sources.
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { dcgmDmonBackend } from "../../agent/gpu/dcgm-dmon/index.ts";
import { DmonTable, parseDiscovery } from "../../agent/gpu/dcgm-dmon/table.ts";
import type { GpuSample } from "../../agent/model.ts";
import { systemClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import type { GpuPoll, GpuSource } from "../../agent/source.ts";

const fake = fileURLToPath(new URL("../fakes/dcgmi", import.meta.url));
const context = { clock: systemClock(), log: silentLog, signal: new AbortController().signal };
const UUIDS = [0, 1].map((index) => `GPU-0000000${index}-3333-4333-8333-333333333333`);

function config(mode: string): ReturnType<typeof dcgmDmonBackend.config.parse> {
  const path = join(mkdtempSync(join(tmpdir(), "dcgmi-")), "dcgmi");
  writeFileSync(path, `#!/bin/sh\nFAKE_MODE=${mode} exec '${fake}' "$@"\n`, { mode: 0o755 });
  return dcgmDmonBackend.config.parse({ path, intervalMs: 100 });
}

async function pollUntil(gpu: GpuSource, good: (poll: GpuPoll) => boolean): Promise<GpuPoll> {
  for (;;) {
    const poll = await gpu.poll().catch(() => undefined);
    if (poll !== undefined && good(poll)) return poll;
    await context.clock.sleep(20);
  }
}

describe("dcgm-dmon", () => {
  test("a GPU that the discovery counts and does not name is a gap", () => {
    const table =
      "3 GPUs found.\n| 0      | Name: A100 |\n|        | Device UUID: GPU-a |\n| 2      | Name: A100 |\n|        | Device UUID: GPU-c |\n";
    expect(parseDiscovery(table).map(({ uuid }) => uuid)).toEqual(["GPU-a", "GPU-c", "index-1"]);
  });

  test.each([
    ["blank", /N\/A in place of its readings/],
    ["gone", /no row for it/],
  ])("a GPU whose rows are %s is a gap, not idle", async (mode, reason) => {
    const gpu = await dcgmDmonBackend.open(config(mode), context);
    const poll = await pollUntil(gpu, ({ gaps, samples }) => gaps.length > 0 && samples.length > 0);
    await gpu.close();
    expect(new Set(poll.samples.map((sample) => sample.gpu))).toEqual(new Set([UUIDS[0]]));
    expect(poll.gaps).toMatchObject([{ source: `gpu:${UUIDS[1]}`, reason: expect.stringMatching(reason) }]);
  });

  test("reads both GPUs by column offsets; N/A and missing fields are absent, other entities ignored", async () => {
    const gpu = await dcgmDmonBackend.open(config("normal"), context);
    expect((await gpu.inventory()).map(({ uuid, index }) => [uuid, index])).toEqual([
      [UUIDS[0], 0],
      [UUIDS[1], 1],
    ]);
    const samples: GpuSample[] = [];
    await pollUntil(gpu, (poll) => samples.push(...poll.samples) >= 8);
    await gpu.close();
    expect(new Set(samples.map((sample) => sample.gpu))).toEqual(new Set(UUIDS));
    const [first, second] = UUIDS.map((uuid) => samples.find((sample) => sample.gpu === uuid));
    expect(first).toMatchObject({
      powerWatts: 72.315,
      utilizationRatio: expect.closeTo(0.35),
      memoryUsedBytes: 4857 * 2 ** 20,
      smClockHertz: 1410e6,
      smActiveRatio: 0.352,
    });
    expect(first?.energyMillijoules).toBeGreaterThanOrEqual(18446233);
    expect(second).toEqual({
      gpu: UUIDS[1],
      at: expect.any(Number),
      utilizationRatio: 1,
      smClockHertz: 1980e6,
    });
  });

  test("leaves profiling fields out where the host engine refuses them", async () => {
    const gpu = await dcgmDmonBackend.open(config("noprof"), context);
    await pollUntil(gpu, ({ samples }) => samples.length > 0);
    expect(gpu.status()).toMatchObject({ profiling: false, restarts: 1 });
    await gpu.close();
  });

  test("detect() says why the host engine does not answer", async () => {
    expect(await dcgmDmonBackend.detect(config("nohost"), context)).toMatchObject({
      usable: false,
      reason: expect.stringContaining("unable to establish a connection"),
    });
    const missing = dcgmDmonBackend.config.parse({ path: "/nonexistent/dcgmi" });
    await expect(dcgmDmonBackend.open(missing, context)).rejects.toMatchObject({ kind: "absent" });
  });

  test("DmonTable reads DCGM 2's header and survives any text", () => {
    const table = new DmonTable();
    table.readLine("# Entity        TENSO        POWER");
    table.readLine("      Id                     W");
    expect(table.readLine("GPU 0           0.500        72.3")?.readings.get("powerWatts")).toBe(72.3);
    fc.assert(
      fc.property(fc.array(fc.string()), (lines) => {
        const any = new DmonTable();
        for (const line of ["#Entity   POWER  TOTEC", ...lines]) any.readLine(line);
      }),
    );
  });
});
