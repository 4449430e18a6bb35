// What ClickHouse keeps for years: the last value of every cumulative series in each 15 minutes and each day (UTC), filled by
// materialised views as the Collector's exporter inserts. Totals only ever grow, so a value is kept as a maximum: rows that
// arrive twice, late or out of order change nothing. So are histograms: of counts none of which ever falls, the array that is
// last in order is the newest. Gauges are left out; they stay in the raw tables.

import { latencyBackfill, latencyRollup } from "./rollup-latencies.ts";
import { ALIGNED, FROM, TO } from "./rollup-window.ts";

const SERIES_ID = "cityHash64(MetricName, ResourceAttributes['service.instance.id'], mapSort(Attributes))";

/** Points that count: a sum of ours with a value (the end of a series is a point without one). */
const COUNTED = "WHERE ServiceName = 'tokenwatt' AND IsMonotonic AND bitAnd(Flags, 1) = 0";

/** A point speaks of the time before it: one at 10:15:00 is the last of the bucket that began at 10:00. */
const FOLDED = `SELECT MetricName AS metric, ${SERIES_ID} AS series, StartTimeUnix AS start,
    toStartOfFifteenMinutes(toDateTime(TimeUnix - INTERVAL 1 NANOSECOND, 'UTC')) AS bucket,
    max(Value) AS value, min(Value) AS first
FROM otel_metrics_sum
${COUNTED}
GROUP BY metric, series, start, bucket`;

const NAMED = `SELECT MetricName AS metric, ${SERIES_ID} AS series, any(Attributes) AS attributes,
    any(ResourceAttributes['service.instance.id']) AS instance, any(ResourceAttributes['host.name']) AS host,
    any(ResourceAttributes['k8s.cluster.name']) AS cluster
FROM otel_metrics_sum
${COUNTED}
GROUP BY metric, series`;

const VALUES = `value SimpleAggregateFunction(max, Float64) CODEC(Gorilla, ZSTD),
    first SimpleAggregateFunction(min, Float64) CODEC(Gorilla, ZSTD)`;

const TABLES = [
  `CREATE TABLE IF NOT EXISTS tokenwatt_15m (
    metric LowCardinality(String),
    series UInt64,
    start DateTime64(9) CODEC(ZSTD),
    bucket DateTime('UTC') CODEC(Delta, ZSTD),
    ${VALUES}
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(bucket)
ORDER BY (metric, toDate(bucket), series, start, bucket)`,
  `CREATE TABLE IF NOT EXISTS tokenwatt_day (
    metric LowCardinality(String),
    series UInt64,
    start DateTime64(9) CODEC(ZSTD),
    day Date CODEC(Delta, ZSTD),
    ${VALUES}
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (metric, day, series, start)`,
  `CREATE TABLE IF NOT EXISTS tokenwatt_series (
    metric LowCardinality(String),
    series UInt64,
    attributes Map(LowCardinality(String), String),
    instance String,
    host String,
    cluster LowCardinality(String)
) ENGINE = ReplacingMergeTree
ORDER BY (metric, series)`,
];

const FILLS = [
  `CREATE MATERIALIZED VIEW IF NOT EXISTS tokenwatt_15m_fill TO tokenwatt_15m AS
${FOLDED}`,
  `CREATE MATERIALIZED VIEW IF NOT EXISTS tokenwatt_day_fill TO tokenwatt_day AS
SELECT metric, series, start, toDate(bucket) AS day, max(value) AS value, min(first) AS first
FROM tokenwatt_15m
GROUP BY metric, series, start, day`,
  `CREATE MATERIALIZED VIEW IF NOT EXISTS tokenwatt_series_fill TO tokenwatt_series AS
${NAMED}`,
];

/** Each increase once, whatever the table of names has twice; one without a name would still count. */
const WITH_NAMES = "ANY LEFT JOIN tokenwatt_series AS named USING (metric, series)";

