// The file system as the spool uses it: one seam, so that tests can make the disk full or slow where they want.
import { constants } from "node:fs";
import { open, readdir, rename, stat, statfs, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import { FILE_MODE, makeFolder } from "../private-files.ts";

/** An open file; every method may fail with ENOSPC, EIO or EROFS. */
export interface OpenFile {
  write(bytes: Uint8Array, position: number): Promise<void>;
  /** Reads up to `length` bytes; fewer at the end of the file. */
  read(position: number, length: number): Promise<Buffer>;
  size(): Promise<number>;
  /** Whether `path` still names this file: a removed or replaced one is gone with this process. */
  isNamed(path: string): Promise<boolean>;
  truncate(length: number): Promise<void>;
  /** Data is on the disk when it resolves. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** The file system calls of the spool, so that a test can lose or reorder them. */
export interface Files {
  /** Makes a folder and those above it that are missing; their names are on the disk when it resolves. */
  makeFolder(path: string): Promise<void>;
  list(path: string): Promise<string[]>;
  /** Bytes of a file that is not open. */
  size(path: string): Promise<number>;
  /** `create` fails when the file exists, `read` and `update` when it does not. */
  open(path: string, how: "create" | "update" | "read"): Promise<OpenFile>;
  remove(path: string): Promise<void>;
  move(from: string, to: string): Promise<void>;
  /** Makes created, moved and removed names of a folder durable. */
  syncFolder(path: string): Promise<void>;
  freeBytes(path: string): Promise<number>;
}

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDONLY, O_RDWR } = constants;
/** None follows a link. */
const FLAGS = {
  create: O_RDWR | O_CREAT | O_EXCL,
  update: O_RDWR | O_NOFOLLOW,
  read: O_RDONLY | O_NOFOLLOW,
} as const;

/** The disk. */
export const diskFiles: Files = {
  makeFolder: async (path) => {
    const first = makeFolder(path);
    if (first === undefined) return;
    for (let made = path; made.length >= first.length; made = dirname(made)) await syncFolder(dirname(made));
  },
  list: (path) => readdir(path),
  size: async (path) => (await stat(path)).size,
  remove: (path) => unlink(path),
  move: (from, to) => rename(from, to),
  freeBytes: async (path) => {
    const { bavail, bsize } = await statfs(path);
    return bavail * bsize;
  },
  syncFolder,
  open: async (path, how) => {
    const file = await open(path, FLAGS[how], FILE_MODE);
    return {
      write: async (bytes, position) => {
        for (let done = 0; done < bytes.length; ) {
          const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
          done += bytesWritten;
        }
      },
      read: async (position, length) => {
        const buffer = Buffer.allocUnsafe(length);
        let done = 0;
        while (done < length) {
          const { bytesRead } = await file.read(buffer, done, length - done, position + done);
          if (bytesRead === 0) break;
          done += bytesRead;
        }
        return buffer.subarray(0, done);
      },
      size: async () => (await file.stat()).size,
      isNamed: async (name) => {
        const [own, named] = await Promise.all([file.stat(), stat(name).catch(() => undefined)]);
        return named?.ino === own.ino && named.dev === own.dev;
      },
      truncate: (length) => file.truncate(length),
      sync: () => file.datasync(),
      close: () => file.close(),
    };
  },
};

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
