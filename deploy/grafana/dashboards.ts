// The dashboards, by audience: who keeps it running, who plans capacity, who pays. Who used what is in usage.ts.
// KPIs come from prometheus/kpis.ts; where nothing is known a panel is empty, never 0.

import type { GroupName } from "../prometheus/kpis.ts";
import { kpis } from "../prometheus/kpis.ts";
import { kpiPromql, seriesName } from "../prometheus/promql.ts";
import { kpiRecord, totalRecord } from "../prometheus/recording-rules.ts";
import type { Dashboard, Panel } from "./panels.ts";
import { SELECTED } from "./panels.ts";
import { usage } from "./usage.ts";

const R = "$__rate_interval";
const RANGE = "$__range";
const host = `{${SELECTED.join(",")}}`;
const at = (...matchers: string[]): string => `{${[...matchers, ...SELECTED].join(",")}}`;

const tokens = seriesName("tokenwatt.tokens");
const time = seriesName("tokenwatt.gpu.time");
const energy = seriesName("tokenwatt.gpu.energy");
const cost = seriesName("tokenwatt.cost");

function kpi(name: string, group: GroupName, window: string): string {
  const found = kpis.find((one) => one.name === name);
  if (found === undefined) throw new Error(`No KPI ${name}`);
  return kpiPromql(found, group, window, SELECTED);
}

