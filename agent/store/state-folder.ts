// The state folder: where its files lie, the agent's id in it, the lock that keeps a second agent out, and what to do
// where it cannot be used. The lock is SQLite's own exclusive lock on a small file, held for the life of the process: the
// kernel drops it when the process dies, however it dies, so there is no stale lock to remove by hand.
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Log } from "../platform/log.ts";
import { makeFolder, makePrivateFile, writePrivateFile } from "./private-files.ts";

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** The ledger's file in a state folder. */
export function ledgerPath(folder: string): string {
  return join(folder, "ledger.db");
}

/** The id kept in `stateDir`, made at the first start. Where the folder cannot be written it lasts for this process. */
export function instanceId(stateDir: string, log: Log): string {
  const file = join(stateDir, "instance-id");
  try {
    const kept = readFileSync(file, "utf8").trim();
    if (UUID.test(kept)) return kept;
  } catch {
    // Not there yet, or not readable: the write below says which.
  }
  const fresh = randomUUID();
  try {
    makeFolder(stateDir);
    writePrivateFile(file, `${fresh}\n`);
  } catch (error) {
    log.warn("state folder cannot be written, series start from scratch with each start", {
      cause: (error as Error).message,
      hint: stateRemedy(error),
    });
  }
  return fresh;
}

/** The directory belongs to another agent; `pid` is 0 where that one did not say. */
export class StateLocked extends Error {
  readonly pid: number;
  readonly hint = "stop the other agent, or give this one a state directory of its own (stateDir)";

  constructor(folder: string, pid: number) {
    const who = pid > 0 ? `process ${pid}` : "another process";
    super(`Cannot use state directory ${folder}: ${who} is metering into it`);
    this.name = "StateLocked";
    this.pid = pid;
  }
}

/** Takes the lock of a state directory, or throws `StateLocked`. Call the result to give it back. */
export function lockState(folder: string, pid: number): () => void {
  const pidFile = join(folder, "agent.pid");
  // Loaded where a lock is taken, not with this file: most commands name files of the folder and need no SQLite.
  const { DatabaseSync } = process.getBuiltinModule("node:sqlite");
  const lockFile = join(folder, "agent.lock");
  makePrivateFile(lockFile);
  const database = new DatabaseSync(lockFile, { timeout: 0 });
  try {
    database.exec("PRAGMA journal_mode = DELETE");
    database.exec("BEGIN EXCLUSIVE");
  } catch (error) {
    database.close();
    if (!String((error as Error).message).includes("locked")) throw error;
    throw new StateLocked(folder, readPid(pidFile));
  }
  writePrivateFile(pidFile, `${pid}\n`);
  return () => database.close();
}

function readPid(path: string): number {
  try {
    return Number.parseInt(readFileSync(path, "utf8"), 10) || 0;
  } catch {
    return 0;
  }
}

/** What to do about a failure to write there; `error` is the error, its code or its message. */
export function stateRemedy(error: unknown): string {
  const known = (error as NodeJS.ErrnoException | undefined)?.code;
  const text = error instanceof Error ? error.message : String(error);
  // SQLite says it in words of its own.
  const code = text === "database or disk is full" ? "ENOSPC" : /^E[A-Z]+/.exec(known ?? text)?.[0];
  return REMEDIES[code ?? ""] ?? "choose another folder with stateDir";
}

const REMEDIES: Readonly<Record<string, string>> = {
  EACCES: "give this user the folder (`chown`), or choose another with stateDir",
  EPERM: "give this user the folder (`chown`), or choose another with stateDir",
  EROFS:
    "the file system is read-only: under systemd use StateDirectory=tokenwatt, in a pod mount a volume there",
  ENOSPC: "the disk is full: make room, or choose another with stateDir",
  ENOTDIR: "a part of the path is a file: choose another folder with stateDir",
  ENOENT:
    "no folder can be made there (a link that leads nowhere, or a file system such as /proc): choose another with stateDir",
  ELOOP:
    "a part of the path is a symbolic link where none may be: remove it, or choose another folder with stateDir",
  EEXIST: "the path is a file: choose another folder with stateDir",
};
