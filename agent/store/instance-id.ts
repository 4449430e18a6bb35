// `service.instance.id`, kept in the state folder: after a restart the same series go on, not new ones beside the old.
import { randomUUID } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Log } from "../platform/log.ts";
import { stateRemedy } from "./state-folder.ts";

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

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
    mkdirSync(stateDir, { recursive: true, mode: 0o750 });
    writeFileSync(file, `${fresh}\n`, { mode: 0o640 });
  } catch (error) {
    log.warn("state folder cannot be written, series begin anew with each start", {
      cause: (error as Error).message,
      hint: stateRemedy(error),
    });
  }
  return fresh;
}
