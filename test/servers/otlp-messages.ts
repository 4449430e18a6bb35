// Metric requests by generated code, for the OTLP receiver's tests and bench.
import { create, toBinary } from "@bufbuild/protobuf";
import { ExportMetricsServiceRequestSchema } from "../gen/opentelemetry/proto/collector/metrics/v1/metrics_service_pb.ts";
import { AggregationTemporality, MetricSchema } from "../gen/opentelemetry/proto/metrics/v1/metrics_pb.ts";

export interface MetricSpec {
  readonly name: string;
  readonly histogram?: boolean;
  readonly delta?: boolean;
  readonly points: readonly {
    readonly sum: number;
    readonly start: number;
    readonly time: number;
    readonly attributes: Readonly<Record<string, string>>;
    readonly buckets?: readonly number[];
    readonly bounds?: readonly number[];
  }[];
}

/** Bytes of an ExportMetricsServiceRequest of one sender. */
export function metricsRequest(specs: readonly MetricSpec[]): Buffer {
  const metrics = specs.map((spec) => {
    const aggregationTemporality =
      spec.delta === true ? AggregationTemporality.DELTA : AggregationTemporality.CUMULATIVE;
    const shared = spec.points.map((point) => ({
      startTimeUnixNano: BigInt(point.start),
      timeUnixNano: BigInt(point.time),
      attributes: Object.entries(point.attributes).map(([key, text]) => ({
        key,
        value: { value: { case: "stringValue" as const, value: text } },
      })),
    }));
    const data = spec.histogram
      ? {
          case: "histogram" as const,
          value: {
            aggregationTemporality,
            dataPoints: spec.points.map((point, index) => ({
              ...shared[index],
              sum: point.sum,
              count: BigInt((point.buckets ?? [1]).reduce((a, b) => a + b, 0)),
              bucketCounts: (point.buckets ?? []).map(BigInt),
              explicitBounds: [...(point.bounds ?? [])],
            })),
          },
        }
      : {
          case: "sum" as const,
          value: {
            aggregationTemporality,
            isMonotonic: true,
            dataPoints: spec.points.map((point, index) => ({
              ...shared[index],
              value: { case: "asInt" as const, value: BigInt(point.sum) },
            })),
          },
        };
    return create(MetricSchema, { name: spec.name, data: data as never });
  });
  const service = {
    key: "service.name",
    value: { value: { case: "stringValue" as const, value: "gateway" } },
  };
  return Buffer.from(
    toBinary(
      ExportMetricsServiceRequestSchema,
      create(ExportMetricsServiceRequestSchema, {
        resourceMetrics: [{ resource: { attributes: [service] }, scopeMetrics: [{ metrics }] }],
      }),
    ),
  );
}
