// Every figure of the contract in both query languages on one hour whose answers are known: Prometheus' own engine
// (promtool) and ClickHouse's (chdb) are asked what docs/queries.md asks, and must say what arithmetic by hand says.
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { prometheusLabel } from "../../agent/export/metrics/prometheus-names.ts";
import {
  compoundSql,
  increaseView,
  kpiSql,
  latencyView,
  percentileSql,
  stepView,
  usageSql,
} from "../../deploy/clickhouse/sql.ts";
import type { GroupName } from "../../deploy/prometheus/kpis.ts";
import {
  durations,
  gatewayLatencies,
  groups,
  intensity,
  kpis,
  latencies,
  percentiles,
} from "../../deploy/prometheus/kpis.ts";
import {
  bucketsPromql,
  compoundPromql,
  kpiPromql,
  seriesName,
  totalPromql,
} from "../../deploy/prometheus/promql.ts";
import { usages } from "../../deploy/prometheus/usages.ts";
import { askReport, NOT_REPORTED } from "./deploy-kpis-report.ts";
import type { Attributes, Question } from "./deploy-kpis-truth.ts";
import {
  a,
  BUCKETS,
  counters,
  ENDED,
  FAILED,
  FROM,
  HOUR,
  INTENSITY,
  PERCENTILES,
  server,
  TRUTH,
  USED,
} from "./deploy-kpis-truth.ts";
import { deployTool, runTool } from "./deploy-tools.ts";

const promtool = deployTool("promtool");
const python = deployTool("chdb/bin/python");
const ONE: Readonly<Record<string, string>> = {
  fleet: "",
  gpu_model: "H100",
  server: "chat",
  replica: "gpu-1 chat",
  model: "m",
};
const truthOf = (name: string, group: GroupName): Readonly<Record<string, number>> => {
  const known = TRUTH[name];
  if (known === undefined) throw new Error(`Nobody worked out ${name}`);
  return typeof known === "number" ? { [ONE[group] ?? ""]: known } : (known[group] ?? {});
};

const questions: readonly Question[] = [
  ...kpis.flatMap((kpi) =>
    kpi.groups.map((group) => ({
      ...{ name: kpi.name, group, column: kpi.name, truth: truthOf(kpi.name, group) },
      ...{ promql: kpiPromql(kpi, group, "1h"), sql: kpiSql(kpi, group) },
    })),
  ),
  ...intensity.groups.map((group) => ({
    ...{ name: intensity.name, group, column: intensity.name, truth: { [ONE[group] ?? ""]: INTENSITY } },
    ...{ promql: compoundPromql(intensity, group, "1h"), sql: compoundSql(intensity, group) },
  })),
  ...usages.flatMap(({ groups: by, total }) =>
    by.flatMap((group) => {
      const truth = USED[total]?.[group] ?? {};
      const rates = Object.fromEntries(Object.entries(truth).map(([key, value]) => [key, value / HOUR]));
      const base = { group, column: total, sql: usageSql(total, group, "hour") };
      return [
        { ...base, name: total, truth, promql: totalPromql(total, group, "1h", [], "increase") },
        {
          ...base,
          name: `${total} per second`,
          truth: rates,
          promql: totalPromql(total, group, "1h"),
          sql: "",
        },
      ];
    }),
  ),
  ...[
    ...latencies.flatMap((metric) => [{ metric, group: "server" as const, key: "chat" }]),
    ...gatewayLatencies.flatMap((metric) =>
      [["model", "m"] as const, ["endpoint", "chat"] as const, ["tenant", "a"] as const].map(
        ([group, key]) => ({
          ...{ metric, group, key },
        }),
      ),
    ),
  ].flatMap(({ group, key, metric }) =>
    percentiles.map((percentile) => {
      return {
        ...{ name: `${metric} p${percentile}`, group, column: `p${percentile}` },
        truth: { [key]: PERCENTILES[percentile] ?? Number.NaN },
        promql: `histogram_quantile(${percentile / 100}, ${bucketsPromql(metric, group, "1h")})`,
        sql: percentileSql(metric, group, percentile),
      };
    }),
  ),
  ...durations.flatMap((metric) => {
    const [group, key] = latencies.includes(metric)
      ? (["server", "chat"] as const)
      : (["endpoint", "chat"] as const);
    return Object.entries(FAILED).map(([percentile, truth]) => ({
      ...{
        name: `${metric} failed p${percentile}`,
        group,
        column: `p${percentile}`,
        truth: { [key]: truth },
      },
      promql: `histogram_quantile(${Number(percentile) / 100}, ${bucketsPromql(metric, group, "1h", "failed")})`,
      sql: percentileSql(metric, group, Number(percentile), "failed"),
    }));
  }),
];

const told = (outcome: string | undefined): Attributes =>
  outcome === undefined ? {} : { "tokenwatt.outcome": outcome };

