// The nvidia-smi backend against a fake tool that prints what driver 580 prints.
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { parseApps } from "../../agent/gpu/nvidia-smi/apps.ts";
import { failureOf } from "../../agent/gpu/nvidia-smi/failures.ts";
import { chooseQuery, listedFields, parseLine } from "../../agent/gpu/nvidia-smi/fields.ts";
import { nvidiaSmiBackend } from "../../agent/gpu/nvidia-smi/index.ts";
import { PmonReader } from "../../agent/gpu/nvidia-smi/pmon.ts";
import { parseValue } from "../../agent/gpu/nvidia-smi/values.ts";
import { systemClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import type { GpuPoll, GpuSource } from "../../agent/source.ts";

const fake = fileURLToPath(new URL("../fakes/nvidia-smi", import.meta.url));
const fixtures = fileURLToPath(new URL("../fixtures/gpu/", import.meta.url));
const context = { clock: systemClock(), log: silentLog, signal: new AbortController().signal };
const open: GpuSource[] = [];

afterEach(async () => {
  for (const source of open.splice(0)) await source.close();
});

/** A tool of its own for each test: the fake with some environment. */
function toolWith(environment: Record<string, string>): string {
  const path = join(mkdtempSync(join(tmpdir(), "nvidia-smi-")), "nvidia-smi");
  const exports = Object.entries(environment).map(([name, value]) => `export ${name}='${value}'\n`);
  writeFileSync(path, `#!/bin/sh\n${exports.join("")}exec '${fake}' "$@"\n`, { mode: 0o755 });
  return path;
}

async function source(environment: Record<string, string> = {}): Promise<GpuSource> {
  const config = nvidiaSmiBackend.config.parse({ path: toolWith(environment), intervalMs: 100 });
  const opened = await nvidiaSmiBackend.open(config, context);
  open.push(opened);
  return opened;
}

async function pollUntil(from: GpuSource, good: (poll: GpuPoll) => boolean): Promise<GpuPoll> {
  for (;;) {
    const poll = await from.poll();
    if (good(poll)) return poll;
    await context.clock.sleep(30);
  }
}

describe("nvidia-smi", () => {
  test("open() lists both GPUs through node-nvidia-smi and reads each line as a sample", async () => {
    const smi = await source();
    const gpus = await smi.inventory();
    expect(smi.status()["inventoryFrom"]).toBe("node-nvidia-smi");
    expect(gpus.map(({ uuid, index, weight }) => [uuid.slice(0, 12), index, weight])).toEqual([
      ["GPU-00000000", 0, 1],
      ["GPU-00000001", 1, 1],
    ]);
    expect(gpus[0]).toMatchObject({
      name: "NVIDIA H100 80GB HBM3",
      architecture: "hopper",
      driverVersion: "580.159.04",
      powerLimitWatts: 700,
      memoryTotalBytes: 81559 * 2 ** 20,
    });
    const poll = await pollUntil(smi, ({ samples }) =>
      samples.some(({ processes }) => processes !== undefined),
    );
    const first = poll.samples.find(({ gpu, processes }) => gpu === gpus[0]?.uuid && processes !== undefined);
    expect(first).toMatchObject({
      powerWatts: 130.19,
      powerInstantWatts: 124.14,
      utilizationRatio: 0.08,
      memoryUsedBytes: 4857 * 2 ** 20,
      temperatureCelsius: 50,
      smClockHertz: 1980e6,
      throttleSeconds: { power_cap: 1.5 },
      processes: [
        { pid: 495, type: "compute", memoryBytes: 4848 * 2 ** 20, name: "python3, with a comma" },
        { pid: 496, type: "compute" },
      ],
    });
    expect(first?.energyMillijoules).toBeUndefined();
    const second = poll.samples.find(({ gpu }) => gpu === gpus[1]?.uuid);
    expect(second?.utilizationRatio).toBeCloseTo(0.09);
  });

  test("inventory() comes from --query-gpu when node-nvidia-smi meets words on stderr", async () => {
    const smi = await source({ FAKE_MODE: "talk" });
    expect(smi.status()["inventoryFrom"]).toBe("--query-gpu");
    expect(await smi.inventory()).toHaveLength(2);
  });

  test("open() drops a field the tool lists but refuses", async () => {
    const smi = await source({ FAKE_REFUSE: "temperature.memory" });
    const poll = await pollUntil(smi, ({ samples }) => samples.length > 0);
    expect(poll.samples[0]?.memoryTemperatureCelsius).toBeUndefined();
    expect(poll.samples[0]?.smClockHertz).toBe(1980e6);
    expect(smi.status()["missingFields"]).toContain("temperature.memory");
  });

  test("inventory() lists MIG instances with parent and weight, poll() says why they have no reading", async () => {
    const smi = await source({ FAKE_MIG: "1" });
    const gpus = await smi.inventory();
    expect(gpus.map(({ weight }) => Math.round(weight * 7))).toEqual([7, 3, 1, 7]);
    expect(gpus[1]).toMatchObject({ parent: gpus[0]?.uuid, migProfile: "3g.40gb" });
    const { gaps } = await smi.poll();
    expect(gaps.map(({ source }) => source)).toContain(`gpu:${gpus[1]?.uuid}`);
  });

  test("poll() takes processes and SM shares from pmon where it works", async () => {
    const smi = await source({ FAKE_PMON: "h100-580-two-processes.pmon-um.txt" });
    const { samples } = await pollUntil(smi, (poll) =>
      poll.samples.some(({ processShares }) => processShares),
    );
    const sample = samples.find(({ processShares }) => processShares);
    expect(sample?.processes).toEqual([
      { pid: 559, type: "compute", memoryBytes: 21198 * 2 ** 20, name: "python3" },
      { pid: 560, type: "compute", memoryBytes: 5086 * 2 ** 20, name: "python3" },
    ]);
    expect(sample?.processShares?.map(({ pid, smRatio }) => [pid, smRatio])).toEqual([
      [560, expect.closeTo(0.98, 1)],
    ]);
    expect(smi.status()["processesFrom"]).toBe("pmon");
  });

  test("poll() starts the tool again after it ended", async () => {
    const smi = await source({ FAKE_MODE: "short" });
    await expect(pollUntil(smi, () => false)).rejects.toMatchObject({ kind: "transient" });
    await pollUntil(
      {
        ...smi,
        poll: () => smi.poll().catch(() => ({ sent: 0, received: 0, samples: [], gaps: [] })),
      } as GpuSource,
      ({ samples }) => samples.length > 0,
    );
    expect(smi.status()["restarts"]).toBeGreaterThan(0);
  });

  test.each([
    ["garbage", /Unknown Error|no GPU can have/],
    ["absent", /not available/],
  ])("poll() says why a GPU whose row is all %s is not read", async (mode, reason) => {
    const smi = await source({ FAKE_MODE: mode });
    const poll = await pollUntil(smi, ({ gaps }) => gaps.length === 2);
    expect(poll.samples).toEqual([]);
    expect(poll.gaps[1]?.reason).toMatch(reason);
  });

  test.each([
    ["mismatch", "transient", /version mismatch/],
    ["unknown", "transient", /Unknown Error/],
    ["lost", "transient", /GPU is lost/],
    ["nodriver", "transient", /couldn't communicate/],
    ["nodevices", "absent", /No devices/],
  ])("open() and detect() name the failure %s", async (mode, kind, message) => {
    const config = nvidiaSmiBackend.config.parse({ path: toolWith({ FAKE_MODE: mode }) });
    await expect(nvidiaSmiBackend.open(config, context)).rejects.toMatchObject({
      kind,
      hint: expect.any(String),
    });
    const detected = await nvidiaSmiBackend.detect(config, context);
    expect(detected.usable).toBe(false);
    expect(detected.reason).toMatch(message);
  });

  test("detect() says that the tool is missing, or how many GPUs it lists", async () => {
    const missing = nvidiaSmiBackend.config.parse({ path: "/nonexistent/nvidia-smi" });
    expect((await nvidiaSmiBackend.detect(missing, context)).reason).toMatch(/not found/);
    const there = nvidiaSmiBackend.config.parse({ path: toolWith({}) });
    expect(await nvidiaSmiBackend.detect(there, context)).toMatchObject({ usable: true });
  });

  test("config accepts an empty section and refuses unknown keys", () => {
    expect(nvidiaSmiBackend.config.parse({})).toMatchObject({ intervalMs: 1000 });
    expect(nvidiaSmiBackend.config.safeParse({ intervalSeconds: 1 }).success).toBe(false);
  });
});

describe("nvidia-smi text", () => {
  test("PmonReader tells rounds apart by process, by GPU order and by rows of dashes", () => {
    const reader = new PmonReader();
    const rows = (lines: string[], at: number): void =>
      lines.forEach((line) => void reader.readLine(line, at));
    rows(["# gpu  pid  type  sm  fb  command", "# Idx  #  C/G  %  MB  name"], 1);
    rows(["  0   7  C   30  100  a b", "  0   8  M+C  500  -  c", "  1   -  -  -  -  -"], 2);
    expect(reader.rounds.size).toBe(0);
    rows(["  0   -  -  -  -  -"], 3);
    expect(reader.rounds.get(0)).toEqual({
      at: 3,
      processes: [
        { pid: 7, type: "compute", memoryBytes: 100 * 2 ** 20, name: "a b" },
        { pid: 8, type: "mps", name: "c" },
      ],
      shares: [{ pid: 7, at: 2, smRatio: 0.3 }],
    });
    expect(reader.rounds.get(1)?.processes).toEqual([]);
    rows(["  1   -  -  -  -  -", "  0  -  -  -  -  -"], 4);
    expect(reader.rounds.get(0)?.processes).toEqual([]);
  });

  test("parseValue() reads units and turns every non-value into a reason", () => {
    for (const [cell, value] of [
      ["8 %", 8],
      ["4857 MiB", 4857],
      ["134.19 W", 134.19],
      ["0x0000000000000001", 1],
      ["-8", -8],
    ] as const) {
      expect(parseValue(cell)).toEqual({ value });
    }
    for (const cell of [
      "[N/A]",
      "N/A",
      "[Not Supported]",
      "[Unknown Error]",
      "[Insufficient Permissions]",
      "ERR!",
      "[Not Found]",
      "",
      "-",
      "nan",
      "[GPU requires reset]",
    ]) {
      expect(parseValue(cell)).toHaveProperty("absent");
    }
  });

  test("chooseQuery() finds a name for everything on driver 580, and older names on older drivers", () => {
    const listed = listedFields(readFileSync(`${fixtures}580.help-query-gpu.txt`, "utf8"));
    expect(listed.size).toBeGreaterThan(200);
    expect(chooseQuery(listed).missing).toEqual([]);
    const old = chooseQuery(new Set(["uuid", "power.draw", "clocks.current.sm", "utilization.gpu"]));
    expect(old.fields).toEqual(["uuid", "utilization.gpu", "power.draw", "clocks.current.sm"]);
    const line = parseLine(old, "GPU-1, 8, 100.5, 1980", 5);
    expect(line?.sample).toEqual({
      gpu: "GPU-1",
      at: 5,
      utilizationRatio: 0.08,
      powerInstantWatts: 100.5,
      smClockHertz: 1980e6,
    });
  });

  test("parseApps() reads a capture", () => {
    const { complete, lists, unknown } = parseApps([
      "GPU-22222222-2222-4222-8222-222222222222, 495, 4848, python3",
      "garbage",
      "GPU-1, x, 3, y",
    ]);
    expect([...lists]).toEqual([
      [
        "GPU-22222222-2222-4222-8222-222222222222",
        [{ pid: 495, type: "compute", memoryBytes: 4848 * 2 ** 20, name: "python3" }],
      ],
    ]);
    expect(complete).toBe(false);
    expect([...unknown]).toEqual(["GPU-1"]);
  });

  test("no line, however absurd, throws or gives a reading without a GPU", () => {
    const query = chooseQuery(new Set(["uuid", "utilization.gpu", "power.draw.average"]));
    const cell = fc.oneof(
      fc.string(),
      fc.double().map(String),
      fc.constantFrom("GPU-1", "[N/A]", "ERR!", "-1"),
    );
    fc.assert(
      fc.property(fc.array(cell, { maxLength: 5 }), (cells) => {
        const parsed = parseLine(query, cells.join(","), 1);
        if (parsed !== undefined) expect(parsed.sample.gpu).toMatch(/^(GPU|MIG)-/);
        expect(failureOf("x", cells.join("\n")).message).toContain("Cannot");
      }),
    );
  });
});
