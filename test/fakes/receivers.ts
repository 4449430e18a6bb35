// The three receivers on free ports of loopback, and callers that report output tokens to them in their own format.

import type { Gap, TokenSample } from "../../agent/model.ts";
import type { Clock } from "../../agent/platform/clock.ts";
import { systemClock } from "../../agent/platform/clock.ts";
import type { Client, GrpcTarget, ServiceError } from "../../agent/platform/grpc.ts";
import { callMetadata, openChannel } from "../../agent/platform/grpc.ts";
import type { Log } from "../../agent/platform/log.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { envoyAccessLog } from "../../agent/servers/envoy-access-log/index.ts";
import { otlp } from "../../agent/servers/otlp/index.ts";
import type { ReceiverSource } from "../../agent/servers/receive/receiver.ts";
import { usageReports } from "../../agent/servers/usage-reports.ts";
import type { ServerType } from "../../agent/source.ts";
import { metricsRequest } from "../servers/otlp-messages.ts";
import { field, message } from "./grpc-peer.ts";

const bytes = (buffer: Buffer): Buffer => buffer;
const system = systemClock();
let sent = 0;

/** A kind of receiver and what its callers send. */
export interface ReceiverKind {
  readonly name: string;
  readonly type: ServerType;
  readonly method: string;
  readonly stream: boolean;
  /** A message that reports `tokens` output tokens, each time anew; `name` sets its series and ids apart from others. */
  report(tokens: number, name?: string): Buffer;
}

export const receiverKinds: readonly ReceiverKind[] = [
  {
    name: "otlp",
    type: otlp,
    method: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    stream: false,
    report: (tokens, name) => {
      const time = Number(system.unixNanos(system.now())) + ++sent * 1e6;
      const attributes: Record<string, string> = name === undefined ? {} : { "gen_ai.request.model": name };
      const points = [{ sum: tokens, start: time - 1e6, time, attributes }];
      return metricsRequest([{ name: "gen_ai.client.inference.usage.output_tokens", delta: true, points }]);
    },
  },
  {
    name: "envoy-access-log",
    type: envoyAccessLog,
    method: "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs",
    stream: true,
    report: (tokens) => accessLog(field(1, "llm_output_token"), tokens),
  },
  {
    name: "usage-reports",
    type: usageReports,
    method: "/tokenwatt.v1.UsageReports/ReportUsage",
    stream: false,
    report: (tokens, name = "") => usageReport(`${name}${++sent}`, tokens),
  },
];

/** An access log message of one entry whose metadata holds `tokens` under the key given as a field. */
export function accessLog(key: Buffer, tokens: number): Buffer {
  const values = field(1, message(key, field(2, field(2, { double: tokens }))));
  const metadata = field(1, message(field(1, "io.envoy.ai_gateway"), field(2, values)));
  const entry = message(field(1, field(17, metadata)), field(4, field(1, field(1, 200))));
  return field(2, field(1, entry));
}

/** A report of one record of output tokens. */
export function usageReport(id: string, tokens: number): Buffer {
  const end = system.unixNanos(system.now());
  const record = [field(1, id), Buffer.concat([Buffer.from([16]), varint(end)])];
  return message(
    field(1, "gateway"),
    field(2, message(...record, field(7, message(field(1, 4), field(3, tokens))))),
  );
}

function varint(value: bigint): Buffer {
  const all: number[] = [];
  let rest = value;
  for (; rest > 127n; rest >>= 7n) all.push(Number(rest & 127n) | 128);
  return Buffer.from([...all, Number(rest)]);
}

/** A receiver that runs, and everything it handed over. */
export interface Running {
  readonly source: ReceiverSource;
  readonly samples: readonly TokenSample[];
  readonly gaps: readonly Gap[];
  /** `127.0.0.1:port`, or the unix socket. */
  address(): Promise<string>;
  /** Resolves when what was counted so far is this many output tokens. */
  counted(tokens: number): Promise<void>;
}

/** Runs a receiver of `kind`; close its source at the end. */
export function runReceiver(
  kind: ReceiverKind,
  entry: Record<string, unknown> = {},
  log: Log = silentLog,
  clock: Clock = system,
): Running {
  const endpoint = String(entry["endpoint"] ?? "127.0.0.1:0");
  const parsed = kind.type.config.parse({ ...entry, endpoint: endpoint.replace(/:0$/, ":1") }) as object;
  const context = { clock, log, signal: new AbortController().signal };
  const source = kind.type.open({ ...parsed, endpoint }, context) as ReceiverSource;
  const samples: TokenSample[] = [];
  const gaps: Gap[] = [];
  const waiting = new Set<() => void>();
  void source.run(async (reading) => {
    if ("reason" in reading) gaps.push(reading);
    else samples.push(reading);
    for (const check of waiting) check();
  });
  const total = (): number =>
    (samples.at(-1)?.readings ?? []).reduce((sum, { tokens }) => sum + (tokens.output ?? 0), 0);
  return {
    source,
    samples,
    gaps,
    address: async () => {
      const port = await source.listening;
      return endpoint.startsWith("unix:") ? endpoint : endpoint.replace(/:\d+$/, `:${port}`);
    },
    counted: (tokens) =>
      new Promise((resolve) => {
        const check = (): void => {
          if (total() !== tokens) return;
          waiting.delete(check);
          resolve();
        };
        waiting.add(check);
        check();
      }),
  };
}

/** Sends one message over a connection of its own; rejects with what the receiver answers. */
export async function send(
  kind: ReceiverKind,
  target: GrpcTarget,
  request: Buffer,
  options: Readonly<Record<string, unknown>> = {},
): Promise<Buffer> {
  const channel = openChannel(target, { "grpc.use_local_subchannel_pool": 1, ...options });
  try {
    return await sendOn(channel, kind, target, request);
  } finally {
    channel.close();
  }
}

/** The same over a channel that stays. */
export function sendOn(
  channel: Client,
  kind: ReceiverKind,
  target: GrpcTarget,
  request: Buffer,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const answered = (error: ServiceError | null, value?: Buffer): void =>
      error === null ? resolve(value as Buffer) : reject(error);
    if (!kind.stream) {
      channel.makeUnaryRequest(kind.method, bytes, bytes, request, callMetadata(target), answered);
      return;
    }
    const call = channel.makeClientStreamRequest(kind.method, bytes, bytes, callMetadata(target), answered);
    call.on("error", () => {});
    call.write(request);
    call.end();
  });
}

/** A stream of messages to a receiver of streams; `answer` is how it ends. */
export function openStream(channel: Client, kind: ReceiverKind, target: GrpcTarget) {
  const answer = Promise.withResolvers<Buffer>();
  const call = channel.makeClientStreamRequest(
    kind.method,
    bytes,
    bytes,
    callMetadata(target),
    (error, value) => (error === null ? answer.resolve(value as Buffer) : answer.reject(error)),
  );
  call.on("error", () => {});
  answer.promise.catch(() => {});
  return { write: (message: Buffer) => call.write(message), end: () => call.end(), answer: answer.promise };
}
