// The choices at the top of every board, and the matchers they put into an expression. A choice reaches only series that
// carry its attribute, and a quotient only where all its parts do: half of a quotient must not be of other servers.
import type { QueryVariableBuilder } from "@grafana/grafana-foundation-sdk/dashboard";
import * as dashboard from "@grafana/grafana-foundation-sdk/dashboard";
import { findMetric } from "../../agent/export/metrics/metrics.ts";
import { prometheusLabel } from "../../agent/export/metrics/prometheus-names.ts";
import type { GroupName, Kpi, TotalName } from "../prometheus/kpis.ts";
import { totals } from "../prometheus/kpis.ts";
import { seriesName } from "../prometheus/promql.ts";

/** The data source that is chosen on the board. */
export const SOURCE = { type: "prometheus", uid: "$source" } as const;

interface Choice {
  readonly name: string;
  readonly label: string;
  readonly attribute: string;
  /** A metric that has every value. */
  readonly metric: string;
  /** Of the resource: on every series. */
  readonly everywhere?: boolean;
}

const choices: readonly Choice[] = [
  {
    ...{ name: "cluster", label: "Cluster", attribute: "k8s.cluster.name" },
    ...{ metric: "tokenwatt.gpu.time", everywhere: true },
  },
  {
    ...{ name: "host", label: "Host", attribute: "host.name" },
    ...{ metric: "tokenwatt.gpu.time", everywhere: true },
  },
  { name: "gpu", label: "GPU type", attribute: "hw.model", metric: "tokenwatt.gpu.time" },
  { name: "model", label: "Model", attribute: "gen_ai.request.model", metric: "tokenwatt.tokens" },
  { name: "server", label: "Server", attribute: "tokenwatt.server.id", metric: "tokenwatt.server.info" },
  { name: "tenant", label: "Customer", attribute: "tokenwatt.tenant", metric: "tokenwatt.gateway.tokens" },
  { name: "currency", label: "Currency", attribute: "tokenwatt.currency", metric: "tokenwatt.cost" },
];

/** Matchers of the choices that series with these attributes follow. */
function matchers(attributes: ReadonlySet<string>): readonly string[] {
  return choices
    .filter(({ attribute, everywhere }) => everywhere === true || attributes.has(attribute))
    .map(({ attribute, name }) => `${prometheusLabel(attribute)}=~"$${name}"`);
}

function attributesOf(metric: string): ReadonlySet<string> {
  return new Set(findMetric(metric)?.attributes);
}

/** A metric's series as chosen: `name{matchers}`; `suffix` for parts of a histogram. */
export function chosen(metric: string, more: readonly string[] = [], suffix = ""): string {
  return `${seriesName(metric)}${suffix}{${[...more, ...matchers(attributesOf(metric))].join(",")}}`;
}

/** Matchers of the choices that a metric's series follow. */
export function chosenMetric(metric: string): readonly string[] {
  return matchers(attributesOf(metric));
}

/** Matchers for the series the agent reports of itself. */
export const ofAgent: readonly string[] = ['job=~"(.+/)?tokenwatt"', ...matchers(new Set())];

/** Matchers that every part of these totals can take. */
export function chosenTotals(names: readonly TotalName[], group: GroupName): readonly string[] {
  const parts = names.flatMap((name) => metricsOf(name, group));
  const shared = choices
    .map(({ attribute }) => attribute)
    .filter((key) => parts.every((has) => has.has(key)));
  return matchers(new Set(shared));
}

/** Matchers that both sides of a quotient can take. */
export function chosenKpi(kpi: Kpi, group: GroupName): readonly string[] {
  return chosenTotals([kpi.over, kpi.under], group);
}

function metricsOf(name: TotalName, group: GroupName): ReadonlySet<string>[] {
  const { less, metric } = totals[name];
  const own = attributesOf(metric[group] ?? "");
  return less === undefined ? [own] : [own, ...metricsOf(less, group)];
}

/** Which choices all of these expressions follow, as people read them. */
export function followed(expressions: readonly string[]): readonly string[] {
  return choices
    .filter(({ name }) => expressions.every((expr) => new RegExp(`"\\$${name}"`).test(expr)))
    .map(({ label }) => label.toLowerCase().replace("gpu", "GPU"));
}

/** The variables of a board: its data source first, then the choices, then where runbooks are. */
export function variables() {
  return [
    new dashboard.DatasourceVariableBuilder("source").label("Data source").type("prometheus"),
    ...choices.map(choiceVariable),
    new dashboard.TextBoxVariableBuilder("runbooks")
      .label("Runbooks")
      .description("Where the folder deploy/docs/runbooks is served, ending in a slash.")
      .defaultValue("/runbooks/"),
  ];
}

function choiceVariable({ attribute, label, metric, name }: Choice): QueryVariableBuilder {
  const within = name === "cluster" ? "" : `{${prometheusLabel("k8s.cluster.name")}=~"$cluster"}`;
  const query = `label_values(${seriesName(metric)}${within}, ${prometheusLabel(attribute)})`;
  return new dashboard.QueryVariableBuilder(name)
    .label(label)
    .datasource(SOURCE)
    .query({ query, refId: name })
    .definition(query)
    .refresh(dashboard.VariableRefresh.OnTimeRangeChanged)
    .sort(dashboard.VariableSort.AlphabeticalAsc)
    .includeAll(true)
    .multi(true)
    .allValue(".*")
    .current({ text: "All", value: "$__all" });
}
