-- Sums of 15 minutes and of days for ClickHouse, for years of bills. Generated from deploy/clickhouse/rollup.ts, not to be edited.
-- Run once when the Collector has made its tables: clickhouse-client --database otel --queries-file rollup.sql
-- A cluster wants ON CLUSTER behind each name and the Replicated engine of the same name.

CREATE TABLE IF NOT EXISTS tokenwatt_15m (
    metric LowCardinality(String),
    series UInt64,
    start DateTime64(9) CODEC(ZSTD),
    bucket DateTime('UTC') CODEC(Delta, ZSTD),
    value SimpleAggregateFunction(max, Float64) CODEC(Gorilla, ZSTD),
    first SimpleAggregateFunction(min, Float64) CODEC(Gorilla, ZSTD)
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(bucket)
ORDER BY (metric, toDate(bucket), series, start, bucket);

CREATE TABLE IF NOT EXISTS tokenwatt_day (
    metric LowCardinality(String),
    series UInt64,
    start DateTime64(9) CODEC(ZSTD),
    day Date CODEC(Delta, ZSTD),
    value SimpleAggregateFunction(max, Float64) CODEC(Gorilla, ZSTD),
    first SimpleAggregateFunction(min, Float64) CODEC(Gorilla, ZSTD)
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (metric, day, series, start);

CREATE TABLE IF NOT EXISTS tokenwatt_series (
    metric LowCardinality(String),
    series UInt64,
    attributes Map(LowCardinality(String), String),
    instance String,
    host String,
    cluster LowCardinality(String)
) ENGINE = ReplacingMergeTree
ORDER BY (metric, series);

CREATE MATERIALIZED VIEW IF NOT EXISTS tokenwatt_15m_fill TO tokenwatt_15m AS
SELECT MetricName AS metric, cityHash64(MetricName, ResourceAttributes['service.instance.id'], mapSort(Attributes)) AS series, StartTimeUnix AS start,
    toStartOfFifteenMinutes(toDateTime(TimeUnix - INTERVAL 1 NANOSECOND, 'UTC')) AS bucket,
    max(Value) AS value, min(Value) AS first
FROM otel_metrics_sum
WHERE ServiceName = 'tokenwatt' AND IsMonotonic AND bitAnd(Flags, 1) = 0
GROUP BY metric, series, start, bucket;

CREATE MATERIALIZED VIEW IF NOT EXISTS tokenwatt_day_fill TO tokenwatt_day AS
SELECT metric, series, start, toDate(bucket) AS day, max(value) AS value, min(first) AS first
FROM tokenwatt_15m
GROUP BY metric, series, start, day;

CREATE MATERIALIZED VIEW IF NOT EXISTS tokenwatt_series_fill TO tokenwatt_series AS
SELECT MetricName AS metric, cityHash64(MetricName, ResourceAttributes['service.instance.id'], mapSort(Attributes)) AS series, any(Attributes) AS attributes,
    any(ResourceAttributes['service.instance.id']) AS instance, any(ResourceAttributes['host.name']) AS host,
    any(ResourceAttributes['k8s.cluster.name']) AS cluster
FROM otel_metrics_sum
WHERE ServiceName = 'tokenwatt' AND IsMonotonic AND bitAnd(Flags, 1) = 0
GROUP BY metric, series;

CREATE VIEW IF NOT EXISTS tokenwatt_increase_15m AS
SELECT metric, attributes, instance, host, cluster, increase
FROM (
    SELECT metric, series, start,
        max(value) - multiIf(
            countIf(until <= {from:DateTime64(9)}) > 0, maxIf(value, until <= {from:DateTime64(9)}),
            start >= {from:DateTime64(9)}, 0,
            min(first)) AS increase
    FROM (
        SELECT metric, series, start, bucket + INTERVAL 15 MINUTE AS until, value, first
        FROM tokenwatt_15m
        WHERE toDate(bucket) = toDate({to:DateTime64(9)}, 'UTC') AND bucket < {to:DateTime64(9)}
            OR toDate(bucket) = toDate({from:DateTime64(9)}, 'UTC') AND bucket < {from:DateTime64(9)}
        UNION ALL
        -- The day before `from` too: what a series had already. The day of `from` ends after it, so its last value is one of the
        -- window, and its first one is asked for only where nothing came before `from`.
        SELECT metric, series, start, toDateTime(day + 1, 'UTC') AS until, value, first
        FROM tokenwatt_day
        WHERE day >= toDate({from:DateTime64(9)}, 'UTC') - 1 AND day < toDate({to:DateTime64(9)}, 'UTC'))
    WHERE throwIf(toUnixTimestamp64Nano({from:DateTime64(9)}) % 900000000000 != 0 OR toUnixTimestamp64Nano({to:DateTime64(9)}) % 900000000000 != 0,
        'from and to must be full quarters of an hour') = 0
    GROUP BY metric, series, start) AS increases
ANY LEFT JOIN tokenwatt_series AS named USING (metric, series);

CREATE VIEW IF NOT EXISTS tokenwatt_step_15m AS
SELECT metric, attributes, instance, host, cluster, time, step
FROM (
    SELECT metric, series, time,
        value - lagInFrame(value, 1, if(start >= {from:DateTime64(9)}, 0, first)) OVER (
            PARTITION BY metric, series, start ORDER BY time ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS step
    FROM (
        SELECT metric, series, start, bucket + INTERVAL 15 MINUTE AS time, max(value) AS value, min(first) AS first
        FROM tokenwatt_15m
        WHERE toDate(bucket) >= toDate({from:DateTime64(9)}, 'UTC') - 1 AND toDate(bucket) <= toDate({to:DateTime64(9)}, 'UTC') AND bucket < {to:DateTime64(9)} AND throwIf(toUnixTimestamp64Nano({from:DateTime64(9)}) % 900000000000 != 0 OR toUnixTimestamp64Nano({to:DateTime64(9)}) % 900000000000 != 0,
        'from and to must be full quarters of an hour') = 0
        GROUP BY metric, series, start, bucket)) AS steps
ANY LEFT JOIN tokenwatt_series AS named USING (metric, series)
WHERE time > {from:DateTime64(9)};

CREATE TABLE IF NOT EXISTS tokenwatt_latency_15m (
    metric LowCardinality(String),
    series UInt64,
    start DateTime64(9) CODEC(ZSTD),
    bucket DateTime('UTC') CODEC(Delta, ZSTD),
    counts SimpleAggregateFunction(max, Array(UInt64)) CODEC(ZSTD),
    first SimpleAggregateFunction(min, Array(UInt64)) CODEC(ZSTD)
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(bucket)
ORDER BY (metric, toDate(bucket), series, start, bucket);

CREATE TABLE IF NOT EXISTS tokenwatt_latency_day (
    metric LowCardinality(String),
    series UInt64,
    start DateTime64(9) CODEC(ZSTD),
    day Date CODEC(Delta, ZSTD),
    counts SimpleAggregateFunction(max, Array(UInt64)) CODEC(ZSTD),
    first SimpleAggregateFunction(min, Array(UInt64)) CODEC(ZSTD)
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (metric, day, series, start);

CREATE TABLE IF NOT EXISTS tokenwatt_latency_series (
    metric LowCardinality(String),
    series UInt64,
    attributes Map(LowCardinality(String), String),
    instance String,
    host String,
    cluster LowCardinality(String),
    bounds Array(Float64)
) ENGINE = ReplacingMergeTree
ORDER BY (metric, series);

CREATE MATERIALIZED VIEW IF NOT EXISTS tokenwatt_latency_15m_fill TO tokenwatt_latency_15m AS
SELECT MetricName AS metric, cityHash64(MetricName, ResourceAttributes['service.instance.id'], mapSort(Attributes), ExplicitBounds) AS series, StartTimeUnix AS start,
    toStartOfFifteenMinutes(toDateTime(TimeUnix - INTERVAL 1 NANOSECOND, 'UTC')) AS bucket,
    max(BucketCounts) AS counts, min(BucketCounts) AS first
FROM otel_metrics_histogram
WHERE ServiceName = 'tokenwatt' AND bitAnd(Flags, 1) = 0
GROUP BY metric, series, start, bucket;

CREATE MATERIALIZED VIEW IF NOT EXISTS tokenwatt_latency_day_fill TO tokenwatt_latency_day AS
SELECT metric, series, start, toDate(bucket) AS day, max(counts) AS counts, min(first) AS first
FROM tokenwatt_latency_15m
GROUP BY metric, series, start, day;

CREATE MATERIALIZED VIEW IF NOT EXISTS tokenwatt_latency_series_fill TO tokenwatt_latency_series AS
SELECT MetricName AS metric, cityHash64(MetricName, ResourceAttributes['service.instance.id'], mapSort(Attributes), ExplicitBounds) AS series, any(Attributes) AS attributes,
    any(ResourceAttributes['service.instance.id']) AS instance, any(ResourceAttributes['host.name']) AS host,
    any(ResourceAttributes['k8s.cluster.name']) AS cluster, any(ExplicitBounds) AS bounds
FROM otel_metrics_histogram
WHERE ServiceName = 'tokenwatt' AND bitAnd(Flags, 1) = 0
GROUP BY metric, series;

CREATE VIEW IF NOT EXISTS tokenwatt_latency_increase_15m AS
SELECT metric, attributes, instance, host, cluster, bounds, counts
FROM (
    SELECT metric, series, start,
        arrayMap((last, first) -> toInt64(last) - toInt64(first), max(kept), multiIf(
            countIf(until <= {from:DateTime64(9)}) > 0, maxIf(kept, until <= {from:DateTime64(9)}),
            start >= {from:DateTime64(9)}, arrayMap(each -> toUInt64(0), max(kept)),
            min(first_kept))) AS counts
    FROM (
        SELECT metric, series, start, bucket + INTERVAL 15 MINUTE AS until, counts AS kept, first AS first_kept
        FROM tokenwatt_latency_15m
        WHERE toDate(bucket) = toDate({to:DateTime64(9)}, 'UTC') AND bucket < {to:DateTime64(9)}
            OR toDate(bucket) = toDate({from:DateTime64(9)}, 'UTC') AND bucket < {from:DateTime64(9)}
        UNION ALL
        SELECT metric, series, start, toDateTime(day + 1, 'UTC') AS until, counts AS kept, first AS first_kept
        FROM tokenwatt_latency_day
        WHERE day >= toDate({from:DateTime64(9)}, 'UTC') - 1 AND day < toDate({to:DateTime64(9)}, 'UTC'))
    WHERE throwIf(toUnixTimestamp64Nano({from:DateTime64(9)}) % 900000000000 != 0 OR toUnixTimestamp64Nano({to:DateTime64(9)}) % 900000000000 != 0,
        'from and to must be full quarters of an hour') = 0
    GROUP BY metric, series, start) AS increases
ANY LEFT JOIN tokenwatt_latency_series AS named USING (metric, series);

-- What was there before. May be run again.

INSERT INTO tokenwatt_series (metric, series, attributes, instance, host, cluster)
SELECT MetricName AS metric, cityHash64(MetricName, ResourceAttributes['service.instance.id'], mapSort(Attributes)) AS series, any(Attributes) AS attributes,
    any(ResourceAttributes['service.instance.id']) AS instance, any(ResourceAttributes['host.name']) AS host,
    any(ResourceAttributes['k8s.cluster.name']) AS cluster
FROM otel_metrics_sum
WHERE ServiceName = 'tokenwatt' AND IsMonotonic AND bitAnd(Flags, 1) = 0
GROUP BY metric, series;

INSERT INTO tokenwatt_15m (metric, series, start, bucket, value, first)
SELECT MetricName AS metric, cityHash64(MetricName, ResourceAttributes['service.instance.id'], mapSort(Attributes)) AS series, StartTimeUnix AS start,
    toStartOfFifteenMinutes(toDateTime(TimeUnix - INTERVAL 1 NANOSECOND, 'UTC')) AS bucket,
    max(Value) AS value, min(Value) AS first
FROM otel_metrics_sum
WHERE ServiceName = 'tokenwatt' AND IsMonotonic AND bitAnd(Flags, 1) = 0
GROUP BY metric, series, start, bucket;

INSERT INTO tokenwatt_latency_series (metric, series, attributes, instance, host, cluster, bounds)
SELECT MetricName AS metric, cityHash64(MetricName, ResourceAttributes['service.instance.id'], mapSort(Attributes), ExplicitBounds) AS series, any(Attributes) AS attributes,
    any(ResourceAttributes['service.instance.id']) AS instance, any(ResourceAttributes['host.name']) AS host,
    any(ResourceAttributes['k8s.cluster.name']) AS cluster, any(ExplicitBounds) AS bounds
FROM otel_metrics_histogram
WHERE ServiceName = 'tokenwatt' AND bitAnd(Flags, 1) = 0
GROUP BY metric, series;

INSERT INTO tokenwatt_latency_15m (metric, series, start, bucket, counts, first)
SELECT MetricName AS metric, cityHash64(MetricName, ResourceAttributes['service.instance.id'], mapSort(Attributes), ExplicitBounds) AS series, StartTimeUnix AS start,
    toStartOfFifteenMinutes(toDateTime(TimeUnix - INTERVAL 1 NANOSECOND, 'UTC')) AS bucket,
    max(BucketCounts) AS counts, min(BucketCounts) AS first
FROM otel_metrics_histogram
WHERE ServiceName = 'tokenwatt' AND bitAnd(Flags, 1) = 0
GROUP BY metric, series, start, bucket;
