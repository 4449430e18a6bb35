// A collector gone for a day at 10,000 series every 10 s, on a virtual clock with the real encoder, spool and sender.
// Shorter with E2E_OUTAGE_HOURS. Judged: nothing lost, every value true for its time, oldest first, the spool
// under 1 GB, the thinned backlog drained within half an hour of agent time.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createOtlpEncoder } from "../../../agent/export/otlp/encoder.ts";
import { readRequest } from "../../../agent/export/otlp/reader.ts";
import { Sender } from "../../../agent/export/otlp/sender.ts";
import type { Transport } from "../../../agent/export/otlp/transport.ts";
import type { LedgerPoint, LedgerSnapshot } from "../../../agent/model.ts";
import { virtualClock } from "../../../agent/platform/clock.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { openSegmentSpool } from "../../../agent/store/spool/segment-spool.ts";
import { snapshotOf } from "../../fakes/snapshot.ts";

const HOURS = Number(process.env["E2E_OUTAGE_HOURS"] ?? 24);
const SERIES = Number(process.env["E2E_OUTAGE_SERIES"] ?? 10_000);
const BEAT_SECONDS = 10;
const START = 1_767_225_600_000_000_000n;
const BEATS = Math.round((HOURS * 3600) / BEAT_SECONDS);

const dimensions = Array.from({ length: SERIES }, (_, i) => ({
  "tokenwatt.server.id": `vllm-${i % 97}`,
  "gen_ai.request.model": `meta-llama/Llama-3.1-${i % 7}-Instruct`,
  "hw.id": `GPU-${String(i).padStart(8, "0")}-0000-0000-0000-000000000000`,
  "hw.model": "NVIDIA H100 80GB HBM3",
  "tokenwatt.gpu.state": "token_active",
  "tokenwatt.method": "direct",
}));

/** Milliseconds' worth of noise on a steady growth: known in closed form, never falling. */
function total(series: number, beat: number): number {
  const step = 1_000_003 + series * 37;
  const noise = Math.imul(series * 2_654_435 + beat, 0x9e37_79b1) >>> 0;
  return beat * step + (noise % step);
}

function snapshotAt(beat: number): LedgerSnapshot {
  const time = START + BigInt(beat * BEAT_SECONDS) * 1_000_000_000n;
  const points: LedgerPoint[] = [];
  for (let series = 0; series < SERIES; series++) {
    points.push({
      metric: series % 2 === 0 ? "tokenwatt.tokens" : "tokenwatt.server.energy",
      dimensions: dimensions[series] as LedgerPoint["dimensions"],
      series,
      start: START,
      time,
      value: BigInt(total(series, beat)),
      isNew: beat === 1,
      ended: false,
    });
  }
  return snapshotOf(points, { sequence: beat, time });
}

/** Checks each request as it arrives; keeps the last beat of each series. */
class Judge {
  readonly last = new Int32Array(SERIES);
  wrong = 0;
  outOfOrder = 0;
  points = 0;
  requests = 0;

  take(bytes: Uint8Array): void {
    this.requests++;
    readRequest(bytes, (point) => {
      this.points++;
      const id = point.attributes.find(
        (attribute) => attribute[3] === 0x77 && attribute[5] === 0x69,
      ) as Uint8Array;
      const series = Number(
        Buffer.from(id)
          .toString("latin1")
          .match(/GPU-(\d{8})/)?.[1],
      );
      const beat = Number((point.time - START) / 1_000_000_000n) / BEAT_SECONDS;
      const value =
        typeof point.value === "bigint" ? Number(point.value) : Math.round((point.value ?? 0) * 1000);
      if (!Number.isInteger(beat)) {
        if (value !== 0) this.wrong++;
        return;
      }
      if (value !== (beat === 0 ? 0 : total(series, beat)) || point.start !== START) this.wrong++;
      if (beat < (this.last[series] ?? 0)) this.outOfOrder++;
      this.last[series] = Math.max(beat, this.last[series] ?? 0);
    });
  }
}

test(`${HOURS} h without a collector at ${SERIES} series`, async () => {
  const folder = mkdtempSync(join(tmpdir(), "outage-"));
  const clock = virtualClock(START);
  const spool = await openSegmentSpool({
    folder,
    destinations: ["main"],
    log: silentLog,
    bytesMax: 1_000_000_000,
    freeBytesMin: 0,
  });
  const judge = new Judge();
  let up = false;
  const transport: Transport = {
    send: async (bytes) => {
      if (!up) return { kind: "retry", code: "UNAVAILABLE", message: "down" };
      judge.take(bytes);
      return { kind: "accepted" };
    },
    close: () => {},
  };
  const sender = new Sender({
    destination: "main",
    transport,
    spool,
    clock,
    log: silentLog,
    random: () => 0.5,
  });
  sender.start();
  const encoder = createOtlpEncoder({
    resource: { "service.name": "tokenwatt", "host.name": "gpu-1" },
    version: "0",
  });
  const began = process.hrtime.bigint();
  const cpu = process.cpuUsage();
  let beat = 0;
  const step = async (): Promise<void> => {
    beat++;
    await clock.advance(beat * BEAT_SECONDS * 1e9);
    spool.commit(await spool.append(encoder.encode(snapshotAt(beat))));
    await sender.settled();
  };
  while (beat < BEATS) await step();
  const spent = process.cpuUsage(cpu);
  const bytes = spool.status().bytes;
  const outageSeconds = Number(process.hrtime.bigint() - began) / 1e9;
  up = true;
  while (spool.peek(spool.position("main")) !== undefined && beat < BEATS + 720) await step();
  const drainMinutes = ((beat - BEATS) * BEAT_SECONDS) / 60;
  let lost = 0;
  for (let series = 0; series < SERIES; series++)
    lost += total(series, beat) - total(series, judge.last[series] ?? 0);
  const { lostPoints } = spool.status();
  console.log(
    JSON.stringify({
      hours: HOURS,
      series: SERIES,
      spool_megabytes: Math.round(bytes / 1e6),
      spool_megabytes_per_day: Math.round((bytes / 1e6 / HOURS) * 24),
      cycle_cpu_ms: Math.round((spent.user + spent.system) / 1000 / BEATS),
      wall_seconds: Math.round(outageSeconds),
      drain_minutes: Math.round(drainMinutes * 10) / 10,
      sent_points: judge.points,
      thinned_records: sender.status().thinnedRecords,
      rss_megabytes: Math.round(process.memoryUsage.rss() / 1e6),
      lost_tokens: lost,
      wrong_points: judge.wrong,
      out_of_order: judge.outOfOrder,
    }),
  );
  await sender.stop();
  await spool.close();
  rmSync(folder, { recursive: true, force: true });
  expect({ lost, lostPoints, wrong: judge.wrong, outOfOrder: judge.outOfOrder }).toEqual({
    lost: 0,
    lostPoints: 0,
    wrong: 0,
    outOfOrder: 0,
  });
  expect(bytes).toBeLessThan((1e9 * HOURS) / 24 + 16e6);
  expect(drainMinutes).toBeLessThanOrEqual(30);
});
