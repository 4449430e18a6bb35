// A broken law leaves the readings that led to it on disk, bounded, and everyone who looks is told.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { Correlator } from "../../agent/correlate/correlator.ts";
import { createCore } from "../../agent/daemon/accounting.ts";
import type { Recorded } from "../../agent/daemon/flight-recorder.ts";
import { FlightRecorder, recordedTokens } from "../../agent/daemon/flight-recorder.ts";
import { standalone } from "../../agent/daemon/life.ts";
import { Pipeline } from "../../agent/daemon/pipeline.ts";
import { defaultWeights } from "../../agent/meter/money/tenants.ts";
import type { GpuSample, SettledInterval, TokenSample } from "../../agent/model.ts";
import { virtualClock } from "../../agent/platform/clock.ts";
import type { Facts, Log } from "../../agent/platform/log.ts";
import { silentLog } from "../../agent/platform/log.ts";
import type { GpuSource, PullServerSource } from "../../agent/source.ts";

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});
function stateDir(): string {
  const folder = mkdtempSync(join(tmpdir(), "flight-"));
  folders.push(folder);
  return folder;
}

const nobody = { gpus: [], servers: [] };
const broken: SettledInterval = {
  from: 0,
  to: 1e9,
  gpus: [],
  servers: [],
  lateSamples: 0,
  violations: ["joules: forced"],
};
const gpuSample = (second: number): GpuSample => ({ gpu: "GPU-0", at: second * 1e9, powerWatts: second });
const time = (second: number): { at: number; unixMillis: number } => ({
  at: second * 1e9,
  unixMillis: Date.UTC(2026, 10, 24) + second * 1000,
});

