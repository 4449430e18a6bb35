// The sockets of a receiver: where it listens, TLS with files that may be replaced, and how many connections it holds.
// grpc-js 1.14 binds ports itself but bounds no connections, drops everybody while a new certificate does not fit its
// key, and tells callers of a unix socket not apart; so sockets are ours and it is handed connections.
import { lookup } from "node:dns/promises";
import { chmodSync, unlinkSync } from "node:fs";
import type { AddressInfo, Server as NetServer, Socket } from "node:net";
import { connect, createServer } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { isFault, isLoopbackHost, parseHostPort, parseUnixSocket } from "../../platform/address.ts";
import { FileError } from "../../platform/files.ts";
import type { Server } from "../../platform/grpc.ts";
import { ServerCredentials } from "../../platform/grpc.ts";
import type { Log } from "../../platform/log.ts";
import type { ListenTls } from "../../platform/tls.ts";
import { serveTls } from "../../platform/tls.ts";
import { SourceError } from "../../source.ts";
import { addressScope, Callers, nameOf } from "./callers.ts";
import { peerOf } from "./peer-rates.ts";
import { Held } from "./shares.ts";

/**
 * Connections of one receiver at a time; further ones are closed at once.
 * Exported for its test: the bound is counted.
 */
export const connectionsMax = 256;
/** Of one caller: by identity, before that is known by its address. */
const perCallerMax = 192;
const HANDSHAKE_MS = 10_000;
/** Who may write to a unix socket: the agent's user and group. */
const SOCKET_MODE = 0o660;

/** What a receiver listens on. */
export interface Listener {
  /** Its port; 0 for a unix socket. */
  readonly port: number;
  /** Stops listening and drops every connection. */
  close(): void;
}

interface Place {
  readonly endpoint: string;
  readonly tls?: ListenTls | undefined;
}

type Address = { readonly path: string } | { readonly host: string; readonly port: number };

/** Listens and hands connections to `server`. Rejects with SourceError when the address cannot be had. */
export async function listenFor(
  server: Server,
  place: Place,
  log: Log,
  callers: Callers = new Callers(),
): Promise<Listener> {
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const sockets = new Set<Socket>();
  const connections = new Connections(log);
  const servers: NetServer[] = [];
  const close = (): void => {
    for (const each of servers) each.close();
    for (const socket of sockets) socket.destroy();
  };
  // Who comes before every address is had waits: where one cannot be, what they sent would be forgotten with the attempt.
  let early: Socket[] | undefined = [];
  const accept = (socket: Socket): void => {
    if (early !== undefined) return void early.push(socket);
    // Callers of a unix socket have no address; each connection is told apart by a number.
    if (socket.remoteAddress === undefined)
      Object.defineProperty(socket, "remoteAddress", { value: `unix/${++unixConnections}` });
    void callers
      .admit(socket)
      .catch(() => false)
      .then((isKnown) => {
        if (socket.destroyed) return;
        if (isKnown) {
          const scope = callers.scopeOf(nameOf(socket));
          if (scope === addressScope || connections.hold(socket, scope)) injector.injectConnection(socket);
          return;
        }
        log.warn("refused a caller", { cause: "no user is known for its connection; it may have left" });
        socket.destroy();
      });
  };
  try {
    let port = 0;
    const failures: NodeJS.ErrnoException[] = [];
    for (const address of await addressesOf(place.endpoint)) {
      const listener = createListener(place.tls, accept, log);
      listener.maxConnections = connectionsMax;
      listener.on("connection", (socket: Socket) => {
        sockets.add(socket);
        socket.on("error", () => {}).on("close", () => sockets.delete(socket));
        connections.holdAddress(socket);
      });
      try {
        await listen(listener, "port" in address && address.port === 0 ? { ...address, port } : address);
      } catch (error) {
        // A name may stand for an address of a family this host does not have.
        if (!isForeign(error as NodeJS.ErrnoException)) throw error;
        failures.push(error as NodeJS.ErrnoException);
        continue;
      }
      // Of a connection that cannot be accepted: out of descriptors or memory, which passes.
      listener.on("error", (error) => log.warn("cannot accept a connection", { cause: error.message }));
      servers.push(listener);
      if ("port" in address) ({ port } = listener.address() as AddressInfo);
    }
    if (servers.length === 0) throw failures[0] ?? new Error("it stands for no address");
    const waited = early.filter(({ destroyed }) => !destroyed);
    early = undefined;
    for (const socket of waited) accept(socket);
    return { port, close };
  } catch (error) {
    close();
    throw explained(error as NodeJS.ErrnoException, place);
  }
}

