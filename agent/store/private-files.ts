// Files and folders of the state folder: for the agent's user to write and its group to read, 0640 and 0750, whatever the
// umask was; never through a symbolic link, which another user might have put there. What was wider is narrowed.
import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  statSync,
  writeSync,
} from "node:fs";
import { dirname, join, resolve } from "node:path";

/** Mode of files. */
export const FILE_MODE = 0o640;
/** Mode of folders. */
const FOLDER_MODE = 0o750;
const ENTRIES_MAX = 20_000;
/** Files that are opened by name, some of them by SQLite, which follows links. */
const OWN_FILES = /^(ledger\.db(-wal|-shm)?|agent\.(lock|pid)|instance-id|tokenwatt\.pid)$/;

/** Makes a folder and those above it that are missing; returns the first one made, undefined where all were there. */
export function makeFolder(path: string): string | undefined {
  const missing: string[] = [];
  let at = resolve(path);
  for (; !isThere(at); at = dirname(at)) missing.unshift(at);
  if (missing.length === 0 && !statSync(at).isDirectory()) throw failure("EEXIST", `${path} is a file`);
  // One by one: Node's own recursive way never ends where a file system answers ENOENT for a name in a folder it has.
  for (const one of missing) makeOne(one);
  return missing[0];
}

/** The folder itself, or the closest one above it that is there. Throws for a link on the way that leads nowhere. */
export function existingFolder(path: string): string {
  let at = path;
  while (!isThere(at) && dirname(at) !== at) at = dirname(at);
  return at;
}

/** Writes a small file in whole; one that is a link is refused. */
export function writePrivateFile(path: string, text: string): void {
  const { O_CREAT, O_NOFOLLOW, O_TRUNC, O_WRONLY } = constants;
  const file = openSync(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, FILE_MODE);
  try {
    fchmodSync(file, FILE_MODE);
    writeSync(file, text);
  } finally {
    closeSync(file);
  }
}

/**
 * Makes an empty file where there is none: SQLite gives its journals the mode of the file it finds. One that is there is
 * not opened: closing it would give away locks of this process on it (POSIX).
 */
export function makePrivateFile(path: string): void {
  const { O_CREAT, O_EXCL, O_WRONLY } = constants;
  try {
    const file = openSync(path, O_WRONLY | O_CREAT | O_EXCL, FILE_MODE);
    fchmodSync(file, FILE_MODE);
    closeSync(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
}

/** What was found in a state folder that others could use. */
export interface Exposure {
  /** Narrowed now. */
  readonly narrowed: readonly string[];
  /** Still open to others, since it is another user's. */
  readonly open: readonly string[];
  /** Own files that are links, with what they point to. */
  readonly links: readonly string[];
}

/** Narrows a state folder and what is in it. Throws where it cannot be looked into. */
export function narrowFolder(folder: string): Exposure {
  const found = { narrowed: [] as string[], open: [] as string[], links: [] as string[] };
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) return found;
  narrowOne(folder, ".", found);
  let entries = 0;
  for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    if (entries++ >= ENTRIES_MAX) break;
    narrowOne(join(folder, name), name, found);
  }
  return found;
}

function narrowOne(path: string, name: string, found: { [K in keyof Exposure]: string[] }): void {
  const link = lstatSync(path, { throwIfNoEntry: false });
  if (link?.isSymbolicLink() && OWN_FILES.test(name)) found.links.push(`${name} -> ${readlinkSync(path)}`);
  const one = name === "." ? statSync(path, { throwIfNoEntry: false }) : link;
  if (one === undefined || !(one.isDirectory() || one.isFile())) return;
  const mode = one.mode & 0o777;
  const narrow = mode & (one.isDirectory() ? FOLDER_MODE : FILE_MODE);
  if (mode === narrow) return;
  const told = `${name} (${mode.toString(8).padStart(4, "0")})`;
  if (one.uid === process.geteuid?.()) {
    chmodSync(path, (one.mode & 0o7000) | narrow);
    found.narrowed.push(told);
  } else if ((mode & 0o007) !== 0) found.open.push(told);
}

/** Whether a path names something; throws for a link that leads nowhere, in whose place nothing can be made. */
function isThere(path: string): boolean {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found?.isSymbolicLink() && statSync(path, { throwIfNoEntry: false }) === undefined) {
    throw failure("ENOENT", `${path} is a link to ${readlinkSync(path)}, which is not there`);
  }
  return found !== undefined;
}

function makeOne(path: string): void {
  try {
    mkdirSync(path, { mode: FOLDER_MODE });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
}

function failure(code: string, message: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: ${message}`), { code });
}
