// The NVML backend over the real FFI: a fake libnvidia-ml.so.1 in C, opened by the real reader child.
import { afterEach, describe, expect, test, vi } from "vitest";
import { nvmlBackend } from "../../agent/gpu/nvml/index.ts";
import type { GpuSample } from "../../agent/model.ts";
import { systemClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import type { GpuPoll, GpuSource } from "../../agent/source.ts";
import type { FakeNvml } from "../fakes/nvml/build.ts";
import { buildFakeNvml, fakeNvml } from "../fakes/nvml/build.ts";
import { pointsOf } from "../tools/rings.ts";

vi.setConfig({ testTimeout: 20_000 });
const library = buildFakeNvml();
const context = { clock: systemClock(), log: silentLog, signal: new AbortController().signal };
const open: GpuSource[] = [];
const UUIDS = [0, 1].map((index) => `GPU-0000000${index}-0000-4000-8000-000000000000`);

afterEach(async () => {
  for (const source of open.splice(0)) await source.close();
});

interface Opened {
  readonly gpu: GpuSource;
  readonly fake: FakeNvml;
}

async function start(lines: string[] = [], options: Record<string, unknown> = {}): Promise<Opened> {
  const fake = fakeNvml(library ?? "", ...lines);
  const config = nvmlBackend.config.parse({
    libraryPath: fake.path,
    callTimeoutMs: 300,
    events: false,
    ...options,
  });
  const gpu = await nvmlBackend.open(config, context);
  open.push(gpu);
  return { gpu, fake };
}

/** Polls until `good`, taking failures for polls without anything. */
async function pollUntil(gpu: GpuSource, good: (poll: GpuPoll) => boolean): Promise<GpuPoll> {
  for (;;) {
    const poll = await gpu.poll().catch(() => undefined);
    if (poll !== undefined && good(poll)) return poll;
    await context.clock.sleep(20);
  }
}

function of(poll: GpuPoll, uuid: string | undefined): GpuSample {
  const sample = poll.samples.find(({ gpu }) => gpu === uuid);
  if (sample === undefined) throw new Error(`no reading of ${uuid}`);
  return sample;
}

const both = (poll: GpuPoll): boolean => poll.samples.length === 2;

describe.skipIf(library === undefined)("nvml", () => {
  test("inventory() names both GPUs with limits, architecture and driver", async () => {
    const { gpu } = await start();
    const infos = await gpu.inventory();
    expect(infos.map(({ uuid }) => uuid)).toEqual(UUIDS);
    expect(infos[1]).toMatchObject({
      index: 1,
      weight: 1,
      name: "NVIDIA Fake H100",
      architecture: "hopper",
      pciBusId: "00000000:02:00.0",
      driverVersion: "580.00.00",
      powerLimitWatts: 700,
      memoryTotalBytes: 80 * 2 ** 30,
    });
  });

  test("poll() reads energy, power, memory, rings and processes of each GPU by its own values", async () => {
    const { gpu } = await start(["util 1 25", "power 1 123000", "processes 1 2"]);
    const first = await gpu.poll();
    await context.clock.sleep(600);
    const second = await gpu.poll();
    const [a, b] = [of(second, UUIDS[0]), of(second, UUIDS[1])];
    expect(a).toMatchObject({ powerWatts: 300, utilizationRatio: 0.5, memoryUsedBytes: 20 * 2 ** 30 });
    expect(b).toMatchObject({ powerWatts: 123, utilizationRatio: 0.25 });
    const joules = ((a.energyMillijoules ?? 0) - (of(first, UUIDS[0]).energyMillijoules ?? 0)) / 1000;
    const seconds = (a.at - of(first, UUIDS[0]).at) / 1e9;
    expect(Math.abs(joules / seconds - 300)).toBeLessThan(15);
    expect(b.utilizationRing?.values).toEqual(b.utilizationRing?.values.map(() => 0.25));
    expect(b.utilizationRing?.instants.length).toBeGreaterThanOrEqual(2);
    expect(b.powerRing?.instants.length).toBeGreaterThanOrEqual(25);
    expect(b.processes).toHaveLength(2);
    expect(b.processes?.[0]).toMatchObject({ pid: 1010000, type: "compute", memoryBytes: 2 ** 30 });
    expect(b.processShares?.map(({ pid, smRatio }) => [pid, smRatio])).toEqual([
      [1010000, 0.12],
      [1010001, 0.12],
    ]);
  });

  test.each(["unix", "boot", "odd"])(
    "ring points fall between polls on our clock when the driver's is %s",
    async (kind) => {
      const { gpu } = await start([`clock ${kind}`]);
      const first = await gpu.poll();
      await context.clock.sleep(500);
      const second = await gpu.poll();
      const points = pointsOf(of(second, UUIDS[0]).powerRing);
      expect(points.length).toBeGreaterThan(15);
      for (const { at } of points) {
        expect(at).toBeGreaterThan(first.sent - 250e6);
        expect(at).toBeLessThanOrEqual(second.received);
      }
      const earlier = pointsOf(of(first, UUIDS[0]).powerRing);
      expect(points[0]?.at).toBeGreaterThan(earlier.at(-1)?.at ?? 0);
    },
  );

  test("an idle GPU reads 0, not nothing", async () => {
    const { gpu } = await start(["util 0 0", "processes 0 0"]);
    const sample = of(await gpu.poll(), UUIDS[0]);
    expect(sample.utilizationRatio).toBe(0);
    expect(sample.processes).toEqual([]);
    expect(sample.utilizationRing?.values).toEqual([0]);
  });

  test("unsupported readings are absent with their reason, and asked no more", async () => {
    const { gpu } = await start([
      "arch 4",
      "fail nvmlDeviceGetSamples 0 3",
      "fail nvmlDeviceGetTemperature 1 4",
    ]);
    await gpu.poll();
    const sample = of(await gpu.poll(), UUIDS[0]);
    expect(sample.energyMillijoules).toBeUndefined();
    expect(sample.utilizationRing).toBeUndefined();
    expect(sample.powerInstantWatts).toBe(300);
    const infos = await gpu.inventory();
    expect(infos[0]?.unsupported?.["energy"]).toMatch(/NOT_SUPPORTED/);
    expect(infos[1]?.unsupported?.["temperature"]).toMatch(/NO_PERMISSION/);
  });

  test("a missing symbol is an unsupported reading", async () => {
    const { gpu } = await start(["fail nvmlDeviceGetMemoryInfo_v2 0 13"]);
    expect(of(await gpu.poll(), UUIDS[0]).memoryUsedBytes).toBe(20 * 2 ** 30);
  });

  test("MIG instances are GPUs of their own; a topology change replaces them", async () => {
    const { gpu, fake } = await start(["mig 0 3,2,1"], { slowMs: 100 });
    const infos = await gpu.inventory();
    expect(infos.map(({ weight }) => Math.round(weight * 7))).toEqual([7, 3, 2, 1, 7]);
    expect(infos[1]).toMatchObject({
      parent: UUIDS[0],
      migProfile: "3g.30gb",
      memoryTotalBytes: 30 * 2 ** 30,
    });
    const poll = await gpu.poll();
    expect(of(poll, UUIDS[0]).energyMillijoules).toBeGreaterThan(0);
    expect(of(poll, UUIDS[0]).processes).toBeUndefined();
    expect(of(poll, infos[1]?.uuid).energyMillijoules).toBeUndefined();
    expect(of(poll, infos[1]?.uuid).processes).toHaveLength(1);
    const before = gpu.generation;
    fake.scenario("mig 0 7", "miggen 1");
    await pollUntil(gpu, () => gpu.generation > before);
    const after = await gpu.inventory();
    expect(after.map(({ weight }) => Math.round(weight * 7))).toEqual([7, 7, 7]);
    expect((await gpu.poll()).samples.map((sample) => sample.gpu)).not.toContain(infos[1]?.uuid);
  });

  test("a lost GPU is a gap while the other is read, and comes back", async () => {
    const { gpu, fake } = await start([], { retryGpuMs: 200 });
    fake.scenario("fail device 0 15");
    const poll = await gpu.poll();
    expect(poll.samples.map((sample) => sample.gpu)).toEqual([UUIDS[1]]);
    expect(poll.gaps).toMatchObject([
      { source: `gpu:${UUIDS[0]}`, reason: expect.stringMatching(/GPU_IS_LOST/) },
    ]);
    expect(await gpu.inventory()).toHaveLength(2);
    fake.scenario();
    await pollUntil(gpu, both);
  });

  test("a hung GPU costs one deadline, then is left out while the other is read", async () => {
    const { gpu, fake } = await start();
    await gpu.poll();
    fake.scenario("hang nvmlDeviceGetTotalEnergyConsumption 0");
    await gpu.poll().catch(() => undefined);
    const poll = await pollUntil(gpu, ({ samples }) => samples.length === 1);
    expect(poll.samples[0]?.gpu).toBe(UUIDS[1]);
    expect(poll.gaps[0]?.reason).toMatch(/did not answer/);
    const started = context.clock.now();
    await gpu.poll();
    expect(context.clock.now() - started).toBeLessThan(280e6);
    expect(gpu.status()).toMatchObject({ hangs: 1 });
  });

  test("what was read of the GPUs before one that hangs is not lost with it", async () => {
    const { gpu, fake } = await start();
    await gpu.poll();
    fake.scenario("hang nvmlDeviceGetTotalEnergyConsumption 1");
    const { gaps, samples } = await gpu.poll();
    expect(samples.map((sample) => sample.gpu)).toEqual([UUIDS[0]]);
    expect(gaps).toHaveLength(1);
  });

  test("a GPU that hangs when it is opened is left out, then probed and taken in", async () => {
    const lines = ["hang nvmlDeviceGetHandleByIndex_v2 0"];
    const { gpu, fake } = await start(lines, { openTimeoutMs: 3000, retryGpuMs: 100 });
    expect((await gpu.inventory()).map(({ uuid }) => uuid).sort()).toEqual([UUIDS[1], "index-0"]);
    const first = await gpu.poll();
    expect(first.samples).toHaveLength(1);
    expect(first.gaps).toMatchObject([{ source: "gpu:index-0", reason: expect.stringContaining("hangs") }]);
    expect(gpu.status()["unreadable"]).toEqual([expect.stringContaining("GPU 0")]);
    fake.scenario();
    await pollUntil(gpu, both);
    expect(await gpu.inventory()).toHaveLength(2);
  });

  test("a reader killed from outside is replaced and the ring covers the outage", async () => {
    const { gpu } = await start();
    const before = of(await gpu.poll(), UUIDS[0]).powerRing?.instants.at(-1) ?? 0;
    process.kill(gpu.status()["pid"] as number, "SIGKILL");
    const after = pointsOf(of(await pollUntil(gpu, both), UUIDS[0]).powerRing);
    expect(gpu.status()).toMatchObject({ starts: 2 });
    expect((after[0]?.at ?? 0) - before).toBeGreaterThan(0);
    expect((after[0]?.at ?? 0) - before).toBeLessThan(100e6);
  });

  test.each([
    [999, /UNKNOWN/],
    [18, /MISMATCH/],
    [9, /DRIVER_NOT_LOADED/],
  ])("a library that answers %i is loaded anew until it works", async (code, message) => {
    const { gpu, fake } = await start();
    fake.scenario(`fail device -1 ${code}`, `fail nvmlInit_v2 -1 ${code}`);
    await expect(gpu.poll()).rejects.toMatchObject({
      kind: "transient",
      message: expect.stringMatching(message),
    });
    expect(await gpu.inventory()).toHaveLength(2);
    fake.scenario();
    await pollUntil(gpu, both);
    expect(gpu.status()["failure"]).toBeUndefined();
  });

  test("a failure that only a new container cures asks for a restart", async () => {
    const { gpu, fake } = await start([], { restartAfterMs: 1 });
    fake.scenario("fail device -1 999", "fail nvmlInit_v2 -1 999");
    await expect(gpu.poll()).rejects.toMatchObject({ kind: "transient" });
    const kinds: string[] = [];
    while (!kinds.includes("restart")) {
      await context.clock.sleep(20);
      await gpu.poll().catch((error) => kinds.push(error.kind));
    }
  });

  test("999 from one call of a GPU that answers silences that reading only", async () => {
    const { gpu } = await start(["fail nvmlDeviceGetTotalEnergyConsumption 0 999"]);
    const sample = of(await gpu.poll(), UUIDS[0]);
    expect(sample.energyMillijoules).toBeUndefined();
    expect(sample.powerWatts).toBe(300);
  });

  test("release() lets go of the devices until resume()", async () => {
    const { gpu } = await start();
    const pid = gpu.status()["pid"] as number;
    await gpu.release?.();
    expect(() => process.kill(pid, 0)).toThrow();
    await expect(gpu.poll()).rejects.toMatchObject({
      kind: "transient",
      message: expect.stringMatching(/released/),
    });
    await gpu.resume?.();
    await pollUntil(gpu, both);
  });

  test("garbage from the driver is dropped and counted", async () => {
    const { gpu } = await start(["garbage 1"]);
    for (let round = 0; round < 3; round++) {
      const poll = await gpu.poll();
      for (const sample of poll.samples) {
        expect(sample.energyMillijoules).toBeUndefined();
        expect(sample.utilizationRatio).toBeUndefined();
        expect(sample.memoryUsedBytes).toBeUndefined();
        expect(sample.processes ?? []).toEqual([]);
      }
    }
    expect(gpu.status()["absurd"]).toBeGreaterThan(10);
  });

  test("a counter that falls is passed on as it is", async () => {
    const { gpu, fake } = await start(["base 0 9000000000"]);
    const before = of(await gpu.poll(), UUIDS[0]);
    fake.scenario("base 0 1000");
    const after = of(await gpu.poll(), UUIDS[0]);
    expect(after.energyMillijoules).toBeLessThan(before.energyMillijoules ?? 0);
    expect(after.energyEpoch).toBe(before.energyEpoch);
  });

  test("sixteen GPUs with a thousand processes each are read in one poll", async () => {
    const lines = Array.from({ length: 16 }, (_, gpu) => `processes ${gpu} 1000`);
    const { gpu } = await start(["gpus 16", ...lines], { callTimeoutMs: 3000 });
    const poll = await gpu.poll();
    expect(poll.samples).toHaveLength(16);
    expect(poll.samples[15]?.processes).toHaveLength(1000);
  });

  test("detect() says which library won, or what was missing", async () => {
    const fake = fakeNvml(library ?? "");
    const found = await nvmlBackend.detect(nvmlBackend.config.parse({ libraryPath: fake.path }), context);
    expect(found).toMatchObject({ usable: true, reason: expect.stringContaining(fake.path) });
    const missing = await nvmlBackend.detect(
      nvmlBackend.config.parse({ libraryPath: "/nonexistent.so" }),
      context,
    );
    expect(missing).toMatchObject({ usable: false, reason: expect.stringContaining("/nonexistent.so") });
  });
});

test("nvml config accepts an empty section and refuses unknown keys", () => {
  expect(nvmlBackend.config.parse({})).toMatchObject({ callTimeoutMs: 3000 });
  expect(nvmlBackend.config.safeParse({ library: "x" }).success).toBe(false);
});

describe.skipIf(library === undefined)("nvml on Hopper and later", () => {
  const slow = { slowMs: 100 };

  test("GPM gives activity ratios over windows of a second, per GPU", async () => {
    const { gpu } = await start(["util 1 25"], slow);
    await gpu.poll();
    await context.clock.sleep(950);
    const poll = await gpu.poll();
    expect(of(poll, UUIDS[0])).toMatchObject({
      graphicsActiveRatio: 0.5,
      smActiveRatio: 0.4,
      tensorActiveRatio: 0.25,
    });
    expect(of(poll, UUIDS[1])).toMatchObject({ graphicsActiveRatio: 0.25, dramActiveRatio: 0.15 });
  });

  test.each(["nan", "zero"])("GPM that reads %s while the GPU works is no reading", async (kind) => {
    const { gpu } = await start([`gpm ${kind}`], slow);
    await gpu.poll();
    await context.clock.sleep(950);
    const sample = of(await gpu.poll(), UUIDS[0]);
    expect(sample.graphicsActiveRatio).toBeUndefined();
    expect(sample.utilizationRatio).toBe(0.5);
  });

  test("GPM is per MIG instance, and remembered as unsupported before Hopper", async () => {
    const { gpu } = await start(["mig 0 4,3"], slow);
    const [, instance] = await gpu.inventory();
    await gpu.poll();
    await context.clock.sleep(950);
    expect(of(await gpu.poll(), instance?.uuid).graphicsActiveRatio).toBe(0.5);
    const old = await start(["arch 8"], slow);
    await old.gpu.poll();
    expect((await old.gpu.inventory())[0]?.unsupported?.["gpm"]).toMatch(/Hopper/);
  });

  test("XIDs are counted per code, over restarts of the reader", async () => {
    const { gpu, fake } = await start(["xid 0 31 2"], { events: true });
    const events = (poll: GpuPoll): unknown =>
      poll.samples.find((sample) => sample.gpu === UUIDS[0])?.xidEvents;
    await pollUntil(gpu, (poll) => JSON.stringify(events(poll)) === '{"31":2}');
    process.kill(gpu.status()["pid"] as number, "SIGKILL");
    fake.scenario("xid 0 79 1");
    await pollUntil(gpu, (poll) => JSON.stringify(events(poll)) === '{"31":2,"79":1}');
    expect(events(await gpu.poll())).toEqual({ 31: 2, 79: 1 });
  });

  test("power limit and video engines are read with the slow beat, a changed limit at once", async () => {
    const { gpu, fake } = await start([], slow);
    const first = of(await gpu.poll(), UUIDS[0]);
    expect(first).toMatchObject({ powerLimitWatts: 700, encoderRatio: 0.07, decoderRatio: 0.13 });
    fake.scenario("limit 0 500000");
    await pollUntil(gpu, (poll) => poll.samples[0]?.powerLimitWatts === 500);
  });

  test("power of the module around a GPU is read beside its own, and absent where there is none", async () => {
    const { gpu } = await start(["module 0 600000"], slow);
    const poll = await gpu.poll();
    expect(of(poll, UUIDS[0])).toMatchObject({ powerWatts: 300, modulePowerWatts: 600 });
    expect(of(poll, UUIDS[1]).modulePowerWatts).toBeUndefined();
  });

  test("ECC, throttle time and traffic come as totals", async () => {
    const { gpu } = await start([], slow);
    await gpu.poll();
    const poll = await pollUntil(gpu, ({ samples }) => (samples[0]?.trafficBytes?.pcieTransmit ?? 0) > 0);
    const { trafficBytes, eccErrors } = of(poll, UUIDS[0]);
    expect(eccErrors).toEqual({ corrected: 5, uncorrected: 1 });
    expect((trafficBytes?.pcieReceive ?? 0) / (trafficBytes?.pcieTransmit ?? 1)).toBeCloseTo(2, 1);
  });
});
