// How the sources are read that quotas count from: whether there is one, and since when one of them cannot be read.
import type { Family } from "../model.ts";
import type { Clock } from "../platform/clock.ts";
import type { QuotaFeed } from "../policy/states.ts";
import type { Intake } from "./intake.ts";

/** The feed of a family, as the health of its sources says now. */
export function quotaFeed(
  { health, servers }: Pick<Intake, "health" | "servers">,
  family: Family,
  clock: Clock,
): QuotaFeed {
  let isFed = false;
  let failingSince: number | undefined;
  for (const server of servers.values()) {
    if (server.family !== family) continue;
    isFed = true;
    const since = health.get(`server:${server.id}`)?.failingSince;
    if (since === undefined) continue;
    const sinceMillis = Number(clock.unixNanos(since) / 1_000_000n);
    failingSince = Math.min(failingSince ?? sinceMillis, sinceMillis);
  }
  return { isFed, failingSince };
}
