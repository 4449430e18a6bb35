// clock.sane: whether this host's wall clock can be trusted with bucket and export times.
// The kernel's own answer (adjtimex) is out of reach from here; a time service that runs on the host leaves these marks.
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Check, CheckContext, Finding } from "./check.ts";

const ID = "clock.sane";
const SERVICES = [
  ["systemd-timesyncd", "run/systemd/timesync/synchronized"],
  ["chrony", "run/chrony/chronyd.pid"],
  ["chrony", "run/chronyd.pid"],
  ["ntpd", "run/ntpd.pid"],
] as const;

/** Judges the clock of this host. */
export const clockCheck: Check = { ids: [ID], run: async (context) => [judgeClock(context)] };

function judgeClock({ clock, root }: CheckContext): Finding {
  const now = new Date(Number(clock.unixNanos(clock.now()) / 1_000_000n));
  const built = statSync(new URL(import.meta.url)).mtimeMs;
  const iso = now.toISOString();
  if (now.getTime() < built - 86_400_000) {
    const remedy = "set the clock and keep it set: chrony, systemd-timesyncd or ntpd";
    return { id: ID, verdict: "fail", seen: `${iso} is older than this program's files`, remedy };
  }
  const service = SERVICES.find(([, mark]) => existsSync(join(root, mark)));
  if (service !== undefined) return { id: ID, verdict: "ok", seen: `${iso}, kept by ${service[0]}` };
  return {
    id: ID,
    verdict: "ok",
    seen: `${iso}; no time service is visible from here (a container cannot see the host's)`,
  };
}
