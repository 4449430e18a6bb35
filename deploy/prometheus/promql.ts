// KPIs as PromQL over raw series, for any window and group: `promql(kpi, "server", "5m")`.
// Labels are those of a scrape and of an OTLP ingest alike. Clusters are kept apart: by k8s_cluster_name, which the agent
// sends, and by `cluster`, where Prometheus adds such a label of its own.
import { findMetric } from "../../agent/export/metrics/metrics.ts";
import { prometheusLabel, prometheusName } from "../../agent/export/metrics/prometheus-names.ts";
import type { Compound, Ended, GroupName, Kpi, Selector, Total, TotalName } from "./kpis.ts";
import { groups, kpiNamed, servedOutcomes, totals } from "./kpis.ts";

/** The Prometheus name of a metric of the contract; throws when there is no such metric. */
export function seriesName(metric: string): string {
  const found = findMetric(metric);
  if (found === undefined) throw new Error(`No metric ${metric} in agent/export/metrics/metrics.ts`);
  return prometheusName(found);
}

/** The labels that keep clusters apart; one that nothing adds is empty everywhere, and changes nothing. */
export const clusterLabels: readonly string[] = ["cluster", prometheusLabel("k8s.cluster.name")];

/** The labels a group is summed by, clusters first. */
export function groupLabels(group: GroupName, money = false): string[] {
  const keys = [...groups[group], ...(money ? ["tokenwatt.currency"] : [])];
  return [...clusterLabels, ...keys.map(prometheusLabel)];
}

/** A sum of rates over one group; `extra` are matchers of the reader's own, for example dashboard variables. */
export function totalPromql(
  name: TotalName,
  group: GroupName,
  window: string,
  extra: readonly string[] = [],
  change: "rate" | "increase" = "rate",
): string {
  const total = totals[name];
  const metric = total.metric[group];
  if (metric === undefined) throw new Error(`No total ${name} by ${group}`);
  const labels = groupLabels(group, total.money);
  const needed = groups[group].map((key) => `${prometheusLabel(key)}!=""`);
  const matchers = [...(total.where ?? []).map(matcher), ...needed, ...extra];
  const sum = `sum by (${labels.join(", ")}) (${change}(${seriesName(metric)}${braced(matchers)}[${window}]))`;
  const other = total.less ?? total.plus;
  if (other === undefined) return sum;
  const sign = total.less === undefined ? "+" : "-";
  // Where there is no such series nothing is taken away or added: the sum itself times 0 stands in.
  return `(${sum} ${sign} (${totalPromql(other, group, window, extra, change)} or 0 * ${sum}))`;
}

/** The buckets of a latency by a group, as rates, of served requests or of failed ones. */
export function bucketsPromql(
  metric: string,
  group: GroupName,
  window: string,
  ended: Ended = "served",
  extra: readonly string[] = [],
): string {
  const labels = [...groupLabels(group), "le"].join(", ");
  const needed = groups[group].map((key) => `${prometheusLabel(key)}!=""`);
  const outcome = matcher({ attribute: "tokenwatt.outcome", is: servedOutcomes, not: ended === "failed" });
  const matchers = [...needed, outcome, ...extra];
  return `sum by (${labels}) (rate(${seriesName(metric)}_bucket${braced(matchers)}[${window}]))`;
}

/** Whether the KPI's totals are in money, so that the quotient is by currency. */
export function inMoney(kpi: Kpi): boolean {
  return totals[kpi.over].money === true || totals[kpi.under].money === true;
}

/** A KPI from two expressions that are already summed by the group's labels. */
export function quotient(kpi: Kpi, group: GroupName, over: string, under: string): string {
  const total = (name: TotalName): Total => totals[name];
  const [ofMoney, byMoney] = [total(kpi.over).money === true, total(kpi.under).money === true];
  const side = ofMoney ? "group_left" : "group_right";
  const joined = ofMoney === byMoney ? "" : ` on (${groupLabels(group).join(", ")}) ${side} ()`;
  const factor = kpi.factor === undefined ? "" : `${kpi.factor} * `;
  const divided = `${factor}${over} /${joined} (${under} > 0)`;
  return kpi.complement === true ? `1 - ${divided}` : divided;
}

/** A KPI over raw series. */
export function kpiPromql(kpi: Kpi, group: GroupName, window: string, extra: readonly string[] = []): string {
  const [over, under] = [kpi.over, kpi.under].map((name) => totalPromql(name, group, window, extra));
  return quotient(kpi, group, over ?? "", under ?? "");
}

/** A quotient of two key figures over raw series; where the lower one is 0 there is no value. */
export function compoundPromql(
  { over, under }: Compound,
  group: GroupName,
  window: string,
  extra: readonly string[] = [],
): string {
  const [above, below] = [over, under].map((name) => kpiPromql(kpiNamed(name), group, window, extra));
  return `(${above}) / ((${below}) > 0)`;
}

function matcher({ attribute, is, not }: Selector): string {
  const exact = is.length === 1;
  const operator = not === true ? (exact ? "!=" : "!~") : exact ? "=" : "=~";
  return `${prometheusLabel(attribute)}${operator}"${is.join("|")}"`;
}

function braced(matchers: readonly string[]): string {
  return matchers.length === 0 ? "" : `{${matchers.join(",")}}`;
}
