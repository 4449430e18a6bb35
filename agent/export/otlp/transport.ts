// One OTLP request over gRPC, and what its answer means for the queue behind it.
// OTLP specification 1.x, "OTLP/gRPC Response" and "Throttling": only some codes may be retried, RESOURCE_EXHAUSTED only
// with RetryInfo, a partial success never. Messages are passed as bytes; nothing is parsed on the way out.
import type { Clock } from "../../platform/clock.ts";
import type { Client, GrpcTarget, ServiceError } from "../../platform/grpc.ts";
import { callMetadata, openChannel, status } from "../../platform/grpc.ts";
import { tagOf, WireReader } from "../../platform/protobuf-reader.ts";
import { expiredCertificate, explainTls, filesState } from "../../platform/tls.ts";

/** Where requests of each signal go. */
const EXPORTS = {
  metrics: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
  logs: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
} as const;
const GZIP = 2;
const RETRYABLE: ReadonlySet<number> = new Set([
  status.CANCELLED,
  status.DEADLINE_EXCEEDED,
  status.ABORTED,
  status.OUT_OF_RANGE,
  status.UNAVAILABLE,
  status.DATA_LOSS,
]);
/** How receivers say that a message passes their limit: grpc-js, grpc-go, after decompression. */
const TOO_LARGE =
  /larger than max|larger than \d|exceeds? (the )?max|message too large|decompresses? to a size/i;

/** What became of one request. */
export type Delivery =
  /** Taken whole; a message is the destination's warning. */
  | { readonly kind: "accepted"; readonly message?: string }
  /** Taken, but some points refused for good; the request must not be sent again. */
  | { readonly kind: "partial"; readonly rejectedPoints: number; readonly message: string }
  | { readonly kind: "retry"; readonly code: string; readonly message: string; readonly delayMs?: number }
  | { readonly kind: "too_large"; readonly message: string }
  | { readonly kind: "refused"; readonly code: string; readonly message: string };

/** Sends requests to one destination. */
export interface Transport {
  /** Never rejects: whatever happens is a Delivery. Aborting the signal ends the call as `retry`. */
  send(bytes: Uint8Array, signal: AbortSignal): Promise<Delivery>;
  close(): void;
}

/** A transport over one gRPC channel; it is opened again when a certificate file changed. */
export function grpcTransport(
  target: GrpcTarget,
  options: { readonly gzip: boolean; readonly clock?: Clock; readonly signal?: keyof typeof EXPORTS },
): Transport {
  const channelOptions = options.gzip ? { "grpc.default_compression_algorithm": GZIP } : {};
  let client: Client | undefined;
  let files = "";
  const channel = (): Client => {
    const { tls } = target;
    const now = tls === undefined || tls === true ? "" : filesState([tls.caFile, tls.certFile, tls.keyFile]);
    if (client === undefined || now !== files) {
      client?.close();
      // A file that is gone leaves none: the closed one would be taken up again once the file is back as it was.
      client = undefined;
      client = openChannel(target, channelOptions);
      files = now;
    }
    return client;
  };
  /** A server that does not believe our certificate closes the connection, and says nothing of why. */
  const named = (delivery: Delivery): Delivery => {
    const { tls } = target;
    const { clock } = options;
    if (delivery.kind !== "retry" || delivery.code !== "UNAVAILABLE" || typeof tls !== "object" || !clock)
      return delivery;
    const expired = expiredCertificate(tls.certFile, Number(clock.unixNanos(clock.now()) / 1_000_000n));
    return expired === undefined ? delivery : { ...delivery, message: `${expired} (${delivery.message})` };
  };
  return {
    send: (bytes, signal) =>
      new Promise((resolve) => {
        try {
          const identity = (message: Buffer): Buffer => message;
          const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
          const metadata = callMetadata(target);
          const call = channel().makeUnaryRequest(
            EXPORTS[options.signal ?? "metrics"],
            identity,
            identity,
            buffer,
            metadata,
            (error, answer) => {
              signal.removeEventListener("abort", onAbort);
              resolve(error === null ? accepted(answer) : named(failed(error)));
            },
          );
          const onAbort = (): void => call.cancel();
          if (signal.aborted) call.cancel();
          else signal.addEventListener("abort", onAbort, { once: true });
        } catch (error) {
          resolve({ kind: "retry", code: "LOCAL", message: words((error as Error).message) });
        }
      }),
    close: () => {
      client?.close();
      client = undefined;
    },
  };
}

