// Days and months of a local calendar, the day with 23 hours and the turn of a month among them, in both query languages:
// Prometheus' own engine runs the calendar rules, ClickHouse's engine the query by day and month, on tokens used evenly.
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { stepView, usageSql } from "../../deploy/clickhouse/sql.ts";
import { calendarRecord, calendarRules } from "../../deploy/prometheus/calendar-rules.ts";
import { deployTool, runTool } from "./deploy-tools.ts";

const promtool = deployTool("promtool");
const python = deployTool("chdb/bin/python");
const HOUR = 3600;
/** Tokens per second of two tenants. */
const RATES = { a: 2, b: 1 } as const;
const folder = mkdtempSync(join(tmpdir(), "calendar-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.skipIf(promtool === undefined)("calendar rules in Prometheus", () => {
  // promtool's clock begins with 1970: a zone of our own, in which it is January 29, 01:00, then, and whose clocks go forward
  // by an hour in the night after.
  const ahead = 28 * 24 * HOUR + HOUR;
  const zone = {
    name: "Test/Zone",
    pieces: [
      { at: 0, offset: ahead },
      { at: 25 * HOUR, offset: ahead + HOUR },
    ],
  };
  const name = calendarRecord("gateway_tokens", "tenant");
  const wanted: readonly (readonly [matcher: string, hours: number])[] = [
    ['day="19700130"', 23],
    ['day="19700131"', 24],
    ['day="19700201"', 24],
    ['month="197002"', 24],
  ];

  test("the day on which clocks go forward, the days after, and the turn of the month", () => {
    const rules = join(folder, "calendar.yaml");
    writeFileSync(rules, calendarRules([zone]));
    const file = join(folder, "test.yaml");
    const input_series = Object.entries(RATES).map(([tenant, rate]) => ({
      series: `tokenwatt_gateway_tokens_total{job="tokenwatt",instance="i",tokenwatt_tenant="${tenant}",tokenwatt_token_kind="output",tokenwatt_outcome="ok"}`,
      values: `0+${rate * 150}x${94 * 24}`,
    }));
    const promql_expr_test = wanted.map(([matcher, hours]) => ({
      expr: `sum by (tokenwatt_tenant) (sum_over_time(${name}{zone="Test/Zone",${matcher}}[10d]))`,
      eval_time: "94h",
      exp_samples: Object.entries(RATES).map(([tenant, rate]) => ({
        labels: `{tokenwatt_tenant="${tenant}"}`,
        value: rate * hours * HOUR,
      })),
    }));
    const tests = [{ interval: "150s", input_series, promql_expr_test }];
    writeFileSync(
      file,
      stringify({ rule_files: [rules], evaluation_interval: "5m", tests }, { lineWidth: 0 }),
    );
    const { status, text } = runTool(promtool ?? "false", ["test", "rules", file]);
    expect(status, text.trim().slice(-1500)).toBe(0);
  });
});

describe.skipIf(python === undefined || !existsSync(python))("by day and month in ClickHouse", () => {
  const from = Date.UTC(2026, 2, 27, 23) / 1000;
  const to = Date.UTC(2026, 3, 1, 22) / 1000;

  test("days of Berlin around the change of clocks, and the turn of the month", () => {
    const map = (entries: Readonly<Record<string, string>>): string =>
      `{${Object.entries(entries)
        .map(([key, value]) => `'${key}':'${value}'`)
        .join(",")}}`;
    const points = Object.entries(RATES).flatMap(([tenant, rate]) =>
      Array.from({ length: (to - from) / HOUR + 1 }, (_, hour) => {
        const time = from + hour * HOUR;
        return `(${map({ "service.instance.id": "i", "host.name": "h" })}, 'tokenwatt', 'tokenwatt.gateway.tokens', ${map({ "tokenwatt.tenant": tenant })}, toDateTime64(${from}, 9), toDateTime64(${time}, 9), ${rate * hour * HOUR}, 0, 2, true)`;
      }),
    );
    const setup = [
      `CREATE TABLE otel_metrics_sum (ResourceAttributes Map(LowCardinality(String), String), ServiceName LowCardinality(String),
        MetricName String, Attributes Map(LowCardinality(String), String), StartTimeUnix DateTime64(9), TimeUnix DateTime64(9),
        Value Float64, Flags UInt32, AggregationTemporality Int32, IsMonotonic Bool) ENGINE = MergeTree ORDER BY TimeUnix`,
      stepView,
      `INSERT INTO otel_metrics_sum VALUES ${points.join(",")}`,
    ];
    const literal = (sql: string): string =>
      sql
        .replaceAll("{from:DateTime64(9)}", `toDateTime64(${from}, 9)`)
        .replaceAll("{to:DateTime64(9)}", `toDateTime64(${to}, 9)`)
        .replaceAll("{zone:String}", "'Europe/Berlin'");
    const queries = (["day", "month"] as const).map((period) =>
      literal(usageSql("gateway_tokens", "tenant", period)),
    );
    const script = `import json, sys
from chdb import session
s = session.Session()
given = json.load(sys.stdin)
s.query("CREATE DATABASE otel"); s.query("USE otel")
for one in given["setup"]: s.query(one)
print(json.dumps([json.loads(str(s.query(sql, "JSON")))["data"] for sql in given["queries"]]))`;
    const { status, text } = runTool(python ?? "false", ["-c", script], JSON.stringify({ setup, queries }));
    expect(status, text.slice(-1000)).toBe(0);
    const [days = [], months = []] = JSON.parse(text.slice(text.indexOf("[["))) as Record<string, string>[][];
    const of = (rows: Record<string, string>[], key: string, tenant: string): (readonly [string, number])[] =>
      rows
        .filter((row) => row["tenant"] === tenant)
        .map((row) => [String(row[key]).slice(0, 10), Number(row["gateway_tokens"]) / HOUR] as const);
    for (const [tenant, rate] of Object.entries(RATES)) {
      expect(of(days, "day", tenant)).toEqual([
        ["2026-03-28", rate * 24],
        ["2026-03-29", rate * 23],
        ["2026-03-30", rate * 24],
        ["2026-03-31", rate * 24],
        ["2026-04-01", rate * 24],
      ]);
      expect(of(months, "month", tenant)).toEqual([
        ["2026-03-01", rate * (24 + 23 + 24 + 24)],
        ["2026-04-01", rate * 24],
      ]);
    }
  });
});
