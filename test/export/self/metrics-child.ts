// Reports fixed figures once and leaves; run by metrics.test.ts.
import { startSelfMetrics } from "../../../agent/export/self/metrics.ts";
import { readSelf } from "../../../agent/export/self/points.ts";
import { fixedStats } from "./fixed-stats.ts";

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
  version: "1.2.3",
  read: () => readSelf(fixedStats, BigInt(Date.now()) * 1_000_000n),
});
await reporting.stop();
process.disconnect();
