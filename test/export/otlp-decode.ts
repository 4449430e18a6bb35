// Decodes requests with generated code into flat points, one object per data point, for comparison in tests.
import { fromBinary } from "@bufbuild/protobuf";
import { ExportMetricsServiceRequestSchema } from "../gen/opentelemetry/proto/collector/metrics/v1/metrics_service_pb.ts";
import type { KeyValue } from "../gen/opentelemetry/proto/common/v1/common_pb.ts";
import type {
  HistogramDataPoint,
  Metric,
  NumberDataPoint,
} from "../gen/opentelemetry/proto/metrics/v1/metrics_pb.ts";

export interface FlatPoint {
  readonly metric: string;
  readonly unit: string;
  readonly kind: string;
  readonly monotonic?: boolean;
  readonly temporality?: number;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly start: bigint;
  readonly time: bigint;
  readonly value: bigint | number | undefined;
  readonly histogram?: { counts: bigint[]; bounds: number[]; sum: number | undefined; count: bigint };
  readonly flags: number;
}

export interface Decoded {
  readonly resource: Readonly<Record<string, unknown>>;
  readonly scope: { readonly name: string; readonly version: string };
  /** Of resource and scope. */
  readonly schemas: readonly (string | undefined)[];
  readonly points: readonly FlatPoint[];
}

export function decode(bytes: Uint8Array): Decoded {
  const request = fromBinary(ExportMetricsServiceRequestSchema, bytes);
  if (request.resourceMetrics.length !== 1) throw new Error("wanted one ResourceMetrics");
  const [resource] = request.resourceMetrics;
  const [scope] = resource?.scopeMetrics ?? [];
  return {
    resource: attributes(resource?.resource?.attributes ?? []),
    scope: { name: scope?.scope?.name ?? "", version: scope?.scope?.version ?? "" },
    schemas: [resource?.schemaUrl, scope?.schemaUrl],
    points: (scope?.metrics ?? []).flatMap(flat),
  };
}

export function decodeAll(requests: readonly Uint8Array[]): FlatPoint[] {
  return requests.flatMap((bytes) => decode(bytes).points);
}

function flat(metric: Metric): FlatPoint[] {
  const { case: kind, value: data } = metric.data;
  if (kind === undefined) throw new Error(`metric ${metric.name} without data`);
  const common = { metric: metric.name, unit: metric.unit, kind };
  const temporal = kind === "gauge" ? {} : { temporality: data.aggregationTemporality as number };
  const monotonic = kind === "sum" ? { monotonic: data.isMonotonic } : {};
  if (kind === "histogram")
    return data.dataPoints.map((one) => ({ ...common, ...temporal, ...histogram(one) }));
  return data.dataPoints.map((one) => ({ ...common, ...temporal, ...monotonic, ...number(one) }));
}

function number(one: NumberDataPoint) {
  return { ...times(one), value: one.value.value };
}

function histogram(one: HistogramDataPoint) {
  const { bucketCounts: counts, explicitBounds: bounds, sum, count } = one;
  return { ...times(one), value: undefined, histogram: { counts, bounds, sum, count } };
}

function times(one: NumberDataPoint | HistogramDataPoint) {
  return {
    attributes: attributes(one.attributes),
    start: one.startTimeUnixNano,
    time: one.timeUnixNano,
    flags: one.flags,
  };
}

function attributes(list: readonly KeyValue[]): Record<string, unknown> {
  return Object.fromEntries(list.map(({ key, value }) => [key, value?.value.value]));
}
