// The rate-limit service of this host: envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit on a listener of its
// own, apart from the receivers', so that a flood of usage delays no answer. Beyond loopback only with TLS. What cannot be
// answered ends in an error, on which Envoy lets the request pass: nothing of ours is needed for one to pass.
import { chmodSync, rmSync } from "node:fs";
import type { AddressInfo, Server as NetServer, Socket } from "node:net";
import { createServer } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { isFault, parseHostPort, parseUnixSocket } from "../platform/address.ts";
import type { Server } from "../platform/grpc.ts";
import { ServerCredentials } from "../platform/grpc.ts";
import { unaryServer } from "../platform/grpc-unary.ts";
import type { Log } from "../platform/log.ts";
import type { ListenTls } from "../platform/tls.ts";
import { serveTls } from "../platform/tls.ts";

/** Connections at a time; Envoy keeps one a worker thread. */
const CONNECTIONS_MAX = 256;
const MESSAGE_BYTES_MAX = 64 * 1024;
const HANDSHAKE_MS = 10_000;
/** Who may write to a unix socket: the agent's user and group. */
const SOCKET_MODE = 0o660;
/** Calls of one connection at a time. */
const STREAMS_MAX = 1000;

/** Where a service of the policy listens. */
export interface PolicyPlace {
  /** `host:port` or `unix:/path`. */
  readonly listen: string;
  readonly tls?: ListenTls | undefined;
}

/** An open listener. */
export interface PolicyListener {
  /** Its port; 0 for a unix socket. */
  readonly port: number;
  close(): void;
}

/** Listens for ShouldRateLimit and answers each with `answer`, at once. Rejects where the address cannot be had. */
export function serveRateLimits(
  place: PolicyPlace,
  answer: (bytes: Buffer) => Buffer,
  log: Log,
): Promise<PolicyListener> {
  const server = unaryServer({
    path: "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
    answer,
    messageBytesMax: MESSAGE_BYTES_MAX,
    streamsMax: STREAMS_MAX,
  });
  return listenFor(server.accept, place, log, server.close);
}

/** Hands connections of an address to a gRPC server: grpc-js binds ports itself, but bounds no connections. */
export function listenWith(server: Server, place: PolicyPlace, log: Log): Promise<PolicyListener> {
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const accept = (socket: Socket): void => injector.injectConnection(socket);
  return listenFor(accept, place, log, () => server.forceShutdown());
}

async function listenFor(
  accept: (socket: Socket) => void,
  place: PolicyPlace,
  log: Log,
  shut: () => void,
): Promise<PolicyListener> {
  const sockets = new Set<Socket>();
  const listener = createListener(place.tls, accept, log);
  listener.maxConnections = CONNECTIONS_MAX;
  listener.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => {}).on("close", () => sockets.delete(socket));
  });
  await listen(listener, place.listen);
  listener.on("error", (error) => log.warn("cannot accept a connection", { cause: error.message }));
  const address = listener.address() as AddressInfo | string | null;
  return {
    port: typeof address === "object" ? (address?.port ?? 0) : 0,
    close: () => {
      listener.close();
      for (const socket of sockets) socket.destroy();
      shut();
    },
  };
}

function createListener(tls: ListenTls | undefined, accept: (socket: Socket) => void, log: Log): NetServer {
  if (tls === undefined) return createServer({ noDelay: true }, accept);
  const options = { ALPNProtocols: ["h2"], handshakeTimeout: HANDSHAKE_MS, noDelay: true };
  const server = serveTls(tls, log, (files) => createTlsServer({ ...options, ...files }, accept));
  server.on("tlsClientError", (_, socket) => socket.destroy());
  return server;
}

function listen(server: NetServer, endpoint: string): Promise<void> {
  const unix = parseUnixSocket(endpoint);
  const place = parseHostPort(endpoint, { anyPort: true });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    const opened = (): void => {
      server.off("error", reject);
      try {
        if (unix !== undefined) chmodSync(unix.socket, SOCKET_MODE);
        resolve();
      } catch (error) {
        // Its folder went away meanwhile: nobody can connect.
        server.close();
        reject(error as Error);
      }
    };
    if (unix !== undefined) {
      // The state folder is locked by one agent: a socket that is left is of one that was killed.
      rmSync(unix.socket, { force: true });
      server.listen({ path: unix.socket }, opened);
    } else if (isFault(place)) reject(new Error(`it is no address, wanted ${place.wanted}`));
    else server.listen({ host: place.host, port: place.port }, opened);
  });
}