function accepted(answer: Buffer | undefined): Delivery {
  try {
    const partial = answer === undefined ? undefined : partialSuccess(answer);
    if (partial === undefined) return { kind: "accepted" };
    const { message, rejectedPoints } = partial;
    if (rejectedPoints > 0) return { kind: "partial", ...partial };
    return message === "" ? { kind: "accepted" } : { kind: "accepted", message };
  } catch {
    return { kind: "accepted" };
  }
}

function partialSuccess(answer: Uint8Array): { rejectedPoints: number; message: string } | undefined {
  const outer = new WireReader(answer);
  for (let tag = outer.tag(); tag !== 0; tag = outer.tag()) {
    if (tag !== tagOf(1, "bytes")) {
      outer.skip(tag);
      continue;
    }
    const inner = new WireReader(outer.slice());
    let rejectedPoints = 0;
    let message = "";
    for (let seen = inner.tag(); seen !== 0; seen = inner.tag()) {
      if (seen === tagOf(1, "varint")) rejectedPoints = inner.uint();
      else if (seen === tagOf(2, "bytes")) message = Buffer.from(inner.slice()).toString("utf8");
      else inner.skip(seen);
    }
    return { rejectedPoints, message };
  }
  return undefined;
}

function failed(error: ServiceError): Delivery {
  const code = status[error.code] ?? String(error.code);
  const said = error.details ?? error.message;
  // Any other code is the destination's own answer: its certificate was good.
  const message = error.code === status.UNAVAILABLE ? words(said) : said;
  if (error.code === status.RESOURCE_EXHAUSTED) {
    const delayMs = retryDelayMs(error);
    if (TOO_LARGE.test(message)) return { kind: "too_large", message };
    return delayMs === undefined
      ? { kind: "refused", code, message }
      : { kind: "retry", code, message, delayMs };
  }
  if (!RETRYABLE.has(error.code)) return { kind: "refused", code, message };
  const delayMs = retryDelayMs(error);
  return { kind: "retry", code, message, ...(delayMs === undefined ? {} : { delayMs }) };
}

/** What OpenSSL says of a refused certificate, in the words the servers' sources use too. */
function words(message: string): string {
  const [reason, hint] = explainTls(message) ?? [];
  return reason === undefined ? message : `${reason}: ${hint}`;
}

/** RetryInfo.retry_delay of the grpc-status-details-bin trailer: google.rpc.Status{details: [Any{RetryInfo}]}. */
function retryDelayMs(error: ServiceError): number | undefined {
  const [details] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (!Buffer.isBuffer(details)) return undefined;
  try {
    const outer = new WireReader(details);
    for (let tag = outer.tag(); tag !== 0; tag = outer.tag()) {
      if (tag === tagOf(3, "bytes")) {
        const any = anyOf(outer.slice());
        if (any.type.endsWith("google.rpc.RetryInfo")) return durationMs(any.value);
      } else outer.skip(tag);
    }
  } catch {
    return undefined;
  }
  return undefined;
}

function anyOf(bytes: Uint8Array): { type: string; value: Uint8Array } {
  const reader = new WireReader(bytes);
  let type = "";
  let value: Uint8Array = new Uint8Array(0);
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(1, "bytes")) type = Buffer.from(reader.slice()).toString("utf8");
    else if (tag === tagOf(2, "bytes")) value = reader.slice();
    else reader.skip(tag);
  }
  return { type, value };
}

function durationMs(retryInfo: Uint8Array): number {
  const outer = new WireReader(retryInfo);
  let ms = 0;
  for (let tag = outer.tag(); tag !== 0; tag = outer.tag()) {
    if (tag !== tagOf(1, "bytes")) {
      outer.skip(tag);
      continue;
    }
    const duration = new WireReader(outer.slice());
    for (let seen = duration.tag(); seen !== 0; seen = duration.tag()) {
      if (seen === tagOf(1, "varint")) ms += duration.uint() * 1000;
      else if (seen === tagOf(2, "varint")) ms += duration.uint() / 1e6;
      else duration.skip(seen);
    }
  }
  return ms;
}
