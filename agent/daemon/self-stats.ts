// The agent's own work as plain numbers, for its self-metrics: what was shipped, queued, lost, polled and missed.

import type { SenderStatus } from "../export/otlp/sender-status.ts";
import type { SelfStats } from "../export/self/metrics.ts";
import type { SpoolStatus } from "../store/spool/spool.ts";
import type { SourceHealth } from "./source-health.ts";

/** Totals since start, by destination and source. */
export function selfStats(
  senders: readonly SenderStatus[],
  spool: SpoolStatus,
  deadLetters: number,
  health: SourceHealth,
  restarts: Readonly<Record<string, number>>,
  ledgerHead: SelfStats["ledgerHead"],
): SelfStats {
  const by = (pick: (status: SenderStatus) => number): Record<string, number> =>
    Object.fromEntries(senders.map((status) => [status.destination, pick(status)]));
  const sources = [...health.entries()];
  return {
    exportedPoints: by((status) => status.sentPoints),
    droppedPoints: Object.fromEntries(senders.map((status) => [status.destination, status.droppedPoints])),
    exportCalls: by((status) => status.calls),
    exportSeconds: by((status) => status.exportSeconds),
    retries: by((status) => status.retries),
    queuedRecords: spool.records,
    queuedBytes: spool.bytes,
    lostPoints: spool.lostPointsBy,
    unsentSeconds: by((status) => status.unsentSeconds),
    deadLetters,
    ledgerHead,
    polls: Object.fromEntries(sources.map(([source, one]) => [source, one.reads])),
    pollSeconds: Object.fromEntries(sources.map(([source, one]) => [source, one.readNanos / 1e9])),
    gaps: Object.fromEntries(sources.map(([source, one]) => [source, one.failures])),
    sourceRestarts: restarts,
  };
}
