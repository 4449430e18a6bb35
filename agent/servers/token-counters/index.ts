// Tails tokenwatt.v1 TokenCounters.Watch: cumulative snapshots pushed by an engine, a sidecar or a gateway.
// Facts: proto/tokenwatt/v1/token_counters.proto (version 1). A broken stream loses nothing: the next snapshot is
// cumulative. Each attempt opens its own channel, so that rotated certificates and tokens are read again.

import { z } from "zod";
import type { Gap, Nanos, ServerInfo, TokenSample } from "../../model.ts";
import { NANOS_PER_MS } from "../../platform/clock.ts";
import type { ClientReadableStream } from "../../platform/grpc.ts";
import { callMetadata, openChannel } from "../../platform/grpc.ts";
import type { PushServerSource, ServerType, SourceContext } from "../../source.ts";
import { SourceError } from "../../source.ts";
import { explainGrpcError } from "../call/errors.ts";
import type { ReadMethod } from "../call/read-methods.ts";
import { checkGatewayScope, defined, grpcFields, grpcTarget, serverInfo } from "../entry.ts";
import { decodeWatchResponse } from "./decode.ts";
import { encodeWatchRequest } from "./encode.ts";
import { protocolVersion } from "./messages.ts";
import { watchReadings } from "./readings.ts";

const SERVICE = "tokenwatt.v1.TokenCounters";
const METHOD: ReadMethod = `/${SERVICE}/Watch`;
const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 30_000;

const config = z.strictObject({
  ...grpcFields,
  /** Only this server of a target that has several; default all, each named `<id>/<server_id>`. */
  servers: z.array(z.string().min(1)).optional(),
  /** What the target is when it does not say itself. */
  family: z.enum(["engine", "gateway"]).default("engine"),
  pollMs: z.int().min(100).max(10_000).default(1000),
  /** Longest wait for the first snapshot of a stream. */
  firstMs: z.int().min(100).default(10_000),
  /** Longest silence of a stream; the contract promises a snapshot every 10 s. */
  silenceMs: z.int().min(100).default(25_000),
});

type Entry = z.output<typeof config>;

/** Servers that stream their counters by our own contract. */
export const tokenCounters: ServerType<typeof config> = {
  name: "token-counters",
  config,
  example: { endpoint: "localhost:9465" },
  open: (entry, context) => openTokenCounters(entry, context),
  check: checkEntry,
};

/** Counters are per target, whoever answered. */
function checkEntry(entry: Entry): void {
  checkGatewayScope("token-counters", entry.family, entry, "untold");
}

/** Opens the tail of one target; it connects when `run` is called. */
function openTokenCounters(entry: Entry, context: SourceContext): PushServerSource {
  checkEntry(entry);
  const info = serverInfo("token-counters", entry.family, entry, entry.pollMs, context.hostNames);
  const stop = new AbortController();
  let running: Promise<void> = Promise.resolve();
  return {
    kind: "push",
    info,
    run: (accept) => {
      running = tail(entry, info, context, AbortSignal.any([context.signal, stop.signal]), accept);
      return running;
    },
    close: async () => {
      stop.abort(new SourceError("ended", `${info.id} was closed`));
      await running;
    },
  };
}

/**
 * The first snapshot of a target, for probe and doctor; `pollMs` and the like as in the config. Throws SourceError when
 * none comes in time.
 */
export async function readTokenCountersOnce(
  endpoint: string,
  context: SourceContext,
): Promise<TokenSample[]> {
  const entry = config.parse({ endpoint });
  const info = serverInfo("token-counters", entry.family, entry, entry.pollMs);
  let samples: TokenSample[] = [];
  const stop = new AbortController();
  const signal = AbortSignal.any([context.signal, stop.signal]);
  const readings = watchReadings(info, entry.modelAliases, context.clock);
  try {
    await watch(entry, readings, context, signal, async (read) => {
      samples = read;
      stop.abort();
    });
  } catch (error) {
    throw explainGrpcError(error, SERVICE, endpoint);
  }
  return samples;
}

