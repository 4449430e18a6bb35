// TCP sockets as /proc shows them: who listens in a network namespace, and which sockets a process holds.
// Facts: proc(5), net/tcp and net/tcp6: local address as hexadecimal, state 0A = listening, then uid and inode.
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
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
const NEWLINE = 10;
const SOCKETS_MAX = 10_000;

/** Listening sockets in `folder` (`/proc/PID/net`); undefined where it cannot be read. */
export function listeningSockets(folder: string): readonly ListeningSocket[] | undefined {
  const files = ["tcp", "tcp6"].map((name) => read(join(folder, name)));
  if (files.every((file) => file === undefined)) return undefined;
  const sockets: ListeningSocket[] = [];
  for (const file of files) {
    for (const line of file === undefined ? [] : linesWith(file, ` ${LISTENING} `)) {
      const columns = line.trim().split(/\s+/);
      const [address = "", port] = (columns[1] ?? "").split(":");
      if (columns[3] !== LISTENING || port === undefined || sockets.length >= SOCKETS_MAX) continue;
      sockets.push({
        port: Number.parseInt(port, 16),
        uid: Number(columns[7]),
        inode: columns[9] ?? "",
        address: kindOf(address),
      });
    }
  }
  return sockets;
}

/** The lines that hold a text, one by one: of a host's thousands of connections only those that listen are looked at. */
function* linesWith(table: Buffer, text: string): Generator<string> {
  for (let at = table.indexOf(text); at !== -1; ) {
    const stop = table.indexOf(NEWLINE, at);
    const end = stop === -1 ? table.length : stop;
    yield table.toString("latin1", table.lastIndexOf(NEWLINE, at) + 1, end);
    at = table.indexOf(text, end);
  }
}

/** 0.0.0.0 and ::, 127.0.0.0/8 and ::1 in the byte order of the kernel's table. */
function kindOf(address: string): ListeningSocket["address"] {
  if (/^0+$/.test(address)) return "any";
  return /^[0-9A-F]{6}7F$/.test(address) || address === "00000000000000000000000001000000"
    ? "loopback"
    : "other";
}

/** Inodes of the sockets a process holds; undefined where rights do not allow to see them. */
export function socketInodes(folder: string): ReadonlySet<string> | undefined {
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

function read(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}
