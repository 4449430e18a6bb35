// deploy/docs/queries.md: every KPI as PromQL and SQL, written from prometheus/kpis.ts.
import { bill } from "./clickhouse/rollup.ts";
import {
  compoundSql,
  increaseView,
  kpiSql,
  latencyView,
  percentileSql,
  stepView,
  usageSql,
} from "./clickhouse/sql.ts";
import { calendarRecord } from "./prometheus/calendar-rules.ts";
import type { GroupName, Kpi } from "./prometheus/kpis.ts";
import { durations, gatewayLatencies, intensity, kpis, latencies, totals } from "./prometheus/kpis.ts";
import {
  bucketsPromql,
  compoundPromql,
  groupLabels,
  kpiPromql,
  seriesName,
  totalPromql,
} from "./prometheus/promql.ts";
import { kpiRecord, totalRecord } from "./prometheus/recording-rules.ts";
import type { Usage } from "./prometheus/usages.ts";
import { usages } from "./prometheus/usages.ts";

const HEAD = `# Queries

Generated from \`deploy/prometheus/kpis.ts\` by \`node deploy/generate.ts\`; do not edit.

Every figure is a quotient of sums over one window and group, never a mean of quotients; an empty denominator gives no
value. Tokens of gateways and engines are two families and never added. A server over many hosts is joined by its
\`tokenwatt_server_id\` (\`attributes['tokenwatt.server.id']\`): give it one id on all of them, and the sums below are its own.

PromQL: replace the window at will. The recording rules hold the same over 5 minutes and 1 hour under the name given.
SQL: ClickHouse, tables of the Collector's exporter, three views; \`from\` and \`to\` are parameters (\`--param_from=...\`).

\`\`\`sql
${increaseView};

${stepView};

${latencyView};
\`\`\`
`;

/** The page. */
export function queriesPage(): string {
  return [
    HEAD,
    monthsSection(),
    ...usages.map(usageSection),
    ...kpis.map(section),
    intensitySection(),
    latencySection(),
    reconciliation(),
  ].join("\n");
}

function monthsSection(): string {
  return `## Months and years

The views above read every point. [rollup.sql](../clickhouse/rollup.sql) keeps the last value of each series in 15 minutes and in a
day, for as long as you like, and has the same views over them: write \`tokenwatt_increase_15m\`, \`tokenwatt_step_15m\` or
\`tokenwatt_latency_increase_15m\` in any query of this page: percentiles of a month are those of its counts, never a mean of hours'.
\`from\` and \`to\` are full quarters of an hour, of any time zone; anything else is refused. A series is older than
\`from\` if it had a point on the day (UTC) before or on the day itself. A rollup of before latencies were in it: run the script again.

A month's bill:

\`\`\`sql
${bill};
\`\`\`
`;
}

function usageSection({ groups, rate, title, total }: Usage): string {
  const by = groups.map((group) => {
    const name = group.replace("_", " ");
    return `<details><summary>by ${name}</summary>

A day that ends now; its rate is ${rate}, recorded as \`${totalRecord(total, group, "5m")}\` and \`${totalRecord(total, group, "1h")}\`.

\`\`\`promql
${totalPromql(total, group, "1d", [], "increase")}
${totalPromql(total, group, "5m")}
\`\`\`

\`\`\`sql
${usageSql(total, group, "day")};
\`\`\`

</details>
`;
  });
  return [
    `## ${title}`,
    "",
    "Hours, days and months of any time zone in SQL: `toStartOfHour`, `toStartOfDay` or `toStartOfMonth`, and `zone` such as",
    "`Europe/Berlin`. PromQL knows windows alone; [calendar rules](../prometheus/calendar-rules.yaml) record what was used with its",
    "local day and month as labels, the day of 23 hours among them:",
    "",
    "```promql",
    `sum by (${groupLabels(groups[0] ?? "fleet", totals[total].money).join(", ")}) (sum_over_time(${calendarRecord(total, groups[0] ?? "fleet")}{zone="Europe/Berlin",day="20260329"}[3d]))`,
    `sum by (day) (sum_over_time(${calendarRecord(total, groups[0] ?? "fleet")}{zone="Europe/Berlin",month="202603"}[40d]))`,
    "```",
    "",
    ...by,
  ].join("\n");
}