describe("FlightRecorder", () => {
  test("keeps a minute of readings and writes them, oldest first, with the interval", () => {
    const recorder = new FlightRecorder(stateDir());
    for (let second = 0; second <= 100; second++)
      recorder.keep({ kind: "gpu", sample: gpuSample(second) }, second * 1e9);
    expect(recorder.size).toBe(61);
    const file = recorder.violated(broken, time(100), nobody) ?? "";
    const written = JSON.parse(readFileSync(file, "utf8"));
    expect(written.interval.violations).toEqual(["joules: forced"]);
    expect(written.readings).toHaveLength(61);
    expect(written.readings[0].sample.powerWatts).toBe(40);
    expect(written.readings[60]).toEqual({ kind: "gpu", sample: gpuSample(100) });
    expect(written.omitted).toBe(0);
  });

  test("holds its bounds of count and bytes whatever comes in one instant", () => {
    const few = new FlightRecorder(undefined, { readingsMax: 10 });
    const { length } = JSON.stringify({ kind: "gpu", sample: gpuSample(0) });
    const small = new FlightRecorder(undefined, { bytesMax: 10 * length + 1 });
    const none = new FlightRecorder(undefined, { bytesMax: length - 1 });
    for (let index = 0; index < 5000; index++) {
      for (const one of [few, small, none]) one.keep({ kind: "gpu", sample: gpuSample(0) }, 0);
    }
    expect([few.size, small.size, none.size]).toEqual([10, 10, 0]);
  });

  test("writes the newest readings, whole, where older ones had to make room and one was too large", () => {
    const recorder = new FlightRecorder(stateDir(), { bytesMax: 1000 });
    const gap = (at: number, reason: string): void =>
      recorder.keep({ kind: "gap", gap: { source: "gpu", at, reason } }, 1e9);
    for (let at = 0; at < 100; at++) gap(at, "žluťoučký".slice(0, 1 + (at % 9)));
    gap(100, "m".repeat(2000));
    gap(101, "last");
    const { omitted, readings } = JSON.parse(
      readFileSync(recorder.violated(broken, time(2), nobody) ?? "", "utf8"),
    );
    const kept = readings.map((one: { gap: { at: number } }) => one.gap.at);
    expect(kept.length).toBeGreaterThan(8);
    expect(omitted + kept.length).toBe(102);
    const newest = Array.from({ length: kept.length - 1 }, (_, index) => 101 - kept.length + index);
    expect(kept).toEqual([...newest, 101]);
  });

  test("takes memory for a part of what a minute has, and not for all it may hold, however long it goes on", () => {
    const recorder = new FlightRecorder(undefined);
    const long = "m".repeat(1000);
    const taken: number[] = [];
    for (let second = 0; second < 3600; second++) {
      for (let one = 0; one < 10; one++)
        recorder.keep({ kind: "gap", gap: { source: "gpu", at: second * 1e9, reason: long } }, second * 1e9);
      if (second >= 60) taken.push(recorder.bytes);
    }
    expect(recorder.size).toBe(610);
    const texts = 610 * (long.length + 60);
    expect(Math.max(...taken)).toBeLessThan(texts / 2);
  });

  test("keeps the newest texts whole and in order, in no more memory than it may take, whatever comes", () => {
    const reading = fc.record({ seconds: fc.nat(20), length: fc.nat(900) });
    fc.assert(
      fc.property(
        fc.array(reading, { maxLength: 120 }),
        fc.integer({ min: 500, max: 5000 }),
        (all, bytesMax) => {
          const recorder = new FlightRecorder(stateDir(), { bytesMax });
          const texts: { at: number; text: string }[] = [];
          let at = 0;
          for (const [index, { length, seconds }] of all.entries()) {
            at += seconds * 1e9;
            const recorded: Recorded = {
              kind: "gap",
              gap: { source: String(index), at, reason: "é".repeat(length) },
            };
            recorder.keep(recorded, at);
            texts.push({ at, text: JSON.stringify(recorded) });
            expect(recorder.bytes).toBeLessThanOrEqual(bytesMax);
          }
          const file = recorder.violated(broken, { at, unixMillis: 0 }, nobody) ?? "";
          const { omitted, readings } = JSON.parse(readFileSync(file, "utf8"));
          const young = texts.filter((one) => one.at >= at - 60e9);
          expect(omitted + readings.length).toBe(young.length);
          const fitting = young.filter(({ text }) => Buffer.byteLength(text) <= bytesMax);
          const kept = readings.map((one: object) => JSON.stringify(one));
          expect(kept).toEqual(kept.length === 0 ? [] : fitting.slice(-kept.length).map(({ text }) => text));
          if (fitting.length > 0) expect(kept.length).toBeGreaterThan(0);
          for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
        },
      ),
      { numRuns: 60 },
    );
  });

  test("writes one recording a minute, keeps the newest 20, and counts every violation", () => {
    const folder = stateDir();
    const recorder = new FlightRecorder(folder);
    const files = new Set<string | undefined>();
    for (let second = 0; second < 25 * 60; second += 20)
      files.add(recorder.violated(broken, time(second), nobody));
    expect(files.size).toBe(25);
    const kept = readdirSync(join(folder, "violations")).sort();
    expect(kept).toHaveLength(20);
    expect(kept[0]).toBe("2026-11-24T00-05-00.000Z.json");
    expect(recorder.degraded?.violations).toBe(75);
    expect(recorder.degraded?.recording).toBe(join(folder, "violations", kept[19] ?? ""));
  });

  test("leaves the oldest readings out of a file that would grow beyond its bound, and says how many", () => {
    const recorder = new FlightRecorder(stateDir());
    const long = "m".repeat(100_000);
    for (let second = 0; second < 60; second++)
      recorder.keep({ kind: "gap", gap: { source: "gpu", at: second, reason: long } }, second * 1e9);
    const text = readFileSync(recorder.violated(broken, time(60), nobody) ?? "", "utf8");
    expect(text.length).toBeLessThan(4.3 * 1024 * 1024);
    const { omitted, readings } = JSON.parse(text);
    expect(omitted).toBeGreaterThan(0);
    expect(omitted + readings.length).toBe(60);
    expect(readings.at(-1).gap.at).toBe(59);
  });

  test("goes on without a file where none can be written", () => {
    const folder = stateDir();
    writeFileSync(join(folder, "violations"), "in the way");
    for (const where of [folder, undefined]) {
      const recorder = new FlightRecorder(where);
      expect(recorder.violated(broken, time(0), nobody)).toBeUndefined();
      expect(recorder.degraded?.last).toBe("joules: forced");
    }
  });
});

/** A correlator that finds its third interval broken. */
class BrokenCorrelator extends Correlator {
  override settle(now: number): readonly SettledInterval[] {
    return super
      .settle(now)
      .map((one) => (one.from === 2e9 ? { ...one, violations: ["shares: forced"] } : one));
  }
}

