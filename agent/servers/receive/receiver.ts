// What all gRPC services this agent offers have in common: where they may listen, who may call, how much, and that a
// caller is told OK only once what it sent is recorded.
// Calls within a fifth of a second share one sample and one commit. Over the high-water mark callers are asked to wait
// (UNAVAILABLE with google.rpc.RetryInfo, as OTLP 1.5 wants it).
import { z } from "zod";
import type { UnixNanos } from "../../model.ts";
import { AccessCounts } from "../../platform/access-counts.ts";
import {
  addressText,
  isFault,
  isLoopbackHost,
  parseHostPort,
  parseUnixSocket,
} from "../../platform/address.ts";
import type { ServerUnaryCall, ServiceError } from "../../platform/grpc.ts";
import { Server, status } from "../../platform/grpc.ts";
import { WireError } from "../../platform/protobuf-reader.ts";
import { listenTls } from "../../platform/tls.ts";
import type { PushServerSource, SourceContext, SourceError } from "../../source.ts";
import { checkGatewayScope, commonFields, defined, serverInfo } from "../entry.ts";
import { createAdmission } from "./admission.ts";
import { addressScope, Callers } from "./callers.ts";
import type { Listener } from "./listener.ts";
import { listenFor } from "./listener.ts";
import { ReceiverMemory } from "./memory.ts";
import { peerOf } from "./peer-rates.ts";
import type { Recorder } from "./recorder.ts";
import { createRecorder, retryLater, retrySeconds } from "./recorder.ts";
import { SharedBound } from "./shares.ts";
import { UsageTotals } from "./usage-totals.ts";

/** Connections that died are found within 80 s, idle ones let go after ten minutes: there is room for a few only. */
const CONNECTION = {
  "grpc.keepalive_time_ms": 60_000,
  "grpc.keepalive_timeout_ms": 20_000,
  "grpc.max_connection_idle_ms": 600_000,
};

/** Keys of every receiver. */
export const receiverFields = {
  ...commonFields,
  /** Where to listen: loopback or a unix socket, or any address with `tls`. */
  endpoint: addressText(
    (text) => parseUnixSocket(text) ?? parseHostPort(text, { anyPort: true, examplePort: 4317 }),
  ),
  tls: listenTls.optional(),
  /** Callers must send this file's content as bearer token. */
  bearerFile: z.string().min(1).optional(),
  family: z.enum(["engine", "gateway"]).default("gateway"),
  messageBytesMax: z
    .int()
    .positive()
    .max(64 * 1024 * 1024)
    .default(4 * 1024 * 1024),
  /** Calls and streams at a time, over all connections. */
  streamsMax: z.int().positive().max(10_000).default(100),
  /** Of one caller; eight times as many of all together. */
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
  const place = parseHostPort(entry.endpoint, { anyPort: true });
  if (entry.tls !== undefined || isFault(place)) return;
  if (isLoopbackHost(place.host)) return;
  context.addIssue({
    code: "custom",
    path: ["endpoint"],
    message: `Cannot read as an address of this host (any other needs the key tls): got ${JSON.stringify(entry.endpoint)}; wanted for example "127.0.0.1:4317" or "unix:/run/tokenwatt.sock"`,
  });
}

/** A source that listens once `run` is called. */
export interface ReceiverSource extends PushServerSource {
  /** The port it listens on, once it has it. */
  readonly listening: Promise<number>;
}

