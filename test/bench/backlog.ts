// A day without a collector: what the spool takes at 10,000 series every 10 s, and how long the thinned backlog of 5,000
// series (7.2 million points) needs into a process of its own over loopback gRPC: flat out, and at the pace that is kept.
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { BACKLOG_LIMITS } from "../../agent/export/otlp/backlog.ts";
import { createOtlpEncoder } from "../../agent/export/otlp/encoder.ts";
import { Sender } from "../../agent/export/otlp/sender.ts";
import { grpcTransport } from "../../agent/export/otlp/transport.ts";
import type { LedgerSnapshot } from "../../agent/model.ts";
import { systemClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { openSegmentSpool } from "../../agent/store/spool/segment-spool.ts";
import type { Spool } from "../../agent/store/spool/spool.ts";
import { bulk } from "../export/bulk.ts";

const BEATS_PER_MINUTE = 6;
const MINUTES = 24 * 60;
const folders: string[] = [];

function open(): Promise<Spool> {
  const folder = mkdtempSync(join(tmpdir(), "backlog-"));
  folders.push(folder);
  const options = { folder, destinations: ["main"], log: silentLog, bytesMax: 1_000_000_000 };
  return openSegmentSpool(options);
}

/** Growth with noise: values that are regular would compress better than any real ones. */
function noisy(count: number, beat: number): LedgerSnapshot {
  const plain = bulk(count, beat);
  const points = plain.points.map((point, series) => {
    const noise = Math.imul(series * 2_654_435 + beat, 0x9e37_79b1) >>> 0;
    return { ...point, value: BigInt(beat * (1_000_003 + series * 37) + (noise % 1_000_003)) };
  });
  return { ...plain, points };
}

async function dayOnDisk(series: number): Promise<void> {
  const [spool, beats] = [await open(), 60];
  const encoder = createOtlpEncoder({ resource: { "service.name": "tokenwatt" }, version: "0" });
  for (let beat = 1; beat <= beats; beat++) await spool.append(encoder.stream(noisy(series, beat)));
  await spool.close();
  const perBeat = spool.status().bytes / beats;
  const perDay = Math.round((perBeat * BEATS_PER_MINUTE * MINUTES) / 1e6);
  console.log(JSON.stringify({ bench: "backlog", series, megabytes_written_per_day: perDay }));
}

async function drain(series: number): Promise<void> {
  const receiver = fork(fileURLToPath(new URL("../../agent/cli/demo/receiver.ts", import.meta.url)));
  const [{ address }] = (await once(receiver, "message")) as [{ address: string }];
  const spool = await open();
  const encoder = createOtlpEncoder({ resource: { "service.name": "tokenwatt" }, version: "0" });
  for (let minute = 1; minute <= MINUTES; minute++)
    spool.commit(await spool.append(encoder.stream(noisy(series, minute * BEATS_PER_MINUTE))));
  const megabytes = Math.round(spool.status().bytes / 1e6);
  const sender = new Sender({
    destination: "main",
    transport: grpcTransport({ target: address }, { gzip: true }),
    spool,
    clock: systemClock(),
    log: silentLog,
    limits: { ...BACKLOG_LIMITS, drainTimesLive: Number.POSITIVE_INFINITY, jitterMs: 0 },
  });
  const [began, cpu] = [process.hrtime.bigint(), process.cpuUsage()];
  sender.start();
  if (!(await sender.flush(600_000))) throw new Error("the backlog was not drained within ten minutes");
  const spent = process.cpuUsage(cpu);
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  const { sentPoints } = sender.status();
  const livePerSecond = series / 10;
  const paced = sentPoints / (livePerSecond * BACKLOG_LIMITS.drainTimesLive) + BACKLOG_LIMITS.jitterMs / 1000;
  console.log(
    JSON.stringify({
      bench: "backlog",
      series,
      million_points: sentPoints / 1e6,
      spool_megabytes: megabytes,
      spool_megabytes_of_10000_series: Math.round((megabytes * 10_000) / series),
      flat_out_seconds: Math.round(seconds),
      points_per_second: Math.round(sentPoints / seconds),
      cpu_ms_per_request: Math.round((spent.user + spent.system) / 100 / MINUTES) / 10,
      paced_minutes_at_most: Math.round(paced / 6) / 10,
    }),
  );
  await sender.stop();
  await spool.close();
  receiver.disconnect();
}

await dayOnDisk(10_000);
await drain(5_000);
for (const folder of folders) rmSync(folder, { recursive: true, force: true });
