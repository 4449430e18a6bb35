// The agent's own health as OTLP metrics, through the stock SDK: what it costs, how its sources and senders do.
// A few dozen series where a lost point does no harm, so the SDK's limits (no retry, no start times) do not matter here.
// The points come ready from points.ts, as /metrics shows them; the SDK's reader collects and sends them.
// Load this file with import(): the SDK takes 17 MB. A second NodeSDK in one process reports nothing unless the first
// one's provider was disabled, which `stop` does.
import type { HrTime } from "@opentelemetry/api";
import { metrics as api, ValueType } from "@opentelemetry/api";
import { resourceFromAttributes } from "@opentelemetry/resources";
import type { CollectionResult, MetricData, MetricProducer } from "@opentelemetry/sdk-metrics";
import {
  AggregationTemporality,
  DataPointType,
  PeriodicExportingMetricReader,
} from "@opentelemetry/sdk-metrics";
import { NodeSDK } from "@opentelemetry/sdk-node";
import type { Histogram, UnixNanos } from "../../model.ts";
import { SCHEMA_URL } from "../metrics/conventions.ts";
import type { Metric } from "../metrics/metric.ts";
import type { Attributes } from "../otlp/attributes.ts";
import type { Destination } from "../otlp/config.ts";
import { selfExporter } from "./exporter.ts";
import type { SelfReading } from "./points.ts";

/** The running report of the agent's own metrics to one destination. */
export interface SelfMetrics {
  /** Exports now; never rejects. */
  report(): Promise<void>;
  /** Exports once more and stops; never rejects. */
  stop(): Promise<void>;
}

/** Starts reporting to one destination. A destination that does not answer costs nothing but the points. */
export async function startSelfMetrics(options: {
  readonly destination: Destination;
  readonly resource: Attributes;
  readonly version: string;
  readonly intervalMs: number;
  readonly read: () => SelfReading;
}): Promise<SelfMetrics> {
  const { destination, intervalMs, read, version } = options;
  const resource = resourceFromAttributes(options.resource, { schemaUrl: SCHEMA_URL });
  const scope = { name: "tokenwatt.agent", version, schemaUrl: SCHEMA_URL };
  const producer: MetricProducer = {
    collect: async (): Promise<CollectionResult> => ({
      resourceMetrics: { resource, scopeMetrics: [{ scope, metrics: metricData(read()) }] },
      errors: [],
    }),
  };
  const reader = new PeriodicExportingMetricReader({
    exporter: selfExporter(destination),
    exportIntervalMillis: intervalMs,
    exportTimeoutMillis: Math.min(intervalMs, destination.timeoutMs),
    metricProducers: [producer],
  });
  const sdk = new NodeSDK({
    resource,
    autoDetectResources: false,
    // Nothing of it is read from the environment: the packed SDK has no other exporter and no propagator.
    textMapPropagator: null,
    metricReaders: [reader],
    spanProcessors: [],
    logRecordProcessors: [],
  });
  sdk.start();
  return {
    report: () => reader.forceFlush().catch(() => {}),
    stop: async () => {
      await sdk.shutdown().catch(() => {});
      api.disable();
    },
  };
}

function metricData({ points, start, time }: SelfReading): MetricData[] {
  const times = { startTime: hrTime(start), endTime: hrTime(time) };
  const data: MetricData[] = [];
  for (const [metric, of] of Map.groupBy(points, (point) => point.metric)) {
    const base = {
      descriptor: descriptorOf(metric),
      aggregationTemporality: AggregationTemporality.CUMULATIVE,
    };
    const plain = of.flatMap(({ attributes, value }) =>
      typeof value === "number" ? [{ ...times, attributes, value }] : [],
    );
    const histograms = of.flatMap(({ attributes, value }) =>
      typeof value === "number" ? [] : [{ ...times, attributes, value: histogramValue(value) }],
    );
    if (metric.kind === "histogram")
      data.push({ ...base, dataPointType: DataPointType.HISTOGRAM, dataPoints: histograms });
    else if (metric.kind === "gauge")
      data.push({ ...base, dataPointType: DataPointType.GAUGE, dataPoints: plain });
    else
      data.push({
        ...base,
        dataPointType: DataPointType.SUM,
        isMonotonic: metric.kind === "sum",
        dataPoints: plain,
      });
  }
  return data;
}

function descriptorOf({ description, name, unit }: Metric): MetricData["descriptor"] {
  return { name, description, unit, valueType: ValueType.DOUBLE };
}

function histogramValue({ bounds, count, counts, sum }: Histogram) {
  return { buckets: { boundaries: [...bounds], counts: [...counts] }, sum, count };
}

function hrTime(at: UnixNanos): HrTime {
  return [Number(at / 1_000_000_000n), Number(at % 1_000_000_000n)];
}
