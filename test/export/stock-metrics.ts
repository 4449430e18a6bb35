// A snapshot in the shape the stock SDK hands to its own serializer, one stock metric per metric name.
import { AggregationTemporality, DataPointType, InstrumentType } from "@opentelemetry/sdk-metrics";
import type { Metric } from "../../agent/export/metrics/metric.ts";
import { inUnit } from "../../agent/export/metrics/metric.ts";
import { findMetric } from "../../agent/export/metrics/metrics.ts";
import type { LedgerPoint, LedgerSnapshot } from "../../agent/model.ts";
import { SECOND } from "./bulk.ts";

const DATA_POINT_TYPES = {
  histogram: DataPointType.HISTOGRAM,
  gauge: DataPointType.GAUGE,
  sum: DataPointType.SUM,
  level: DataPointType.SUM,
} as const;

/** The stock ResourceMetrics of a snapshot; integers must be below 2^53, the SDK has no others. */
export function stockMetrics(given: LedgerSnapshot, resource: Readonly<Record<string, unknown>>) {
  const groups = Map.groupBy(given.points, (one) => one.metric);
  const stock = [...groups].map(([name, points]) => {
    const metric = findMetric(name) as Metric;
    return {
      descriptor: {
        name,
        unit: metric.unit,
        description: metric.description,
        type: InstrumentType.COUNTER,
        valueType: metric.number === "int" ? 0 : 1,
        advice: {},
      },
      aggregationTemporality: AggregationTemporality.CUMULATIVE,
      dataPointType: DATA_POINT_TYPES[metric.kind],
      isMonotonic: metric.kind === "sum",
      dataPoints: points.map((one) => stockPoint(metric, one)),
    };
  });
  return {
    resource: { attributes: resource, asyncAttributesPending: false, merge: () => undefined },
    scopeMetrics: [{ scope: { name: "tokenwatt", version: "0" }, metrics: stock }],
  };
}

function stockPoint(metric: Metric, one: LedgerPoint) {
  const cumulative = metric.kind === "sum" || metric.kind === "histogram";
  return {
    startTime: cumulative ? hrTime(one.start) : [0, 0],
    endTime: hrTime(one.time),
    attributes: one.dimensions,
    value: stockValue(metric, one.value),
  };
}

function stockValue(metric: Metric, value: LedgerPoint["value"]) {
  if (typeof value === "object") {
    return {
      buckets: { boundaries: value.bounds, counts: value.counts },
      sum: value.sum,
      count: value.count,
    };
  }
  return metric.number === "int" ? Math.round(Number(value)) : inUnit(metric, value);
}

function hrTime(at: bigint): [number, number] {
  return [Number(at / SECOND), Number(at % SECOND)];
}