function section(kpi: Kpi): string {
  const [first = "fleet"] = kpi.groups;
  const others = kpi.groups.slice(1).map((group) => detail(kpi, group));
  return [`## ${kpi.title}`, "", body(kpi, first), ...others].join("\n");
}

function body(kpi: Kpi, group: GroupName): string {
  const promql = kpiPromql(kpi, group, "1h");
  return `By ${group.replace("_", " ")}; recorded as \`${kpiRecord(kpi.name, group, "1h")}\`.

\`\`\`promql
${promql}
\`\`\`

\`\`\`sql
${kpiSql(kpi, group)};
\`\`\`
`;
}

function detail(kpi: Kpi, group: GroupName): string {
  return `<details><summary>by ${group.replace("_", " ")}</summary>

${body(kpi, group)}
</details>
`;
}

function intensitySection(): string {
  const parts = intensity.groups.map((group) => {
    const text = `By ${group.replace("_", " ")}; recorded as \`${kpiRecord(intensity.name, group, "1h")}\`.

\`\`\`promql
${compoundPromql(intensity, group, "1h")}
\`\`\`

\`\`\`sql
${compoundSql(intensity, group)};
\`\`\`
`;
    return group === "fleet"
      ? text
      : `<details><summary>by ${group.replace("_", " ")}</summary>\n\n${text}\n</details>\n`;
  });
  return [`## ${intensity.title}`, "", ...parts].join("\n");
}

function latencySection(): string {
  const names = latencies.map((name) => `\`${seriesName(name)}\``).join(", ");
  const customers = gatewayLatencies.map((name) => `\`${seriesName(name)}\``).join(", ");
  return `## Percentiles

p50, p90, p95 and p99 of ${names} are recorded by server, replica and model; of
${customers}, what customers saw, by model, endpoint and tenant. Buckets are as the servers publish them: sum only
servers of one kind and version. They are of requests that were served: that went well, or of which their source does not say
how they ended (no \`tokenwatt_outcome\`). Those that are known to have failed are in none of them; how long these took is recorded beside
(\`${durations.map((name) => `${seriesName(name)}_failed`).join("`, `")}\`, p50 and p99).

\`\`\`promql
histogram_quantile(0.95, ${bucketsPromql(latencies[0] ?? "", "server", "5m")})
histogram_quantile(0.99, ${bucketsPromql(durations[1] ?? "", "endpoint", "5m", "failed")})
\`\`\`

\`\`\`sql
${percentileSql(latencies[0] ?? "", "server", 95)};
\`\`\`

\`\`\`sql
${percentileSql(gatewayLatencies[0] ?? "", "endpoint", 95)};
\`\`\`

\`\`\`sql
${percentileSql(durations[1] ?? "", "endpoint", 99, "failed")};
\`\`\`
`;
}

function reconciliation(): string {
  return `## Engines against gateways

What engines made and no gateway accounted for: aborted requests, retries, traffic that passes the gateway by.

\`\`\`promql
sum by (gen_ai_request_model) (increase(tokenwatt_tokens_total[1d])) - sum by (gen_ai_request_model) (increase(tokenwatt_gateway_tokens_total[1d]))
\`\`\`

\`\`\`sql
SELECT attributes['gen_ai.request.model'] AS model,
    sumIf(increase, metric = 'tokenwatt.tokens') - sumIf(increase, metric = 'tokenwatt.gateway.tokens') AS difference
FROM tokenwatt_increase(from = {from:DateTime64(9)}, to = {to:DateTime64(9)})
GROUP BY model
ORDER BY model;
\`\`\`
`;
}