/** What the services of a receiver are given. */
export interface ReceiverParts {
  readonly server: Server;
  readonly entry: ReceiverEntry;
  readonly totals: UsageTotals;
  readonly began: UnixNanos;
  /** What must be known again after a restart; committed with the totals it belongs to. */
  readonly memory: ReceiverMemory;
  /** Who calls: ids and series are each caller's own. */
  readonly callers: Callers;
  /** Calls that wait until what they sent is recorded. */
  readonly waiting: SharedBound;
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
  checkGatewayScope(type, entry.family, entry, "told");
  const info = serverInfo(type, entry.family, entry, 1000, context.hostNames);
  const opened = context.clock.now();
  const began = context.clock.unixNanos(opened);
  const totals = new UsageTotals(info, opened, `received:${began}`, entry.labelSetsMax, entry.upstreams);
  const listening = Promise.withResolvers<number>();
  const finished = Promise.withResolvers<void>();
  const stop = new AbortController();
  let recorder: Recorder | undefined;
  let memory: ReceiverMemory | undefined;
  const callers = new Callers();
  const waiting = new SharedBound(entry.waitingMax);
  const access = new AccessCounts();
  const admission = createAdmission(entry, context, callers, access);
  const log = context.log.with({ source: `server:${info.id}` });
  let server: Server | undefined;
  let listener: Listener | undefined;
  const shut = (): void => {
    listener?.close();
    server?.forceShutdown();
  };
  // A server whose address was taken cannot be bound again, so each attempt has its own.
  const attempt = async (): Promise<number> => {
    shut();
    server = new Server({
      ...CONNECTION,
      "grpc.max_receive_message_length": entry.messageBytesMax,
      "grpc.max_concurrent_streams": entry.streamsMax,
      interceptors: [admission],
    });
    // Nothing was received over an address that could not be had: each attempt reads what was remembered again.
    memory = new ReceiverMemory(info.id, context.remembered?.(info.id));
    serve({ server, entry, totals, began, memory, callers, waiting, recorder: () => recorder as Recorder });
    listener = await listenFor(server, entry, log, callers);
    if (stop.signal.aborted) shut();
    return listener.port;
  };
  return {
    kind: "push",
    info,
    listening: listening.promise,
    acknowledges: true,
    state: () => {
      recorder?.flush();
      return memory?.takeChanges() ?? [];
    },
    takeAccess: () => access.take(),
    run: async (accept) => {
      recorder = createRecorder(context, (at) => totals.sample(at, entry.family), accept);
      listening.resolve(
        await listen(attempt, entry, context, stop.signal, (reason, hint) =>
          accept({ source: `server:${info.id}`, at: context.clock.now(), reason, ...defined({ hint }) }),
        ),
      );
      if (!stop.signal.aborted) await accept(totals.sample(context.clock.now(), entry.family));
      await finished.promise;
    },
    close: async () => {
      stop.abort();
      shut();
      await recorder?.close();
      finished.resolve();
    },
  };
}

/** Listens, trying again every 5 s while the address cannot be had; returns the port, or 0 when stopped. */
async function listen(
  attempt: () => Promise<number>,
  entry: ReceiverEntry,
  context: SourceContext,
  stop: AbortSignal,
  failed: (reason: string, hint: string | undefined) => Promise<void>,
): Promise<number> {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (stop.aborted || context.signal.aborted) return 0;
      const { message, hint } = error as SourceError;
      context.log.warn("receiver cannot listen", { endpoint: entry.endpoint, cause: message, hint });
      await failed(message, hint);
      await context.clock.sleep(retrySeconds * 1000, AbortSignal.any([stop, context.signal])).catch(() => {});
    }
  }
}

/** A message as it came. Calls wait for the commit without it: whoever reads it leaves nothing behind. */
interface Message {
  bytes: Buffer;
}

/** An answer, and what is to be done once what it is about was recorded. */
export interface Taken {
  readonly answer: Buffer;
  readonly onRecorded: () => void;
}

/** Serves a unary method: bytes in, `take` adds them up and gives the answer, which goes out once recorded. */
export function serveUnary(
  parts: ReceiverParts,
  path: string,
  take: (bytes: Buffer, caller: string) => Buffer | Promise<Taken>,
): void {
  const handle = async (message: Message, caller: string): Promise<Buffer> => {
    const taking = take(message.bytes, caller);
    message.bytes = NOTHING;
    const taken = Buffer.isBuffer(taking) ? { answer: taking, onRecorded: () => {} } : await taking;
    await parts
      .recorder()
      .recorded()
      .catch(() => {
        throw retryLater("what was sent could not be recorded");
      });
    taken.onRecorded();
    return taken.answer;
  };
  const inTurn = async (message: Message, peer: string): Promise<Buffer> => {
    const scope = parts.callers.scopeOf(peer);
    const holder = scope === addressScope ? peerOf(peer) : scope;
    if (!parts.waiting.has(holder)) throw retryLater("too many calls wait to be recorded");
    parts.waiting.change(holder, 1);
    try {
      return await handle(message, scope);
    } finally {
      parts.waiting.change(holder, -1);
    }
  };
  parts.server.register(
    path,
    (
      call: ServerUnaryCall<Message, Buffer>,
      callback: (error: Partial<ServiceError> | null, value?: Buffer) => void,
    ) => {
      inTurn(call.request, call.getPeer()).then(
        (answer) => callback(null, answer),
        (error: unknown) => callback(toStatus(error)),
      );
    },
    (bytes: Buffer) => bytes,
    (bytes: Buffer): Message => ({ bytes }),
    "unary",
  );
}

const NOTHING = Buffer.alloc(0);

function toStatus(error: unknown): Partial<ServiceError> {
  if (error instanceof WireError) return { code: status.INVALID_ARGUMENT, details: error.message };
  if (typeof (error as Partial<ServiceError>).code === "number") return error as Partial<ServiceError>;
  return { code: status.INTERNAL, details: "internal error" };
}