/** Columns and meaning of tokenwatt_increase. Whole days inside the window come from tokenwatt_day, its edges from the buckets. */
const INCREASE = `CREATE VIEW IF NOT EXISTS tokenwatt_increase_15m AS
SELECT metric, attributes, instance, host, cluster, increase
FROM (
    SELECT metric, series, start,
        max(value) - multiIf(
            countIf(until <= ${FROM}) > 0, maxIf(value, until <= ${FROM}),
            start >= ${FROM}, 0,
            min(first)) AS increase
    FROM (
        SELECT metric, series, start, bucket + INTERVAL 15 MINUTE AS until, value, first
        FROM tokenwatt_15m
        WHERE toDate(bucket) = toDate(${TO}, 'UTC') AND bucket < ${TO}
            OR toDate(bucket) = toDate(${FROM}, 'UTC') AND bucket < ${FROM}
        UNION ALL
        -- The day before \`from\` too: what a series had already. The day of \`from\` ends after it, so its last value is one of the
        -- window, and its first one is asked for only where nothing came before \`from\`.
        SELECT metric, series, start, toDateTime(day + 1, 'UTC') AS until, value, first
        FROM tokenwatt_day
        WHERE day >= toDate(${FROM}, 'UTC') - 1 AND day < toDate(${TO}, 'UTC'))
    WHERE ${ALIGNED}
    GROUP BY metric, series, start) AS increases
${WITH_NAMES}`;

/** Columns and meaning of tokenwatt_step, a step for each bucket under the time of its end. */
const STEP = `CREATE VIEW IF NOT EXISTS tokenwatt_step_15m AS
SELECT metric, attributes, instance, host, cluster, time, step
FROM (
    SELECT metric, series, time,
        value - lagInFrame(value, 1, if(start >= ${FROM}, 0, first)) OVER (
            PARTITION BY metric, series, start ORDER BY time ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS step
    FROM (
        SELECT metric, series, start, bucket + INTERVAL 15 MINUTE AS time, max(value) AS value, min(first) AS first
        FROM tokenwatt_15m
        WHERE toDate(bucket) >= toDate(${FROM}, 'UTC') - 1 AND toDate(bucket) <= toDate(${TO}, 'UTC') AND bucket < ${TO} AND ${ALIGNED}
        GROUP BY metric, series, start, bucket)) AS steps
${WITH_NAMES}
WHERE time > ${FROM}`;

/** Tables, views that fill them and views to ask, in the order in which they are made; each may be made again. */
export const rollup: readonly string[] = [...TABLES, ...FILLS, INCREASE, STEP, ...latencyRollup];

/** Takes over what the raw table held before the views were there. May be run twice: a maximum stays what it is. */
export const backfill: readonly string[] = [
  `INSERT INTO tokenwatt_series (metric, series, attributes, instance, host, cluster)
${NAMED}`,
  `INSERT INTO tokenwatt_15m (metric, series, start, bucket, value, first)
${FOLDED}`,
  ...latencyBackfill,
];

const of = (metric: string, rest = ""): string => `sumIf(increase, metric = 'tokenwatt.${metric}'${rest})`;
const kind = (name: string): string =>
  `    ${of("gateway.tokens", ` AND attributes['tokenwatt.token.kind'] = '${name}'`)} AS ${name}_tokens`;

const money = (metric: string): string =>
  `    sumMapIf(map(attributes['tokenwatt.currency'], increase), metric = 'tokenwatt.tenant.${metric}') AS ${metric}`;

/** What each customer used of each model in [from, to), what it cost and earned; amounts of two currencies stay apart. */
export const bill = `SELECT
    cluster,
    attributes['tokenwatt.tenant'] AS tenant,
    attributes['gen_ai.request.model'] AS model,
${["input_uncached", "input_cached", "input_unsplit", "output"].map(kind).join(",\n")},
    ${of("gateway.requests")} AS requests,
    ${of("tenant.gpu_time")} / 3600 AS gpu_hours,
    ${of("tenant.energy")} / 3600000 AS kilowatt_hours,
${money("cost")},
${money("revenue")}
FROM tokenwatt_increase_15m(from = ${FROM}, to = ${TO})
WHERE metric IN ('tokenwatt.gateway.tokens', 'tokenwatt.gateway.requests',
    'tokenwatt.tenant.gpu_time', 'tokenwatt.tenant.energy', 'tokenwatt.tenant.cost', 'tokenwatt.tenant.revenue')
GROUP BY cluster, tenant, model
ORDER BY cluster, tenant, model`;

/** deploy/clickhouse/rollup.sql: for clickhouse-client, in the database of the exporter's tables. */
export function rollupSql(): string {
  return `-- Sums of 15 minutes and of days for ClickHouse, for years of bills. Generated from deploy/clickhouse/rollup.ts, not to be edited.
-- Run once when the Collector has made its tables: clickhouse-client --database otel --queries-file rollup.sql
-- A cluster wants ON CLUSTER behind each name and the Replicated engine of the same name.

${rollup.join(";\n\n")};

-- What was there before. May be run again.

${backfill.join(";\n\n")};
`;
}
