// The metrics table as the Markdown page METRICS.md: names on both roads out (OTLP and Prometheus), unit, attributes.
// `tokenwatt metrics` prints it, `npm run generate` writes it, a test compares it.

import { selfMetrics } from "../self/names.ts";
import { GENAI_CONVENTION } from "./genai-names.ts";
import type { Metric } from "./metric.ts";
import { metrics } from "./metrics.ts";
import { prometheusName } from "./prometheus-names.ts";

const HEAD = `# Metrics

Generated from \`agent/export/metrics/metrics.ts\` by \`npm run generate\`; do not edit. Scope \`tokenwatt\`, cumulative only.
Totals are additive: a ratio is a quotient of sums over any window and group, never a mean of ratios.
GenAI names follow ${GENAI_CONVENTION}. On \`/metrics\` attribute keys have \`_\` for \`.\`, and each series carries
\`host_name\` and \`k8s_node_name\` where known.
`;

const SELF = `
## The agent itself

Scope \`tokenwatt.agent\`, over OTLP only, through the OpenTelemetry SDK: from the process' start, without the spool.
`;

/** The page, ending in a newline. */
export function metricsPage(): string {
  const rows = metrics.map(
    (metric) =>
      `| \`${metric.name}\` | ${type(metric)} | ${metric.unit} | ${metric.attributes.map((key) => `\`${key}\``).join(" ")} | \`${prometheusName(metric)}\` | ${metric.stability} | ${metric.description} |`,
  );
  const header = "| OTLP name | type | unit | attributes | Prometheus name | stability | meaning |";
  const own = Object.values(selfMetrics).map(
    ({ attributes, description, kind, name, unit }) =>
      `| \`${name}\` | ${kind} | ${unit} | ${attributes.map((key) => `\`${key}\``).join(" ")} | ${description} |`,
  );
  const contract = [header, "|---|---|---|---|---|---|---|", ...rows].join("\n");
  const self = ["| OTLP name | type | unit | attributes | meaning |", "|---|---|---|---|---|", ...own].join(
    "\n",
  );
  return `${HEAD}\n${contract}\n${SELF}\n${self}\n`;
}

function type(metric: Metric): string {
  if (metric.kind === "histogram") return "histogram";
  const kind = metric.kind === "level" ? "non-monotonic sum" : metric.kind;
  return `${kind}, ${metric.number}`;
}
