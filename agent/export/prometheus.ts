// A committed snapshot as Prometheus text: format 0.0.4, or OpenMetrics 1.0 when the scraper asks for it.
// Names, units and labels as the Collector and Prometheus make them of the same OTLP points (metrics/prometheus-names.ts).
// A scrape is stamped by the scraper, so points carry no times; ended series are left out, which ends them there.
import type { Histogram, LedgerPoint, LedgerSnapshot, UnixNanos } from "../model.ts";
import type { Metric } from "./metrics/metric.ts";
import { inUnit } from "./metrics/metric.ts";
import { findMetric } from "./metrics/metrics.ts";
import { prometheusLabel, prometheusName, prometheusUnit } from "./metrics/prometheus-names.ts";
import type { Attributes } from "./otlp/attributes.ts";
import type { SelfPoint, SelfReading } from "./self/points.ts";

/** The two dialects of Prometheus text that are served. */
export type TextFormat = "prometheus" | "openmetrics";

const CONTENT_TYPES: Readonly<Record<TextFormat, string>> = {
  prometheus: "text/plain; version=0.0.4; charset=utf-8",
  openmetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8",
};

/** Resource attributes repeated as labels on every series, so that hosts can be distinguished without a join. */
const COMMON_LABELS = ["host.name", "k8s.node.name", "k8s.cluster.name"];

/** Writes snapshots; keeps the label text of each series between them. */
export interface PrometheusWriter {
  /** The whole page; `own`: what the agent says of itself. */
  write(snapshot: Pick<LedgerSnapshot, "points">, format: TextFormat, own?: SelfReading): string;
}

/** A writer for one resource. Exported for its test: snapshots of every kind. */
export function createPrometheusWriter(resource: Attributes): PrometheusWriter {
  const common = Object.fromEntries(
    COMMON_LABELS.flatMap((key) => (resource[key] === undefined ? [] : [[key, String(resource[key])]])),
  );
  const cache = new Map<number, string>();
  const labelsOf = (point: LedgerPoint): string => {
    let labels = cache.get(point.series);
    if (labels === undefined) {
      labels = labelText({ ...common, ...point.dimensions });
      cache.set(point.series, labels);
    }
    return labels;
  };
  return {
    write({ points: all }, format, own) {
      if (cache.size > 2 * all.length) cache.clear();
      const lines: string[] = [targetInfo(resource, format)];
      for (const [name, points] of Map.groupBy(all, (point) => point.metric)) {
        const metric = findMetric(name);
        if (metric !== undefined) writeFamily(lines, metric, points, format, labelsOf);
      }
      const ownLabels = ({ dimensions }: LedgerPoint): string => labelText({ ...common, ...dimensions });
      for (const [metric, points] of Map.groupBy(own?.points ?? [], (point) => point.metric)) {
        const like = points.map((point) => ledgerPoint(point, own as SelfReading));
        writeFamily(lines, metric, like, format, ownLabels);
      }
      if (format === "openmetrics") lines.push("# EOF\n");
      return lines.join("");
    },
  };
}

/** A point of the agent's own like one of the ledger. */
function ledgerPoint({ attributes, metric, value }: SelfPoint, { start, time }: SelfReading): LedgerPoint {
  const about = { series: -1, metric: metric.name, dimensions: attributes };
  return { ...about, value, start, time, isNew: false, ended: false };
}

/** A page as an HTTP answer. */
export interface Page {
  readonly type: string;
  readonly bytes: Buffer;
}

/** The pages of one resource: each is built once for a snapshot and a format, whoever asks for it. */
export class PrometheusPages {
  readonly #writer: PrometheusWriter;
  readonly #withTenants: boolean;
  readonly #own: () => SelfReading | undefined;
  readonly #pages = new Map<TextFormat, Page>();
  #snapshot: LedgerSnapshot | undefined;

  constructor(
    resource: Attributes,
    options: { readonly tenants: boolean },
    own: () => SelfReading | undefined = () => undefined,
  ) {
    this.#writer = createPrometheusWriter(resource);
    this.#withTenants = options.tenants;
    this.#own = own;
  }

