// The board of who plans: what a GPU yields by server, model and GPU type, what is left, what is wasted, what it draws.

import type { TotalName } from "../prometheus/kpis.ts";
import { intensity, kpiNamed } from "../prometheus/kpis.ts";
import { compoundPromql } from "../prometheus/promql.ts";
import { kpiRecord } from "../prometheus/recording-rules.ts";
import type { Dashboard } from "./board.ts";
import type { Panel } from "./panels.ts";
import { byState, kpiExpr, kpiPanel, legendOf, R, RANGE } from "./parts.ts";
import { chosen, chosenTotals } from "./variables.ts";

const time = "tokenwatt.gpu.time";
const held = "tokenwatt.server.gpu_time";
const share = { max: 1, unit: "percentunit" } as const;

const sides = (name: string): readonly TotalName[] => [kpiNamed(name).over, kpiNamed(name).under];

const boundWords = {
  capacity_utilization: "",
  capacity_utilization_min: " at least",
  capacity_utilization_max: " at most",
} as const;

const yields: readonly Panel[] = [
  kpiPanel("tokens_per_gpu_hour", "server", "si:tok"),
  kpiPanel("tokens_per_gpu_hour", "gpu_model", "si:tok"),
  kpiPanel("model_tokens_per_gpu_hour", "model", "si:tok"),
  kpiPanel("tokens_per_token_active_gpu_hour", "server", "si:tok"),
  kpiPanel("token_active_utilization", "server", "percentunit", {
    ...share,
    title: "Token-active time share by server",
    description:
      "Part of its allocated time in which somebody was served. It says nothing of how many at a time.",
  }),
  kpiPanel("capacity_utilization", "server", "percentunit", {
    title: "Capacity utilisation by server, with its bounds",
    description:
      "Tokens of what the allocated time could have made. A learned capacity has bounds that hold it in 9 of 10 cases: wide ones say that the server was never seen at its limit. Empty: the capacity is not known yet.",
    queries: (["capacity_utilization", "capacity_utilization_min", "capacity_utilization_max"] as const).map(
      (name) => ({
        expr: kpiExpr(name, "server", R),
        legend: `${legendOf("server")}${boundWords[name]}`,
      }),
    ),
  }),
  {
    title: "Where the capacity of servers is known from",
    description:
      "Tokens of the mix served that a GPU could make in an hour; of a learned rate the share that is certain (it is at most as much above 1), the minutes it rests on and its age.",
    type: "table",
    unit: "si:tok",
    columnUnits: { certain: "percentunit", minutes: "none", age: "s" },
    queries: [
      ["capacity.rate", "tokens per GPU-hour"],
      ["capacity.seen", "certain"],
      ["capacity.minutes", "minutes"],
      ["capacity.age", "age"],
    ].map(([name, legend]) => ({
      expr: `max by (k8s_cluster_name, tokenwatt_server_id, tokenwatt_capacity_source) (${chosen(`tokenwatt.${name}`)})`,
      legend: legend as string,
    })),
  },
  {
    title: "Intensity by server",
    description:
      "Capacity utilisation per token-active time share: how much was made in the time in which somebody was served. Low with a high time share: batches are shallow.",
    type: "timeseries",
    unit: "none",
    queries: [
      {
        expr: compoundPromql(
          intensity,
          "server",
          R,
          chosenTotals([...sides(intensity.over), ...sides(intensity.under)], "server"),
        ),
        legend: legendOf("server"),
      },
    ],
  },
  kpiPanel("tokens_per_joule", "server", "si:tok/J"),
  kpiPanel("tokens_per_joule", "gpu_model", "si:tok/J"),
  kpiPanel("model_tokens_per_joule", "model", "si:tok/J"),
];

const best = `${kpiRecord("tokens_per_gpu_hour", "server", "1h")}{k8s_cluster_name=~"$cluster",tokenwatt_server_id=~"$server"}`;
const idle = 'tokenwatt_gpu_state=~"parked|stalled"';

