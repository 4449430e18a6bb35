// Files that an operator names: a configuration, prices, certificates, tokens. Only regular files of bounded size are
// read: a pipe or a device would stop the whole process or never end, and a folder or a wrong name is said plainly.
import { createHash } from "node:crypto";
import { closeSync, constants, fstatSync, openSync, readSync, statSync } from "node:fs";
import { resolve } from "node:path";

/** Most bytes of a file an operator names; about ten thousand prices fit. */
const FILE_BYTES_MAX = 1024 * 1024;

/** Why a file could not be read: `Cannot read ca.pem: there is no such file`. */
export class FileError extends Error {
  /** The system's code, `EINVAL` for a file of another kind or size than wanted. */
  readonly code: string;
  readonly path: string;
  /** The end of a sentence: "there is no such file". */
  readonly reason: string;

  constructor(path: string, code: string, reason: string) {
    super(`Cannot read ${path}: ${reason}`);
    this.name = "FileError";
    this.code = code;
    this.path = path;
    this.reason = reason;
  }
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file",
  ENOTDIR: "a part of its path is no folder",
  EACCES: "this user may not read it",
  EPERM: "this user may not read it",
  EISDIR: "it is a folder",
  ELOOP: "its symbolic links form a circle",
  ENAMETOOLONG: "its name is too long",
};

/** The bytes of a regular file, by default of at most 1 MiB. Never waits for a writer. Throws FileError. */
export function readFileOf(path: string, bytesMax = FILE_BYTES_MAX): Buffer {
  let open: number | undefined;
  try {
    // Opening can act on a device, so it is looked at first; between the two it may have been replaced.
    refuseOthers(statSync(path), bytesMax);
    open = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    refuseOthers(fstatSync(open), bytesMax);
    return readAll(open, bytesMax);
  } catch (error) {
    const { code = "EINVAL", message } = error as NodeJS.ErrnoException;
    throw new FileError(path, code, REASONS[code] ?? message);
  } finally {
    if (open !== undefined) closeSync(open);
  }
}

/** The text of a regular file of at most 1 MiB. Throws FileError. */
export function readTextOf(path: string): string {
  return readFileOf(path).toString("utf8");
}

/** Which file it is, whose, from when and what it holds; for the record of what it changed. */
export interface FileFacts {
  readonly file: string;
  readonly uid: number;
  /** When it was written, ISO 8601. */
  readonly modified: string;
  /** The first 12 digits of its SHA-256. */
  readonly digest: string;
}

/** The facts of a regular file; undefined where it cannot be read. */
export function fileFacts(path: string): FileFacts | undefined {
  try {
    const { mtime, uid } = statSync(path);
    const digest = createHash("sha256").update(readFileOf(path)).digest("hex").slice(0, 12);
    return { file: resolve(path), uid, modified: mtime.toISOString(), digest };
  } catch {
    return undefined;
  }
}

type Stats = ReturnType<typeof fstatSync>;

function refuseOthers(stats: Stats, bytesMax: number): void {
  if (!stats.isFile()) throw new Error(`it is ${kindOf(stats)}, wanted a regular file`);
  if (stats.size > bytesMax) throw tooLarge(`${stats.size} bytes`, bytesMax);
}

function kindOf(stats: Stats): string {
  if (stats.isDirectory()) return "a folder";
  if (stats.isFIFO()) return "a pipe";
  if (stats.isSocket()) return "a socket";
  return "a device";
}

function tooLarge(seen: string, bytesMax: number): Error {
  return new Error(`it has ${seen}, wanted at most ${bytesMax}`);
}

/** Files of /proc and /sys say 0 bytes and hold some, so only the end of it says its size. */
function readAll(open: number, bytesMax: number): Buffer {
  const chunks: Buffer[] = [];
  let total = 0;
  for (;;) {
    const chunk = Buffer.allocUnsafe(65_536);
    const bytes = readSync(open, chunk);
    if (bytes === 0) return Buffer.concat(chunks, total);
    total += bytes;
    if (total > bytesMax) throw tooLarge("more", bytesMax);
    chunks.push(chunk.subarray(0, bytes));
  }
}
