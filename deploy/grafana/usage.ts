// The usage board: who used how much, how fast and how well, by customer, model and endpoint; over the time chosen above.
// Gateway series name customers: they come by OTLP, or from a /metrics that shows tenants.
import { gatewayLatencies } from "../prometheus/kpis.ts";
import type { Dashboard } from "./board.ts";
import type { Panel } from "./panels.ts";
import { kpiPanel, percentilePanel, R, RANGE, ratePanel, usedTable } from "./parts.ts";
import { chosen } from "./variables.ts";

const [firstToken = "", perToken = "", , duration = ""] = gatewayLatencies;
const seen = "Between two bounds of the gateway's own buckets observations are taken to lie evenly.";

const one = (title: string, description: string, expr: string, unit: string): Panel => ({
  ...{ title, description, type: "stat", unit, width: 6 },
  queries: [{ expr, legend: title, instant: true }],
});
const tokens = "tokenwatt.gateway.tokens";
const requests = "tokenwatt.gateway.requests";
const bad: Panel["thresholds"] = [
  [null, "green"],
  [0.01, "yellow"],
  [0.05, "red"],
];

const ratio = `max by (tokenwatt_quota_name, tokenwatt_quota_window, tokenwatt_tenant) (quota:tokenwatt_used_ratio:fleet{k8s_cluster_name=~"$cluster",tokenwatt_tenant=~"$tenant",gen_ai_request_model=~"$model"})`;

// A quota that comes over for the first time is a series that begins at 1: increase() would find nothing in it.
const cameOver = chosen("tokenwatt.policy.transitions", ['tokenwatt_policy_to="over"']);

const quotas: readonly Panel[] = [
  {
    title: "Quotas now",
    description:
      "Used of the limit in the window that runs, over all hosts that count a part, the fullest first.",
    type: "table",
    unit: "percentunit",
    thresholds: [
      [null, "green"],
      [0.8, "yellow"],
      [1, "red"],
    ],
    queries: [{ expr: `sort_desc(${ratio})`, legend: "used" }],
  },
  {
    title: "Quotas that came over",
    description:
      "How many windows and keys of each came to its limit, over the time chosen above, on all hosts. When and by how much: `tokenwatt policy simulate` on a host.",
    type: "table",
    unit: "short",
    queries: [
      {
        expr: `sort_desc(sum by (tokenwatt_quota_name) (clamp_min(${cameOver} - (${cameOver} offset ${RANGE}), 0) or ${cameOver}) > 0)`,
        legend: "windows",
      },
    ],
  },
  {
    title: "Quotas by what is used of them",
    description:
      "Used of the limit in the current window, over all hosts that count a part. Above 1 the quota is over.",
    type: "timeseries",
    unit: "percentunit",
    thresholds: [
      [null, "green"],
      [0.8, "yellow"],
      [1, "red"],
    ],
    queries: [
      {
        expr: ratio,
        legend: "{{tokenwatt_quota_name}} {{tokenwatt_quota_window}} {{tokenwatt_tenant}}",
      },
    ],
  },
  {
    title: "Decisions of rate-limit calls",
    description: "Per second, by quota and answer; in shadow mode nobody was refused.",
    type: "timeseries",
    unit: "reqps",
    stacked: true,
    queries: [
      {
        expr: `sum by (tokenwatt_quota_name, tokenwatt_policy_mode, tokenwatt_policy_decision) (rate(${chosen("tokenwatt.policy.decisions")}[${R}]))`,
        legend: "{{tokenwatt_quota_name}} {{tokenwatt_policy_decision}} {{tokenwatt_policy_mode}}",
      },
    ],
  },
];

/** The board of usage. */
export const usage: Dashboard = {
  uid: "tokenwatt-usage",
  title: "tokenwatt / Usage",
  description: "Who used what: tokens, requests, latency, errors and money by customer, model and endpoint.",
  from: "now-24h",
  panels: [
    one(
      "Tokens",
      "As gateways count them, over the time chosen above.",
      `sum(increase(${chosen(tokens)}[${RANGE}]))`,
      "si:tok",
    ),
    one(
      "Requests",
      "As gateways count them, over the time chosen above.",
      `sum(increase(${chosen(requests)}[${RANGE}]))`,
      "short",
    ),
    one(
      "Queries per second now",
      "Requests per second over the last minutes.",
      `sum(rate(${chosen(requests)}[${R}]))`,
      "reqps",
    ),
    {
      ...one(
        "Tokens lost to errors",
        "Tokens of requests that did not end well, of all, over the time chosen above.",
        `sum(increase(${chosen(tokens, ['tokenwatt_outcome!="ok"'])}[${RANGE}])) / sum(increase(${chosen(tokens)}[${RANGE}]))`,
        "percentunit",
      ),
      thresholds: bad,
    },
    usedTable("Tokens by customer", "gateway_tokens", "tenant", "si:tok", "tokens"),
    usedTable("Tokens by model", "gateway_tokens", "model", "si:tok", "tokens"),
    usedTable("Tokens by endpoint", "gateway_tokens", "endpoint", "si:tok", "tokens"),
    usedTable("Input against output", "gateway_tokens", "kind", "si:tok", "tokens"),
    usedTable("Requests by customer", "gateway_requests", "tenant", "short", "requests"),
    usedTable("Cost by customer", "tenant_cost", "tenant", "none", "cost"),
    usedTable("Revenue by customer", "tenant_revenue", "tenant", "none", "revenue"),
    kpiPanel("tenant_gross_margin", "tenant", "percentunit", {
      title: "Gross margin by customer",
      width: 16,
    }),
    ratePanel(
      "Requests per second",
      "By product endpoint, as gateways count them.",
      "gateway_requests",
      "endpoint",
      "reqps",
    ),
    ratePanel(
      "Tokens per second",
      "By model, as gateways count them.",
      "gateway_tokens",
      "model",
      "si:tok/s",
    ),
    ratePanel(
      "Tokens per second by customer",
      "As gateways count them.",
      "gateway_tokens",
      "tenant",
      "si:tok/s",
    ),
    ratePanel(
      "Requests by outcome",
      "Per second, by how they ended.",
      "gateway_requests",
      "outcome",
      "reqps",
    ),
    percentilePanel(firstToken, "Time to first token", "endpoint", seen),
    percentilePanel(duration, "Duration of requests", "endpoint", seen),
    percentilePanel(
      duration,
      "Time until requests failed",
      "endpoint",
      "Of requests that failed, were aborted or refused, where the gateway says so: milliseconds are refusals, minutes are timeouts. None of them is in the durations beside it.",
      "failed",
    ),
    percentilePanel(firstToken, "Time to first token by model", "model", seen),
    percentilePanel(perToken, "Time per output token by model", "model", seen),
    kpiPanel("error_share", "tenant", "percentunit", {
      title: "Tokens lost to errors by customer",
      thresholds: bad,
    }),
    kpiPanel("error_share", "model", "percentunit", {
      title: "Tokens lost to errors by model",
      thresholds: bad,
    }),
    kpiPanel("tokens_per_currency", "server", "si:tok"),
    kpiPanel("tokens_per_joule", "server", "si:tok/J"),
    ...quotas,
  ],
};
