// A small OTLP/gRPC receiver that counts what arrives: the demo's other end, in a process of its own.
// Forked, it sends `{address}` to its parent, answers each message with its counts, and leaves when the parent does.
// Run by hand (`node agent/cli/demo/receiver.ts 127.0.0.1:4317`) it prints one JSON line of counts a second.

import { readRequest, seriesKey } from "../../export/otlp/reader.ts";
import { selfMetrics } from "../../export/self/names.ts";
import { formatHostPort, isFault, parseHostPort } from "../../platform/address.ts";
import { every, systemClock } from "../../platform/clock.ts";
import type { ServerUnaryCall, sendUnaryData } from "../../platform/grpc.ts";
import { Server, ServerCredentials, status } from "../../platform/grpc.ts";
import type { Received } from "../live/session.ts";

const SERIES_MAX = 100_000;
const TOKENS = "tokenwatt.tokens";
const NO_RECORDED_VALUE = 1;
/** What the agent says of itself goes out beside what it ships. */
const OWN: ReadonlySet<string> = new Set(Object.values(selfMetrics).map(({ name }) => name));

/** A receiver that listens. */
export interface Receiver {
  /** `host:port` it listens on. */
  readonly address: string;
  counts(): Received;
  close(): void;
}

/** Listens on `host:port` (port 0 picks one). Rejects when the address cannot be had. Exported for its test: which counts without a process. */
export async function startReceiver(listen = "127.0.0.1:0"): Promise<Receiver> {
  const series = new Map<string, number>();
  const totals = { requests: 0, points: 0, own: 0, refused: 0, last: 0n };
  const take = (bytes: Uint8Array): void => {
    readRequest(bytes, (point) => {
      totals.points++;
      if (OWN.has(point.metric.name)) totals.own++;
      if (point.time > totals.last) totals.last = point.time;
      const key = seriesKey(point);
      if (!series.has(key) && series.size >= SERIES_MAX) return;
      const counted = point.metric.name === TOKENS && (point.flags & NO_RECORDED_VALUE) === 0;
      series.set(key, counted ? Number(point.value ?? 0) : (series.get(key) ?? 0));
    });
    totals.requests++;
  };
  const server = new Server({
    "grpc.max_receive_message_length": 8 * 1024 * 1024,
    "grpc.max_concurrent_streams": 16,
  });
  server.addService(SERVICE, {
    Export: (call: ServerUnaryCall<Buffer, Buffer>, reply: sendUnaryData<Buffer>) => {
      try {
        take(call.request);
        reply(null, Buffer.alloc(0));
      } catch (error) {
        totals.refused++;
        reply({ code: status.INVALID_ARGUMENT, details: (error as Error).message });
      }
    },
  });
  const place = parseHostPort(listen, { anyPort: true });
  if (isFault(place)) throw new Error(`Cannot listen on ${JSON.stringify(listen)}: wanted ${place.wanted}`);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(listen, ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return {
    address: formatHostPort({ ...place, port }),
    counts: () => ({
      requests: totals.requests,
      data_points: totals.points,
      own_points: totals.own,
      series: series.size,
      tokens: [...series.values()].reduce((sum, value) => sum + value, 0),
      last_time: totals.last === 0n ? null : Number(totals.last / 1_000_000n) / 1000,
      refused: totals.refused,
    }),
    close: () => server.forceShutdown(),
  };
}

const identity = (bytes: Buffer): Buffer => bytes;
const SERVICE = {
  Export: {
    path: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    requestStream: false,
    responseStream: false,
    requestSerialize: identity,
    requestDeserialize: identity,
    responseSerialize: identity,
    responseDeserialize: identity,
  },
} as const;

async function main(): Promise<void> {
  const receiver = await startReceiver(process.argv[2]);
  const send = process.send?.bind(process);
  if (send === undefined) {
    every(systemClock(), 1000, () => void process.stdout.write(`${JSON.stringify(receiver.counts())}\n`));
    return;
  }
  process.on("message", () => send(receiver.counts()));
  process.on("disconnect", () => receiver.close());
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => {});
  send({ address: receiver.address });
}

if (import.meta.main) await main();