/** Rounded alike everywhere: the engines add in other orders. */
const rounded = (value: number): number => Number(value.toPrecision(9));

/** What Prometheus says, by question and key: a test file whose every answer is wrong makes promtool print what it got. */
function askPrometheus(folder: string): Readonly<Record<string, number>>[] {
  const labelled = (name: string, attributes: Attributes): string =>
    `${name}{${Object.entries({ job: "tokenwatt", instance: "i1", host_name: "gpu-1", ...attributes })
      .map(([key, value]) => `${prometheusLabel(key)}="${value}"`)
      .join(",")}}`;
  const rising = (gain: number): string => `0+${gain / 60}x90`;
  const input_series = [
    ...counters.map(({ attributes, gain, metric }) => ({
      series: labelled(seriesName(metric), attributes),
      values: rising(gain),
    })),
    ...[...latencies, ...gatewayLatencies].flatMap((metric) =>
      ENDED.flatMap(({ counts, outcome }) => {
        let sum = 0;
        return counts.map((count, at) => {
          sum += count;
          const le = String(BUCKETS.bounds[at] ?? "+Inf");
          const who = { ...(latencies.includes(metric) ? server : a), ...told(outcome), le };
          return { series: labelled(`${seriesName(metric)}_bucket`, who), values: rising(sum) };
        });
      }),
    ),
  ];
  const impossible = { labels: '{nothing="is so"}', value: 0 };
  const answers = questions.map(({ promql }, at) => {
    const file = join(folder, `${at}.yaml`);
    const promql_expr_test = [{ expr: promql, eval_time: "80m", exp_samples: [impossible] }];
    writeFileSync(
      file,
      stringify({ evaluation_interval: "1m", tests: [{ interval: "1m", input_series, promql_expr_test }] }),
    );
    return file;
  });
  const { text } = runTool(promtool ?? "false", ["test", "rules", ...answers]);
  return text
    .split("FAILED:")
    .slice(1)
    .map((part, at) => {
      const got = part.split("got:")[1] ?? "";
      return Object.fromEntries(
        [...got.matchAll(/\{([^}]*)\} ([-+.\dE]+)/g)].map(([, labels = "", value]) => {
          const of = Object.fromEntries(
            [...labels.matchAll(/(\w+)="([^"]*)"/g)].map(([, key, text]) => [key, text]),
          );
          const group = questions[at]?.group ?? "fleet";
          return [groups[group].map((key) => of[prometheusLabel(key)]).join(" "), rounded(Number(value))];
        }),
      );
    });
}

/** What ClickHouse's engine says. */
function askClickHouse(): Readonly<Record<string, number>>[] {
  const map = (entries: Attributes): string =>
    `{${Object.entries(entries)
      .map(([key, value]) => `'${key}':'${value}'`)
      .join(",")}}`;
  const resource = map({ "service.instance.id": "i1", "host.name": "gpu-1" });
  const at = (seconds: number): string => `toDateTime64(${FROM + seconds}, 9)`;
  const columns = `ResourceAttributes Map(LowCardinality(String), String), ServiceName LowCardinality(String),
    MetricName String, Attributes Map(LowCardinality(String), String), StartTimeUnix DateTime64(9), TimeUnix DateTime64(9)`;
  const end = "AggregationTemporality Int32";
  // A past, a point in the middle and one at the end: only the hour counts.
  const shares = [
    [-60, 1],
    [1800, 1.25],
    [HOUR, 2],
  ] as const;
  const points = counters.flatMap(({ attributes, gain, metric }) =>
    shares.map(
      ([time, share]) =>
        `(${resource}, 'tokenwatt', '${metric}', ${map(attributes)}, ${at(-7200)}, ${at(time)}, ${gain * share}, 0, 2, true)`,
    ),
  );
  const histograms = [...latencies, ...gatewayLatencies].flatMap((metric) =>
    ENDED.flatMap(({ counts: of, outcome }) =>
      shares.map(([time, share]) => {
        const counts = of.map((count) => Math.round(count * share * 4)).join(",");
        const who = map({ ...(latencies.includes(metric) ? server : a), ...told(outcome) });
        return `(${resource}, 'tokenwatt', '${metric}', ${who}, ${at(-7200)}, ${at(time)}, [${counts}], [${BUCKETS.bounds.join(",")}], 0, 2)`;
      }),
    ),
  );
  const setup = [
    `CREATE TABLE otel_metrics_sum (${columns}, Value Float64, Flags UInt32, ${end}, IsMonotonic Bool) ENGINE = MergeTree ORDER BY TimeUnix`,
    `CREATE TABLE otel_metrics_histogram (${columns}, BucketCounts Array(UInt64), ExplicitBounds Array(Float64), Flags UInt32, ${end}) ENGINE = MergeTree ORDER BY TimeUnix`,
    increaseView,
    stepView,
    latencyView,
    `INSERT INTO otel_metrics_sum VALUES ${points.join(",")}`,
    `INSERT INTO otel_metrics_histogram VALUES ${histograms.join(",")}`,
  ];
  const literal = (sql: string): string =>
    sql
      .replaceAll("{from:DateTime64(9)}", at(0))
      .replaceAll("{to:DateTime64(9)}", at(HOUR))
      .replaceAll("{zone:String}", "'Europe/Berlin'");
  const script = `import json, sys
from chdb import session
s = session.Session()
given = json.load(sys.stdin)
s.query("CREATE DATABASE otel"); s.query("USE otel")
for one in given["setup"]: s.query(one)
answers = []
for sql in given["queries"]:
    try: answers.append([] if sql == "" else json.loads(str(s.query(sql, "JSON")))["data"])
    except Exception as error: answers.append([{"error": str(error)[:600]}])
print(json.dumps(answers))`;
  const queries = questions.map(({ sql }) => literal(sql));
  const { status, text } = runTool(python ?? "false", ["-c", script], JSON.stringify({ setup, queries }));
  if (status !== 0) throw new Error(text);
  const answers = JSON.parse(text.slice(text.indexOf("["))) as Record<string, string | number>[][];
  return answers.map((rows, place) => {
    const { column = "", group = "fleet" } = questions[place] ?? {};
    const names = {
      fleet: [],
      gpu_model: ["gpu_model"],
      server: ["server_id"],
      replica: ["host", "server_id"],
    };
    const keys = (names as Record<string, string[]>)[group] ?? [group];
    return Object.fromEntries(
      rows.map((row) => [
        row["error"] ?? keys.map((key) => row[key]).join(" "),
        rounded(Number(row[column])),
      ]),
    );
  });
}