const sre: Dashboard = {
  uid: "tokenwatt-sre",
  title: "tokenwatt / Operation",
  description: "Is everything serving, and can the figures be trusted?",
  from: "now-3h",
  panels: [
    {
      title: "GPUs by what they do now",
      description: "GPUs by state over the last minutes; the six sum to the GPUs that report.",
      type: "bargauge",
      unit: "none",
      queries: [
        {
          expr: `sum by (tokenwatt_gpu_state) (rate(${time}${host}[${R}]))`,
          legend: "{{tokenwatt_gpu_state}}",
          instant: true,
        },
      ],
      width: 8,
    },
    {
      title: "Agents reporting",
      description: "Agents whose data is at most 5 minutes old, of those seen within 6 hours.",
      type: "stat",
      unit: "none",
      queries: [
        {
          expr: 'count(group by (job, instance) (target_info{job=~"(.+/)?tokenwatt"}))',
          legend: "now",
          instant: true,
        },
        {
          expr: 'count(group by (job, instance) (last_over_time(target_info{job=~"(.+/)?tokenwatt"}[6h])))',
          legend: "in 6 h",
          instant: true,
        },
      ],
      width: 4,
    },
    {
      title: "Tokens per second by server",
      description: "Input and output as the engines count them.",
      type: "timeseries",
      unit: "short",
      stacked: true,
      queries: [
        {
          expr: `sum by (tokenwatt_server_id, tokenwatt_token_kind) (rate(${tokens}${host}[${R}]))`,
          legend: "{{tokenwatt_server_id}} {{tokenwatt_token_kind}}",
        },
      ],
    },
    {
      title: "Busy against useful",
      description:
        "Utilisation says the GPU works; token-active says it works for tokens. The gap is what utilisation hides.",
      type: "timeseries",
      unit: "percentunit",
      max: 1,
      queries: [
        {
          expr: `sum(rate(${seriesName("tokenwatt.gpu.busy_time")}${host}[${R}])) / sum(rate(${time}${at('tokenwatt_gpu_state!="unobserved"')}[${R}]))`,
          legend: "busy",
        },
        {
          expr: `sum(rate(${time}${at('tokenwatt_gpu_state="token_active"')}[${R}])) / sum(rate(${time}${at('tokenwatt_gpu_state!="unobserved"')}[${R}]))`,
          legend: "token-active",
        },
        {
          expr: kpi("token_active_utilization", "fleet", R),
          legend: "token-active of allocated {{k8s_cluster_name}}",
        },
      ],
    },
    {
      title: "Token-active share by GPU",
      description: "Stragglers stand out.",
      type: "heatmap",
      unit: "percentunit",
      queries: [
        {
          expr: `sum by (host_name, hw_id) (rate(${time}${at('tokenwatt_gpu_state="token_active"')}[${R}]))`,
          legend: "{{host_name}} {{hw_id}}",
        },
      ],
    },
    {
      title: "Requests in execution and waiting",
      description: "As each server says of itself.",
      type: "timeseries",
      unit: "short",
      queries: [
        {
          expr: `sum by (tokenwatt_server_id) (${seriesName("tokenwatt.server.running")}${host})`,
          legend: "{{tokenwatt_server_id}} running",
        },
        {
          expr: `sum by (tokenwatt_server_id) (${seriesName("tokenwatt.server.waiting")}${host})`,
          legend: "{{tokenwatt_server_id}} waiting",
        },
      ],
    },
    {
      title: "Time to first token, p95",
      description: "From the servers' own histograms.",
      type: "timeseries",
      unit: "s",
      queries: [
        {
          expr: `histogram_quantile(0.95, sum by (tokenwatt_server_id, le) (rate(${seriesName("gen_ai.server.time_to_first_token")}_bucket${host}[${R}])))`,
          legend: "{{tokenwatt_server_id}}",
        },
      ],
    },
    {
      title: "Faults",
      description: "XID events, throttling, unreadable sources, restarts of servers.",
      type: "timeseries",
      unit: "short",
      queries: [
        {
          expr: `sum by (host_name, hw_id, tokenwatt_xid_code) (increase(${seriesName("tokenwatt.gpu.xid_events")}${host}[${R}]))`,
          legend: "XID {{tokenwatt_xid_code}} {{host_name}} {{hw_id}}",
        },
        {
          expr: `sum by (host_name, tokenwatt_reason) (rate(${seriesName("tokenwatt.gpu.throttle_time")}${host}[${R}]))`,
          legend: "throttled {{tokenwatt_reason}} {{host_name}}",
        },
        {
          expr: `sum by (host_name, tokenwatt_source) (rate(${seriesName("tokenwatt.gap_time")}${host}[${R}]))`,
          legend: "unreadable {{tokenwatt_source}} {{host_name}}",
        },
        {
          expr: `sum by (host_name, tokenwatt_source) (increase(${seriesName("tokenwatt.counter_resets")}${host}[${R}]))`,
          legend: "restart {{tokenwatt_source}} {{host_name}}",
        },
      ],
    },
    {
      title: "Can it be trusted?",
      description:
        "Observed share of GPU time, tokens that met no observed GPU time, late samples, broken laws.",
      type: "timeseries",
      unit: "short",
      queries: [
        { expr: kpi("coverage", "fleet", R), legend: "observed share {{k8s_cluster_name}}" },
        {
          expr: `sum(rate(${seriesName("tokenwatt.unmatched_tokens")}${host}[${R}])) / sum(rate(${tokens}${host}[${R}]))`,
          legend: "unmatched tokens",
        },
        {
          expr: `sum(rate(${seriesName("tokenwatt.late_samples")}${host}[${R}]))`,
          legend: "late samples per second",
        },
        {
          expr: `sum(increase(${seriesName("tokenwatt.invariant_violations")}${host}[${R}]))`,
          legend: "broken laws",
        },
      ],
    },
    {
      title: "The agents' queues",
      description: "What waits to be delivered, and what it costs to run the agent.",
      type: "timeseries",
      unit: "bytes",
      queries: [
        {
          expr: `sum by (host_name) (tokenwatt_agent_queue_size_bytes${host})`,
          legend: "queued {{host_name}}",
        },
        {
          expr: `sum by (host_name) (process_memory_usage_bytes${at('job=~"(.+/)?tokenwatt"')})`,
          legend: "memory {{host_name}}",
        },
      ],
    },
  ],
};

const kpiPanel = (
  name: string,
  group: GroupName,
  legend: string,
  unit: string,
  more: Partial<Panel> = {},
): Panel => {
  const found = kpis.find((one) => one.name === name);
  const by = group === "fleet" ? "" : ` by ${group === "gpu_model" ? "GPU model" : group}`;
  return {
    title: `${found?.title ?? name}${by}`,
    description: `A quotient of sums${by}, over the interval between points.`,
    type: "timeseries",
    unit,
    queries: [{ expr: kpi(name, group, R), legend }],
    ...more,
  };
};

