// What differs between drivers under one name: rows, symbols, structs and field ids, each against a fake library built
// with that driver's binary interface and read by the real reader child.
import * as fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";
import {
  parseDriverVersion,
  processRowBytes,
  throttleFields,
} from "../../../agent/gpu/nvml/child/driver-version.ts";
import * as layouts from "../../../agent/gpu/nvml/child/layouts.ts";
import { Cell, GUARD_BYTES, PROCESS, rowSize } from "../../../agent/gpu/nvml/child/layouts.ts";
import { nvmlBackend } from "../../../agent/gpu/nvml/index.ts";
import { systemClock } from "../../../agent/platform/clock.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import type { GpuPoll, GpuSource } from "../../../agent/source.ts";
import type { FakeDriver } from "../../fakes/nvml/build.ts";
import { buildFakeNvml, FAKE_DRIVERS, fakeNvml } from "../../fakes/nvml/build.ts";

vi.setConfig({ testTimeout: 30_000 });
const context = { clock: systemClock(), log: silentLog, signal: new AbortController().signal };
const open: GpuSource[] = [];
const compiled = buildFakeNvml() !== undefined;

afterEach(async () => {
  for (const source of open.splice(0)) await source.close();
});

async function start(driver: FakeDriver, lines: readonly string[], options = {}): Promise<GpuSource> {
  const fake = fakeNvml(buildFakeNvml(driver) ?? "", ...lines);
  const config = nvmlBackend.config.parse({ libraryPath: fake.path, events: false, slowMs: 100, ...options });
  const gpu = await nvmlBackend.open(config, context);
  open.push(gpu);
  return gpu;
}

async function pollUntil(gpu: GpuSource, good: (poll: GpuPoll) => boolean): Promise<GpuPoll> {
  for (;;) {
    const poll = await gpu.poll();
    if (good(poll)) return poll;
    await context.clock.sleep(20);
  }
}

const pidsOf = (poll: GpuPoll): readonly number[] | undefined =>
  poll.samples[0]?.processes?.map(({ pid }) => pid);
const counted = (count: number): number[] => Array.from({ length: count }, (_, index) => 1_000_000 + index);

describe.skipIf(!compiled)("drivers", () => {
  test.each(Object.entries(FAKE_DRIVERS))(
    "every process of driver %s is read at any count",
    async (_, driver) => {
      // 193 rows of 32 bytes are more than 256 rows of 24: a buffer measured in the smaller ones is overrun.
      for (const count of [0, 1, 2, 3, 193, 256, 700]) {
        const gpu = await start(driver, ["gpus 1", `processes 0 ${count}`]);
        const poll = await gpu.poll();
        expect(pidsOf(poll)).toEqual(counted(count));
        const memory = poll.samples[0]?.processes?.map(({ memoryBytes }) => memoryBytes);
        expect(memory).toEqual(
          counted(count).map((_pid, row) => (row % 5 === 4 ? undefined : 2 ** 30 + row)),
        );
        const status = await pollUntil(gpu, () => true).then(() => gpu.status());
        if (count > 1) expect(status["processRowBytes"]).toBe(driver.rowBytes ?? 24);
        expect(status).toMatchObject({ deaths: 0 });
      }
    },
  );

  test("a driver that exports _v2 and older calls only is read by them, without doubts", async () => {
    for (const name of ["450", "470"] as const) {
      const gpu = await start(FAKE_DRIVERS[name], ["gpus 1", "processes 0 3", "arch 6"]);
      const sample = (await gpu.poll()).samples[0];
      expect(sample?.processes).toHaveLength(3);
      expect(sample?.memoryUsedBytes).toBe(20 * 2 ** 30);
      const [info] = await gpu.inventory();
      expect(info?.pciBusId).toMatch(/0000:01:00\.0$/);
      expect(Object.keys(info?.unsupported ?? {})).not.toContain("processes");
      expect(info?.unsupported?.["gpm"]).toBeDefined();
    }
  });

  test.each(["575", "580"] as const)(
    "throttle time of driver %s is counted, whatever its field ids",
    async (name) => {
      const gpu = await start(FAKE_DRIVERS[name], ["gpus 1"]);
      const first = (await gpu.poll()).samples[0];
      const later = await pollUntil(gpu, ({ samples: [sample] }) => {
        const seconds = ((sample?.at ?? 0) - (first?.at ?? 0)) / 1e9;
        return seconds > 0.5 && sample?.throttleSeconds !== undefined;
      });
      const seconds = ((later.samples[0]?.at ?? 0) - (first?.at ?? 0)) / 1e9;
      for (const reason of ["software_thermal", "hardware_thermal", "power_brake"]) {
        const moved =
          (later.samples[0]?.throttleSeconds?.[reason] ?? 0) - (first?.throttleSeconds?.[reason] ?? 0);
        expect(moved / seconds).toBeGreaterThan(0.25);
        expect(moved / seconds).toBeLessThan(0.35);
      }
    },
  );

  test.each(["570.124.06", "580.76.05"])(
    "driver %s is not asked for throttle fields it may mean otherwise",
    async (version) => {
      const gpu = await start({ version }, ["gpus 1"]);
      const { throttleSeconds } = (await gpu.poll()).samples[0] ?? {};
      expect(Object.keys(throttleSeconds ?? {}).sort()).toEqual(["power_cap", "thermal"]);
      expect((await gpu.inventory())[0]?.unsupported?.["throttle_thermal_and_brake"]).toMatch(/ids|575\.51/);
    },
  );

  test("structs longer than ours are never overrun nor read wrongly, whatever the length", async () => {
    const plain = await start({ version: "580.126.09" }, [
      "gpus 1",
      "processes 0 5",
      "energy 0 0",
      "mig 0 3,4",
    ]);
    const [board, , instance] = await plain.inventory();
    for (const wide of [8, 16, 40, 248]) {
      const gpu = await start({ version: "580.126.09" }, [
        ...["gpus 1", "processes 0 5", "energy 0 0", "mig 0 3,4", `wide ${wide}`],
      ]);
      const found = await gpu.inventory();
      expect(found.map(({ uuid }) => uuid)).toContain(board?.uuid);
      const poll = await gpu.poll();
      for (const sample of poll.samples) {
        // What can still be read is right; what cannot is absent.
        expect([undefined, 300]).toContain(sample.powerWatts);
        expect([undefined, 1e9]).toContain(sample.energyMillijoules);
        const pids = sample.processes?.map(({ pid }) => pid);
        if (pids !== undefined) expect(new Set(pids).size).toBe(5);
        for (const pid of pids ?? []) expect(pid % 1000).toBeLessThan(5);
      }
      expect(gpu.status()).toMatchObject({ deaths: 0 });
      expect(JSON.stringify(gpu.status()["unsupported"])).toContain("WROTE_PAST_BUFFER");
    }
    expect(instance?.parent).toBe(board?.uuid);
  });

  test("XIDs are counted on the GPU they happened on", async () => {
    const fields = ["gpus 3", "xid 2 79 2"];
    const gpu = await start({ version: "580.126.09" }, fields, { events: true });
    const poll = await pollUntil(gpu, ({ samples }) => samples[2]?.xidEvents?.["79"] === 2);
    expect(poll.samples.map(({ xidEvents }) => xidEvents)).toEqual([{}, {}, { "79": 2 }]);
  });
});