/** Watches until aborted; publishes a gap whenever a stream could not be had or broke. */
async function tail(
  entry: Entry,
  info: ServerInfo,
  context: SourceContext,
  signal: AbortSignal,
  accept: (reading: TokenSample | Gap) => Promise<void>,
): Promise<void> {
  const log = context.log.with({ source: `server:${info.id}` });
  const readings = watchReadings(info, entry.modelAliases, context.clock);
  let failures = 0;
  let refused: { readonly error: unknown } | undefined;
  const record = async (reading: TokenSample | Gap): Promise<void> => {
    // A reading that cannot be recorded is a fault of this program, not of the stream.
    await accept(reading).catch((error: unknown) => {
      refused = { error };
      throw error;
    });
  };
  while (!signal.aborted) {
    try {
      await watch(entry, readings, context, signal, async (samples) => {
        if (failures > 0) log.info("watching again", { endpoint: entry.endpoint, failures });
        failures = 0;
        for (const sample of samples) await record(sample);
        for (const server of readings.vanished()) {
          const reason = `${SERVICE} at ${entry.endpoint} does not name it any more`;
          await record({ source: `server:${server}`, at: context.clock.now(), reason });
        }
      });
    } catch (error) {
      const failure = explainGrpcError(error, SERVICE, entry.endpoint, {
        tls: grpcTarget(entry).tls,
        unixNanos: context.clock.unixNanos(context.clock.now()),
      });
      if (refused !== undefined) throw refused.error;
      if (signal.aborted) break;
      failures++;
      log.warn("token counters lost", { cause: failure.message, hint: failure.hint, failures });
      for (const server of readings.names()) {
        const gap = { source: `server:${server}`, at: context.clock.now(), reason: failure.message };
        await record({ ...gap, ...defined({ hint: failure.hint }) });
      }
    }
    const wait =
      Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** Math.min(failures, 10)) * (0.5 + Math.random() / 2);
    await context.clock.sleep(wait, signal).catch(() => {});
  }
}

/** One stream from call to end. Returns when aborted; throws when the stream fails, falls silent or ends. */
async function watch(
  entry: Entry,
  readings: ReturnType<typeof watchReadings>,
  context: SourceContext,
  signal: AbortSignal,
  accept: (samples: TokenSample[]) => Promise<void>,
): Promise<void> {
  const target = grpcTarget(entry);
  const channel = openChannel(target, { "grpc.use_local_subchannel_pool": 1 });
  let silent: SourceError | undefined;
  const onAbort = (): void => call?.cancel();
  let call: ClientReadableStream<Buffer> | undefined;
  try {
    if (signal.aborted) return;
    const request = { protocolVersion, intervalMs: entry.pollMs, serverIds: entry.servers ?? [] };
    call = channel.makeServerStreamRequest(
      METHOD,
      encodeWatchRequest,
      asBytes,
      request,
      callMetadata(target),
    );
    call.on("error", () => {});
    signal.addEventListener("abort", onAbort, { once: true });
    const guard = deadline(context, (ms) => {
      silent = new SourceError(
        "transient",
        `Cannot read ${SERVICE} at ${entry.endpoint}: no snapshot for ${ms} ms`,
      );
      call?.cancel();
    });
    guard.set(entry.firstMs);
    try {
      for await (const bytes of call) {
        guard.clear();
        const message = decodeWatchResponse(bytes as Buffer);
        if (message.protocolVersion > protocolVersion)
          throw wrongVersion(entry.endpoint, message.protocolVersion);
        await accept(readings.readMessage(message, context.clock.now()));
        guard.set(entry.silenceMs);
      }
    } finally {
      guard.clear();
    }
    if (!signal.aborted)
      throw new SourceError("transient", `${SERVICE} at ${entry.endpoint} ended its stream`);
  } catch (error) {
    if (!signal.aborted) throw silent ?? error;
  } finally {
    signal.removeEventListener("abort", onAbort);
    call?.cancel();
    channel.close();
  }
}

const asBytes = (bytes: Buffer): Buffer => bytes;

function wrongVersion(endpoint: string, seen: number): SourceError {
  return new SourceError(
    "transient",
    `Cannot read ${SERVICE} at ${endpoint}: it answers in version ${seen}, wanted at most ${protocolVersion}`,
    { hint: "update tokenwatt, or let the server honour WatchRequest.protocol_version" },
  );
}

/** One deadline that is set again and again. */
function deadline(
  context: SourceContext,
  expire: (ms: number) => void,
): { set(ms: number): void; clear(): void } {
  let cancel = (): void => {};
  return {
    set: (ms) => {
      cancel();
      const at: Nanos = context.clock.now() + ms * NANOS_PER_MS;
      cancel = context.clock.at(at, () => expire(ms));
    },
    clear: () => cancel(),
  };
}
