// The series and label names a PromQL expression uses, and what exists: the metrics table, the self-metrics and the
// recorded series. No parser: strings, durations and clauses are cut away, what is left and is no call is a series.
import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { metrics } from "../../agent/export/metrics/metrics.ts";
import { prometheusLabel, prometheusName } from "../../agent/export/metrics/prometheus-names.ts";
import { selfMetrics } from "../../agent/export/self/names.ts";

const own = Object.values(selfMetrics);
const KEYWORDS = /^(and|or|unless|by|on|without|ignoring|group_left|group_right|offset|bool|Inf|NaN)$/;
const CLAUSE = /\b(by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)/g;

/** Names of series and of labels in an expression; Grafana's variables are no names. */
export function namesIn(expression: string): { series: string[]; labels: string[] } {
  const labels = new Set<string>();
  let text = expression.replaceAll(/"(?:[^"\\]|\\.)*"/g, '""');
  text = text.replaceAll(CLAUSE, (_, __, inner: string) => {
    for (const label of inner.split(",")) if (label.trim() !== "") labels.add(label.trim());
    return " ";
  });
  text = text.replaceAll(/\{([^}]*)\}/g, (_, inner: string) => {
    for (const [, label = ""] of inner.matchAll(/([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)/g)) labels.add(label);
    return " ";
  });
  text = text.replaceAll(/\[[^\]]*\]/g, " ").replaceAll(/\$\w+/g, " ");
  const words = [...text.matchAll(/(?<![\w:.])([a-zA-Z_:][\w:]*)(?!\w)(\s*\()?/g)];
  const series = words.filter(([, word = "", call]) => call === undefined && !KEYWORDS.test(word));
  return { series: [...new Set(series.map(([, word = ""]) => word))], labels: [...labels] };
}

/** Every series name that exists: of the contract, of the agent's own health, and from outside where we rely on it. */
export function knownSeries(): Set<string> {
  const families = [...metrics, ...own].flatMap((metric) => {
    const name = prometheusName(metric);
    return metric.kind === "histogram" ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name];
  });
  return new Set([...families, "up", "target_info", "kube_node_labels", "ALERTS"]);
}

/** Every label a series of ours may carry, and those Prometheus and kube-state-metrics add. */
export function knownLabels(): Set<string> {
  const ours = [...metrics, ...own].flatMap((metric) => metric.attributes.map(prometheusLabel));
  const added = [
    "job",
    "instance",
    "cluster",
    "host_name",
    "k8s_node_name",
    "k8s_cluster_name",
    "le",
    "node",
    "state",
    "alertname",
    "alertstate",
    "severity",
  ];
  return new Set([...ours, ...added, "label_nvidia_com_gpu_present"]);
}

interface RuleFile {
  readonly groups: readonly {
    readonly rules: readonly {
      readonly record?: string;
      readonly alert?: string;
      readonly expr: string;
      readonly labels?: { readonly severity: string };
      readonly annotations?: Readonly<Record<string, string>>;
    }[];
  }[];
}

/** The rules of a file under deploy/prometheus. */
export function rulesOf(file: string): RuleFile["groups"][number]["rules"] {
  const url = new URL(`../../deploy/prometheus/${file}`, import.meta.url);
  return (parse(readFileSync(url, "utf8")) as RuleFile).groups.flatMap((group) => group.rules);
}

/** Names an expression uses and nothing defines, with `recorded` series known. */
export function unknownNames(expression: string, recorded: ReadonlySet<string> = new Set()): string[] {
  const { series, labels } = namesIn(expression);
  const [known, keys] = [knownSeries(), knownLabels()];
  return [
    ...series.filter((name) => !known.has(name) && !recorded.has(name)),
    ...labels.filter((label) => !keys.has(label)).map((label) => `label ${label}`),
  ];
}
