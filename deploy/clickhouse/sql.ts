// The same KPIs as SQL over ClickHouse tables of the Collector's exporter (otel_metrics_sum).
// A cumulative series becomes an increase in the view tokenwatt_increase; everything else is sums of that.
import type { Compound, Ended, GroupName, Kpi, Selector, Total, TotalName } from "../prometheus/kpis.ts";
import { kpiNamed, servedOutcomes, totals } from "../prometheus/kpis.ts";

/**
 * The increase of every series in [from, to). A series that began inside counts from 0: the agent sends that 0. One that
 * is older counts from its last point before `from`, looked for a day back; without one from its first point inside.
 */
export const increaseView = `CREATE VIEW IF NOT EXISTS tokenwatt_increase AS
SELECT
    any(MetricName) AS metric,
    any(Attributes) AS attributes,
    any(ResourceAttributes['service.instance.id']) AS instance,
    any(ResourceAttributes['host.name']) AS host,
    any(ResourceAttributes['k8s.cluster.name']) AS cluster,
    max(Value) - multiIf(
        countIf(TimeUnix <= {from:DateTime64(9)}) > 0, maxIf(Value, TimeUnix <= {from:DateTime64(9)}),
        any(StartTimeUnix) >= {from:DateTime64(9)}, 0,
        min(Value)) AS increase
FROM otel_metrics_sum
WHERE ServiceName = 'tokenwatt' AND IsMonotonic
    AND TimeUnix > {from:DateTime64(9)} - INTERVAL 1 DAY AND TimeUnix <= {to:DateTime64(9)}
    -- The end of a series is a point without a value.
    AND bitAnd(Flags, 1) = 0
GROUP BY
    cityHash64(MetricName, ResourceAttributes['service.instance.id'], mapSort(Attributes)), StartTimeUnix`;

const CURRENCY = "attributes['tokenwatt.currency']";

/** The columns of a group, clusters first: a name and what it is. */
const COLUMNS: Readonly<Record<GroupName, Readonly<Record<string, string>>>> = {
  fleet: {},
  gpu_model: { gpu_model: "attributes['hw.model']" },
  server: { server_id: "attributes['tokenwatt.server.id']" },
  replica: { host: "host", server_id: "attributes['tokenwatt.server.id']" },
  model: { model: "attributes['gen_ai.request.model']" },
  tenant: { tenant: "attributes['tokenwatt.tenant']" },
  endpoint: { endpoint: "attributes['tokenwatt.endpoint']" },
  kind: { kind: "attributes['tokenwatt.token.kind']" },
  outcome: { outcome: "attributes['tokenwatt.outcome']" },
};

/** One KPI by one group, over [from, to); parameters `from` and `to` are instants. */
export function kpiSql(kpi: Kpi, group: GroupName): string {
  const ofTotals: readonly Total[] = [totals[kpi.over], totals[kpi.under]];
  const isMoney = ofTotals.some((total) => total.money === true);
  return figureSql(kpi.name, group, kpiFigure(kpi, group), isMoney);
}

/** A quotient of two KPIs by one group, over [from, to). */
export function compoundSql({ name, over, under }: Compound, group: GroupName): string {
  const [above, below] = [over, under].map((one) => kpiFigure(kpiNamed(one), group));
  return figureSql(name, group, `(${above}) / nullIf(${below}, 0)`, false);
}

function kpiFigure(kpi: Kpi, group: GroupName): string {
  const [over, under] = [kpi.over, kpi.under].map((total) => totalSql(total, group));
  const quotient = `${kpi.factor === undefined ? "" : `${kpi.factor} * `}(${over}) / nullIf(${under}, 0)`;
  return kpi.complement === true ? `1 - ${quotient}` : quotient;
}

