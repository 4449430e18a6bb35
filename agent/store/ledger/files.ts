// The files of an open ledger, held open beside SQLite to be synced by threads of libuv's pool, and watched: what is
// committed to a file that was removed, or that the disk failed to take, is gone with this process.
// Closing any descriptor of the database gives away SQLite's locks on it (POSIX, fcntl(2)), so this one is opened before
// SQLite's and closed after it. SQLite holds no lock on the journal.
import {
  closeSync,
  constants,
  existsSync,
  fdatasync,
  fdatasyncSync,
  fstatSync,
  futimes,
  openSync,
} from "node:fs";
import { promisify } from "node:util";
import { isSameFile } from "./file-identity.ts";
import type { Pause } from "./steps.ts";

const datasync = promisify(fdatasync);
const touch = promisify(futimes);

/** The ledger was removed or replaced while it was open, or the disk failed to keep it: only opening it again helps. */
export class LedgerGone extends Error {
  constructor(path: string, why: string, cause?: unknown) {
    super(`Cannot commit to ${path}: ${why}`, cause === undefined ? {} : { cause });
    this.name = "LedgerGone";
  }
}

/** The database and its journal. */
export class LedgerFiles {
  readonly #path: string;
  readonly #file: number;
  readonly #inode: bigint;
  #journal: OpenJournal | undefined;
  #failure: LedgerGone | undefined;

  /** Opens a database that is there. */
  constructor(path: string) {
    this.#path = path;
    this.#file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    this.#inode = fstatSync(this.#file, { bigint: true }).ino;
  }

  /** Whether a sync failed: SQLite knows nothing of it, and must not tidy up on the strength of what it believes stored. */
  get isFailed(): boolean {
    return this.#failure !== undefined;
  }

  /** Throws LedgerGone when the files are no longer what is committed to. */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure;
    // First: of a folder that was removed nothing else can be asked.
    if (!isSameFile(this.#path, this.#inode)) throw removed(this.#path);
    // What was committed last lies in the journal alone: without its name a kill would lose it.
    const journal = `${this.#path}-wal`;
    if (!isSameFile(journal, this.#openJournal().inode)) throw removed(journal);
  }

  /**
   * Puts what was written to a file on the disk. Once that failed every later call fails: the kernel may have dropped what
   * it could not write, and would say of the next sync that all went well (fsync(2)).
   */
  async sync(what: Exclude<Pause, "turn">): Promise<void> {
    this.check();
    try {
      if (what === "disk") await this.#answer(this.#openJournal().file);
      await datasync(what === "file" ? this.#file : this.#openJournal().file);
    } catch (error) {
      const path = what === "file" ? this.#path : `${this.#path}-wal`;
      this.#failure ??= new LedgerGone(path, `the disk did not keep it: ${(error as Error).message}`, error);
      throw this.#failure;
    }
  }

  /** Puts the journal on the disk, and waits for it. */
  syncNow(): void {
    fdatasyncSync(this.#openJournal().file);
  }

  /** To be called once SQLite has closed the database. */
  close(): void {
    if (this.#journal !== undefined) closeSync(this.#journal.file);
    this.#journal = undefined;
    closeSync(this.#file);
  }

  /**
   * Comes back once the disk takes writes, so that those of the next step end in memory at once: a disk that hangs, or a file
   * system that is frozen for a snapshot, is waited for in a thread of the pool.
   */
  async #answer(file: number): Promise<void> {
    const { atimeMs, mtimeMs } = fstatSync(file);
    // Any answer will do: what is wrong is said of the write itself.
    await touch(file, atimeMs / 1000, mtimeMs / 1000).catch(() => {});
  }

  /** SQLite makes the journal when it first reads the database, and keeps it until that is closed. */
  #openJournal(): OpenJournal {
    if (this.#journal === undefined) {
      const path = `${this.#path}-wal`;
      if (!existsSync(path)) throw removed(path);
      const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
      this.#journal = { file, inode: fstatSync(file, { bigint: true }).ino };
    }
    return this.#journal;
  }
}

interface OpenJournal {
  readonly file: number;
  readonly inode: bigint;
}

function removed(path: string): LedgerGone {
  return new LedgerGone(path, "it was removed or replaced while in use");
}
