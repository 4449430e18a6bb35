// The SQL of docs/queries.md on ClickHouse's own engine (chdb), over a table as the Collector's exporter makes it: every
// query runs, and figures of a hand-made hour come out: one older series, one that began inside, one that ended, one restart.
import { existsSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { increaseView, kpiSql } from "../../deploy/clickhouse/sql.ts";
import { kpis } from "../../deploy/prometheus/kpis.ts";
import { deployTool, runTool } from "./deploy-tools.ts";

const python = deployTool("chdb/bin/python");

const TABLE = `CREATE TABLE otel_metrics_sum (ResourceAttributes Map(LowCardinality(String), String), ServiceName LowCardinality(String),
MetricName String, Attributes Map(LowCardinality(String), String), StartTimeUnix DateTime64(9), TimeUnix DateTime64(9),
Value Float64, Flags UInt32, AggregationTemporality Int32, IsMonotonic Bool) ENGINE = MergeTree ORDER BY TimeUnix`;

const HOUR = 3600;
const FROM = 1_790_000_000;

/** Points of one series: [seconds from the window's begin, value] under a start. */
function rows(
  metric: string,
  attributes: Record<string, string>,
  start: number,
  points: readonly (readonly [number, number])[],
  from: Record<string, string> = { "service.instance.id": "i1", "host.name": "gpu-1" },
): string[] {
  const map = (entries: Record<string, string>) =>
    `{${Object.entries(entries)
      .map(([key, value]) => `'${key}':'${value}'`)
      .join(",")}}`;
  const resource = map(from);
  const at = (seconds: number) => `toDateTime64(${FROM + seconds}, 9)`;
  return points.map(
    ([time, value]) =>
      `(${resource}, 'tokenwatt', '${metric}', ${map(attributes)}, ${at(start)}, ${at(time)}, ${value}, 0, 2, true)`,
  );
}

const server = { "tokenwatt.server.id": "chat", "gen_ai.request.model": "m" };
const gpu = { "hw.id": "GPU-1", "hw.model": "H100" };
const state = (name: string) => ({ ...gpu, "tokenwatt.gpu.state": name });
const output = { ...server, "hw.model": "H100", "tokenwatt.token.kind": "output" };
const DATA = [
  // Older than the window: only what it gained inside counts. It restarts, and its second life counts whole.
  ...rows("tokenwatt.tokens", output, -9000, [
    [-10, 5_000_000],
    [1800, 6_000_000],
  ]),
  ...rows("tokenwatt.tokens", output, 2000, [
    [2000, 0],
    [3590, 1_000_000],
  ]),
  // Began inside.
  ...rows("tokenwatt.unmatched_tokens", { ...output, "tokenwatt.reason": "late" }, 100, [
    [100, 0],
    [3590, 200_000],
  ]),
  ...rows("tokenwatt.gpu.time", state("token_active"), -9000, [
    [-10, 1000],
    [3590, 1000 + 1800],
  ]),
  ...rows("tokenwatt.gpu.time", state("parked"), -9000, [
    [-10, 0],
    [3590, 1800],
  ]),
  ...rows("tokenwatt.gpu.energy", state("token_active"), -9000, [
    [-10, 0],
    [3590, 900_000],
  ]),
  ...rows("tokenwatt.server.gpu_time", { ...server, ...state("token_active") }, -9000, [
    [-10, 1000],
    [3590, 2800],
  ]),
  ...rows("tokenwatt.cost", { ...server, "hw.model": "H100", "tokenwatt.currency": "USD" }, -9000, [
    [-10, 1],
    [3590, 4],
  ]),
];

/** Two customers' revenue, and the cost of one of them. */
const customer = (tenant: string) => ({ "tokenwatt.tenant": tenant, "tokenwatt.currency": "USD" });
for (const [metric, tenant, value] of [
  ["tokenwatt.tenant.revenue", "a", 4],
  ["tokenwatt.tenant.revenue", "b", 2],
  ["tokenwatt.tenant.cost", "a", 1],
  ["tokenwatt.tenant.cost", "unattributed", 3],
] as const) {
  const points = [[-10, 0] as const, [3590, value] as const];
  DATA.push(...rows(metric, customer(tenant), -9000, points));
}

/** Another cluster, whose host, GPU and server have the same names. */
const west = { "service.instance.id": "i2", "host.name": "gpu-1", "k8s.cluster.name": "west" };
DATA.push(
  ...rows(
    "tokenwatt.tokens",
    output,
    -9000,
    [
      [-10, 0],
      [3590, 50_000],
    ],
    west,
  ),
  ...rows(
    "tokenwatt.gpu.time",
    state("token_active"),
    -9000,
    [
      [-10, 0],
      [3590, 3600],
    ],
    west,
  ),
  ...rows(
    "tokenwatt.server.gpu_time",
    { ...server, ...state("token_active") },
    -9000,
    [
      [-10, 0],
      [3590, 1800],
    ],
    west,
  ),
);

describe.skipIf(python === undefined || !existsSync(python))("docs/queries.md as SQL", () => {
  const literal = (sql: string): string =>
    sql
      .replaceAll("{from:DateTime64(9)}", `toDateTime64(${FROM}, 9)`)
      .replaceAll("{to:DateTime64(9)}", `toDateTime64(${FROM + HOUR}, 9)`);
  const queries = kpis.flatMap((kpi) =>
    kpi.groups.map((group) => ({ name: `${kpi.name} by ${group}`, sql: literal(kpiSql(kpi, group)) })),
  );
  const script = `import json, sys
from chdb import session
s = session.Session()
given = json.load(sys.stdin)
s.query("CREATE DATABASE otel"); s.query("USE otel")
for one in given["setup"]: s.query(one)
answers = {}
for one in given["queries"]:
    try: answers[one["name"]] = json.loads(str(s.query(one["sql"], "JSON")))["data"]
    except Exception as error: answers[one["name"]] = str(error)[:400]
print(json.dumps(answers))`;
  const setup = [TABLE, increaseView, `INSERT INTO otel_metrics_sum VALUES ${DATA.join(",")}`];
  const { status, text } = runTool(python ?? "false", ["-c", script], JSON.stringify({ setup, queries }));
  const answers = (status === 0 ? JSON.parse(text.slice(text.indexOf("{"))) : {}) as Record<
    string,
    Record<string, unknown>[] | string
  >;

  test.each(queries.map(({ name }) => name))("%s runs", (name) => {
    expect(answers[name], text).toBeInstanceOf(Array);
  });

  test("the hour's figures come out", () => {
    const one = (name: string, column: string) =>
      Number((answers[name] as Record<string, unknown>[])[0]?.[column]);
    // 2 M tokens less 0.2 M unmatched, over 3,600 allocated seconds.
    expect(one("tokens_per_gpu_hour by fleet", "tokens_per_gpu_hour")).toBe(1_800_000);
    expect(one("tokens_per_gpu_hour by gpu_model", "tokens_per_gpu_hour")).toBe(1_800_000);
    expect(one("tokens_per_gpu_hour by server", "tokens_per_gpu_hour")).toBe(3_600_000);
    expect(one("token_active_utilization by fleet", "token_active_utilization")).toBe(0.5);
    expect(one("tokens_per_joule by fleet", "tokens_per_joule")).toBe(2);
    // 3 USD over the 1.8 M tokens that met observed GPU time.
    expect(one("cost_per_million_tokens by fleet", "cost_per_million_tokens")).toBeCloseTo(3 / 1.8, 12);
    expect(answers["gross_margin by fleet"]).toMatchObject([{ gross_margin: null }, { cluster: "west" }]);
  });

  test("a margin is known where the cost is: none is not 0, and what earns nothing has none", () => {
    expect(answers["tenant_gross_margin by tenant"]).toMatchObject([
      { tenant: "a", tenant_gross_margin: 0.75, currency: "USD" },
      { tenant: "b", tenant_gross_margin: null },
      { tenant: "unattributed", tenant_gross_margin: null },
    ]);
  });

  test("clusters stay apart, and replicas of a server too", () => {
    expect(answers["tokens_per_gpu_hour by server"]).toEqual([
      { cluster: "", server_id: "chat", tokens_per_gpu_hour: 3_600_000 },
      { cluster: "west", server_id: "chat", tokens_per_gpu_hour: 100_000 },
    ]);
    expect(answers["tokens_per_gpu_hour by replica"]).toEqual([
      { cluster: "", host: "gpu-1", server_id: "chat", tokens_per_gpu_hour: 3_600_000 },
      { cluster: "west", host: "gpu-1", server_id: "chat", tokens_per_gpu_hour: 100_000 },
    ]);
  });
});