function figureSql(called: string, group: GroupName, figure: string, money: boolean): string {
  const columns = Object.entries(COLUMNS[group]);
  const names = ["cluster", ...columns.map(([name]) => name)];
  // Amounts of two currencies are never added: then there is no value.
  const currencies = `uniqExactIf(${CURRENCY}, ${CURRENCY} != '')`;
  const value = `    ${money ? `if(${currencies} > 1, NULL, ${figure})` : figure} AS ${called}`;
  const keys = columns.map(([name, is]) => (name === is ? `    ${name}` : `    ${is} AS ${name}`));
  // Tokens have no currency: with one price file there is one, and it names the column.
  const currency = money ? [`    anyIf(${CURRENCY}, ${CURRENCY} != '') AS currency`] : [];
  const lines = ["SELECT", ["    cluster", ...keys, ...currency, value].join(",\n"), `FROM ${VIEW}`];
  lines.push(`GROUP BY ${names.join(", ")}`);
  if (columns.length > 0)
    lines.push(
      `HAVING ${names
        .slice(1)
        .map((name) => `${name} != ''`)
        .join(" AND ")}`,
    );
  lines.push(`ORDER BY ${names.join(", ")}`);
  return lines.join("\n");
}

/**
 * What every series gained at each of its points in [from, to), with the time of the point: for hours, days and months of any
 * time zone. Sums of it are those of tokenwatt_increase.
 */
export const stepView = `CREATE VIEW IF NOT EXISTS tokenwatt_step AS
SELECT * FROM (
    SELECT
        MetricName AS metric,
        Attributes AS attributes,
        ResourceAttributes['service.instance.id'] AS instance,
        ResourceAttributes['host.name'] AS host,
        ResourceAttributes['k8s.cluster.name'] AS cluster,
        TimeUnix AS time,
        Value - lagInFrame(Value, 1, if(StartTimeUnix >= {from:DateTime64(9)}, 0, Value)) OVER (
            PARTITION BY MetricName, ResourceAttributes['service.instance.id'], mapSort(Attributes), StartTimeUnix
            ORDER BY TimeUnix ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS step
    FROM otel_metrics_sum
    WHERE ServiceName = 'tokenwatt' AND IsMonotonic
        AND TimeUnix > {from:DateTime64(9)} - INTERVAL 1 DAY AND TimeUnix <= {to:DateTime64(9)}
        AND bitAnd(Flags, 1) = 0)
WHERE time > {from:DateTime64(9)}`;

/** A total by one group in each hour, day or month of the time zone {zone:String}, over [from, to). */
export function usageSql(name: TotalName, group: GroupName, period: "hour" | "day" | "month"): string {
  const total: Total = totals[name];
  const columns = Object.entries(COLUMNS[group]);
  const starts = { hour: "toStartOfHour", day: "toStartOfDay", month: "toStartOfMonth" };
  // A point speaks of the time before it: one at midnight belongs to the day that ended.
  const bucket = `${starts[period]}(toTimeZone(time - INTERVAL 1 NANOSECOND, {zone:String}))`;
  const money = total.money === true ? { currency: "attributes['tokenwatt.currency']" } : {};
  const keys = [...columns, ...Object.entries(money)];
  const names = [period, "cluster", ...keys.map(([key]) => key)].join(", ");
  const conditions = [`metric = '${total.metric[group]}'`, ...(total.where ?? []).map(condition)];
  const keyTexts = keys.map(([key, is]) => (key === is ? `    ${key}` : `    ${is} AS ${key}`));
  const rows = [`    ${bucket} AS ${period}`, "    cluster", ...keyTexts, `    sum(step) AS ${name}`];
  return [
    "SELECT",
    rows.join(",\n"),
    `FROM ${STEP_VIEW}`,
    `WHERE ${conditions.join(" AND ")}`,
    `GROUP BY ${names}`,
    `ORDER BY ${names}`,
  ].join("\n");
}

/**
 * What every latency histogram gained in [from, to), bucket by bucket, with its bounds: as tokenwatt_increase has it of sums.
 * Exported for the page and its test.
 */
