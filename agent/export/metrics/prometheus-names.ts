// How OTLP names and units become Prometheus names, so that a scrape and an OTLP ingest name a series alike.
// Rules: OpenTelemetry specification 1.60, "Prometheus and OpenMetrics Compatibility", as the Collector and
// Prometheus' own OTLP endpoint apply them (strategy UnderscoreEscapingWithSuffixes).
import type { Metric } from "./metric.ts";

const UNIT_WORDS: Readonly<Record<string, string>> = {
  s: "seconds",
  J: "joules",
  W: "watts",
  By: "bytes",
  Cel: "celsius",
  Hz: "hertz",
};

/** The unit as a word of the name; undefined for annotations in braces and for "1". */
export function prometheusUnit(unit: string): string | undefined {
  return UNIT_WORDS[unit];
}

/**
 * The name of the metric family in the plain text format: unit word, `_total` on monotonic sums, `_ratio` on gauges
 * of unit 1. Histograms get `_bucket`, `_sum` and `_count` on top.
 */
export function prometheusName(metric: Metric): string {
  const tokens = metric.name.split(/[^a-zA-Z0-9:]+/).filter((token) => token !== "");
  const suffix = (word: string): void => {
    const at = tokens.indexOf(word);
    if (at !== -1) tokens.splice(at, 1);
    tokens.push(word);
  };
  const unit = prometheusUnit(metric.unit);
  if (unit !== undefined && !tokens.includes(unit)) tokens.push(unit);
  if (metric.kind === "sum") suffix("total");
  if (metric.kind === "gauge" && metric.unit === "1") suffix("ratio");
  return tokens.join("_");
}

/** An attribute key as a label name. */
export function prometheusLabel(key: string): string {
  const name = key.replace(/[^a-zA-Z0-9_]/g, "_");
  return /^[0-9]/.test(name) ? `key_${name}` : name;
}
