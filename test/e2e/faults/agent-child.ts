// A minimal agent to be killed: known source -> encoder -> durable spool -> ledger file -> sender, in the real order.
// Prints `beat N` once beat N is committed; on `SIGTERM` it drains and prints `drained true|false`.

import { createOtlpEncoder } from "../../../agent/export/otlp/encoder.ts";
import { Sender } from "../../../agent/export/otlp/sender.ts";
import { grpcTransport } from "../../../agent/export/otlp/transport.ts";
import { systemClock } from "../../../agent/platform/clock.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { diskFiles } from "../../../agent/store/spool/files.ts";
import { openSegmentSpool } from "../../../agent/store/spool/segment-spool.ts";
import { openSlotFile } from "../../../agent/store/spool/slot-file.ts";
import { snapshotAt } from "./truth.ts";

interface Committed {
  readonly beat: number;
  readonly spool: number;
  readonly start: string;
}

const [folder = "", target = ""] = process.argv.slice(2);
await diskFiles.makeFolder(folder);
const ledger = await openSlotFile(diskFiles, `${folder}/ledger`);
let last = ledger.initial as Committed | undefined;
const start = BigInt(last?.start ?? BigInt(Date.now()) * 1_000_000n);
const spool = await openSegmentSpool({
  folder: `${folder}/spool`,
  destinations: ["main"],
  log: silentLog,
  bytesMax: 8_000_000,
  segmentBytes: 65_536,
  freeBytesMin: 0,
  committed: last?.spool ?? 0,
});
for (const loss of spool.status().losses) process.stdout.write(`loss ${loss.why} ${loss.records}\n`);
const clock = systemClock();
const sender = new Sender({
  destination: "main",
  transport: grpcTransport({ target }, { gzip: false }),
  spool,
  clock,
  log: silentLog,
  timeoutMs: 300,
  retryMs: { first: 5, longest: 20 },
  limits: { thinAfterMs: 1e9, drainTimesLive: 10, jitterMs: 0 },
});
sender.start();
const encoder = createOtlpEncoder({ resource: { "service.name": "tokenwatt" }, version: "0" });
let stopping = false;
process.on("SIGTERM", () => {
  stopping = true;
});
while (!stopping) {
  const beat = (last?.beat ?? 0) + 1;
  const sequence = await spool.append(encoder.encode(snapshotAt(beat, start)));
  last = { beat, spool: sequence, start: String(start) };
  await ledger.write(last, true);
  process.stdout.write(`start ${start}\nbeat ${beat}\n`);
  spool.commit(sequence);
  await clock.sleep(4);
}
const drained = await sender.flush(20_000);
await sender.stop();
await spool.close();
process.stdout.write(`drained ${drained}\n`);
