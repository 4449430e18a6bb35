// state.writable: whether the state directory can be written and has room. Without it restarts lose totals.
import { mkdtempSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { existingFolder } from "../../store/private-files.ts";
import { stateRemedy } from "../../store/state-folder.ts";
import type { Check, Finding } from "./check.ts";

const ID = "state.writable";
const FREE_BYTES_LEAST = 256 * 1024 * 1024;

/** Writes to the state directory. */
export const stateCheck: Check = {
  ids: [ID],
  run: async ({ loaded }) => (loaded === undefined ? [] : [judgeState(loaded.config.stateDir)]),
};

/** The verdict on a state directory. One that is missing is judged by its parent and not made: who made it would own it. Exported for its test: folders of every kind. */
export function judgeState(folder: string): Finding {
  let present = true;
  try {
    const written = existingFolder(folder);
    present = written === folder;
    const probe = mkdtempSync(join(written, ".tokenwatt-doctor-"));
    try {
      writeFileSync(join(probe, "probe"), "tokenwatt", { flush: true });
    } finally {
      rmSync(probe, { recursive: true, force: true });
    }
    const { bavail, bsize } = statfsSync(written);
    const freeBytes = bavail * bsize;
    const facts = { folder, present, freeBytes };
    const seen = `${folder} can be ${present ? "written" : "made"}, ${mebibytes(freeBytes)} free`;
    if (freeBytes < FREE_BYTES_LEAST) {
      const remedy = `make room: at least ${mebibytes(FREE_BYTES_LEAST)} are wanted`;
      return { id: ID, verdict: "warn", seen, remedy, facts };
    }
    return { id: ID, verdict: "ok", seen, facts };
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? (error as Error).message;
    const seen = `cannot ${present ? "write to" : "make"} ${folder}: ${code}`;
    return { id: ID, verdict: "fail", seen, remedy: stateRemedy(code) };
  }
}

function mebibytes(bytes: number): string {
  return `${Math.floor(bytes / 1024 / 1024).toLocaleString("en-US")} MiB`;
}