const planner: Dashboard = {
  uid: "tokenwatt-planner",
  title: "tokenwatt / Capacity",
  description: "What a GPU yields, what is left, and what it draws.",
  from: "now-7d",
  panels: [
    kpiPanel("tokens_per_gpu_hour", "server", "{{tokenwatt_server_id}}", "short"),
    kpiPanel("tokens_per_gpu_hour", "gpu_model", "{{hw_model}}", "short"),
    kpiPanel("tokens_per_token_active_gpu_hour", "server", "{{tokenwatt_server_id}}", "short"),
    kpiPanel("token_active_utilization", "server", "{{tokenwatt_server_id}}", "percentunit", { max: 1 }),
    kpiPanel("tokens_per_joule", "server", "{{tokenwatt_server_id}}", "short"),
    {
      title: "Tokens per joule against batch depth",
      description:
        "Requests in execution beside tokens per joule: deeper batches make cheaper tokens, up to a point.",
      type: "timeseries",
      unit: "short",
      queries: [
        { expr: kpi("tokens_per_joule", "server", R), legend: "{{tokenwatt_server_id}} tokens per joule" },
        {
          expr: `avg by (tokenwatt_server_id) (avg_over_time(${seriesName("tokenwatt.server.running")}${host}[${R}])) / 100`,
          legend: "{{tokenwatt_server_id}} running / 100",
        },
      ],
    },
    kpiPanel("capacity_utilization", "server", "{{tokenwatt_server_id}}", "percentunit"),
    {
      title: "Headroom against the best hour of 14 days",
      description:
        "1 - present rate of tokens per allocated GPU-second over its own p95; below 0 is a new best.",
      type: "timeseries",
      unit: "percentunit",
      queries: [
        {
          expr: `1 - ${kpiRecord("tokens_per_gpu_hour", "server", "1h")} / quantile_over_time(0.95, ${kpiRecord("tokens_per_gpu_hour", "server", "1h")}[14d])`,
          legend: "{{tokenwatt_server_id}}",
        },
      ],
    },
    {
      title: "GPU-hours by state and GPU model",
      description: "Over the time chosen above.",
      type: "table",
      unit: "h",
      queries: [
        {
          expr: `sum by (hw_model, tokenwatt_gpu_state) (increase(${time}${host}[${RANGE}])) / 3600`,
          legend: "{{hw_model}} {{tokenwatt_gpu_state}}",
          instant: true,
        },
      ],
    },
    {
      title: "Power",
      description: "Of the GPU boards from the energy they used, of whole hosts where a meter says.",
      type: "timeseries",
      unit: "watt",
      stacked: true,
      queries: [
        {
          expr: `sum by (tokenwatt_gpu_state) (rate(${energy}${host}[${R}]))`,
          legend: "GPUs {{tokenwatt_gpu_state}}",
        },
        { expr: `sum(${seriesName("hw.host.power")}${host})`, legend: "hosts" },
      ],
    },
    {
      title: "Power duration",
      description: "Power that was exceeded for this share of the time chosen above: 1 %, 10 %, 50 %, 90 %.",
      type: "bargauge",
      unit: "watt",
      queries: [0.99, 0.9, 0.5, 0.1].map((share) => ({
        expr: `quantile_over_time(${share}, sum(${seriesName("hw.power")}${host})[${RANGE}:1m])`,
        legend: `${Math.round((1 - share) * 100)} % of the time`,
        instant: true,
      })),
    },
    {
      title: "Temperature and clocks",
      description: "Hottest GPU and slowest clock of each host.",
      type: "timeseries",
      unit: "short",
      queries: [
        { expr: `max by (host_name) (${seriesName("hw.temperature")}${host})`, legend: "°C {{host_name}}" },
        {
          expr: `min by (host_name) (${seriesName("tokenwatt.gpu.clock")}${host}) / 1e9`,
          legend: "GHz {{host_name}}",
        },
      ],
    },
  ],
};

const money = (...matchers: string[]): string => `${cost}${at(...matchers)}`;

