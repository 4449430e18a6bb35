// One set of the agent's own figures, for tests of every way they go out.
import type { SelfStats } from "../../../agent/export/self/points.ts";

/** Fixed figures of one destination and one source. */
export const fixedStats: SelfStats = {
  exportedPoints: { main: 12 },
  droppedPoints: { main: { partial: 3 } },
  exportDurations: { main: { "": { bounds: [0.1, 1], counts: [1, 1, 0], sum: 0.5, count: 2 } } },
  retries: { main: 1 },
  queuedRecords: 4,
  queuedBytes: 4096,
  lostPoints: { evicted_bytes: 40 },
  unsentSeconds: { main: 3600 },
  deadLetters: 5,
  ledgerHead: { length: 7, hash: "fedcba9876543210".repeat(4) },
  loopDelaySeconds: 0.02,
  polls: { gpu: 100 },
  pollSeconds: { gpu: 1.5 },
  gaps: { gpu: 2 },
  sourceRestarts: { gpu: 1 },
  rlsCalls: { OK: 30, INVALID_ARGUMENT: 1 },
  rlsSeconds: 0.004,
  orcaStreams: 2,
  auditWaiting: { main: 9 },
  auditLost: { main: 1 },
};
