// TCP sockets as /proc shows them: who listens in a network namespace, and which sockets a process holds.
// Facts: proc(5), net/tcp and net/tcp6: local address as hexadecimal, state 0A = listening, then uid and inode. Linux lists
// those that listen first (net/ipv4/tcp_ipv4.c), old kernels with half-open ones (03) between, and numbers rows from 0.
// What follows is never asked for: the kernel walks the connections of the whole host, milliseconds where there are few of
// them and seconds where there are a million.
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, readSync, statSync } from "node:fs";
import { join } from "node:path";

/** A listening socket. */
export interface ListeningSocket {
  readonly port: number;
  readonly uid: number;
  readonly inode: string;
  /** Listens on every address, or on loopback, or on another address alone. */
  readonly address: "any" | "loopback" | "other";
}

const LISTENING = "0A";
const HALF_OPEN = "03";
const SOCKETS_MAX = 10_000;
/** Bytes of a table asked for at once: a few rows, since the kernel fills what is asked for from connections too. */
const CHUNK_BYTES = 1024;
const chunk = Buffer.alloc(CHUNK_BYTES);

/** The two tables, and where the kernel counts the sockets in each. */
const TABLES = [
  { name: "tcp", counts: "sockstat", inUse: /^TCP: inuse (\d+)/m },
  { name: "tcp6", counts: "sockstat6", inUse: /^TCP6: inuse (\d+)/m },
] as const;

/** Listening sockets in `folder` (`/proc/PID/net`); undefined where it cannot be read. */
function listeningSockets(folder: string): readonly ListeningSocket[] | undefined {
  const tables = TABLES.map(({ counts, inUse, name }) => {
    // To find nothing in an empty table the kernel walks all of it.
    const isEmpty = inUse.exec(text(join(folder, counts)) ?? "")?.[1] === "0";
    return isEmpty ? [] : listenersIn(join(folder, name));
  });
  return tables.every((sockets) => sockets === undefined)
    ? undefined
    : tables.flatMap((sockets) => sockets ?? []).slice(0, SOCKETS_MAX);
}

/** The listening sockets of processes' network namespaces, each namespace read once. */
export class NamespaceSockets {
  readonly #proc: string;
  readonly #read = new Map<string, readonly ListeningSocket[] | undefined>();

  constructor(proc: string) {
    this.#proc = proc;
  }

  /** Those where a process is, `self` for this program's own loopback; undefined where they cannot be read. */
  of(pid: number | "self"): readonly ListeningSocket[] | undefined {
    const folder = join(this.#proc, String(pid));
    const namespace = identityOf(folder);
    if (!this.#read.has(namespace)) this.#read.set(namespace, listeningSockets(join(folder, "net")));
    return this.#read.get(namespace);
  }
}

/** The inode of a namespace's table, which needs no right to be seen; the folder itself where there is none. */
function identityOf(folder: string): string {
  try {
    return String(statSync(join(folder, "net/tcp")).ino);
  } catch {
    return folder;
  }
}

function listenersIn(path: string): ListeningSocket[] | undefined {
  const sockets: ListeningSocket[] = [];
  let inOrder = true;
  let place = 0;
  try {
    for (const row of rowsOf(path)) {
      const [number = "", local = "", , state, , , , uid, , inode = ""] = row.trim().split(/\s+/);
      // Kernels that are not Linux itself number and order rows otherwise: there the table is read to its end.
      inOrder &&= Number.parseInt(number, 10) === place++;
      const [address = "", port] = local.split(":");
      if (state === LISTENING && port !== undefined) {
        sockets.push({ port: Number.parseInt(port, 16), uid: Number(uid), inode, address: kindOf(address) });
      }
      const isConnection = state !== LISTENING && state !== HALF_OPEN;
      if ((inOrder && isConnection) || sockets.length >= SOCKETS_MAX) break;
    }
  } catch {
    return undefined;
  }
  return sockets;
}

/** The rows of a table below its head, read as far as they are asked for. */
function* rowsOf(path: string): Generator<string> {
  const file = openSync(path, "r");
  try {
    let isHead = true;
    let rest = "";
    for (let length = -1; length !== 0; ) {
      length = readSync(file, chunk);
      const lines = (rest + chunk.toString("latin1", 0, length)).split("\n");
      // A last line without an end is a row all the same.
      rest = length === 0 ? "" : (lines.pop() ?? "");
      for (const line of lines) {
        if (!isHead && line !== "") yield line;
        isHead = false;
      }
    }
  } finally {
    closeSync(file);
  }
}

/** 0.0.0.0 and ::, 127.0.0.0/8 and ::1 in the byte order of the kernel's table. */
function kindOf(address: string): ListeningSocket["address"] {
  if (/^0+$/.test(address)) return "any";
  return /^[0-9A-F]{6}7F$/.test(address) || address === "00000000000000000000000001000000"
    ? "loopback"
    : "other";
}

/** Looks between two at which everybody is asked again what they hold: processes hand sockets to each other. */
const LOOKS = 10;

interface Held {
  /** The sockets that listened when it was asked. */
  readonly asked: ReadonlySet<string>;
  readonly inodes: ReadonlySet<string> | undefined;
}

/**
 * Which of the sockets that listen a process holds, look by look. An engine has hundreds of descriptors, and each is a
 * question of its own: they are asked again where another socket listens.
 */
export class HeldSockets {
  #before = new Map<string, Held>();
  #now = new Map<string, Held>();
  #looks = 0;

  /** A look begins: what the one before did not ask for is forgotten. */
  begin(): void {
    this.#before = this.#looks++ % LOOKS === 0 ? new Map() : this.#now;
    this.#now = new Map();
  }

  /** Inodes of those of `sockets` that the process in `folder` holds; undefined where rights do not allow to see them. */
  of(folder: string, sockets: readonly ListeningSocket[]): ReadonlySet<string> | undefined {
    const before = this.#before.get(folder);
    const isKnown = before !== undefined && sockets.every(({ inode }) => before.asked.has(inode));
    const held = isKnown ? before : heldNow(folder, sockets);
    this.#now.set(folder, held);
    return held.inodes;
  }
}

function heldNow(folder: string, sockets: readonly ListeningSocket[]): Held {
  const asked = new Set(sockets.map(({ inode }) => inode));
  return { asked, inodes: socketInodes(join(folder, "fd"))?.intersection(asked) };
}

/** Inodes of the sockets a process holds; undefined where rights do not allow to see them. */
function socketInodes(folder: string): Set<string> | undefined {
  let entries: string[];
  try {
    entries = readdirSync(folder);
  } catch {
    return undefined;
  }
  const inodes = new Set<string>();
  for (const entry of entries) {
    try {
      const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(join(folder, entry)))?.[1];
      if (inode !== undefined) inodes.add(inode);
    } catch {
      // The descriptor was closed meanwhile, or its link may not be read.
    }
  }
  return inodes;
}

function text(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return undefined;
  }
}
