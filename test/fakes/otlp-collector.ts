// An OTLP/gRPC receiver over a real socket that records what it gets and answers as it is told.
// Speaks the real wire format: statuses with grpc-status-details-bin, partial success, message limits, silence.
import { create, toBinary } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import type { ServerUnaryCall, sendUnaryData } from "../../agent/platform/grpc.ts";
import { Metadata, Server, ServerCredentials, status } from "../../agent/platform/grpc.ts";
import { RetryInfoSchema, StatusSchema } from "../gen/google/rpc/status_pb.ts";
import { ExportMetricsServiceResponseSchema } from "../gen/opentelemetry/proto/collector/metrics/v1/metrics_service_pb.ts";

/** How the collector answers a request. */
export type Answer =
  | { readonly kind: "ok" }
  | { readonly kind: "partial"; readonly rejected: number; readonly message?: string }
  | {
      readonly kind: "error";
      readonly code: number;
      readonly message?: string;
      readonly retryAfterMs?: number;
    }
  /** Takes the request and never answers. */
  | { readonly kind: "silence" }
  /** Takes the request, records it, and answers with an error as if it had been lost. */
  | { readonly kind: "taken_then_lost" }
  | { readonly kind: "slow"; readonly ms: number };

export interface CollectorOptions {
  /** What it takes; metrics by default. */
  readonly signal?: "metrics" | "logs";
  /** "127.0.0.1:0" by default; a fixed port to come back at the same place. */
  readonly listen?: string;
  readonly credentials?: ServerCredentials;
  readonly receiveBytesMax?: number;
  /** Answer to the n-th request (from 0); "ok" where it says nothing. */
  readonly answer?: (index: number, bytes: Uint8Array) => Answer | undefined;
}

export interface FakeCollector {
  readonly port: number;
  /** Bodies of requests that were taken, in order. */
  readonly requests: Uint8Array[];
  readonly metadata: Metadata[];
  /** Requests seen, refused ones included. */
  seen(): number;
  close(): Promise<void>;
}

const PATHS = {
  metrics: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
  logs: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
} as const;

export async function startCollector(options: CollectorOptions = {}): Promise<FakeCollector> {
  const requests: Uint8Array[] = [];
  const metadata: Metadata[] = [];
  let seen = 0;
  const server = new Server({
    "grpc.max_receive_message_length": options.receiveBytesMax ?? 4 * 1024 * 1024,
  });
  const identity = (bytes: Buffer): Buffer => bytes;
  const definition = {
    Export: {
      path: PATHS[options.signal ?? "metrics"],
      requestStream: false,
      responseStream: false,
      requestSerialize: identity,
      requestDeserialize: identity,
      responseSerialize: identity,
      responseDeserialize: identity,
    },
  } as const;
  server.addService(definition, {
    Export: (call: ServerUnaryCall<Buffer, Buffer>, reply: sendUnaryData<Buffer>) => {
      metadata.push(call.metadata);
      const answer = options.answer?.(seen++, call.request) ?? { kind: "ok" };
      const take = (): void => void requests.push(new Uint8Array(call.request));
      respond(answer, take, reply);
    },
  });
  const port = await new Promise<number>((resolve, reject) => {
    const credentials = options.credentials ?? ServerCredentials.createInsecure();
    server.bindAsync(options.listen ?? "127.0.0.1:0", credentials, (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return {
    port,
    requests,
    metadata,
    seen: () => seen,
    close: async () => server.forceShutdown(),
  };
}

function respond(answer: Answer, take: () => void, reply: sendUnaryData<Buffer>): void {
  switch (answer.kind) {
    case "silence":
      return;
    case "slow":
      take();
      setTimeout(() => reply(null, response(0, "")), answer.ms);
      return;
    case "error":
      reply(failure(answer.code, answer.message ?? "told to fail", answer.retryAfterMs));
      return;
    case "taken_then_lost":
      take();
      reply(failure(status.UNAVAILABLE, "answer lost", undefined));
      return;
    case "partial":
      take();
      reply(null, response(answer.rejected, answer.message ?? "some points refused"));
      return;
    case "ok":
      take();
      reply(null, response(0, ""));
  }
}

function response(rejected: number, errorMessage: string): Buffer {
  const partialSuccess = { rejectedDataPoints: BigInt(rejected), errorMessage };
  const message = create(
    ExportMetricsServiceResponseSchema,
    rejected === 0 && errorMessage === "" ? {} : { partialSuccess },
  );
  return Buffer.from(toBinary(ExportMetricsServiceResponseSchema, message));
}

function failure(code: number, details: string, retryAfterMs: number | undefined) {
  const metadata = new Metadata();
  if (retryAfterMs !== undefined) {
    const retryDelay = {
      seconds: BigInt(Math.floor(retryAfterMs / 1000)),
      nanos: (retryAfterMs % 1000) * 1e6,
    };
    const info = anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay }));
    const message = create(StatusSchema, { code, message: details, details: [info] });
    metadata.set("grpc-status-details-bin", Buffer.from(toBinary(StatusSchema, message)));
  }
  return { code, details, metadata };
}
