// The board of who pays: what tokens cost and earn, by what the GPUs did, by server, model, GPU type and customer.
// Amounts of two currencies stand beside each other, never added. Without a price file everything here is empty.
import type { Dashboard } from "./board.ts";
import type { Panel } from "./panels.ts";
import { byState, kpiExpr, kpiPanel, kpiStat, legendOf, R, RANGE, usedTable } from "./parts.ts";
import { chosen } from "./variables.ts";

const spent = (...matchers: string[]): string => chosen("tokenwatt.cost", matchers);
const perHour = " {{tokenwatt_currency}}/h";

const total = (title: string, description: string, series: string): Panel => ({
  ...{ title, description, type: "stat", unit: "none", width: 6 },
  queries: [
    {
      expr: `sum by (tokenwatt_currency) (increase(${series}[${RANGE}]))`,
      legend: "{{tokenwatt_currency}}",
      instant: true,
    },
  ],
});

const sums: readonly Panel[] = [
  kpiStat("cost_per_million_tokens", "none", {
    description: "Whole fleet, idle and unobserved GPUs included, over the time chosen above.",
  }),
  total("Cost", "Of all GPU-seconds with a known price, over the time chosen above.", spent()),
  total(
    "Paid for and not used",
    "Cost of free, parked, stalled and unobserved GPU-seconds over the time chosen above.",
    spent('tokenwatt_gpu_state=~"free|parked|stalled|unobserved"'),
  ),
  kpiStat("gross_margin", "percentunit", {
    description: "1 - cost / revenue, over the time chosen above.",
    thresholds: [
      [null, "red"],
      [0, "yellow"],
      [0.2, "green"],
    ],
  }),
];

const courses: readonly Panel[] = [
  {
    title: "Cost by what the GPU did",
    description: "Per hour. Token-active is the work, the rest is the idle tax.",
    type: "timeseries",
    unit: "none",
    stacked: true,
    queries: byState(
      (state) => `3600 * sum by (tokenwatt_currency) (rate(${spent(state)}[${R}]))`,
      {},
      perHour,
    ),
  },
  {
    title: "Cost by component",
    description: "GPU rent and, where the price says it is not included, energy. Per hour.",
    type: "timeseries",
    unit: "none",
    stacked: true,
    queries: [
      {
        expr: `3600 * sum by (tokenwatt_cost_component, tokenwatt_currency) (rate(${spent()}[${R}]))`,
        legend: `{{tokenwatt_cost_component}}${perHour}`,
      },
    ],
  },
  kpiPanel("cost_per_million_tokens", "server", "none"),
  kpiPanel("cost_per_million_tokens", "gpu_model", "none"),
  kpiPanel("tokens_per_currency", "server", "si:tok"),
  {
    title: "Revenue by model",
    description: "Tokens at list price, per hour.",
    type: "timeseries",
    unit: "none",
    stacked: true,
    queries: [
      {
        expr: `3600 * sum by (gen_ai_request_model, tokenwatt_currency) (rate(${chosen("tokenwatt.revenue")}[${R}]))`,
        legend: `{{gen_ai_request_model}}${perHour}`,
      },
    ],
  },
  kpiPanel("gross_margin", "server", "percentunit"),
  {
    title: "Cost and revenue of all",
    description: "Per hour, by currency: the gap is the margin.",
    type: "timeseries",
    unit: "none",
    queries: [
      {
        expr: `3600 * sum by (tokenwatt_currency) (rate(${chosen("tokenwatt.revenue")}[${R}]))`,
        legend: `revenue${perHour}`,
      },
      { expr: `3600 * sum by (tokenwatt_currency) (rate(${spent()}[${R}]))`, legend: `cost${perHour}` },
    ],
  },
];

const customers: readonly Panel[] = [
  {
    ...usedTable("GPU-hours by customer", "tenant_seconds", "tenant", "s", "GPU time"),
    description:
      "Over the time chosen above; what no gateway record explains stays visible as unattributed. Customers come by OTLP, or from a /metrics that shows them.",
  },
  usedTable("Cost by customer", "tenant_cost", "tenant", "none", "cost"),
  usedTable("Revenue by model over the time chosen", "revenue_earned", "model", "none", "revenue"),
  {
    title: "Energy by state",
    description: "Over the time chosen above, by what the GPU did.",
    type: "bargauge",
    unit: "kwatth",
    queries: byState(
      (state) => `sum(increase(${chosen("tokenwatt.gpu.energy", [state])}[${RANGE}])) / 3.6e6`,
      { instant: true },
    ),
  },
  {
    title: "Coverage",
    description: "Share of the GPU-seconds that were observed: how much of the bill rests on measurement.",
    type: "timeseries",
    unit: "percentunit",
    max: 1,
    queries: [{ expr: kpiExpr("coverage", "fleet", "1h"), legend: `observed ${legendOf("fleet")}` }],
  },
];

/** The board of cost. */
export const cost: Dashboard = {
  uid: "tokenwatt-finance",
  title: "tokenwatt / Cost",
  description:
    "What tokens cost and earn. Empty where no price file is configured; prices are never assumed.",
  from: "now-30d",
  panels: [...sums, ...courses, ...customers],
};
