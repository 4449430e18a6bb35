// A thousand agents in one process, each with a connection of its own. A sample has the agent's own sender and spool on disk; the
// others have the same transport and a queue in memory that gives nothing up: in order, again until it is accepted.
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Sender } from "../../../agent/export/otlp/sender.ts";
import type { Transport } from "../../../agent/export/otlp/transport.ts";
import { grpcTransport } from "../../../agent/export/otlp/transport.ts";
import { systemClock } from "../../../agent/platform/clock.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { openSegmentSpool } from "../../../agent/store/spool/segment-spool.ts";
import type { SpoolEntry } from "../../../agent/store/spool/spool.ts";

const RETRY_MS = { first: 100, longest: 2000 };
const ANSWER_MS = 10_000;

/** What the rest of the suite sees of an agent. */
export interface FleetAgent {
  commit(entries: readonly SpoolEntry[]): Promise<void>;
  /** Requests committed and not accepted yet. */
  waiting(): number;
  retries(): number;
  /** Points refused for good; a fleet without loss has none. */
  refused(): number;
  stop(): Promise<void>;
}

/** Where an agent sends; `index` gives it a channel of its own, as channels of equal options share their connection. */
export interface Destination {
  readonly target: string;
  readonly index: number;
}

const transportTo = ({ index, target }: Destination): Transport =>
  grpcTransport({ target, receiveBytesMax: 4_000_000 + index }, { gzip: true });

/** An agent with our own sender and a spool in `folder`. */
export async function spoolingAgent(destination: Destination, folder: string): Promise<FleetAgent> {
  const spool = await openSegmentSpool({
    folder: join(folder, String(destination.index)),
    destinations: ["main"],
    log: silentLog,
    ...{ bytesMax: 50_000_000, freeBytesMin: 0 },
  });
  const sender = new Sender({
    destination: "main",
    transport: transportTo(destination),
    spool,
    clock: systemClock(),
    log: silentLog,
    retryMs: RETRY_MS,
    timeoutMs: ANSWER_MS,
    // Beats follow one another faster than they would: nothing may be thinned or paced.
    limits: { thinAfterMs: 1e12, drainTimesLive: 1e6, jitterMs: 0 },
  });
  sender.start();
  let committed = 0;
  return {
    commit: async (entries) => {
      committed += entries.length;
      spool.commit(await spool.append(entries));
    },
    waiting: () => committed - sender.status().sentRequests,
    retries: () => sender.status().retries,
    refused: () => Object.values(sender.status().droppedPoints).reduce((sum, points) => sum + points, 0),
    stop: async () => {
      await sender.stop();
      await spool.close();
    },
  };
}

/** An agent with a queue in memory. */
export function queueingAgent(destination: Destination): FleetAgent {
  const transport = transportTo(destination);
  const stopping = new AbortController();
  const queue: SpoolEntry[] = [];
  let [sending, retries, refused, failures] = [false, 0, 0, 0];
  const drain = async (): Promise<void> => {
    if (sending) return;
    sending = true;
    for (let next = queue[0]; next !== undefined && !stopping.signal.aborted; next = queue[0]) {
      const call = AbortSignal.any([stopping.signal, AbortSignal.timeout(ANSWER_MS)]);
      const delivery = await transport.send(next.bytes, call);
      if (delivery.kind === "retry") {
        retries++;
        const pause = Math.min(RETRY_MS.longest, RETRY_MS.first * 2 ** failures++);
        await sleep(Math.max(delivery.delayMs ?? 0, pause * (0.5 + Math.random() / 2)));
        continue;
      }
      failures = 0;
      if (delivery.kind === "partial") refused += delivery.rejectedPoints;
      else if (delivery.kind !== "accepted") refused += next.points;
      queue.shift();
    }
    sending = false;
  };
  return {
    commit: async (entries) => {
      queue.push(...entries);
      void drain();
    },
    waiting: () => queue.length,
    retries: () => retries,
    refused: () => refused,
    stop: async () => {
      stopping.abort();
      transport.close();
    },
  };
}
