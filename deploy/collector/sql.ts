// The same KPIs as SQL over ClickHouse tables of the Collector's exporter (otel_metrics_sum).
// A cumulative series becomes an increase in the view tokenwatt_increase; everything else is sums of that.
import type { GroupName, Kpi, Selector, TotalName } from "../prometheus/kpis.ts";
import { totals } from "../prometheus/kpis.ts";

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

/** The columns of a group, clusters first: a name and what it is. */
const COLUMNS: Readonly<Record<GroupName, Readonly<Record<string, string>>>> = {
  fleet: {},
  gpu_model: { gpu_model: "hw_model" },
  server: { server_id: "attributes['tokenwatt.server.id']" },
  replica: { host: "host", server_id: "attributes['tokenwatt.server.id']" },
  model: { model: "attributes['gen_ai.request.model']" },
  tenant: { tenant: "attributes['tokenwatt.tenant']" },
};

/** One KPI by one group, over [from, to); parameters `from` and `to` are instants. */
export function kpiSql(kpi: Kpi, group: GroupName): string {
  const columns = Object.entries(COLUMNS[group]);
  const names = ["cluster", ...columns.map(([name]) => name)];
  const money = totals[kpi.over].money === true;
  const [over, under] = [kpi.over, kpi.under].map((total) => totalSql(total, group));
  const quotient = `${kpi.factor === undefined ? "" : `${kpi.factor} * `}(${over}) / nullIf(${under}, 0)`;
  const value = `    ${kpi.complement === true ? `1 - ${quotient}` : quotient} AS ${kpi.name}`;
  const keys = columns.map(([name, is]) => (name === is ? `    ${name}` : `    ${is} AS ${name}`));
  // Tokens have no currency: with one price file there is one, and it names the column.
  const currency = money
    ? ["    anyIf(attributes['tokenwatt.currency'], attributes['tokenwatt.currency'] != '') AS currency"]
    : [];
  const lines = ["SELECT", ["    cluster", ...keys, ...currency, value].join(",\n"), `FROM ${source(group)}`];
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

const VIEW = "tokenwatt_increase(from = {from:DateTime64(9)}, to = {to:DateTime64(9)})";

/** Unmatched tokens know their server and not its GPU model: it is taken from the server's tokens on the same host. */
function source(group: GroupName): string {
  if (group !== "gpu_model") return VIEW;
  return `(
    SELECT *, if(attributes['hw.model'] != '' OR attributes['tokenwatt.server.id'] = '', attributes['hw.model'],
        max(attributes['hw.model']) OVER (PARTITION BY instance, attributes['tokenwatt.server.id'])) AS hw_model
    FROM ${VIEW})`;
}

function totalSql(name: TotalName, group: GroupName): string {
  const total = totals[name];
  const metric = total.metric[group];
  if (metric === undefined) throw new Error(`No total ${name} by ${group}`);
  const conditions = [`metric = '${metric}'`, ...(total.where ?? []).map(condition)];
  const sum = `sumIf(increase, ${conditions.join(" AND ")})`;
  return total.less === undefined ? sum : `${sum} - ${totalSql(total.less, group)}`;
}

function condition({ attribute, is, not }: Selector): string {
  return `attributes['${attribute}'] ${not === true ? "NOT IN" : "IN"} (${is.map((one) => `'${one}'`).join(", ")})`;
}
