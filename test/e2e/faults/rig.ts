// One agent in this process for fault tests: known source, durable spool in a folder of its own, senders.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createOtlpEncoder } from "../../../agent/export/otlp/encoder.ts";
import type { SenderOptions } from "../../../agent/export/otlp/sender.ts";
import { Sender } from "../../../agent/export/otlp/sender.ts";
import { grpcTransport } from "../../../agent/export/otlp/transport.ts";
import type { Clock } from "../../../agent/platform/clock.ts";
import { systemClock } from "../../../agent/platform/clock.ts";
import type { GrpcTarget } from "../../../agent/platform/grpc.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { openSegmentSpool } from "../../../agent/store/spool/segment-spool.ts";
import type { Spool, SpoolOptions } from "../../../agent/store/spool/spool.ts";
import { snapshotAt } from "./truth.ts";

export interface Rig {
  readonly start: bigint;
  readonly spool: Spool;
  readonly senders: ReadonlyMap<string, Sender>;
  readonly parked: string[];
  readonly beats: number[];
  /** Commits the next beats, some milliseconds apart. */
  run(beats: number, everyMs?: number): Promise<void>;
  /** Waits until every sender (or the named one) has delivered everything. */
  drained(destination?: string): Promise<boolean>;
  close(): Promise<void>;
}

/** Starts one sender per target. */
export async function startRig(
  targets: Readonly<Record<string, GrpcTarget>>,
  rest: { sender?: Partial<SenderOptions>; spool?: Partial<SpoolOptions>; clock?: Clock } = {},
): Promise<Rig> {
  const folder = mkdtempSync(join(tmpdir(), "rig-"));
  const clock = rest.clock ?? systemClock();
  const start = BigInt(Date.now()) * 1_000_000n;
  const spool = await openSegmentSpool({
    folder,
    destinations: Object.keys(targets),
    log: silentLog,
    bytesMax: 8_000_000,
    segmentBytes: 65_536,
    freeBytesMin: 0,
    ...rest.spool,
  });
  const parked: string[] = [];
  const senders = new Map(
    Object.entries(targets).map(([destination, target]) => {
      const sender = new Sender({
        destination,
        transport: grpcTransport(target, { gzip: true }),
        spool,
        clock,
        log: silentLog,
        timeoutMs: 300,
        retryMs: { first: 10, longest: 50 },
        limits: { thinAfterMs: 1e9, drainTimesLive: 10, jitterMs: 0 },
        park: async (_, __, why) => void parked.push(why),
        ...rest.sender,
      });
      sender.start();
      return [destination, sender] as const;
    }),
  );
  const encoder = createOtlpEncoder({ resource: { "service.name": "tokenwatt" }, version: "0" });
  const beats: number[] = [];
  return {
    start,
    spool,
    senders,
    parked,
    beats,
    run: async (count, everyMs = 5) => {
      for (let i = 0; i < count; i++) {
        const beat = beats.length + 1;
        spool.commit(await spool.append(encoder.encode(snapshotAt(beat, start))));
        beats.push(beat);
        await clock.sleep(everyMs);
      }
    },
    drained: async (destination) => {
      const chosen = [...senders].filter(([name]) => destination === undefined || name === destination);
      return (await Promise.all(chosen.map(([, sender]) => sender.flush(15_000)))).every(Boolean);
    },
    close: async () => {
      for (const sender of senders.values()) await sender.stop();
      await spool.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
