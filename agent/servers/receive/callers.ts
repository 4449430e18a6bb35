// Who a caller is: the subject of its client certificate where one was checked, else the user of its process, where that is
// on this host: of a unix socket by SO_PEERCRED, of a loopback connection by its row in /proc/net/tcp (proc(5)). Callers of
// one identity trust each other; those of another share neither ids nor series with them. Everyone else is known by an
// address alone, which says too little to tell senders apart: a pod that starts again has a new one.
import { open } from "node:fs/promises";
import type { Socket } from "node:net";
import { clientCertificateName } from "../../platform/tls.ts";
import { unixPeerUser } from "../../platform/unix-peer.ts";

const TABLES = ["/proc/net/tcp", "/proc/net/tcp6"];
/** Of one table; a host with more connections than this (some 200,000) names no users. */
const TABLE_BYTES_MAX = 32 * 1024 * 1024;
/** Peers of connections that ended are kept a while, for calls that are still being answered. */
const PEERS_MAX = 4096;
const ESTABLISHED = "01";
const LISTENING = "0A";

/** The scope of callers that are known by their address alone. */
export const addressScope = "address";

/** Whose connections they are, by what gRPC calls their peer. */
export class Callers {
  readonly #scopes = new Map<string, { readonly scope: string }>();
  /** Connections that ended, oldest first. */
  readonly #ended: [string, { readonly scope: string }][] = [];
  readonly #tables = new SharedRead();
  /** Whether users of loopback connections can be read here; decided once, so that nobody is known by two names. */
  #namesUsers: Promise<boolean> | undefined;

  /** The identity of the caller behind `peer`. */
  scopeOf(peer: string): string {
    return this.#scopes.get(peer)?.scope ?? addressScope;
  }

  /** Finds out who connected. False when it is a process of this host that left already, or cannot be named. */
  async admit(socket: Socket): Promise<boolean> {
    const scope = clientCertificateName(socket) ?? (await this.#userOf(socket));
    if (scope === undefined) return false;
    this.#note(socket, nameOf(socket), scope);
    return true;
  }

  #note(socket: Socket, peer: string, scope: string): void {
    const known = { scope };
    this.#scopes.set(peer, known);
    socket.once("close", () => {
      this.#ended.push([peer, known]);
      const [oldest, ended] = (this.#ended.length > PEERS_MAX ? this.#ended.shift() : undefined) ?? [];
      // Another connection may have its port by now.
      if (oldest !== undefined && this.#scopes.get(oldest) === ended) this.#scopes.delete(oldest);
    });
  }

  async #userOf(socket: Socket): Promise<string | undefined> {
    const { localAddress, localPort, remoteAddress, remotePort } = socket;
    if (localPort === undefined) return (await unixPeerUser(socket)) ?? addressScope;
    const address = loopbackOf(remoteAddress);
    if (address === undefined || loopbackOf(localAddress) === undefined) return addressScope;
    this.#namesUsers ??= this.#tables
      .read()
      .then((rows) => rows.some(({ port, state }) => port === localPort && state === LISTENING));
    if (!(await this.#namesUsers)) return addressScope;
    const row = (await this.#tables.read()).find(
      (one) =>
        one.port === remotePort &&
        one.peerPort === localPort &&
        one.address === address &&
        one.state === ESTABLISHED,
    );
    return row === undefined ? undefined : `uid ${row.user}`;
  }
}

/** What gRPC calls the peer of a connection. */
export function nameOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress}${remotePort ? `:${remotePort}` : ""}`;
}

/** A loopback address as the kernel's tables name it after `decoded`; undefined for any other. */
function loopbackOf(address: string | undefined): string | undefined {
  const plain = address?.replace(/^::ffff:(?=\d+\.)/i, "");
  return plain === "::1" || plain?.startsWith("127.") === true ? plain : undefined;
}

/** A connection as /proc/net/tcp has it, seen from the side whose row it is. */
export interface TcpRow {
  readonly address: string;
  readonly port: number;
  readonly peerPort: number;
  readonly state: string;
  readonly user: string;
}

/** The loopback and listening rows of a table. Exported for its test: tables of every layout. */
export function tcpRows(text: string): TcpRow[] {
  return text.split("\n").flatMap((line) => {
    const found =
      /^\s*\d+: ([0-9A-F]+):([0-9A-F]{4}) [0-9A-F]+:([0-9A-F]{4}) ([0-9A-F]{2}) \S+ \S+ \S+ +(\d+)/i.exec(
        line,
      );
    if (found === null) return [];
    const [, address = "", port = "", peerPort = "", state = "", user = ""] = found;
    const known = decoded(address);
    if (known === undefined && state !== LISTENING) return [];
    const ports = { port: Number.parseInt(port, 16), peerPort: Number.parseInt(peerPort, 16) };
    return [{ address: known ?? "", ...ports, state, user }];
  });
}

/** A loopback address of words in the host's byte order. */
function decoded(hex: string): string | undefined {
  const bytes = (hex.match(/.{8}/g) ?? []).flatMap((word) => [...Buffer.from(word, "hex").reverse()]);
  const text = Buffer.from(bytes).toString("hex");
  if (text === `${"0".repeat(31)}1`) return "::1";
  const mapped = text.startsWith(`${"0".repeat(20)}ffff`) ? bytes.slice(12) : bytes;
  return mapped.length === 4 && mapped[0] === 127 ? mapped.join(".") : undefined;
}

/** Reads both tables; who asks while that runs shares the read after it, which is the first to surely hold its row. */
class SharedRead {
  #running: Promise<TcpRow[]> | undefined;
  #next: Promise<TcpRow[]> | undefined;

  read(): Promise<TcpRow[]> {
    if (this.#running === undefined) {
      this.#running = readTables().finally(() => {
        this.#running = undefined;
      });
      return this.#running;
    }
    this.#next ??= this.#running.then(() => {
      this.#next = undefined;
      return this.read();
    });
    return this.#next;
  }
}

async function readTables(): Promise<TcpRow[]> {
  return (await Promise.all(TABLES.map(readTable))).flat();
}

/** The rows of a table; none where it cannot be read or is over the bound. */
async function readTable(path: string): Promise<TcpRow[]> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    await using file = await open(path);
    for await (const chunk of file.createReadStream({ autoClose: false })) {
      bytes += (chunk as Buffer).length;
      if (bytes > TABLE_BYTES_MAX) return [];
      chunks.push(chunk as Buffer);
    }
  } catch {
    return [];
  }
  return tcpRows(Buffer.concat(chunks).toString("latin1"));
}
