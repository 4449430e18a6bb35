// What happens to GPUs outside of readings, said once in the log and on the audit record: a GPU that leaves, a power limit
// that changes, a counter that is replaced; and the status of GPUs whose whole backend fails.
import { describe, expect, test } from "vitest";
import { createCore } from "../../agent/daemon/accounting.ts";
import { CounterDoubts } from "../../agent/daemon/counter-doubts.ts";
import { Intake } from "../../agent/daemon/intake.ts";
import { standalone } from "../../agent/daemon/life.ts";
import { defaultWeights } from "../../agent/meter/money/tenants.ts";
import type { GpuInfo, GpuSample } from "../../agent/model.ts";
import { virtualClock } from "../../agent/platform/clock.ts";
import type { Log } from "../../agent/platform/log.ts";
import { h100 as bare, START } from "../meter/fixtures.ts";

const h100: GpuInfo = { ...bare, powerLimitWatts: 700 };

interface Rig {
  readonly intake: Intake;
  readonly doubts: CounterDoubts;
  readonly lines: readonly string[];
  read(sample: Partial<GpuSample>): void;
  /** Entries on record and gauges since the last call. */
  committed(): { readonly audit: readonly object[]; readonly gauges: ReadonlyMap<string, unknown> };
}

async function rig(): Promise<Rig> {
  const clock = virtualClock(START);
  await clock.advance(10e9);
  const lines: string[] = [];
  const say = (event: string): void => void lines.push(event);
  const log: Log = { debug: say, info: say, warn: say, error: say, with: () => log };
  const core = createCore({
    clock,
    intervalMs: 1000,
    gpuPollMs: 1000,
    correlate: { stallAfterSeconds: 60, settleMsMax: 30_000, shares: {}, weights: defaultWeights },
    series: { max: 1000, tenantsMax: 10, latencyTenants: [], idleSeconds: 86_400 },
    strict: true,
  });
  const parts = { ...core, clock, log, gpuPollMs: 1000, inventoryMs: 60_000, life: standalone };
  const intake = new Intake(parts);
  intake.setGpus([h100]);
  // Readings come before the instant the clock stands at, so that what happens then is later.
  let at = 9e9;
  return {
    intake,
    lines,
    doubts: new CounterDoubts(core.books, log),
    read: (sample) => {
      at += 0.2e9;
      intake.acceptGpus({
        sent: at,
        received: at,
        gaps: [],
        samples: [{ gpu: h100.uuid, at, utilizationRatio: 0, ...sample }],
      });
    },
    committed: () => {
      const { batch, snapshot } = core.books.commit(clock.unixNanos(10.5e9), 10.5e9);
      const audit = batch.audit
        .filter(({ kind }) => kind === "gpu" || kind === "rejected")
        .map(({ body }) => body);
      const gauges = snapshot.points.flatMap(({ dimensions, metric, value }) =>
        typeof value === "number"
          ? [[`${metric} ${dimensions["hw.state"] ?? ""}`.trim(), value] as const]
          : [],
      );
      return { audit, gauges: new Map(gauges) };
    },
  };
}

describe("GPUs", () => {
  test("one that is no longer named is logged and audited", async () => {
    const { committed, intake, lines } = await rig();
    const instance: GpuInfo = { ...h100, uuid: "MIG-1", parent: h100.uuid, weight: 3 / 7 };
    intake.setGpus([h100, instance]);
    intake.setGpus([h100]);
    expect(lines).toEqual(["GPU left"]);
    expect(committed().audit).toMatchObject([{ gpu: "MIG-1", parent: h100.uuid, why: "left" }]);
  });

  test("a changed power limit is logged, audited and followed, a rounded one is not", async () => {
    const { committed, intake, lines, read } = await rig();
    read({ powerLimitWatts: 700.2 });
    read({ powerLimitWatts: 400 });
    read({ powerLimitWatts: 400 });
    expect(lines).toEqual(["GPU power limit changed"]);
    const { audit, gauges } = committed();
    expect(audit).toEqual([{ gpu: h100.uuid, why: "power limit", beforeWatts: 700, afterWatts: 400 }]);
    expect(gauges.get("tokenwatt.gpu.power_limit")).toBe(400);
    expect(intake.gpus.get(h100.uuid)?.powerLimitWatts).toBe(400);
  });

  test("an interval is booked under the limit that was in force then, not the one in force now", async () => {
    const { intake, read } = await rig();
    intake.setGpus([{ ...h100, uuid: "GPU-2" }, bare]);
    read({ powerLimitWatts: 400 });
    const { powerLimit } = intake.bookFacts();
    expect([9e9, 10e9, 11e9].map((at) => powerLimit?.("GPU-2", at))).toEqual([undefined, 700, 700]);
    expect([9e9, 10e9].map((at) => powerLimit?.(h100.uuid, at))).toEqual([undefined, 400]);
    expect(powerLimit?.("GPU-3", 11e9)).toBeUndefined();
  });

  test("all fail when their backend does", async () => {
    const { committed, intake, read } = await rig();
    read({});
    intake.acceptFailure("gpu", new Error("the driver hangs"));
    const { gauges } = committed();
    expect([gauges.get("hw.status failed"), gauges.get("hw.status ok")]).toEqual([1, 0]);
  });

  test("a counter that one minute speaks against is said once", () => {
    return rig().then(({ doubts, intake, lines }) => {
      const totals = {
        acceptedMillijoules: 0,
        integratedMillijoules: 0,
        rejectedMillijoules: 0,
        resets: 0,
        ignoredReadings: 0,
      };
      const suspect = { [h100.uuid]: { ...totals, counterSuspect: true as const, counterRatio: 1.4 } };
      doubts.report(suspect, intake.gpus, 10.1e9);
      doubts.report(suspect, intake.gpus, 10.2e9);
      expect(lines).toEqual(["energy counter and power disagree"]);
    });
  });

  test("the memory of a sliced board is its instances' alone", async () => {
    const { committed, intake, read } = await rig();
    intake.setGpus([h100, { ...h100, uuid: "MIG-1", parent: h100.uuid, weight: 3 / 7 }]);
    read({ memoryUsedBytes: 5, powerWatts: 300 });
    const { gauges } = committed();
    expect([gauges.get("hw.power"), gauges.get("hw.gpu.memory.usage")]).toEqual([300, undefined]);
  });

  test("a replaced counter is said once, with its ratio as a gauge, and once when it is believed again", async () => {
    const { committed, doubts, intake, lines } = await rig();
    const totals = {
      acceptedMillijoules: 0,
      integratedMillijoules: 0,
      rejectedMillijoules: 0,
      resets: 0,
      ignoredReadings: 0,
    };
    const replaced = {
      [h100.uuid]: {
        ...totals,
        counterSuspect: true as const,
        counterDoubt: "disagrees" as const,
        counterRatio: 2.07,
      },
    };
    doubts.report(replaced, intake.gpus, 10.1e9);
    doubts.report(replaced, intake.gpus, 10.2e9);
    doubts.report({ [h100.uuid]: { ...totals, counterRatio: 1 } }, intake.gpus, 10.3e9);
    expect(lines).toEqual([
      "energy counter is replaced by integrated power",
      "energy counter agrees with power again",
    ]);
    const { audit, gauges } = committed();
    expect(audit).toMatchObject([
      { why: expect.stringContaining("15 %") },
      { why: expect.stringContaining("agrees") },
    ]);
    expect(gauges.get("tokenwatt.gpu.energy_counter.agreement")).toBe(1);
  });
});
