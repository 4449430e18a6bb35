// What a disk may hold after a power cut, from the log of calls that record-calls.c wrote.
// A write or a new length is on the disk once its file was synced; until then any part of it may be there or not, by
// sectors of 512 bytes and in any order. A name made, moved or removed is on the disk once its folder was synced; until
// then each such change may be there or not. Harsher than a journalling file system, which keeps an order.
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

const HEAD_BYTES = 32;
const SECTOR_BYTES = 512;
const KINDS = ["", "create", "write", "truncate", "sync", "move", "remove", "folder"] as const;

/** One call that changed something under the root. */
export interface Call {
  readonly kind: (typeof KINDS)[number];
  readonly inode: bigint;
  /** Offset of a write, length of a truncation. */
  readonly number: number;
  /** Path relative to the root, or the bytes written. */
  readonly first: Buffer;
  readonly second: string;
}

/** 0 to 1, not including 1. */
export type Random = () => number;

/** Which of the changes that were not synced are on the disk. */
export type Survival = "nothing" | "everything" | Random;

interface File {
  durable: Buffer;
  pending: { readonly at: number; readonly bytes: Buffer | undefined }[];
}

/** A change of names: every entry becomes a file, a folder (`undefined` content) or nothing, all at once. */
interface Renaming {
  readonly folders: readonly string[];
  readonly entries: readonly (readonly [path: string, what: File | "folder" | undefined])[];
}

/** The calls in a log; a last one that was cut by a kill is left out. */
export function readCalls(log: Buffer, root: string): Call[] {
  const calls: Call[] = [];
  for (let at = 0; at + HEAD_BYTES <= log.length; ) {
    const [firstBytes, secondBytes] = [log.readUInt32LE(at + 4), log.readUInt32LE(at + 8)];
    const end = at + HEAD_BYTES + firstBytes + secondBytes;
    if (end > log.length) break;
    const kind = KINDS[log.readUInt32LE(at)];
    if (kind === undefined || kind === "") throw new Error(`Cannot read the log of calls at ${at}`);
    const first = log.subarray(at + HEAD_BYTES, at + HEAD_BYTES + firstBytes);
    calls.push({
      kind,
      inode: log.readBigUInt64LE(at + 16),
      number: Number(log.readBigUInt64LE(at + 24)),
      first: kind === "write" ? first : Buffer.from(first.toString().slice(root.length)),
      second: log.toString("utf8", at + HEAD_BYTES + firstBytes, end).slice(root.length),
    });
    at = end;
  }
  return calls;
}

/** A disk as it is being used; `image` says what it would hold if the power failed now. The root itself is durable. */
export class DiskModel {
  readonly #files = new Map<bigint, File>();
  readonly #folderOf = new Map<bigint, string>();
  readonly #durable = new Map<string, File | "folder">();
  #pending: Renaming[] = [];

  apply({ first, inode, kind, number, second }: Call): void {
    if (kind === "sync") this.#sync(inode);
    else if (kind === "write") this.#files.get(inode)?.pending.push({ at: number, bytes: first });
    else if (kind === "truncate") this.#files.get(inode)?.pending.push({ at: number, bytes: undefined });
    else this.#rename(kind, first.toString(), inode, second);
  }

  /** Writes one possible disk to a folder. */
  image(folder: string, survival: Survival): void {
    const names = new Map(this.#durable);
    for (const { entries } of this.#pending) {
      if (!survives(survival)) continue;
      for (const [path, what] of entries) setName(names, path, what);
    }
    mkdirSync(folder, { recursive: true });
    for (const [path, what] of names) if (what === "folder") mkdirSync(folder + path, { recursive: true });
    for (const [path, what] of names) {
      if (what === "folder") continue;
      // A file in a folder that is not there is not there either.
      if (dirname(path) !== "/" && names.get(dirname(path)) !== "folder") continue;
      writeFileSync(folder + path, contentOf(what, survival));
    }
  }

  #rename(kind: Call["kind"], path: string, inode: bigint, target: string): void {
    let what: File | "folder" | undefined;
    if (kind === "create") {
      what = { durable: Buffer.alloc(0), pending: [] };
      this.#files.set(inode, what);
    } else if (kind === "folder") {
      what = "folder";
      this.#folderOf.set(inode, path);
    }
    const entries: Renaming["entries"] =
      kind === "move"
        ? [
            [path, undefined],
            [target, this.#current(path)],
          ]
        : [[path, what]];
    this.#pending.push({ folders: entries.map(([name]) => dirname(name)), entries });
  }

  #current(path: string): File | "folder" | undefined {
    let found = this.#durable.get(path);
    for (const [name, what] of this.#pending.flatMap((one) => one.entries)) if (name === path) found = what;
    return found;
  }

  #sync(inode: bigint): void {
    const file = this.#files.get(inode);
    if (file !== undefined) {
      file.durable = contentOf(file, "everything");
      file.pending = [];
      return;
    }
    const folder = this.#folderOf.get(inode) ?? "/";
    for (const { entries, folders } of this.#pending) {
      if (!folders.includes(folder)) continue;
      for (const [path, what] of entries) setName(this.#durable, path, what);
    }
    this.#pending = this.#pending.filter((one) => !one.folders.includes(folder));
  }
}

function setName(names: Map<string, File | "folder">, path: string, what: File | "folder" | undefined): void {
  if (what === undefined) names.delete(path);
  else names.set(path, what);
}

function survives(survival: Survival): boolean {
  return typeof survival === "function" ? survival() < 0.5 : survival === "everything";
}

function contentOf(file: File, survival: Survival): Buffer {
  let content: Buffer<ArrayBuffer> = Buffer.from(file.durable);
  for (const { at, bytes } of file.pending) {
    if (survival === "nothing") break;
    // A third whole, a third not at all, a third torn.
    const roll = typeof survival === "function" ? survival() : 0;
    if (roll > 2 / 3) continue;
    if (bytes === undefined) {
      content = resized(content, at);
      continue;
    }
    if (at + bytes.length > content.length) content = resized(content, at + bytes.length);
    if (roll <= 1 / 3) content.set(bytes, at);
    else if (typeof survival === "function") tear(content, at, bytes, survival);
  }
  return content;
}

function tear(content: Buffer, at: number, bytes: Buffer, random: Random): void {
  for (let from = at; from < at + bytes.length; ) {
    const to = Math.min(at + bytes.length, (Math.floor(from / SECTOR_BYTES) + 1) * SECTOR_BYTES);
    if (random() < 0.5) content.set(bytes.subarray(from - at, to - at), from);
    from = to;
  }
}

function resized(content: Buffer, length: number): Buffer<ArrayBuffer> {
  const longer = Buffer.alloc(length);
  content.copy(longer, 0, 0, Math.min(length, content.length));
  return longer;
}