describe("recordedTokens()", () => {
  const sample = { server: "s", sent: 1, received: 3, at: 2, ignoredSamples: 0, errors: [] } as const;
  const bare = {
    role: "combined",
    tokens: { output: 7 },
    requests: { ok: 1 },
    volume: "step",
    running: 2,
  } as const;
  const latencies = { queue_time: { bounds: [1], counts: [1, 0], sum: 0.5, count: 1 } };

  test("keeps everything of an engine but its latencies", () => {
    const engine = { ...sample, family: "engine", readings: [{ ...bare, latencies }] } as const;
    expect(recordedTokens(engine)).toEqual({ kind: "tokens", sample: { ...engine, readings: [bare] } });
  });

  test("says of a gateway when it was read and how many label sets it showed", () => {
    const gateway = { ...sample, family: "gateway", readings: [bare, bare] } as const;
    expect(recordedTokens(gateway)).toEqual({
      kind: "tokens",
      sample: { ...gateway, readings: [] },
      readingsLeftOut: 2,
    });
  });
});

describe("Pipeline with a correlator that breaks a law", () => {
  test("names a recording with the GPU and token readings in the error line, and counts the violation", async () => {
    const clock = virtualClock(1_793_491_200_000_000_000n);
    const lines: { event: string; facts: Facts }[] = [];
    const log: Log = { ...silentLog, error: (event, facts = {}) => void lines.push({ event, facts }) };
    const flight = new FlightRecorder(stateDir());
    const core = createCore({
      clock,
      intervalMs: 1000,
      gpuPollMs: 1000,
      correlate: { stallAfterSeconds: 60, settleMsMax: 30_000, shares: {}, weights: defaultWeights },
      series: { max: 1000, tenantsMax: 10, latencyTenants: [], idleSeconds: 86_400 },
      strict: false,
    });
    const correlator = new BrokenCorrelator({ origin: 0, intervalNanos: 1e9, gpuPollMs: 1000 });
    const pipeline = new Pipeline({
      ...core,
      correlator,
      clock,
      log,
      flight,
      life: standalone,
      gpuPollMs: 1000,
      tickMs: 1000,
      inventoryMs: 60_000,
    });
    await pipeline.start(
      gpuSource(() => clock.now()),
      [tokenSource(() => clock.now())],
    );
    await clock.advance(10e9);
    await pipeline.stop();
    expect(lines.map(({ event }) => event)).toEqual(["accounting law broken"]);
    const { cause, recording } = lines[0]?.facts ?? {};
    expect(cause).toBe("shares: forced");
    expect(recording).toBe(flight.degraded?.recording);
    const { gpus, readings } = JSON.parse(readFileSync(String(recording), "utf8"));
    const kinds = new Set(readings.map(({ kind }: { kind: string }) => kind));
    expect(kinds).toEqual(new Set(["gpu", "tokens", "gap"]));
    expect(gpus[0].uuid).toBe("GPU-0");
    const { snapshot } = core.books.commit(clock.unixNanos(10e9), 10e9);
    const counted = snapshot.points.filter((one) => one.metric === "tokenwatt.invariant_violations");
    expect(counted.map(({ value }) => value)).toEqual([1n]);
  });
});

function gpuSource(now: () => number): GpuSource {
  return {
    backend: "test",
    generation: 0,
    inventory: async () => [{ uuid: "GPU-0", index: 0, name: "NVIDIA Test", weight: 1 }],
    poll: async () => {
      const at = now();
      const gaps = at === 0 ? [{ source: "gpu:GPU-1", at, reason: "lost" }] : [];
      return { sent: at, received: at, samples: [{ gpu: "GPU-0", at, powerWatts: 100 }], gaps };
    },
    close: async () => {},
    status: () => ({}),
  };
}

function tokenSource(now: () => number): PullServerSource {
  const info = { id: "s", type: "vllm", family: "engine", address: "h:1", pollMs: 1000 } as const;
  return {
    kind: "pull",
    info,
    poll: async (): Promise<TokenSample> => {
      const at = now();
      const reading = {
        role: "combined",
        tokens: { output: at / 1e7 },
        requests: {},
        volume: "step",
      } as const;
      const sample = { server: "s", family: "engine", sent: at, received: at, at } as const;
      return { ...sample, readings: [reading], ignoredSamples: 0, errors: [] };
    },
    close: async () => {},
  } as PullServerSource;
}