  /** The page of a snapshot in the format the scraper accepts; before the first commit only `target_info`. */
  page(snapshot: LedgerSnapshot | undefined, accept: string | undefined): Page {
    if (snapshot !== this.#snapshot) this.#pages.clear();
    this.#snapshot = snapshot;
    const format = negotiate(accept);
    const known = this.#pages.get(format);
    if (known !== undefined) return known;
    const shown = (this.#withTenants ? snapshot : withoutTenants(snapshot)) ?? EMPTY;
    const page = {
      type: CONTENT_TYPES[format],
      bytes: Buffer.from(this.#writer.write(shown, format, this.#own())),
    };
    this.#pages.set(format, page);
    return page;
  }
}

const EMPTY: Pick<LedgerSnapshot, "points"> = { points: [] };

/**
 * The snapshot without series of a tenant, or of a limit that a rate limiter may name by one: who the customers are is not
 * for everyone who reaches the port.
 * Exported for its test: snapshots of every kind.
 */
export function withoutTenants(
  snapshot: Pick<LedgerSnapshot, "points"> | undefined,
): Pick<LedgerSnapshot, "points"> | undefined {
  if (snapshot === undefined) return undefined;
  return {
    points: snapshot.points.filter(
      ({ dimensions }) =>
        dimensions["tokenwatt.tenant"] === undefined && dimensions["tokenwatt.limiter.limit"] === undefined,
    ),
  };
}

/**
 * The format an Accept header asks for; OpenMetrics only where it is named and not weighed below plain text.
 * Exported for its test: headers of every scraper.
 */
export function negotiate(accept: string | undefined): TextFormat {
  let best: TextFormat = "prometheus";
  let weight = 0;
  for (const part of (accept ?? "").split(",")) {
    const [type = "", ...parameters] = part.split(";").map((piece) => piece.trim().toLowerCase());
    const version = parameters.find((parameter) => parameter.startsWith("version="))?.slice(8);
    const quality = Number(parameters.find((parameter) => parameter.startsWith("q="))?.slice(2) ?? 1);
    if (!(quality > weight)) continue;
    if (type === "application/openmetrics-text" && (version === undefined || version === "1.0.0")) {
      best = "openmetrics";
      weight = quality;
    } else if (type === "text/plain") {
      best = "prometheus";
      weight = quality;
    }
  }
  return best;
}

function writeFamily(
  lines: string[],
  metric: Metric,
  points: readonly LedgerPoint[],
  format: TextFormat,
  labelsOf: (point: LedgerPoint) => string,
): void {
  const live = points.filter((point) => !point.ended);
  if (live.length === 0) return;
  const name = prometheusName(metric);
  const family = format === "openmetrics" && metric.kind === "sum" ? name.slice(0, -"_total".length) : name;
  const type = metric.kind === "sum" ? "counter" : metric.kind === "histogram" ? "histogram" : "gauge";
  lines.push(`# HELP ${family} ${escapeHelp(metric.description, format)}\n# TYPE ${family} ${type}\n`);
  const unit = prometheusUnit(metric.unit);
  if (format === "openmetrics" && unit !== undefined && family.endsWith(`_${unit}`)) {
    lines.push(`# UNIT ${family} ${unit}\n`);
  }
  for (const point of live) {
    const labels = labelsOf(point);
    // A scraper that sees a series again must see where it stood before it sees what is new.
    const value = point.back?.value ?? point.value;
    if (typeof value === "object") writeHistogram(lines, name, labels, value);
    else lines.push(`${name}${braced(labels)} ${valueText(metric, value)}\n`);
    if (format === "openmetrics" && (metric.kind === "sum" || metric.kind === "histogram")) {
      lines.push(`${family}_created${braced(labels)} ${secondsText(point.start)}\n`);
    }
  }
}

function writeHistogram(lines: string[], name: string, labels: string, histogram: Histogram): void {
  const prefix = labels === "" ? "" : `${labels},`;
  let cumulative = 0;
  for (const [i, bound] of histogram.bounds.entries()) {
    cumulative += histogram.counts[i] ?? 0;
    lines.push(`${name}_bucket{${prefix}le="${floatText(bound)}"} ${cumulative}\n`);
  }
  lines.push(`${name}_bucket{${prefix}le="+Inf"} ${histogram.count}\n`);
  lines.push(
    `${name}_sum${braced(labels)} ${histogram.sum}\n${name}_count${braced(labels)} ${histogram.count}\n`,
  );
}

/** The resource as `target_info`, the only place its attributes appear in full. */
function targetInfo(resource: Attributes, format: TextFormat): string {
  const family = format === "openmetrics" ? "target" : "target_info";
  const type = format === "openmetrics" ? "info" : "gauge";
  const labels = labelText(
    Object.fromEntries(Object.entries(resource).map(([key, value]) => [key, String(value)])),
  );
  return `# HELP ${family} Target metadata\n# TYPE ${family} ${type}\ntarget_info${braced(labels)} 1\n`;
}

function labelText(labels: Readonly<Record<string, string>>): string {
  return Object.keys(labels)
    .sort()
    .map((key) => `${prometheusLabel(key)}="${escapeValue(labels[key] ?? "")}"`)
    .join();
}

function braced(labels: string): string {
  return labels === "" ? "" : `{${labels}}`;
}

function valueText(metric: Metric, value: bigint | number): string {
  if (metric.number === "int" && typeof value === "bigint") return value.toString();
  const converted = inUnit(metric, value);
  if (Number.isFinite(converted)) return String(converted);
  return Number.isNaN(converted) ? "NaN" : converted > 0 ? "+Inf" : "-Inf";
}

/** OpenMetrics wants `1.0`, not `1`, for bucket bounds; both formats read it alike. */
function floatText(bound: number): string {
  return Number.isInteger(bound) && Math.abs(bound) < 1e15 ? bound.toFixed(1) : String(bound);
}

function secondsText(at: UnixNanos): string {
  const millis = at / 1_000_000n;
  return `${millis / 1000n}.${String(millis % 1000n).padStart(3, "0")}`;
}

function escapeValue(text: string): string {
  return /[\\"\n]/.test(text) ? text.replace(/\\/g, "\\\\").replace(/\n/g, "\\n").replace(/"/g, '\\"') : text;
}

function escapeHelp(text: string, format: TextFormat): string {
  const escaped = text.replace(/\\/g, "\\\\").replace(/\n/g, "\\n");
  return format === "openmetrics" ? escaped.replace(/"/g, '\\"') : escaped;
}
