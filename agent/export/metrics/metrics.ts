// Every metric tokenwatt exports. METERING.md 5 is the contract; METRICS.md beside this folder is generated from here and
// a test fails when they differ. Rows live in servers.ts, gpus.ts and agent.ts, one file a family.
import { agentMetrics } from "./agent.ts";
import { gpuMetrics } from "./gpus.ts";
import type { Metric } from "./metric.ts";
import { policyMetrics } from "./policy.ts";
import { serverMetrics } from "./servers.ts";

/** Every metric, in the order of METRICS.md. */
export const metrics: readonly Metric[] = [
  ...serverMetrics,
  ...gpuMetrics,
  ...agentMetrics,
  ...policyMetrics,
];

const byName: ReadonlyMap<string, Metric> = new Map(metrics.map((metric) => [metric.name, metric]));

/** The row of a metric, undefined when no such metric is exported. */
export function findMetric(name: string): Metric | undefined {
  return byName.get(name);
}
