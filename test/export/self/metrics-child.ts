// Reports fixed figures once and leaves; run by metrics.test.ts.
import { startSelfMetrics } from "../../../agent/export/self/metrics.ts";

const reporting = await startSelfMetrics({
  destination: {
    name: "main",
    target: { target: process.argv[2] ?? "" },
    gzip: false,
    timeoutMs: 5_000,
    backlog: "strict",
  },
  resource: { "service.name": "tokenwatt" },
  intervalMs: 60_000,
  stats: () => ({
    exportedPoints: { main: 12 },
    droppedPoints: { main: { partial: 3 } },
    exportCalls: { main: 2 },
    exportSeconds: { main: 0.5 },
    retries: {},
    queuedRecords: 4,
    queuedBytes: 4096,
    lostPoints: { evicted_bytes: 40 },
    unsentSeconds: { main: 3600 },
    deadLetters: 5,
    ledgerHead: { length: 7, hash: "fedcba9876543210".repeat(4) },
    polls: { gpu: 100 },
    pollSeconds: { gpu: 1.5 },
    gaps: { gpu: 2 },
    sourceRestarts: { gpu: 1 },
  }),
});
await reporting.stop();
process.disconnect();