let unixConnections = 0;

/** Counts the connections of each caller: one that holds most leaves room for others. */
class Connections {
  readonly #log: Log;
  readonly #held = new Held();

  constructor(log: Log) {
    this.#log = log;
  }

  /** Before a caller from elsewhere is known, it is its address. */
  holdAddress(socket: Socket): void {
    const { remoteAddress } = socket;
    if (remoteAddress !== undefined && !isLoopbackHost(remoteAddress))
      this.hold(socket, peerOf(nameOf(socket)));
  }

  /** Whether the connection may stay; one that may not is closed. */
  hold(socket: Socket, caller: string): boolean {
    if (this.#held.of(caller) >= perCallerMax) {
      this.#log.warn("refused a connection", { cause: `one caller holds ${perCallerMax}`, caller });
      socket.destroy();
      return false;
    }
    this.#held.add(caller, 1);
    socket.once("close", () => this.#held.add(caller, -1));
    return true;
  }
}

function createListener(tls: ListenTls | undefined, accept: (socket: Socket) => void, log: Log): NetServer {
  if (tls === undefined) return createServer({ noDelay: true }, accept);
  const options = { ALPNProtocols: ["h2"], handshakeTimeout: HANDSHAKE_MS, noDelay: true };
  const server = serveTls(tls, log, (files) => createTlsServer({ ...options, ...files }, accept));
  server.on("tlsClientError", (error, socket) => {
    log.debug("TLS handshake failed", { cause: error.message });
    socket.destroy();
  });
  return server;
}

/** The addresses an endpoint stands for: `localhost` is two. */
async function addressesOf(endpoint: string): Promise<readonly Address[]> {
  const unix = parseUnixSocket(endpoint);
  if (unix !== undefined) return [{ path: unix.socket }];
  const place = parseHostPort(endpoint, { anyPort: true });
  if (isFault(place)) throw new Error(`it is no address, wanted ${place.wanted}`);
  const { host, port } = place;
  return (await lookup(host, { all: true })).map(({ address }) => ({ host: address, port }));
}

async function listen(server: NetServer, address: Address): Promise<void> {
  const once = (): Promise<void> =>
    new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen(
        { ...address, ipv6Only: "host" in address && address.host === "::" ? false : undefined },
        () => {
          server.off("error", reject);
          resolve();
        },
      );
    });
  if (!("path" in address)) return once();
  await once().catch(async (error: NodeJS.ErrnoException) => {
    // The socket of an agent that was killed is still there, with nothing behind it.
    if (error.code !== "EADDRINUSE" || !(await isDead(address.path))) throw error;
    unlinkSync(address.path);
    return once();
  });
  try {
    chmodSync(address.path, SOCKET_MODE);
  } catch (error) {
    server.close();
    throw error;
  }
}

function isDead(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(false);
    });
    socket.on("error", (error: NodeJS.ErrnoException) => resolve(error.code === "ECONNREFUSED"));
  });
}

function isForeign({ code }: NodeJS.ErrnoException): boolean {
  return code === "EADDRNOTAVAIL" || code === "EAFNOSUPPORT";
}

const HINTS: Readonly<Record<string, string>> = {
  EADDRINUSE: "choose another port, or stop what listens there",
  EADDRNOTAVAIL: "this host has no such address",
  // Said of a folder that does not exist, too.
  EACCES:
    "the folder of a socket must exist and be the agent's; ports below 1024 need rights it does not have",
  ENOTFOUND: "correct the name, or write the address",
  EAI_AGAIN: "correct the name, or write the address",
};

function explained(error: NodeJS.ErrnoException, { endpoint, tls }: Place): SourceError {
  const { code = "", message } = error;
  const ofFiles = tls !== undefined && (error instanceof FileError || code.startsWith("ERR_OSSL"));
  const hint = ofFiles
    ? "certFile and keyFile must be readable PEM files that belong together, clientCaFile PEM too"
    : HINTS[code];
  const what = `Cannot listen on ${endpoint}${ofFiles ? " with TLS" : ""}`;
  return new SourceError("transient", `${what}: ${message}`, {
    cause: error,
    ...(hint === undefined ? {} : { hint }),
  });
}
