// Panels that several boards have: key figures, sums of use, GPU time by state, percentiles.

import { prometheusLabel } from "../../agent/export/metrics/prometheus-names.ts";
import { stateLooks, stateOrder } from "../../agent/platform/state-colours.ts";
import type { Ended, GroupName, TotalName } from "../prometheus/kpis.ts";
import { groups, kpiNamed } from "../prometheus/kpis.ts";
import { bucketsPromql, inMoney, kpiPromql, totalPromql } from "../prometheus/promql.ts";
import type { Panel, Query } from "./panels.ts";
import { chosenKpi, chosenMetric, chosenTotals } from "./variables.ts";

/** Windows Grafana fills in: between two points, and all that is chosen above. */
export const R = "$__rate_interval";
export const RANGE = "$__range";

const WORDS: Readonly<Partial<Record<GroupName, string>>> = {
  gpu_model: "GPU type",
  tenant: "customer",
  kind: "kind of token",
};

/** How a group is called in a title. */
function wordOf(group: GroupName): string {
  return WORDS[group] ?? group;
}

/** The labels of a group in a legend, the cluster last. */
export function legendOf(group: GroupName, money = false): string {
  const keys = [...groups[group], ...(money ? ["tokenwatt.currency"] : [])].map(prometheusLabel);
  return [...keys, "k8s_cluster_name"].map((key) => `{{${key}}}`).join(" ");
}

/** A key figure as an expression, as chosen above. */
export function kpiExpr(name: string, group: GroupName, window: string): string {
  const kpi = kpiNamed(name);
  return kpiPromql(kpi, group, window, chosenKpi(kpi, group));
}

/** A key figure over time. Shares of models and customers are settled every quarter of an hour: shorter windows hold none of them. */
export function kpiPanel(name: string, group: GroupName, unit: string, more: Partial<Panel> = {}): Panel {
  const kpi = kpiNamed(name);
  const settled = name.startsWith("model_") || name.startsWith("tenant_");
  const by = group === "fleet" || settled ? "" : ` by ${wordOf(group)}`;
  const over = settled ? "the last hour" : "the interval between points";
  return {
    title: `${kpi.title}${by}`,
    description: `A quotient of sums${by}, over ${over}.`,
    type: "timeseries",
    unit,
    queries: [{ expr: kpiExpr(name, group, settled ? "1h" : R), legend: legendOf(group, inMoney(kpi)) }],
    ...more,
  };
}

/** A key figure of all that is chosen, as one number. */
export function kpiStat(name: string, unit: string, more: Partial<Panel> = {}): Panel {
  const kpi = kpiNamed(name);
  return {
    title: kpi.title,
    description: "A quotient of sums over the time chosen above.",
    ...{ type: "stat", unit, width: 6 },
    queries: [
      { expr: kpiExpr(name, "fleet", RANGE), legend: legendOf("fleet", inMoney(kpi)), instant: true },
    ],
    ...more,
  };
}

/** What was used over the time chosen, largest first. */
export function usedTable(
  title: string,
  total: TotalName,
  group: GroupName,
  unit: string,
  column: string,
): Panel {
  const expr = totalPromql(total, group, RANGE, chosenTotals([total], group), "increase");
  return {
    ...{
      title,
      type: "table",
      unit,
      width: 8,
      description: "Sum over the time chosen above, largest first.",
    },
    queries: [{ expr: `sort_desc(${expr} > 0)`, legend: column }],
  };
}

/** How fast something is used. */
export function ratePanel(
  title: string,
  about: string,
  total: TotalName,
  group: GroupName,
  unit: string,
): Panel {
  const expr = totalPromql(total, group, R, chosenTotals([total], group));
  const queries = [{ expr, legend: legendOf(group) }];
  return { title, description: about, type: "timeseries", unit, stacked: true, queries };
}

/** One query per state, in the order in which they are stacked, each called as people call the state. */
export function byState(expr: (matcher: string) => string, more: Partial<Query> = {}, suffix = ""): Query[] {
  return stateOrder.map((state) => ({
    expr: expr(`tokenwatt_gpu_state="${state}"`),
    legend: `${stateLooks[state].label}${suffix}`,
    ...more,
  }));
}

/** p50, p95 and p99 of a latency by a group: of served requests, or p50 and p99 of failed ones. */
export function percentilePanel(
  metric: string,
  title: string,
  group: GroupName,
  about: string,
  ended: Ended = "served",
): Panel {
  const said =
    ended === "served" ? "Of requests that went well, and of those whose source does not say." : "";
  return {
    ...{ title, description: `${about} ${said}`.trim(), type: "timeseries", unit: "s" },
    queries: (ended === "served" ? [50, 95, 99] : [50, 99]).map((percentile) => ({
      expr: `histogram_quantile(${percentile / 100}, ${bucketsPromql(metric, group, R, ended, chosenMetric(metric))})`,
      legend: `p${percentile} ${legendOf(group)}`,
    })),
  };
}
