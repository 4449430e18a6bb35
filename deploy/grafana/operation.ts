// The board of who keeps it running: what the GPUs do now, how requests fare, what fails, and whether figures can be trusted.
import type { Dashboard } from "./board.ts";
import { firing } from "./board.ts";
import type { Panel } from "./panels.ts";
import { byState, kpiExpr, kpiPanel, percentilePanel, R, ratePanel } from "./parts.ts";
import { chosen, ofAgent } from "./variables.ts";

const time = "tokenwatt.gpu.time";
const agent = (name: string, more: readonly string[] = []): string =>
  `${name}{${[...more, ...ofAgent].join(",")}}`;
const points = "otel_sdk_exporter_metric_data_point_exported_total";

const now: readonly Panel[] = [
  {
    title: "GPUs by what they do now",
    description: "GPUs by state over the last minutes; the six sum to the GPUs that report.",
    type: "bargauge",
    unit: "si:GPU",
    queries: byState((state) => `sum(rate(${chosen(time, [state])}[${R}]))`, { instant: true }),
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
    title: "Alerts that fire",
    description: "Each leads to its runbook. Where they are is said above, under Runbooks.",
    type: "table",
    unit: "none",
    whenEmpty: "none",
    runbookOf: "alertname",
    queries: [
      {
        expr: `count by (alertname, severity, instance, hw_id, tokenwatt_server_id) (${firing})`,
        legend: "firing",
      },
    ],
  },
  {
    title: "GPU time by state",
    description:
      "GPUs by what they did; the height is the GPUs that report. Red is work that makes no tokens.",
    type: "timeseries",
    unit: "si:GPU",
    stacked: true,
    queries: byState((state) => `sum(rate(${chosen(time, [state])}[${R}]))`),
  },
  {
    title: "Token-active time share and capacity utilisation",
    description:
      "Time share: part of the allocated time in which somebody was served. Capacity utilisation: tokens of what that time could have made, at least and at most where the capacity is learned; empty where it is not known. Busy is what a driver calls utilisation: the gap to the time share is what it hides.",
    type: "timeseries",
    unit: "percentunit",
    max: 1,
    queries: [
      {
        expr: `sum(rate(${chosen("tokenwatt.gpu.busy_time")}[${R}])) / sum(rate(${chosen(time, ['tokenwatt_gpu_state!="unobserved"'])}[${R}]))`,
        legend: "busy (of all GPUs)",
      },
      {
        expr: kpiExpr("token_active_utilization", "fleet", R),
        legend: "token-active time share {{k8s_cluster_name}}",
      },
      {
        expr: kpiExpr("capacity_utilization", "fleet", R),
        legend: "capacity utilisation {{k8s_cluster_name}}",
      },
      {
        expr: kpiExpr("capacity_utilization_min", "fleet", R),
        legend: "capacity utilisation at least {{k8s_cluster_name}}",
      },
      {
        expr: kpiExpr("capacity_utilization_max", "fleet", R),
        legend: "capacity utilisation at most {{k8s_cluster_name}}",
      },
    ],
  },
];

const service: readonly Panel[] = [
  ratePanel("Tokens per second by server", "As the engines count them.", "tokens", "server", "si:tok/s"),
  {
    title: "Requests in execution and waiting",
    description: "As each server says of itself.",
    type: "timeseries",
    unit: "short",
    queries: [
      {
        expr: `sum by (tokenwatt_server_id) (${chosen("tokenwatt.server.running")})`,
        legend: "{{tokenwatt_server_id}} running",
      },
      {
        expr: `sum by (tokenwatt_server_id) (${chosen("tokenwatt.server.waiting")})`,
        legend: "{{tokenwatt_server_id}} waiting",
      },
    ],
  },
  percentilePanel(
    "gen_ai.server.time_to_first_token",
    "Time to first token by server",
    "server",
    "From the servers' own histograms; between two bounds observations are taken to lie evenly.",
  ),
  {
    title: "KV cache in use",
    description: "Share of the cache of each server. Near 1 requests wait or are put out of the cache.",
    type: "timeseries",
    unit: "percentunit",
    max: 1,
    thresholds: [
      [null, "green"],
      [0.9, "yellow"],
      [0.97, "red"],
    ],
    queries: [
      {
        expr: `max by (tokenwatt_server_id) (${chosen("tokenwatt.server.kv_cache.utilization")})`,
        legend: "{{tokenwatt_server_id}}",
      },
    ],
  },
  ratePanel(
    "Requests per second by outcome",
    "QPS as gateways count them, by how requests ended.",
    "gateway_requests",
    "outcome",
    "reqps",
  ),
  kpiPanel("error_share", "endpoint", "percentunit", {
    description: "Tokens of requests that did not end well, of all tokens at gateways.",
    thresholds: [
      [null, "green"],
      [0.01, "yellow"],
      [0.05, "red"],
    ],
  }),
];

