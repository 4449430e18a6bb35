// The part of the rollup that keeps latency histograms, for percentiles of months and years: the counts of every series in each
// 15 minutes and each day (UTC). A series' counts never fall, so that of two arrays the later one is also the one that is
// last in order, and is kept as a maximum: what arrives twice or late changes nothing. Other bounds are another series.

import { ALIGNED, FROM, TO } from "./rollup-window.ts";

const SERIES_ID =
  "cityHash64(MetricName, ResourceAttributes['service.instance.id'], mapSort(Attributes), ExplicitBounds)";
const COUNTED = "WHERE ServiceName = 'tokenwatt' AND bitAnd(Flags, 1) = 0";

const FOLDED = `SELECT MetricName AS metric, ${SERIES_ID} AS series, StartTimeUnix AS start,
    toStartOfFifteenMinutes(toDateTime(TimeUnix - INTERVAL 1 NANOSECOND, 'UTC')) AS bucket,
    max(BucketCounts) AS counts, min(BucketCounts) AS first
FROM otel_metrics_histogram
${COUNTED}
GROUP BY metric, series, start, bucket`;

const NAMED = `SELECT MetricName AS metric, ${SERIES_ID} AS series, any(Attributes) AS attributes,
    any(ResourceAttributes['service.instance.id']) AS instance, any(ResourceAttributes['host.name']) AS host,
    any(ResourceAttributes['k8s.cluster.name']) AS cluster, any(ExplicitBounds) AS bounds
FROM otel_metrics_histogram
${COUNTED}
GROUP BY metric, series`;

const COUNTS = `counts SimpleAggregateFunction(max, Array(UInt64)) CODEC(ZSTD),
    first SimpleAggregateFunction(min, Array(UInt64)) CODEC(ZSTD)`;

const tableOf = (name: string, time: string, day: string): string => `CREATE TABLE IF NOT EXISTS ${name} (
    metric LowCardinality(String),
    series UInt64,
    start DateTime64(9) CODEC(ZSTD),
    ${time} CODEC(Delta, ZSTD),
    ${COUNTS}
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(${time.split(" ")[0]})
ORDER BY (metric, ${day})`;

/** Columns and meaning of tokenwatt_latency_increase; days and edges as in tokenwatt_increase_15m. */
const INCREASE = `CREATE VIEW IF NOT EXISTS tokenwatt_latency_increase_15m AS
SELECT metric, attributes, instance, host, cluster, bounds, counts
FROM (
    SELECT metric, series, start,
        arrayMap((last, first) -> toInt64(last) - toInt64(first), max(kept), multiIf(
            countIf(until <= ${FROM}) > 0, maxIf(kept, until <= ${FROM}),
            start >= ${FROM}, arrayMap(each -> toUInt64(0), max(kept)),
            min(first_kept))) AS counts
    FROM (
        SELECT metric, series, start, bucket + INTERVAL 15 MINUTE AS until, counts AS kept, first AS first_kept
        FROM tokenwatt_latency_15m
        WHERE toDate(bucket) = toDate(${TO}, 'UTC') AND bucket < ${TO}
            OR toDate(bucket) = toDate(${FROM}, 'UTC') AND bucket < ${FROM}
        UNION ALL
        SELECT metric, series, start, toDateTime(day + 1, 'UTC') AS until, counts AS kept, first AS first_kept
        FROM tokenwatt_latency_day
        WHERE day >= toDate(${FROM}, 'UTC') - 1 AND day < toDate(${TO}, 'UTC'))
    WHERE ${ALIGNED}
    GROUP BY metric, series, start) AS increases
ANY LEFT JOIN tokenwatt_latency_series AS named USING (metric, series)`;

/** Tables, views that fill them and the view to ask, in the order in which they are made; each may be made again. */
export const latencyRollup: readonly string[] = [
  tableOf("tokenwatt_latency_15m", "bucket DateTime('UTC')", "toDate(bucket), series, start, bucket"),
  tableOf("tokenwatt_latency_day", "day Date", "day, series, start"),
  `CREATE TABLE IF NOT EXISTS tokenwatt_latency_series (
    metric LowCardinality(String),
    series UInt64,
    attributes Map(LowCardinality(String), String),
    instance String,
    host String,
    cluster LowCardinality(String),
    bounds Array(Float64)
) ENGINE = ReplacingMergeTree
ORDER BY (metric, series)`,
  `CREATE MATERIALIZED VIEW IF NOT EXISTS tokenwatt_latency_15m_fill TO tokenwatt_latency_15m AS
${FOLDED}`,
  `CREATE MATERIALIZED VIEW IF NOT EXISTS tokenwatt_latency_day_fill TO tokenwatt_latency_day AS
SELECT metric, series, start, toDate(bucket) AS day, max(counts) AS counts, min(first) AS first
FROM tokenwatt_latency_15m
GROUP BY metric, series, start, day`,
  `CREATE MATERIALIZED VIEW IF NOT EXISTS tokenwatt_latency_series_fill TO tokenwatt_latency_series AS
${NAMED}`,
  INCREASE,
];

/** Takes over what the raw table held before the views were there. */
export const latencyBackfill: readonly string[] = [
  `INSERT INTO tokenwatt_latency_series (metric, series, attributes, instance, host, cluster, bounds)
${NAMED}`,
  `INSERT INTO tokenwatt_latency_15m (metric, series, start, bucket, counts, first)
${FOLDED}`,
];