const waste: readonly Panel[] = [
  {
    title: "Wasteful servers",
    description:
      "Servers that held GPUs without making tokens, over the time chosen above: hours parked or stalled, all hours held, and what the idle hours cost where a price is known.",
    type: "table",
    unit: "h",
    width: 24,
    columnUnits: { "token-active time share": "percentunit", "cost of idle hours": "none" },
    queries: [
      {
        expr: `topk(20, sum by (k8s_cluster_name, tokenwatt_server_id) (increase(${chosen(held, [idle])}[${RANGE}])) / 3600)`,
        legend: "idle GPU-hours",
      },
      {
        expr: `sum by (k8s_cluster_name, tokenwatt_server_id) (increase(${chosen(held)}[${RANGE}])) / 3600`,
        legend: "GPU-hours held",
      },
      {
        expr: `sum by (k8s_cluster_name, tokenwatt_server_id) (increase(${chosen(held, ['tokenwatt_gpu_state="token_active"'])}[${RANGE}])) / sum by (k8s_cluster_name, tokenwatt_server_id) (increase(${chosen(held)}[${RANGE}]))`,
        legend: "token-active time share",
      },
      {
        expr: `sum by (k8s_cluster_name, tokenwatt_server_id, tokenwatt_currency) (increase(${chosen("tokenwatt.cost", [idle, 'tokenwatt_server_id!=""'])}[${RANGE}]))`,
        legend: "cost of idle hours",
      },
    ],
  },
  {
    title: "GPU-hours by GPU type and state",
    description: "Over the time chosen above.",
    type: "table",
    unit: "h",
    queries: [
      {
        expr: `sort_desc(sum by (hw_model, tokenwatt_gpu_state) (increase(${chosen(time)}[${RANGE}])) / 3600)`,
        legend: "GPU-hours",
      },
    ],
  },
  {
    title: "Headroom against the best hour of 14 days",
    description:
      "1 - present rate of tokens per allocated GPU-second over its own p95; below 0 is a new best.",
    type: "timeseries",
    unit: "percentunit",
    queries: [
      { expr: `1 - ${best} / quantile_over_time(0.95, ${best}[14d])`, legend: "{{tokenwatt_server_id}}" },
    ],
  },
  {
    title: "Tokens per joule against batch depth",
    description:
      "Requests in execution beside tokens per joule: deeper batches make cheaper tokens, up to a point.",
    type: "timeseries",
    unit: "short",
    queries: [
      { expr: kpiExpr("tokens_per_joule", "server", R), legend: "{{tokenwatt_server_id}} tokens per joule" },
      {
        expr: `avg by (tokenwatt_server_id) (avg_over_time(${chosen("tokenwatt.server.running")}[${R}])) / 100`,
        legend: "{{tokenwatt_server_id}} running / 100",
      },
    ],
  },
];

const draws: readonly Panel[] = [
  {
    title: "Power by state",
    description: "Of the GPU boards, from the energy they used.",
    type: "timeseries",
    unit: "watt",
    stacked: true,
    queries: byState((state) => `sum(rate(${chosen("tokenwatt.gpu.energy", [state])}[${R}]))`),
  },
  {
    title: "Power of hosts",
    description: "Of whole hosts, where a meter says; GPU boards beside them.",
    type: "timeseries",
    unit: "watt",
    queries: [
      { expr: `sum by (host_name) (${chosen("hw.host.power")})`, legend: "{{host_name}}" },
      { expr: `sum by (host_name) (${chosen("hw.power")})`, legend: "{{host_name}} GPUs" },
    ],
  },
  {
    title: "Power duration",
    description: "Power that was exceeded for this share of the time chosen above: 1 %, 10 %, 50 %, 90 %.",
    type: "bargauge",
    unit: "watt",
    queries: [0.99, 0.9, 0.5, 0.1].map((part) => ({
      expr: `quantile_over_time(${part}, sum(${chosen("hw.power")})[${RANGE}:1m])`,
      legend: `${Math.round((1 - part) * 100)} % of the time`,
      instant: true,
    })),
  },
  {
    title: "Temperature",
    description: "Hottest GPU of each host.",
    type: "timeseries",
    unit: "celsius",
    queries: [{ expr: `max by (host_name) (${chosen("hw.temperature")})`, legend: "{{host_name}}" }],
  },
  {
    title: "Clocks",
    description: "Slowest GPU of each host: held down by heat, power or a limit.",
    type: "timeseries",
    unit: "hertz",
    queries: [{ expr: `min by (host_name) (${chosen("tokenwatt.gpu.clock")})`, legend: "{{host_name}}" }],
  },
];

/** The board of capacity. */
export const capacity: Dashboard = {
  uid: "tokenwatt-planner",
  title: "tokenwatt / Capacity",
  description: "What a GPU yields, what is left, what is wasted, and what it draws.",
  from: "now-7d",
  panels: [...yields, ...waste, ...draws],
};
