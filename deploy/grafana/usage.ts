// The usage board: who used how much, how fast and how well, by customer, model and endpoint; over the time chosen above.
// Gateway series name customers: they come by OTLP, or from a /metrics that shows tenants.
import type { GroupName, TotalName } from "../prometheus/kpis.ts";
import { gatewayLatencies, kpis } from "../prometheus/kpis.ts";
import { groupLabels, kpiPromql, seriesName, totalPromql } from "../prometheus/promql.ts";
import type { Dashboard, Panel } from "./panels.ts";
import { SELECTED } from "./panels.ts";

const RANGE = "$__range";
const R = "$__rate_interval";

const LEGENDS: Readonly<Partial<Record<GroupName, string>>> = {
  tenant: "{{tokenwatt_tenant}}",
  model: "{{gen_ai_request_model}}",
  endpoint: "{{tokenwatt_endpoint}}",
  kind: "{{tokenwatt_token_kind}}",
  outcome: "{{tokenwatt_outcome}}",
  server: "{{tokenwatt_server_id}}",
};
const legend = (group: GroupName, more = ""): string =>
  `${LEGENDS[group] ?? ""}${more} {{k8s_cluster_name}}`.trim();

/** A sum over the time chosen, largest first as a table. */
function used(title: string, total: TotalName, group: GroupName, unit: string, more = ""): Panel {
  const expr = `sort_desc(${totalPromql(total, group, RANGE, SELECTED, "increase")})`;
  return {
    ...{ title, type: "table", unit, width: 8, description: "Sum over the time chosen above." },
    queries: [{ expr, legend: legend(group, more), instant: true }],
  };
}

function rate(title: string, description: string, total: TotalName, group: GroupName, unit: string): Panel {
  const queries = [{ expr: totalPromql(total, group, R, SELECTED), legend: legend(group) }];
  return { title, description, type: "timeseries", unit, stacked: true, width: 12, queries };
}

function figure(title: string, name: string, group: GroupName, unit: string, more = ""): Panel {
  const kpi = kpis.find((one) => one.name === name);
  if (kpi === undefined) throw new Error(`No KPI ${name}`);
  const queries = [{ expr: kpiPromql(kpi, group, R, SELECTED), legend: legend(group, more) }];
  return { title, description: `${kpi.title}.`, type: "timeseries", unit, width: 12, queries };
}

/** p50, p95 and p99 by endpoint, of what customers saw. */
function percentiles(metric: string, title: string): Panel {
  const buckets = `${seriesName(metric)}_bucket{${SELECTED.join(",")}}`;
  const labels = [...groupLabels("endpoint"), "le"].join(", ");
  return {
    title,
    description: "Between two bounds of the gateway's own buckets observations are taken to lie evenly.",
    type: "timeseries",
    unit: "s",
    width: 12,
    queries: [50, 95, 99].map((percentile) => ({
      expr: `histogram_quantile(${percentile / 100}, sum by (${labels}) (rate(${buckets}[${R}])))`,
      legend: `p${percentile} ${legend("endpoint")}`,
    })),
  };
}

const [firstToken = "", , , duration = ""] = gatewayLatencies;
const currency = " {{tokenwatt_currency}}";

export const usage: Dashboard = {
  uid: "tokenwatt-usage",
  title: "tokenwatt / Usage",
  description: "Who used what: tokens, requests, latency, errors and money by customer, model and endpoint.",
  from: "now-24h",
  panels: [
    used("Tokens by customer", "gateway_tokens", "tenant", "short"),
    used("Tokens by model", "gateway_tokens", "model", "short"),
    used("Tokens by endpoint", "gateway_tokens", "endpoint", "short"),
    used("Input against output", "gateway_tokens", "kind", "short"),
    used("Requests by customer", "gateway_requests", "tenant", "short"),
    used("Cost by customer", "tenant_cost", "tenant", "short", currency),
    rate(
      "Requests per second",
      "As gateways count them, by product endpoint.",
      "gateway_requests",
      "endpoint",
      "reqps",
    ),
    rate("Tokens per second", "By model, as gateways count them.", "gateway_tokens", "model", "short"),
    percentiles(firstToken, "Time to first token"),
    percentiles(duration, "Duration of requests"),
    figure("Tokens lost to errors", "error_share", "tenant", "percentunit"),
    rate("Requests by outcome", "Per second, by how they ended.", "gateway_requests", "outcome", "reqps"),
    figure("Tokens per unit of money", "tokens_per_currency", "server", "short", currency),
    figure("Tokens per joule", "tokens_per_joule", "server", "short"),
  ],
};
