// What all gRPC services this agent offers have in common: where they may listen, who may call, how much, and that a
// caller is told OK only once what it sent is recorded.
// Calls within a fifth of a second share one sample and one commit. Over the high-water mark callers are asked to wait
// (UNAVAILABLE with google.rpc.RetryInfo, as OTLP 1.5 wants it).
import { createHash, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { z } from "zod";
import type { ServerUnaryCall, ServiceError } from "../grpc.ts";
import { Metadata, Server, ServerCredentials, status } from "../grpc.ts";
import type { Gap, Nanos, TokenSample, UnixNanos } from "../model.ts";
import type { PushServerSource, SourceContext } from "../source.ts";
import { SourceError } from "../source.ts";
import { commonFields, isGrpcAddress, serverInfo } from "./entry.ts";
import { UsageTotals } from "./usage-totals.ts";
import { WireError, WireWriter } from "./wire.ts";

const SHARE_NANOS = 200_000_000;
const RETRY_SECONDS = 5;
const PEERS_MAX = 10_000;

/** Keys of every receiver. */
export const receiverFields = {
  ...commonFields,
  /** Where to listen: loopback or a unix socket, or any address with `tls`. */
  endpoint: z
    .string()
    .refine(isGrpcAddress, { error: "Cannot read as host:port or unix:/path to listen on" }),
  tls: z
    .strictObject({
      certFile: z.string().min(1),
      keyFile: z.string().min(1),
      /** Callers must show a certificate signed by one of these. */
      clientCaFile: z.string().min(1).optional(),
    })
    .optional(),
  /** Callers must send this file's content as bearer token. */
  bearerFile: z.string().min(1).optional(),
  family: z.enum(["engine", "gateway"]).default("gateway"),
  messageBytesMax: z
    .int()
    .positive()
    .max(64 * 1024 * 1024)
    .default(4 * 1024 * 1024),
  streamsMax: z.int().positive().max(10_000).default(100),
  messagesPerSecondMax: z.int().positive().default(500),
  /** Calls waiting to be recorded before others are asked to wait. */
  waitingMax: z.int().positive().default(256),
  labelSetsMax: z.int().positive().max(20_000).default(1000),
};

const fields = z.strictObject(receiverFields);
/** What the fields of every receiver come to. */
export type ReceiverEntry = z.output<typeof fields>;

/** Refuses an entry that would listen beyond this host in the clear; for `superRefine`. */
export function refuseOpenListener(
  entry: Pick<ReceiverEntry, "endpoint" | "tls">,
  context: { addIssue(issue: { code: "custom"; path: string[]; message: string }): void },
): void {
  const host = entry.endpoint.replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
  const local =
    entry.endpoint.startsWith("unix:") ||
    host === "localhost" ||
    host === "::1" ||
    (isIP(host) === 4 && host.startsWith("127."));
  if (local || entry.tls !== undefined) return;
  context.addIssue({
    code: "custom",
    path: ["endpoint"],
    message: `Cannot listen on ${entry.endpoint} without TLS: wanted loopback, a unix socket, or the key tls`,
  });
}

/** A source that listens once `run` is called. */
export interface ReceiverSource extends PushServerSource {
  /** The port it listens on; rejects when the address could not be had. */
  readonly listening: Promise<number>;
}

/** What the services of a receiver are given. */
export interface ReceiverParts {
  readonly server: Server;
  readonly entry: ReceiverEntry;
  readonly totals: UsageTotals;
  readonly began: UnixNanos;
  readonly gate: Gate;
  /** The recorder, once `run` was called; services are not reachable before. */
  readonly recorder: () => Recorder;
}

/** A receiver of type `type`; `serve` registers its methods. */
export function openReceiver(
  type: string,
  entry: ReceiverEntry,
  context: SourceContext,
  serve: (parts: ReceiverParts) => void,
): ReceiverSource {
  const info = serverInfo(type, entry.family, entry, 1000);
  const server = new Server({
    "grpc.max_receive_message_length": entry.messageBytesMax,
    "grpc.max_concurrent_streams": entry.streamsMax,
  });
  const opened = context.clock.now();
  const began = context.clock.unixNanos(opened);
  const totals = new UsageTotals(info, opened, `received:${began}`, entry.labelSetsMax);
  const listening = Promise.withResolvers<number>();
  listening.promise.catch(() => {});
  const finished = Promise.withResolvers<void>();
  let recorder: Recorder | undefined;
  const gate = createGate(entry, context);
  serve({ server, entry, totals, began, gate, recorder: () => recorder as Recorder });
  return {
    kind: "push",
    info,
    listening: listening.promise,
    run: async (accept) => {
      recorder = createRecorder(context, (at) => totals.sample(at, entry.family), accept);
      try {
        listening.resolve(await bindReceiver(server, entry));
        await accept(totals.sample(context.clock.now(), entry.family));
        await finished.promise;
      } catch (error) {
        listening.reject(error);
        throw error;
      }
    },
    close: async () => {
      server.forceShutdown();
      await recorder?.close();
      finished.resolve();
    },
  };
}

/** Binds `server` to the address of `entry`. Rejects with SourceError when it cannot be had. */
function bindReceiver(server: Server, entry: Pick<ReceiverEntry, "endpoint" | "tls">): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(entry.endpoint, listenCredentials(entry.tls), (error, port) => {
      if (error === null) return resolve(port);
      const options = { cause: error, hint: "choose another port, or stop what listens there" };
      reject(new SourceError("transient", `Cannot listen on ${entry.endpoint}: ${error.message}`, options));
    });
  });
}

