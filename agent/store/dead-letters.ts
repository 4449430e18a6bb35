// Requests a destination refused for good, kept for a person to look at: one file each, bounded, oldest dropped first.
// `<when refused>-<seconds of its newest point>-<points>-<destination>-<why>.otlp.gz` holds an ExportMetricsServiceRequest
// as it was sent: `zcat`, then any OTLP tool decodes it. Agent and command line share the folder: a letter may be gone
// between two calls.
import { promisify } from "node:util";
import { gunzip, gzip } from "node:zlib";
import type { Files } from "./spool/files.ts";
import { diskFiles } from "./spool/files.ts";

const pack = promisify(gzip);
const unpack = promisify(gunzip);
const FILES_MAX = 2_000;
const BYTES_MAX = 256 * 1024 * 1024;
/** A request stays under 4 MiB; whoever puts a larger file there does not fill our memory. */
const LETTER_BYTES_MAX = 16 * 1024 * 1024;
const NAME = /^(\d{18})-(?:(\d+)-(\d+)-)?(.+)-([A-Za-z0-9_]+)\.otlp(\.gz)?$/;

/** Where dead letters lie in a state directory. */
export function deadLetterFolder(stateDir: string): string {
  return `${stateDir}/dead-letters`;
}

/** What is known of a refused request. */
export interface Refusal {
  readonly destination: string;
  readonly why: string;
  readonly points: number;
  /** Time of its newest point, unix seconds. */
  readonly dataSeconds: number;
  /** When it was refused. */
  readonly unixMs: number;
}

/** A kept letter; of one that an older version kept, points and time of its data are not known. */
export interface DeadLetter extends Omit<Refusal, "points" | "dataSeconds"> {
  /** 18 digits, ascending in the order letters were kept. */
  readonly id: string;
  readonly points: number | undefined;
  readonly dataSeconds: number | undefined;
  readonly file: string;
}

/** Keeps refused requests in a folder. */
export interface DeadLetters {
  /** Keeps one; it is on the disk when it resolves. Never rejects: false when it could not be kept. */
  put(refusal: Refusal, bytes: Uint8Array): Promise<boolean>;
  /** Every letter, oldest first; none where there is no folder. Rejects when the folder cannot be read. */
  list(): Promise<DeadLetter[]>;
  /** A letter's request; undefined when it is gone or is no letter. */
  read(letter: DeadLetter): Promise<Uint8Array | undefined>;
  /** Removes one; false when it was gone already. */
  remove(letter: DeadLetter): Promise<boolean>;
}

/** Opens the folder; it is made with the first letter. `onDrop` hears of what the bounds drop. */
export function openDeadLetters(options: {
  readonly folder: string;
  readonly filesMax?: number;
  readonly bytesMax?: number;
  readonly files?: Files;
  readonly onDrop?: (letter: DeadLetter) => void;
}): DeadLetters {
  const { folder, filesMax = FILES_MAX, bytesMax = BYTES_MAX, files = diskFiles } = options;
  let turn: Promise<unknown> = Promise.resolve();
  const list = async (): Promise<DeadLetter[]> => {
    const names = await files.list(folder).catch(absentIsEmpty);
    return names.sort().flatMap((name) => letterOf(name) ?? []);
  };
  const remove = async (letter: DeadLetter): Promise<boolean> =>
    files.remove(`${folder}/${letter.file}`).then(() => true, goneIsFalse);
  const makeRoom = async (letters: readonly DeadLetter[], bytes: number): Promise<void> => {
    const sizes = await Promise.all(letters.map((one) => files.size(`${folder}/${one.file}`).catch(() => 0)));
    let total = sizes.reduce((sum, size) => sum + size, bytes);
    for (const [index, letter] of letters.entries()) {
      if (letters.length - index < filesMax && total <= bytesMax) return;
      total -= sizes[index] ?? 0;
      if (await remove(letter)) options.onDrop?.(letter);
    }
  };
  const put = async (refusal: Refusal, bytes: Uint8Array): Promise<boolean> => {
    try {
      const packed = await pack(bytes, { level: 1 });
      await files.makeFolder(folder);
      const letters = await list();
      await makeRoom(letters, packed.length);
      const file = await files.open(`${folder}/${nameOf(refusal, letters.at(-1)?.id)}`, "create");
      try {
        await file.write(packed, 0);
        await file.sync();
      } finally {
        await file.close();
      }
      await files.syncFolder(folder);
      return true;
    } catch {
      return false;
    }
  };
  return {
    list,
    remove,
    put: (refusal, bytes) => {
      const mine = turn.then(() => put(refusal, bytes));
      turn = mine;
      return mine;
    },
    read: async (letter) => {
      const bytes = await readWhole(files, `${folder}/${letter.file}`);
      if (bytes === undefined || !letter.file.endsWith(".gz")) return bytes;
      return unpack(bytes, { maxOutputLength: LETTER_BYTES_MAX }).catch(() => undefined);
    },
  };
}

async function readWhole(files: Files, path: string): Promise<Buffer | undefined> {
  try {
    const file = await files.open(path, "read");
    try {
      const size = await file.size();
      return size > LETTER_BYTES_MAX ? undefined : await file.read(0, size);
    } finally {
      await file.close();
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** The name of a new letter: after every other, whatever the clock says. */
function nameOf({ dataSeconds, destination, points, unixMs, why }: Refusal, newest = "0"): string {
  const now = BigInt(Math.max(0, Math.round(unixMs))) * 10_000n;
  const id = now > BigInt(newest) ? now : BigInt(newest) + 1n;
  const [to, reason] = [destination, why].map((text) => text.replace(/[^A-Za-z0-9_]/g, "-").slice(0, 40));
  const stamp = String(id).padStart(18, "0");
  return `${stamp}-${Math.max(0, Math.round(dataSeconds))}-${points}-${to}-${reason?.replace(/-/g, "_")}.otlp.gz`;
}

function letterOf(file: string): DeadLetter | undefined {
  const [, id = "", seconds, points, destination = "", why = ""] = NAME.exec(file) ?? [];
  if (id === "") return undefined;
  const known = (text: string | undefined): number | undefined => (text === undefined ? text : Number(text));
  const unixMs = Number(BigInt(id) / 10_000n);
  return { id, file, destination, why, unixMs, points: known(points), dataSeconds: known(seconds) };
}

function absentIsEmpty(error: NodeJS.ErrnoException): string[] {
  if (error.code === "ENOENT") return [];
  throw error;
}

function goneIsFalse(error: NodeJS.ErrnoException): false {
  if (error.code === "ENOENT") return false;
  throw error;
}
