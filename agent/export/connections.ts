// Which connections an endpoint keeps, and when their requests are read. A newcomer is always let in: when there are too
// many, one goes that waits for nothing, first of the caller who holds most. A request is parsed once the answer before
// it has left: what a peer sends ahead stays bytes in its own connection, and then in the peer's own buffers.
// Not bounded here: how long an answer may take to be read (the server's own timeouts).
import type { Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { Duplex } from "node:stream";

/** How many connections are kept. */
export interface ConnectionBounds {
  readonly connectionsMax: number;
  /** Of one address; of IPv6 of one /64. */
  readonly perAddressMax: number;
}

const HEAD_END = Buffer.from("\r\n\r\n");
/** Beyond this a connection is not read: what its peer sends ahead waits there. */
const AHEAD_BYTES_MAX = 16 * 1024;

/** Puts itself between a server that does not listen yet and its connections; `event` is where these come from. */
export function keepConnections(
  server: Server,
  event: "connection" | "secureConnection",
  bounds: ConnectionBounds,
): void {
  const kept = new KeptConnections(bounds);
  server.prependListener("connection", (socket: Socket) => kept.admit(socket));
  const serve = server.listeners(event).at(-1) as (stream: Duplex) => void;
  server.removeListener(event, serve);
  server.on(event, (socket: Socket) => {
    if (!socket.destroyed) serve.call(server, kept.open(socket));
  });
}

/** Says that an answer is due on a connection: its next request is read when the response is done with. */
export function holdUntilAnswered(connection: Duplex, response: ServerResponse): void {
  if (!(connection instanceof OneAtATime)) return;
  connection.hold();
  response.once("close", () => connection.release());
}

/** Who asks on a connection: an IPv4 address, or the /64 an IPv6 host may pick addresses from. */
export function callerOf(connection: Duplex): string {
  return connection instanceof OneAtATime ? connection.caller : "";
}

/** The socket under a connection: who is behind it says that alone. */
export function socketUnder(connection: Duplex): Socket {
  return connection instanceof OneAtATime ? connection.socket : (connection as Socket);
}

/** In the order in which connections have to go: an idle one loses nothing. */
const STATES = ["idle", "new", "answering"] as const;

interface Kept {
  readonly socket: Socket;
  readonly address: string;
  state: (typeof STATES)[number];
  /** Ascending with each change of state: the least has been in its state for longest. */
  since: number;
}

class KeptConnections {
  readonly #bounds: ConnectionBounds;
  readonly #all = new Map<string, Kept>();
  #changes = 0;

  constructor(bounds: ConnectionBounds) {
    this.#bounds = bounds;
  }

  admit(socket: Socket): void {
    const name = nameOf(socket);
    const others = [...this.#all.values()];
    const one: Kept = { socket, address: networkOf(socket), state: "new", since: ++this.#changes };
    this.#all.set(name, one);
    socket.once("close", () => this.#all.get(name) === one && this.#all.delete(name));
    // Of one that is closed while it is new there may be errors without a listener yet.
    socket.on("error", () => {});
    const own = others.filter(({ address }) => address === one.address);
    if (own.length >= this.#bounds.perAddressMax) this.#close(leastNeeded(own));
    else if (others.length >= this.#bounds.connectionsMax) this.#close(leastNeeded(largestGroup(others)));
  }

  /** The connection as the server reads it; `socket` may be the TLS socket on one that was admitted. */
  open(socket: Socket): Duplex {
    const name = nameOf(socket);
    return new OneAtATime(socket, (state) => {
      const kept = this.#all.get(name);
      if (kept === undefined) return;
      kept.state = state;
      kept.since = ++this.#changes;
    });
  }

  #close(kept: Kept | undefined): void {
    if (kept === undefined) return;
    this.#all.delete(nameOf(kept.socket));
    kept.socket.destroy();
  }
}

/** A connection whose requests are handed on one by one; a body is never waited for, only passed over. */
class OneAtATime extends Duplex {
  readonly caller: string;
  /** The connection itself. */
  readonly socket: Socket;
  readonly #onState: (state: "idle" | "answering") => void;
  #ahead: Buffer = Buffer.alloc(0);
  #isEnded = false;
  #isWanted = false;
  #isPlanned = false;
  #due = 0;

  constructor(socket: Socket, onState: (state: "idle" | "answering") => void) {
    super({ allowHalfOpen: true });
    this.socket = socket;
    this.caller = networkOf(socket);
    this.#onState = onState;
    socket.on("data", (chunk: Buffer) => {
      this.#ahead = this.#ahead.length === 0 ? chunk : Buffer.concat([this.#ahead, chunk]);
      if (this.#ahead.length > AHEAD_BYTES_MAX) socket.pause();
      this.#plan();
    });
    socket.on("end", () => {
      this.#isEnded = true;
      this.#plan();
    });
    socket.on("timeout", () => this.emit("timeout"));
    socket.on("error", (error) => this.destroy(error));
    socket.on("close", () => this.destroy());
  }

  hold(): void {
    this.#due++;
    this.#onState("answering");
  }

  release(): void {
    if (--this.#due > 0) return;
    this.#onState("idle");
    this.#plan();
  }

  /** The server's idle time; it counts what moves on the wire. */
  readonly setTimeout = (milliseconds: number): this => {
    this.socket.setTimeout(milliseconds);
    return this;
  };

  override _read(): void {
    this.#isWanted = true;
    this.#plan();
  }

  override _write(chunk: Buffer, encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.socket.write(chunk, encoding, done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.socket.end(() => done());
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.socket.destroy();
    this.#ahead = Buffer.alloc(0);
    done(error);
  }

  /** A request in each turn of the event loop: callers on other connections get theirs in between. */
  #plan(): void {
    if (this.#isPlanned || !this.#isWanted || this.#due > 0 || this.destroyed) return;
    if (this.#ahead.length === 0 && !this.#isEnded) return;
    this.#isPlanned = true;
    setImmediate(() => {
      this.#isPlanned = false;
      if (this.#isWanted && this.#due === 0 && !this.destroyed) this.#handOn();
    });
  }

  #handOn(): void {
    this.#isWanted = false;
    if (this.#ahead.length === 0) {
      this.push(null);
      return;
    }
    const end = this.#ahead.indexOf(HEAD_END);
    const length = end === -1 ? this.#ahead.length : end + HEAD_END.length;
    const next = this.#ahead.subarray(0, length);
    this.#ahead = this.#ahead.subarray(length);
    if (this.#ahead.length <= AHEAD_BYTES_MAX) this.socket.resume();
    this.push(next);
  }
}

/** One that waits for nothing, else one that has not asked yet, else one that is answered; the longest first. */
function leastNeeded(all: readonly Kept[]): Kept | undefined {
  const rank = ({ state }: Kept): number => STATES.indexOf(state);
  return all.toSorted((one, other) => rank(one) - rank(other) || one.since - other.since)[0];
}

function largestGroup(all: readonly Kept[]): readonly Kept[] {
  const groups = [...Map.groupBy(all, ({ address }) => address).values()];
  return groups.reduce((largest, group) => (group.length > largest.length ? group : largest), []);
}

/** The same for a connection and for the TLS socket on it. */
function nameOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}

/** Who a caller is: its IPv4 address, or the /64 an IPv6 host may pick addresses from. */
function networkOf({ remoteAddress = "" }: Socket): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(remoteAddress)?.[1];
  if (mapped !== undefined || !remoteAddress.includes(":")) return mapped ?? remoteAddress;
  const [head = "", tail] = remoteAddress.split("%", 1)[0]?.split("::") ?? [];
  const groups = (text: string): string[] => text.split(":").filter((group) => group !== "");
  const zeros = tail === undefined ? 0 : 8 - groups(head).length - groups(tail).length;
  return [...groups(head), ...Array<string>(Math.max(0, zeros)).fill("0"), ...groups(tail ?? "")]
    .slice(0, 4)
    .join(":");
}