function listenCredentials(tls: ReceiverEntry["tls"]): ServerCredentials {
  if (tls === undefined) return ServerCredentials.createInsecure();
  const pair = { private_key: readFileSync(tls.keyFile), cert_chain: readFileSync(tls.certFile) };
  const clientCa = tls.clientCaFile === undefined ? null : readFileSync(tls.clientCaFile);
  return ServerCredentials.createSsl(clientCa, [pair], clientCa !== null);
}

/** Refuses a caller with the wrong token or too many messages. Returns what to answer, or undefined if all is well. */
export type Gate = (call: {
  readonly metadata: Metadata;
  getPeer(): string;
}) => Partial<ServiceError> | undefined;

/** The gate of one receiver. */
function createGate(entry: ReceiverEntry, context: SourceContext): Gate {
  const buckets = new Map<string, { tokens: number; at: Nanos }>();
  return (call) => {
    if (entry.bearerFile !== undefined && !bearerMatches(entry.bearerFile, call.metadata)) {
      return { code: status.UNAUTHENTICATED, details: "a bearer token is wanted" };
    }
    const peer = call.getPeer().replace(/:\d+$/, "");
    const now = context.clock.now();
    const rate = entry.messagesPerSecondMax;
    const bucket = buckets.get(peer) ?? { tokens: rate, at: now };
    bucket.tokens = Math.min(rate, bucket.tokens + ((now - bucket.at) / 1e9) * rate);
    bucket.at = now;
    if (buckets.size >= PEERS_MAX) buckets.clear();
    buckets.set(peer, bucket);
    if (bucket.tokens < 1) return retryLater(`more than ${rate} messages per second`);
    bucket.tokens--;
    return undefined;
  };
}

function bearerMatches(file: string, metadata: Metadata): boolean {
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  const wanted = `Bearer ${readFileSync(file, "utf8").trim()}`;
  return timingSafeEqual(digest(wanted), digest(String(metadata.get("authorization")[0] ?? "")));
}

/** Records what was received; shared by all calls of one receiver. */
export interface Recorder {
  /** Calls not answered yet. */
  readonly waiting: number;
  /** Resolves once everything received so far is recorded. */
  recorded(): Promise<void>;
  /** Records what is left. */
  close(): Promise<void>;
}

/** A recorder that asks `sample` for the totals and gives them to `accept`. */
function createRecorder(
  context: SourceContext,
  sample: (at: Nanos) => TokenSample,
  accept: (reading: TokenSample | Gap) => Promise<void>,
): Recorder {
  let shared: Promise<void> | undefined;
  let waiting = 0;
  const flush = (): Promise<void> => {
    shared = undefined;
    return accept(sample(context.clock.now()));
  };
  return {
    get waiting() {
      return waiting;
    },
    recorded: async () => {
      shared ??= new Promise((resolve, reject) => {
        context.clock.at(context.clock.now() + SHARE_NANOS, () => flush().then(resolve, reject));
      });
      waiting++;
      try {
        await shared;
      } finally {
        waiting--;
      }
    },
    close: async () => {
      if (shared !== undefined) await flush();
    },
  };
}

/** Serves a unary method: bytes in, `take` adds them up and gives the answer, which goes out once recorded. */
export function serveUnary(parts: ReceiverParts, path: string, take: (bytes: Buffer) => Buffer): void {
  const handle = async (call: ServerUnaryCall<Buffer, Buffer>): Promise<Buffer> => {
    const refusal = parts.gate(call);
    if (refusal !== undefined) throw refusal;
    if (parts.recorder().waiting >= parts.entry.waitingMax)
      throw retryLater("too many calls wait to be recorded");
    const answer = take(call.request);
    await parts
      .recorder()
      .recorded()
      .catch(() => {
        throw retryLater("what was sent could not be recorded");
      });
    return answer;
  };
  parts.server.register(
    path,
    (
      call: ServerUnaryCall<Buffer, Buffer>,
      callback: (error: Partial<ServiceError> | null, value?: Buffer) => void,
    ) => {
      handle(call).then(
        (answer) => callback(null, answer),
        (error: unknown) => callback(toStatus(error)),
      );
    },
    (bytes: Buffer) => bytes,
    (bytes: Buffer) => bytes,
    "unary",
  );
}

function toStatus(error: unknown): Partial<ServiceError> {
  if (error instanceof WireError) return { code: status.INVALID_ARGUMENT, details: error.message };
  if (typeof (error as Partial<ServiceError>).code === "number") return error as Partial<ServiceError>;
  return { code: status.INTERNAL, details: "internal error" };
}

/** UNAVAILABLE with google.rpc.RetryInfo in `grpc-status-details-bin`. */
export function retryLater(details: string): Partial<ServiceError> {
  const any = new WireWriter();
  any.uint(1, status.UNAVAILABLE);
  any.text(2, details);
  any.message(3, (packed) => {
    packed.text(1, "type.googleapis.com/google.rpc.RetryInfo");
    // RetryInfo.retry_delay = 1: Duration{seconds = 1}.
    packed.message(2, (info) => info.message(1, (delay) => delay.uint(1, RETRY_SECONDS)));
  });
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", any.finish());
  return { code: status.UNAVAILABLE, details, metadata };
}