const faults: readonly Panel[] = [
  {
    title: "Token-active time share by GPU",
    description: "Stragglers stand out.",
    type: "heatmap",
    unit: "percentunit",
    queries: [
      {
        expr: `sum by (host_name, hw_id) (rate(${chosen(time, ['tokenwatt_gpu_state="token_active"'])}[${R}]))`,
        legend: "{{host_name}} {{hw_id}}",
      },
    ],
  },
  {
    title: "Faults",
    description: "XID events, throttling, unreadable sources, counters that began again.",
    type: "timeseries",
    unit: "short",
    queries: [
      {
        expr: `sum by (host_name, hw_id, tokenwatt_xid_code) (increase(${chosen("tokenwatt.gpu.xid_events")}[${R}]))`,
        legend: "XID {{tokenwatt_xid_code}} {{host_name}} {{hw_id}}",
      },
      {
        expr: `sum by (host_name, tokenwatt_reason) (rate(${chosen("tokenwatt.gpu.throttle_time")}[${R}]))`,
        legend: "GPUs throttled {{tokenwatt_reason}} {{host_name}}",
      },
      {
        expr: `sum by (host_name, tokenwatt_source) (rate(${chosen("tokenwatt.gap_time")}[${R}]))`,
        legend: "unreadable {{tokenwatt_source}} {{host_name}}",
      },
      {
        expr: `sum by (host_name, tokenwatt_source) (increase(${chosen("tokenwatt.counter_resets")}[${R}]))`,
        legend: "began again {{tokenwatt_source}} {{host_name}}",
      },
    ],
  },
  kpiPanel("coverage", "fleet", "percentunit", {
    title: "Observed share of GPU time",
    description: "What the rest did nobody knows: it is booked as unobserved, and its rent goes on.",
    max: 1,
    thresholds: [
      [null, "red"],
      [0.95, "yellow"],
      [0.99, "green"],
    ],
  }),
  {
    title: "Tokens and samples that came late",
    description:
      "Tokens that met no observed GPU time stay in the bill and out of efficiency; those of which no GPU type is known, because nothing says yet where their server runs or it runs on two types, are in the fleet's figures and in no type's. Broken laws are a defect of ours.",
    type: "timeseries",
    unit: "short",
    queries: [
      {
        expr: `sum by (tokenwatt_reason) (rate(${chosen("tokenwatt.unmatched_tokens")}[${R}]))`,
        legend: "unmatched tokens per second, {{tokenwatt_reason}}",
      },
      {
        expr: `sum(rate(${chosen("tokenwatt.tokens")}[${R}])) - sum(rate(${chosen("tokenwatt.tokens", ['hw_model!=""'])}[${R}]))`,
        legend: "tokens per second of which no GPU type is known",
      },
      { expr: `sum(rate(${chosen("tokenwatt.late_samples")}[${R}]))`, legend: "late samples per second" },
      { expr: `sum(increase(${chosen("tokenwatt.invariant_violations")}[${R}]))`, legend: "broken laws" },
    ],
  },
  {
    title: "Points delivered and refused",
    description: "Per second and destination; refused points are in the dead letters of the host.",
    type: "timeseries",
    unit: "short",
    queries: [
      {
        // The agent's own figures are sent each minute: a shorter window would hold one point.
        expr: `sum by (tokenwatt_destination, error_type) (rate(${agent(points, ['tokenwatt_destination!=""'])}[5m]))`,
        legend: "{{tokenwatt_destination}} {{error_type}}",
      },
    ],
  },
  {
    title: "What the agents hold and take",
    description: "What waits on disk to be delivered, and the agents' own memory.",
    type: "timeseries",
    unit: "bytes",
    queries: [
      {
        expr: `sum by (host_name) (${agent("tokenwatt_agent_queue_size_bytes")})`,
        legend: "queued {{host_name}}",
      },
      { expr: `sum by (host_name) (${agent("process_memory_usage_bytes")})`, legend: "memory {{host_name}}" },
    ],
  },
];

/** The board of operation. */
export const operation: Dashboard = {
  uid: "tokenwatt-sre",
  title: "tokenwatt / Operation",
  description: "Is everything serving, and can the figures be trusted?",
  from: "now-3h",
  panels: [...now, ...service, ...faults],
};
