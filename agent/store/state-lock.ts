// One agent per state directory. The lock is SQLite's own exclusive lock on a small file, held for the life of the
// process: the kernel drops it when the process dies, however it dies, so there is no stale lock to remove by hand.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

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
  const database = new DatabaseSync(join(folder, "agent.lock"), { timeout: 0 });
  try {
    database.exec("PRAGMA journal_mode = DELETE");
    database.exec("BEGIN EXCLUSIVE");
  } catch (error) {
    database.close();
    if (!String((error as Error).message).includes("locked")) throw error;
    throw new StateLocked(folder, readPid(pidFile));
  }
  writeFileSync(pidFile, `${pid}\n`);
  return () => database.close();
}

function readPid(path: string): number {
  try {
    return Number.parseInt(readFileSync(path, "utf8"), 10) || 0;
  } catch {
    return 0;
  }
}
