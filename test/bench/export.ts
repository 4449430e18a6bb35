// One export cycle at 5,000 and at 20,000 series, all moving and all at rest: commit the ledger, encode, compress to disk,
// send over loopback gRPC into a process of its own. Prints CPU per cycle, memory, and the cycle as a share of its 10 s beat.
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createOtlpEncoder } from "../../agent/export/otlp/encoder.ts";
import { Sender } from "../../agent/export/otlp/sender.ts";
import { grpcTransport } from "../../agent/export/otlp/transport.ts";
import { Ledger } from "../../agent/meter/ledger/ledger.ts";
import { systemClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { openSegmentSpool } from "../../agent/store/spool/segment-spool.ts";
import { bulk, SECOND, T0 } from "../export/bulk.ts";

const receiver = fork(fileURLToPath(new URL("../../agent/cli/demo/receiver.ts", import.meta.url)));
const [{ address }] = (await once(receiver, "message")) as [{ address: string }];

const idle = process.memoryUsage.rss();
for (const [series, isMoving] of [5_000, 20_000].flatMap((size) => [
  [size, true] as const,
  [size, false] as const,
])) {
  const folder = mkdtempSync(join(tmpdir(), "bench-"));
  const spool = await openSegmentSpool({
    folder,
    destinations: ["main"],
    log: silentLog,
    bytesMax: 100_000_000,
  });
  const transport = grpcTransport({ target: address }, { gzip: false });
  const sender = new Sender({ destination: "main", transport, spool, clock: systemClock(), log: silentLog });
  sender.start();
  const encoder = createOtlpEncoder({ resource: { "service.name": "tokenwatt" }, version: "0" });
  const cycles: number[] = [];
  const ledger = new Ledger(T0, { unixNanos: () => T0, seriesMax: series });
  const postings = bulk(series).points.map(({ dimensions, metric, value }) => ({
    metric,
    dimensions,
    amount: Number(value),
  }));
  for (let beat = 1; beat <= 30; beat++) {
    const end = T0 + BigInt(beat) * 10n * SECOND;
    if (isMoving || beat === 1) ledger.postUntil(postings, end);
    const before = process.cpuUsage();
    spool.commit(await spool.append(encoder.stream(ledger.commit(end, beat * 10e9))));
    ledger.takeChanges();
    await sender.flush(10_000);
    const { user, system } = process.cpuUsage(before);
    cycles.push((user + system) / 1000);
    // A beat is 10 s: the collector of garbage has time in between, here a little.
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const median = cycles.toSorted((a, b) => a - b)[15] ?? 0;
  console.log(
    JSON.stringify({
      bench: "export",
      series,
      moving: isMoving,
      cycle_cpu_ms: Math.round(median * 10) / 10,
      share_of_a_10_s_beat: median / 10_000,
      idle_rss_megabytes: Math.round(idle / 1e6),
      rss_megabytes: Math.round(process.memoryUsage.rss() / 1e6),
    }),
  );
  await sender.stop();
  await spool.close();
  rmSync(folder, { recursive: true, force: true });
}
receiver.disconnect();
