// Silence is not idleness: a GPU that is counted but says nothing of itself is a gap in every backend, whatever is printed
// in place of its readings, and is never given another's or an empty list of processes.
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";
import { KnownBoards, unreadGpu } from "../../agent/gpu/known-boards.ts";
import { parseApps, processesOf } from "../../agent/gpu/nvidia-smi/apps.ts";
import { chooseQuery, parseLine } from "../../agent/gpu/nvidia-smi/fields.ts";
import { nvidiaSmiBackend } from "../../agent/gpu/nvidia-smi/index.ts";
import { withListing } from "../../agent/gpu/nvidia-smi/inventory-xml.ts";
import { PmonReader } from "../../agent/gpu/nvidia-smi/pmon.ts";
import { silenceOf } from "../../agent/gpu/nvidia-smi/values.ts";
import { nvmlBackend } from "../../agent/gpu/nvml/index.ts";
import { isSilent } from "../../agent/gpu/sane.ts";
import type { GpuInfo } from "../../agent/model.ts";
import { systemClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import type { GpuPoll, GpuSource } from "../../agent/source.ts";
import { buildFakeNvml, fakeNvml } from "../fakes/nvml/build.ts";

vi.setConfig({ testTimeout: 20_000 });
const fixtures = fileURLToPath(new URL("../fixtures/gpu/", import.meta.url));
const fake = fileURLToPath(new URL("../fakes/nvidia-smi", import.meta.url));
const context = { clock: systemClock(), log: silentLog, signal: new AbortController().signal };
const open: GpuSource[] = [];
const library = buildFakeNvml();

afterEach(async () => {
  for (const source of open.splice(0)) await source.close();
});

async function smi(environment: Readonly<Record<string, string>>, intervalMs = 100): Promise<GpuSource> {
  const path = join(mkdtempSync(join(tmpdir(), "nvidia-smi-")), "nvidia-smi");
  const exports = Object.entries(environment).map(([name, value]) => `export ${name}='${value}'\n`);
  writeFileSync(path, `#!/bin/sh\n${exports.join("")}exec '${fake}' "$@"\n`, { mode: 0o755 });
  const source = await nvidiaSmiBackend.open(nvidiaSmiBackend.config.parse({ path, intervalMs }), context);
  open.push(source);
  return source;
}

async function pollUntil(gpu: GpuSource, good: (poll: GpuPoll) => boolean): Promise<GpuPoll> {
  for (;;) {
    const poll = await gpu.poll().catch(() => undefined);
    if (poll !== undefined && good(poll)) return poll;
    await context.clock.sleep(20);
  }
}

const UUIDS = [0, 1].map((index) => `GPU-0000000${index}-6666-4666-8666-666666666666`);
const gapsOf = (poll: GpuPoll): readonly string[] => poll.gaps.map(({ source }) => source.slice(4));

describe("nvidia-smi", () => {
  test("a GPU that requires a reset is a gap that quotes it, the other is read", async () => {
    const rows = join(mkdtempSync(join(tmpdir(), "rows-")), "rows.csv");
    writeFileSync(rows, readFileSync(`${fixtures}smi-gpu-requires-reset.query-gpu.csv`));
    const gpu = await smi({ FAKE_ROWS: rows });
    const poll = await pollUntil(gpu, ({ samples }) => samples.length > 0);
    expect(new Set(poll.samples.map((sample) => sample.gpu))).toEqual(new Set([UUIDS[0]]));
    expect(poll.gaps).toMatchObject([
      {
        source: `gpu:${UUIDS[1]}`,
        reason: expect.stringContaining("GPU requires reset"),
        hint: expect.stringContaining("--gpu-reset"),
      },
    ]);
    expect((await gpu.inventory()).map(({ uuid }) => uuid)).toEqual(UUIDS);
    // After the reset its rows are readings again.
    writeFileSync(rows, readFileSync(rows, "utf8").replaceAll("[GPU requires reset]", "0"));
    const later = await pollUntil(gpu, ({ gaps }) => gaps.length === 0);
    expect(later.gaps).toEqual([]);
  });

  test("a GPU that is counted but not named is a gap from the start, under its index or its bus", async () => {
    const rows = join(mkdtempSync(join(tmpdir(), "rows-")), "rows.csv");
    writeFileSync(
      rows,
      `${UUIDS[0]}, 40, 3, 4000, [N/A], 200.50, 200.50, 50, [N/A]\n[Unknown Error], ${Array(8).fill("[Unknown Error]").join(", ")}\n`,
    );
    const gpu = await smi({ FAKE_ROWS: rows });
    const poll = await pollUntil(gpu, ({ samples }) => samples.length > 0);
    expect(gapsOf(poll)).toEqual(["index-1"]);
    expect(poll.gaps[0]?.reason).toContain("Unknown Error");
    const lost = withListing(
      `GPU 0: X (UUID: ${UUIDS[0]})\nUnable to determine the device handle for gpu 0000:BA:00.0: GPU is lost.  Reboot the system to recover this GPU\n`,
      [{ uuid: UUIDS[0] ?? "", index: 0, name: "X", weight: 1 }],
    );
    expect(lost[1]).toMatchObject({
      uuid: "pci-0000:BA:00.0",
      unreadable: expect.stringContaining("GPU is lost"),
    });
  });

  test("one GPU that two listings cannot name is one gap, and one that only -L names is a gap too", () => {
    const board: GpuInfo = {
      uuid: UUIDS[0] ?? "",
      index: 0,
      name: "X",
      weight: 1,
      pciBusId: "00000000:1A:00.0",
    };
    const byIndex = unreadGpu(1, "the query has no UUID for it");
    const first = `GPU 0: X (UUID: ${board.uuid})\n`;
    const handle = "Unable to determine the device handle for gpu 0000:BA:00.0: Unknown Error\n";
    expect(withListing(`${first}${handle}`, [board, byIndex]).map(({ uuid }) => uuid)).toEqual([
      board.uuid,
      "index-1",
    ]);
    expect(withListing(`${first}${handle.replace("BA", "1A")}`, [board])).toHaveLength(1);
    const listed = withListing(`${first}GPU 1: NVIDIA Y (UUID: ${UUIDS[1]})\n`, [board]);
    expect(listed[1]).toEqual({ uuid: UUIDS[1], index: 1, name: "NVIDIA Y", weight: 1 });
  });

  test("rows that come one by one are all in the first poll", async () => {
    const rows = join(mkdtempSync(join(tmpdir(), "rows-")), "rows.csv");
    writeFileSync(
      rows,
      UUIDS.map((uuid) => `${uuid}, 40, 3, 4000, [N/A], 200.50, 200.50, 50, [N/A]\n`).join(""),
    );
    const gpu = await smi({ FAKE_ROWS: rows, FAKE_ROW_PAUSE: "0.3" }, 1000);
    const poll = await gpu.poll();
    expect(poll.gaps).toEqual([]);
    expect(new Set(poll.samples.map((sample) => sample.gpu))).toEqual(new Set(UUIDS));
  });

  test("one cell that may not be read does not drop the process list", async () => {
    const rows = `${fixtures}smi-power-draw-only.query-gpu.csv`;
    const apps = `${fixtures}smi-insufficient-permissions.compute-apps.csv`;
    const gpu = await smi({ FAKE_ROWS: rows, FAKE_APPS: apps });
    const poll = await pollUntil(gpu, ({ samples }) => samples.some(({ processes }) => processes));
    expect(poll.samples.find(({ processes }) => processes)?.processes).toEqual([
      { pid: 1200, type: "compute", memoryBytes: 4000 * 2 ** 20, name: "python3" },
      { pid: 1234, type: "compute" },
    ]);
  });
});

const NON_VALUES = [
  ...["[N/A]", "[Not Supported]", "[Unknown Error]", "[Insufficient Permissions]", "[GPU requires reset]"],
  ...["[GPU is lost]", "ERR!", "N/A", "[Not Found]", "[Requested functionality has been deprecated]", ""],
];
const nonValue = fc.constantFrom(...NON_VALUES);

describe("laws", () => {
  const query = chooseQuery(
    new Set([
      ...["uuid", "utilization.gpu", "utilization.memory", "memory.used", "power.draw.average"],
      ...["power.draw.instant", "power.draw", "temperature.gpu", "temperature.memory"],
    ]),
  );

  test("a row without evidence of what the GPU did is no reading, and its reason is in the row", () => {
    fc.assert(
      fc.property(
        fc.array(nonValue, { minLength: 6, maxLength: 6 }),
        nonValue,
        fc.boolean(),
        (cells, memory, warm) => {
          const temperature = warm ? "50" : memory;
          const row = ["GPU-1", ...cells, temperature, memory].join(", ");
          const parsed = parseLine(query, row, 1);
          expect(parsed).toBeDefined();
          if (parsed === undefined) return;
          const evidence = { any: !isSilent(parsed.sample), utilizationOrPower: false };
          expect(silenceOf(evidence, parsed.absent)).toBeTruthy();
        },
      ),
    );
  });

  test("a row with utilisation or power is a reading whatever else is missing", () => {
    fc.assert(
      fc.property(
        fc.array(nonValue, { minLength: 8, maxLength: 8 }),
        fc.constantFrom(0, 3, 4),
        (cells, place) => {
          const row = ["GPU-1", ...cells.with(place, "7")].join(", ");
          const parsed = parseLine(query, row, 1);
          if (parsed === undefined) throw new Error(row);
          const { powerInstantWatts, powerWatts, utilizationRatio } = parsed.sample;
          const utilizationOrPower = (utilizationRatio ?? powerWatts ?? powerInstantWatts) !== undefined;
          expect(
            silenceOf({ any: !isSilent(parsed.sample), utilizationOrPower }, parsed.absent),
          ).toBeUndefined();
        },
      ),
    );
  });

  test("a GPU has an empty list of processes only where every row could be read", () => {
    const uuid = fc.constantFrom("GPU-a", "GPU-b", ...NON_VALUES);
    const pid = fc.constantFrom("7", "8", ...NON_VALUES);
    fc.assert(
      fc.property(fc.array(fc.tuple(uuid, pid, nonValue), { maxLength: 6 }), (rows) => {
        const parsed = parseApps(rows.map((row) => [...row, "/bin/x"].join(", ")));
        for (const gpu of ["GPU-a", "GPU-b", "GPU-c"]) {
          const processes = processesOf(parsed, gpu);
          const own = rows.filter(([name]) => name === gpu);
          const nameless = rows.some(([name]) => !name.startsWith("GPU-"));
          const readable = own.every(([, number]) => /^\d+$/.test(number));
          if (!readable) expect(processes).toBeUndefined();
          else if (own.length > 0) expect(processes).toHaveLength(own.length);
          else expect(processes).toEqual(nameless ? undefined : []);
        }
      }),
    );
  });

  test("pmon takes no row but one of dashes for an idle GPU", () => {
    for (const cell of NON_VALUES.filter((text) => text !== "" && !text.includes(" "))) {
      const reader = new PmonReader();
      reader.readLine("# gpu  pid  type  sm  fb  command", 1);
      expect(reader.readLine(`  0  ${cell}  -  -  -  -`, 1)).toBe(false);
    }
  });

  test("KnownBoards keeps every board that was ever listed, and no place twice", () => {
    const board = (index: number): GpuInfo => ({ uuid: `GPU-${index}`, index, name: "x", weight: 1 });
    const listing = fc.uniqueArray(fc.tuple(fc.nat(3), fc.boolean()), { selector: ([index]) => index });
    fc.assert(
      fc.property(fc.array(listing, { minLength: 1, maxLength: 6 }), (listings) => {
        const known = new KnownBoards();
        const seen = new Set<string>();
        const places = new Set<number>();
        for (const listed of listings) {
          known.take(
            listed.map(([index, readable]) =>
              readable ? board(index) : unreadGpu(index, "does not answer"),
            ),
          );
          for (const [index, readable] of listed) {
            places.add(index);
            if (readable) seen.add(`GPU-${index}`);
          }
          const now = known.infos.map(({ uuid }) => uuid);
          for (const uuid of seen) expect(now).toContain(uuid);
          expect(known.infos.map(({ index }) => index).sort()).toEqual([...places].sort());
          const readable = new Set(listed.filter(([, answers]) => answers).map(([index]) => `GPU-${index}`));
          const gaps = known.gaps(1, () => undefined).map(({ source }) => source.slice(4));
          expect(gaps.sort()).toEqual(now.filter((uuid) => !readable.has(uuid)).sort());
        }
      }),
    );
  });
});

describe.skipIf(library === undefined)("nvml", () => {
  const start = async (
    lines: readonly string[],
  ): Promise<{ gpu: GpuSource; scenario: (...lines: string[]) => void }> => {
    const { path, scenario } = fakeNvml(library ?? "", ...lines);
    const options = { libraryPath: path, events: false, retryGpuMs: 100, callTimeoutMs: 3000 };
    const gpu = await nvmlBackend.open(nvmlBackend.config.parse(options), context);
    open.push(gpu);
    return { gpu, scenario };
  };
  const uuid = (index: number): string => `GPU-0000000${index}-0000-4000-8000-000000000000`;

  test("an index that never opened is a GPU that is not read, until it opens", async () => {
    const { gpu, scenario } = await start(["fail nvmlDeviceGetHandleByIndex_v2 1 15"]);
    const poll = await gpu.poll();
    expect((await gpu.inventory()).map((info) => info.uuid)).toEqual([uuid(0), "index-1"]);
    expect(gapsOf(poll)).toEqual(["index-1"]);
    expect(poll.gaps[0]?.reason).toMatch(/GPU 1.*GPU_IS_LOST/);
    scenario();
    await pollUntil(gpu, ({ samples }) => samples.length === 2);
    expect((await gpu.inventory()).map((info) => info.uuid).sort()).toEqual([uuid(0), uuid(1)]);
  });

  test("a board the driver no longer lists stays known and unread", async () => {
    const { gpu, scenario } = await start([]);
    await gpu.poll();
    scenario("gpus 1");
    expect(await gpu.inventory()).toHaveLength(2);
    const poll = await pollUntil(gpu, ({ gaps }) => gaps.length > 0);
    expect(gapsOf(poll)).toEqual([uuid(1)]);
    expect(poll.gaps[0]?.reason).toMatch(/no longer lists/);
    scenario();
    await pollUntil(gpu, ({ samples }) => samples.length === 2);
  });

  test("a GPU that requires a reset is not read, whichever call says so", async () => {
    for (const call of ["device", "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetMemoryInfo_v2"]) {
      const { gpu, scenario } = await start([]);
      await gpu.poll();
      scenario(`fail ${call} 0 16`);
      const poll = await gpu.poll();
      expect(poll.samples.map((sample) => sample.gpu)).toEqual([uuid(1)]);
      expect(poll.gaps[0]).toMatchObject({
        reason: expect.stringContaining("RESET_REQUIRED"),
        hint: expect.any(String),
      });
    }
  });
});