describe("rowSize()", () => {
  const kinds = PROCESS.rows;

  test("finds the size of rows of any known kind, filled or not, in any order of trial", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...kinds),
        fc.integer({ min: 1, max: 400 }),
        fc.boolean(),
        fc.shuffledSubarray([...kinds], { minLength: 3 }),
        ({ size, written }, count, whole, order) => {
          const cell = new Cell(400 * PROCESS.sizeMax).mark();
          for (let row = 0; row < count; row++) {
            const end = whole ? size : written;
            cell.bytes.fill(0xff, row * size, row * size + 4);
            cell.bytes.fill(0x01, row * size + end - 4, row * size + end);
          }
          const found = rowSize(cell, count, order);
          // One row of 24 bytes and one of 32 whose last word was left alone look alike, and decode alike.
          if (count === 1) expect(found).toBeGreaterThanOrEqual(written);
          else expect(found).toBe(size);
        },
      ),
    );
  });

  test("knows no size for rows of another length", () => {
    fc.assert(
      fc.property(fc.integer({ min: 5, max: 16 }), fc.integer({ min: 2, max: 200 }), (words, count) => {
        const cell = new Cell(200 * 128).mark();
        cell.bytes.fill(0x01, 0, count * words * 8);
        expect(rowSize(cell, count, kinds)).toBeUndefined();
      }),
    );
  });
});

describe("layouts", () => {
  const structs = Object.entries(layouts).flatMap(([name, value]) =>
    typeof value === "object" && "size" in value
      ? [[name, value as Readonly<Record<string, number>>] as const]
      : [],
  );

  test("have every field inside the struct", () => {
    expect(structs.length).toBeGreaterThan(10);
    for (const [name, { size = 0, version, sizeMax, rows, ...offsets }] of structs) {
      for (const [field, offset] of Object.entries(offsets)) {
        if (field.endsWith("Bytes")) continue;
        expect(offset + (offsets[`${field}Bytes`] ?? 4), `${name}.${field}`).toBeLessThanOrEqual(size);
      }
    }
  });

  test("a Cell notices every byte written behind it and reads none of them", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 200 }),
        fc.integer({ min: 0, max: GUARD_BYTES - 1 }),
        fc.integer({ min: 0, max: 255 }),
        (size, beyond, value) => {
          const cell = new Cell(size);
          const memory = new Uint8Array(cell.bytes.buffer);
          const before = memory[size + beyond];
          memory[size + beyond] = value;
          expect(cell.bytes.every((byte) => byte === 0)).toBe(true);
          expect(cell.takeOverrun()).toBe(value !== before);
          expect(cell.takeOverrun()).toBe(false);
          expect(() => cell.u64(size)).toThrow(RangeError);
        },
      ),
    );
  });
});

describe("driver versions", () => {
  test.each([
    ["535.54.03", 32],
    ["535.98", 32],
    ["535.104.05", 24],
    ["530.41.03", 24],
    ["545.23.08", 24],
    [undefined, 24],
  ])("%s writes rows of %i bytes", (text, bytes) => {
    expect(processRowBytes(parseDriverVersion(text))).toBe(bytes);
  });

  test.each([
    ["575.51.02", 251],
    ["580.65.06", 251],
    ["580.82.07", 269],
    ["590.48.01", 269],
    ["595.10", 269],
    ["570.172.08", undefined],
    ["580.76.05", undefined],
    [undefined, undefined],
  ])("%s counts software thermal slowdown under %s", (text, id) => {
    const fields = throttleFields(parseDriverVersion(text));
    expect("softwareThermal" in fields ? fields.softwareThermal : undefined).toBe(id);
  });
});