export const latencyView = `CREATE VIEW IF NOT EXISTS tokenwatt_latency_increase AS
SELECT
    any(MetricName) AS metric,
    any(Attributes) AS attributes,
    any(ResourceAttributes['service.instance.id']) AS instance,
    any(ResourceAttributes['host.name']) AS host,
    any(ResourceAttributes['k8s.cluster.name']) AS cluster,
    ExplicitBounds AS bounds,
    arrayMap((last, first) -> toInt64(last) - toInt64(first), max(BucketCounts), multiIf(
        countIf(TimeUnix <= {from:DateTime64(9)}) > 0, maxIf(BucketCounts, TimeUnix <= {from:DateTime64(9)}),
        any(StartTimeUnix) >= {from:DateTime64(9)}, arrayMap(each -> toUInt64(0), max(BucketCounts)),
        min(BucketCounts))) AS counts
FROM otel_metrics_histogram
WHERE ServiceName = 'tokenwatt'
    AND TimeUnix > {from:DateTime64(9)} - INTERVAL 1 DAY AND TimeUnix <= {to:DateTime64(9)}
    AND bitAnd(Flags, 1) = 0
GROUP BY
    cityHash64(MetricName, ResourceAttributes['service.instance.id'], mapSort(Attributes)), StartTimeUnix, ExplicitBounds`;

/** The percentile of a latency by one group, over [from, to), in seconds, of served requests or of failed ones. */
export function percentileSql(
  metric: string,
  group: GroupName,
  percentile: number,
  ended: Ended = "served",
): string {
  const columns = Object.entries(COLUMNS[group]);
  const names = ["cluster", ...columns.map(([key]) => key)].join(", ");
  const keys = columns.map(([key, is]) => (key === is ? `${key}, ` : `${is} AS ${key}, `)).join("");
  const outcome = { attribute: "tokenwatt.outcome", is: servedOutcomes, not: ended === "failed" };
  return `SELECT ${names},
    arrayCumSum(gained) AS cumulative,
    ${percentile / 100} * cumulative[-1] AS rank,
    arrayFirstIndex(each -> each >= rank, cumulative) AS place,
    -- Between two bounds the observations are taken to lie evenly; above the highest bound it is that bound.
    if(place > length(bounds), bounds[-1], if(place = 1, 0, bounds[place - 1]) + (bounds[place] - if(place = 1, 0, bounds[place - 1]))
        * (rank - if(place = 1, 0, cumulative[place - 1])) / gained[place]) AS p${percentile}
FROM (
    SELECT cluster, ${keys}bounds, sumForEach(counts) AS gained
    FROM tokenwatt_latency_increase(from = {from:DateTime64(9)}, to = {to:DateTime64(9)})
    WHERE metric = '${metric}' AND ${condition(outcome)}
    GROUP BY ${names}, bounds)
WHERE cumulative[-1] > 0
ORDER BY ${names}`;
}

const STEP_VIEW = "tokenwatt_step(from = {from:DateTime64(9)}, to = {to:DateTime64(9)})";

const VIEW = "tokenwatt_increase(from = {from:DateTime64(9)}, to = {to:DateTime64(9)})";

function totalSql(name: TotalName, group: GroupName): string {
  const total: Total = totals[name];
  const metric = total.metric[group];
  if (metric === undefined) throw new Error(`No total ${name} by ${group}`);
  const conditions = [`metric = '${metric}'`, ...(total.where ?? []).map(condition)];
  // Money that no series tells is not known, which is not 0: a cost of nothing would be a margin of all.
  const sum = `${total.money === true ? "sumOrNullIf" : "sumIf"}(increase, ${conditions.join(" AND ")})`;
  const other = total.less ?? total.plus;
  return other === undefined
    ? sum
    : `${sum} ${total.less === undefined ? "+" : "-"} ${totalSql(other, group)}`;
}

function condition({ attribute, is, not }: Selector): string {
  return `attributes['${attribute}'] ${not === true ? "NOT IN" : "IN"} (${quoted(is)})`;
}

function quoted(texts: readonly string[]): string {
  return texts.map((one) => `'${one}'`).join(", ");
}
