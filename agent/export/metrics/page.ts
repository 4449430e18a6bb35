// The metrics table as the Markdown page METRICS.md: names on both roads out (OTLP and Prometheus), unit, attributes.
// `tokenwatt metrics` prints it, `npm run generate` writes it, a test compares it.

import { selfMetrics } from "../self/names.ts";
import { CONVENTIONS } from "./conventions.ts";
import type { Metric } from "./metric.ts";
import { metrics } from "./metrics.ts";
import { prometheusName } from "./prometheus-names.ts";

const HEAD = `# Metrics

Generated from \`agent/export/metrics/metrics.ts\` by \`npm run generate\`; do not edit. Scope \`tokenwatt\`, cumulative only.
Totals are additive: a ratio is a quotient of sums over any window and group, never a mean of ratios.
Names that are not ours follow ${CONVENTIONS}. On \`/metrics\` attribute keys have \`_\` for \`.\`, and each series carries
\`host_name\` and \`k8s_node_name\` where known.
`;

const SELF = `
## The agent itself

Scope \`tokenwatt.agent\`: over OTLP through the OpenTelemetry SDK, from the process' start, without the spool; on \`/metrics\`
beside the others.
`;

/** The page, ending in a newline. */
export function metricsPage(): string {
  return `${HEAD}\n${table(metrics)}\n${SELF}\n${table(Object.values(selfMetrics))}\n`;
}

function table(rows: readonly Metric[]): string {
  const lines = rows.map(
    (metric) =>
      `| \`${metric.name}\` | ${type(metric)} | ${metric.unit} | ${metric.attributes.map((key) => `\`${key}\``).join(" ")} | \`${prometheusName(metric)}\` | ${metric.stability} | ${metric.description} |`,
  );
  const header = "| OTLP name | type | unit | attributes | Prometheus name | stability | meaning |";
  return [header, "|---|---|---|---|---|---|---|", ...lines].join("\n");
}

function type(metric: Metric): string {
  if (metric.kind === "histogram") return "histogram";
  const kind = metric.kind === "level" ? "non-monotonic sum" : metric.kind;
  return `${kind}, ${metric.number}`;
}