const finance: Dashboard = {
  uid: "tokenwatt-finance",
  title: "tokenwatt / Cost",
  description:
    "What tokens cost and earn. Empty where no price file is configured; prices are never assumed.",
  from: "now-30d",
  panels: [
    kpiPanel("cost_per_million_tokens", "fleet", "{{tokenwatt_currency}}", "short", {
      queries: [
        {
          expr: kpi("cost_per_million_tokens", "fleet", RANGE),
          legend: "{{tokenwatt_currency}} {{k8s_cluster_name}}",
          instant: true,
        },
      ],
      type: "stat",
      width: 6,
      description: "Whole fleet, idle and unobserved GPUs included, over the time chosen above.",
    }),
    {
      title: "Cost",
      description: "Of all GPU-seconds with a known price, over the time chosen above.",
      type: "stat",
      unit: "short",
      width: 6,
      queries: [
        {
          expr: `sum by (tokenwatt_currency) (increase(${money()}[${RANGE}]))`,
          legend: "{{tokenwatt_currency}}",
          instant: true,
        },
      ],
    },
    {
      title: "Paid for and not used",
      description: "Cost of free, parked, stalled and unobserved GPU-seconds.",
      type: "stat",
      unit: "short",
      width: 6,
      queries: [
        {
          expr: `sum by (tokenwatt_currency) (increase(${money('tokenwatt_gpu_state=~"free|parked|stalled|unobserved"')}[${RANGE}]))`,
          legend: "{{tokenwatt_currency}}",
          instant: true,
        },
      ],
    },
    kpiPanel("gross_margin", "fleet", "{{tokenwatt_currency}}", "percentunit", {
      queries: [
        {
          expr: kpi("gross_margin", "fleet", RANGE),
          legend: "{{tokenwatt_currency}} {{k8s_cluster_name}}",
          instant: true,
        },
      ],
      type: "stat",
      width: 6,
      description: "1 - cost / revenue, over the time chosen above.",
    }),
    {
      title: "Cost by what the GPU did",
      description: "Per hour. Token-active is the work, the rest is the idle tax.",
      type: "timeseries",
      unit: "short",
      stacked: true,
      queries: [
        {
          expr: `3600 * sum by (tokenwatt_gpu_state, tokenwatt_currency) (rate(${money()}[${R}]))`,
          legend: "{{tokenwatt_gpu_state}} {{tokenwatt_currency}}/h",
        },
      ],
    },
    kpiPanel("cost_per_million_tokens", "server", "{{tokenwatt_server_id}} {{tokenwatt_currency}}", "short"),
    {
      title: "Cost by component",
      description: "GPU rent and, where the price says it is not included, energy.",
      type: "timeseries",
      unit: "short",
      stacked: true,
      queries: [
        {
          expr: `3600 * sum by (tokenwatt_cost_component, tokenwatt_currency) (rate(${money()}[${R}]))`,
          legend: "{{tokenwatt_cost_component}} {{tokenwatt_currency}}/h",
        },
      ],
    },
    {
      title: "Revenue",
      description: "Tokens at list price, per hour.",
      type: "timeseries",
      unit: "short",
      stacked: true,
      queries: [
        {
          expr: `3600 * sum by (tokenwatt_server_id, tokenwatt_currency) (rate(${seriesName("tokenwatt.revenue")}${host}[${R}]))`,
          legend: "{{tokenwatt_server_id}} {{tokenwatt_currency}}/h",
        },
      ],
    },
    {
      title: "GPU-hours by tenant",
      description:
        "Over the time chosen above; what no gateway record explains stays visible as unattributed. Needs tenants on the data source (OTLP).",
      type: "table",
      unit: "h",
      queries: [
        {
          expr: `sum by (tokenwatt_tenant) (increase(${seriesName("tokenwatt.tenant.gpu_time")}${host}[${RANGE}])) / 3600`,
          legend: "{{tokenwatt_tenant}}",
          instant: true,
        },
      ],
    },
    {
      title: "Cost by tenant",
      description: "Over the time chosen above.",
      type: "table",
      unit: "short",
      queries: [
        {
          expr: `sum by (tokenwatt_tenant, tokenwatt_currency) (increase(${seriesName("tokenwatt.tenant.cost")}${host}[${RANGE}]))`,
          legend: "{{tokenwatt_tenant}} {{tokenwatt_currency}}",
          instant: true,
        },
      ],
    },
    {
      title: "Energy",
      description: "Kilowatt-hours over the time chosen above, by what the GPU did.",
      type: "bargauge",
      unit: "kwatth",
      queries: [
        {
          expr: `sum by (tokenwatt_gpu_state) (increase(${energy}${host}[${RANGE}])) / 3.6e6`,
          legend: "{{tokenwatt_gpu_state}}",
          instant: true,
        },
      ],
    },
    {
      title: "Coverage",
      description: "Share of the GPU-seconds that were observed: how much of the bill rests on measurement.",
      type: "timeseries",
      unit: "percentunit",
      max: 1,
      queries: [
        {
          expr: `${totalRecord("observed_seconds", "fleet", "1h")} / (${totalRecord("gpu_seconds", "fleet", "1h")} > 0)`,
          legend: "observed",
        },
      ],
    },
  ],
};

/** All of them, by the file they are committed as. */
export const dashboards: Readonly<Record<string, Dashboard>> = { sre, planner, finance, usage };
