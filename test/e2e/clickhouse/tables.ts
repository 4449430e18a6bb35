// The columns of the Collector's ClickHouse exporter (0.161) that the shipped SQL reads, for suites that insert by hand.
const POINT = `ResourceAttributes Map(LowCardinality(String), String), ServiceName LowCardinality(String), MetricName String,
Attributes Map(LowCardinality(String), String), StartTimeUnix DateTime64(9), TimeUnix DateTime64(9)`;

/** otel_metrics_sum. */
export const SUM_TABLE = `CREATE TABLE otel_metrics_sum (${POINT}, Value Float64, Flags UInt32, AggregationTemporality Int32,
IsMonotonic Bool) ENGINE = MergeTree ORDER BY (ServiceName, MetricName, Attributes, toUnixTimestamp64Nano(TimeUnix))`;

/** otel_metrics_histogram. */
export const HISTOGRAM_TABLE = `CREATE TABLE otel_metrics_histogram (${POINT}, BucketCounts Array(UInt64),
ExplicitBounds Array(Float64), Flags UInt32, AggregationTemporality Int32)
ENGINE = MergeTree ORDER BY (ServiceName, MetricName, Attributes, toUnixTimestamp64Nano(TimeUnix))`;