const expected = (truth: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(Object.entries(truth).map(([key, value]) => [key, rounded(value)]));

/** Answers as a table: what each way says of each figure, beside the truth. */
function printed(ways: Readonly<Record<string, readonly Readonly<Record<string, number>>[]>>): string {
  const show = (value: number | undefined): string => (value === undefined ? "-" : String(value));
  const rows = questions.flatMap(({ group, name, truth }, at) =>
    Object.entries(expected(truth)).map(([key, value]) => [
      ...[name, group, key],
      ...Object.values(ways).map((answers) => show(answers[at]?.[key])),
      show(value),
    ]),
  );
  const table = [["KPI", "by", "of", ...Object.keys(ways), "truth"], ...rows];
  const widths = (table[0] ?? []).map((_, place) => Math.max(...table.map((row) => row[place]?.length ?? 0)));
  return table.map((row) => row.map((cell, place) => cell.padEnd(widths[place] ?? 0)).join(" | ")).join("\n");
}

describe("every figure in both query languages and in the report", () => {
  const folder = mkdtempSync(join(tmpdir(), "kpis-"));
  const ways: Record<string, readonly Readonly<Record<string, number>>[]> = {};
  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
    console.info(printed(ways));
  });

  describe.skipIf(promtool === undefined)("PromQL", () => {
    const answers = promtool === undefined ? [] : askPrometheus(folder);
    ways["PromQL"] = answers;
    test.each(questions.map((one, at) => [one.name, one.group, at] as const))("%s by %s", (_, __, at) => {
      expect(answers[at]).toEqual(expected(questions[at]?.truth ?? {}));
      expect(Object.keys(answers[at] ?? {}).length).toBeGreaterThan(0);
    });
  });

  describe.skipIf(python === undefined || !existsSync(python))("SQL", () => {
    const answers = python === undefined ? [] : askClickHouse();
    ways["SQL"] = answers;
    const asked = questions.map((one, at) => [one.name, one.group, at] as const);
    test.each(asked.filter(([, , at]) => questions[at]?.sql !== ""))("%s by %s", (_, __, at) => {
      expect(answers[at]).toEqual(expected(questions[at]?.truth ?? {}));
      expect(Object.keys(answers[at] ?? {}).length).toBeGreaterThan(0);
    });
  });

  test("report: the ledger of that hour says the same", async () => {
    const answers = await askReport(join(folder, "ledger"), questions);
    ways["report"] = answers.map((answer) =>
      Object.fromEntries(Object.entries(answer ?? {}).map(([key, value]) => [key, rounded(value)])),
    );
    const silent = new Set<string>();
    for (const [at, { group, name, truth }] of questions.entries()) {
      const answer = ways["report"][at] ?? {};
      if (Object.keys(answer).length === 0) silent.add(`${name} by ${group}`);
      else expect.soft(answer, `${name} by ${group}`).toEqual(expected(truth));
    }
    expect([...silent].filter((one) => !NOT_REPORTED.some((known) => known.test(one)))).toEqual([]);
  });
});
