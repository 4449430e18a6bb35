// The serving half of tokenwatt.v1 TokenCounters: give it a function that reads the counters, it answers every Watch.
// For the demo's token server, for tests and for anyone who instruments an engine in JavaScript. Snapshots a slow
// client has not taken yet are skipped, not queued: the next one holds everything.
import type { Cancel, Clock } from "../../platform/clock.ts";
import { every } from "../../platform/clock.ts";
import type { ServerWritableStream } from "../../platform/grpc.ts";
import { Server, ServerCredentials, status } from "../../platform/grpc.ts";
import { decodeWatchRequest } from "./decode.ts";
import { encodeWatchResponse } from "./encode.ts";
import type { ServerSnapshot, WatchQuery } from "./messages.ts";
import { protocolVersion } from "./messages.ts";

/** The counters that a server of the contract streams. */
export type { ServerSnapshot } from "./messages.ts";

const INTERVAL_DEFAULT_MS = 1000;
const INTERVAL_MIN_MS = 100;
const INTERVAL_MAX_MS = 10_000;

/** What to serve. */
export interface TokenCountersOptions {
  readonly clock: Clock;
  /** The counters now; called once per snapshot and client. */
  readonly read: () => readonly ServerSnapshot[];
  /** Time between snapshots when the client has no wish; default 1000. */
  readonly intervalMs?: number;
}

/** A running service. */
export interface TokenCountersService {
  /** Sends a snapshot to every client now, out of turn. */
  push(): void;
  /** Clients watching now. */
  readonly watchers: number;
  /** Ends every stream. */
  end(): void;
}

type WatchCall = ServerWritableStream<WatchQuery, Buffer>;

/** Adds TokenCounters to a gRPC server. */
function addTokenCounters(server: Server, options: TokenCountersOptions): TokenCountersService {
  const watchers = new Map<WatchCall, { send(): void; stop: Cancel }>();
  const watch = (call: WatchCall): void => {
    if (call.request.protocolVersion < 1) {
      call.emit("error", {
        code: status.FAILED_PRECONDITION,
        details: "protocol_version 1 or newer is wanted",
      });
      return;
    }
    let ready = true;
    const send = (): void => {
      if (ready) ready = call.write(snapshot(options, call.request));
    };
    const stop = every(options.clock, intervalOf(options, call.request), send);
    const leave = (): void => {
      stop();
      watchers.delete(call);
    };
    call.on("drain", () => {
      ready = true;
    });
    call.on("cancelled", leave);
    call.on("close", leave);
    call.on("error", leave);
    watchers.set(call, { send, stop });
    send();
  };
  server.register(
    "/tokenwatt.v1.TokenCounters/Watch",
    watch,
    (bytes: Buffer) => bytes,
    decodeWatchRequest,
    "serverStream",
  );
  return {
    push: () => {
      for (const { send } of watchers.values()) send();
    },
    get watchers() {
      return watchers.size;
    },
    end: () => {
      for (const [call, { stop }] of watchers) {
        stop();
        call.end();
      }
      watchers.clear();
    },
  };
}

/** A gRPC server with TokenCounters alone, in the clear. */
export interface TokenCountersServer extends TokenCountersService {
  /** `host:port` it listens on. */
  readonly address: string;
  close(): Promise<void>;
}

/** Serves TokenCounters on `address` (port 0 = any free one). Rejects when the address cannot be had. */
export async function serveTokenCounters(
  address: string,
  options: TokenCountersOptions,
  credentials: ServerCredentials = ServerCredentials.createInsecure(),
): Promise<TokenCountersServer> {
  const server = new Server();
  const service = addTokenCounters(server, options);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(address, credentials, (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  const listening = address.startsWith("unix:") ? address : address.replace(/:\d+$/, `:${port}`);
  return {
    address: listening,
    push: service.push,
    get watchers() {
      return service.watchers;
    },
    end: service.end,
    close: async () => {
      service.end();
      await new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
    },
  };
}

function snapshot(options: TokenCountersOptions, query: WatchQuery): Buffer {
  const now = options.clock.now();
  const wanted = new Set(query.serverIds);
  const servers = options.read();
  return encodeWatchResponse({
    protocolVersion: Math.min(protocolVersion, query.protocolVersion),
    serverTimeUnixNanos: options.clock.unixNanos(now),
    uptimeNanos: now,
    servers: wanted.size === 0 ? servers : servers.filter((server) => wanted.has(server.serverId ?? "")),
  });
}

function intervalOf(options: TokenCountersOptions, query: WatchQuery): number {
  const wished = query.intervalMs === 0 ? (options.intervalMs ?? INTERVAL_DEFAULT_MS) : query.intervalMs;
  return Math.min(INTERVAL_MAX_MS, Math.max(INTERVAL_MIN_MS, wished));
}
