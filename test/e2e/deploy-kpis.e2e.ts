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
  percentileSql,
  stepView,
  usageSql,
} from "../../deploy/clickhouse/sql.ts";
import type { GroupName } from "../../deploy/prometheus/kpis.ts";
import {
  gatewayLatencies,
  groups,
  intensity,
  kpis,
  latencies,
  percentiles,
  usages,
} from "../../deploy/prometheus/kpis.ts";
import { compoundPromql, kpiPromql, seriesName, totalPromql } from "../../deploy/prometheus/promql.ts";
import { deployTool, runTool } from "./deploy-tools.ts";

const promtool = deployTool("promtool");
const python = deployTool("chdb/bin/python");
const HOUR = 3600;
const FROM = Date.UTC(2026, 2, 10, 22) / 1000;

type Attributes = Readonly<Record<string, string>>;
interface Counter {
  readonly metric: string;
  readonly attributes: Attributes;
  /** What it gains in the hour. */
  readonly gain: number;
}

const server = { "tokenwatt.server.id": "chat", "gen_ai.request.model": "m" };
const gpu = { "hw.id": "GPU-1", "hw.model": "H100" };
const usd = { "tokenwatt.currency": "USD", "tokenwatt.price.version": "1" };
const customer = (tenant: string, endpoint: string): Attributes => ({
  "tokenwatt.gateway.id": "gw",
  "tokenwatt.tenant": tenant,
  "tokenwatt.endpoint": endpoint,
  "gen_ai.request.model": "m",
});
const used = (who: Attributes, kind: string, outcome: string, gain: number): Counter => ({
  metric: "tokenwatt.gateway.tokens",
  attributes: { ...who, "tokenwatt.token.kind": kind, "tokenwatt.outcome": outcome },
  gain,
});
const asked = (who: Attributes, outcome: string, gain: number): Counter => ({
  metric: "tokenwatt.gateway.requests",
  attributes: { ...who, "tokenwatt.outcome": outcome },
  gain,
});
const each = (metric: string, attributes: Attributes, key: string, gains: Readonly<Record<string, number>>) =>
  Object.entries(gains).map(([value, gain]) => ({
    metric,
    attributes: { ...attributes, [key]: value },
    gain,
  }));
const a = customer("a", "chat");
const b = customer("b", "batch");
const ofTenant = (tenant: string): Attributes => ({
  "tokenwatt.tenant": tenant,
  "gen_ai.request.model": "m",
  "tokenwatt.method": "token_share",
});

const HELD = { token_active: 1800, stalled: 200, parked: 1000 };
const JOULES = { token_active: 600_000, stalled: 60_000, parked: 120_000 };
const counters: readonly Counter[] = [
  ...each("tokenwatt.gpu.time", gpu, "tokenwatt.gpu.state", { ...HELD, free: 400, unobserved: 200 }),
  ...each("tokenwatt.gpu.energy", gpu, "tokenwatt.gpu.state", { ...JOULES, free: 40_000 }),
  ...each("tokenwatt.server.gpu_time", { ...server, ...gpu }, "tokenwatt.gpu.state", HELD),
  ...each("tokenwatt.server.energy", { ...server, ...gpu }, "tokenwatt.gpu.state", JOULES),
  { metric: "tokenwatt.gpu.busy_time", attributes: gpu, gain: 2000 },
  ...each("tokenwatt.tokens", { ...server, "hw.model": "H100" }, "tokenwatt.token.kind", {
    input_uncached: 4_000_000,
    input_cached: 1_000_000,
    output: 3_000_000,
  }),
  ...each("tokenwatt.unmatched_tokens", { ...server, "tokenwatt.reason": "late" }, "tokenwatt.token.kind", {
    output: 500_000,
  }),
  { metric: "tokenwatt.model.gpu_time", attributes: { "gen_ai.request.model": "m" }, gain: 3000 },
  { metric: "tokenwatt.model.energy", attributes: { "gen_ai.request.model": "m" }, gain: 780_000 },
  { metric: "tokenwatt.capacity_tokens", attributes: { ...server, "hw.model": "H100" }, gain: 10_000_000 },
  { metric: "tokenwatt.billable_tokens", attributes: { ...server, "hw.model": "H100" }, gain: 8_000_000 },
  { metric: "tokenwatt.cost", attributes: { ...server, ...usd, "hw.model": "H100" }, gain: 6 },
  {
    metric: "tokenwatt.revenue",
    attributes: { ...server, ...usd, "tokenwatt.token.kind": "output" },
    gain: 10,
  },
  used(a, "input_uncached", "ok", 3_000_000),
  used(a, "output", "ok", 1_000_000),
  used(a, "output", "error", 250_000),
  used(b, "input_uncached", "ok", 600_000),
  used(b, "output", "aborted", 150_000),
  asked(a, "ok", 7200),
  asked(a, "error", 720),
  asked(b, "rejected", 360),
  ...[
    ["a", 1000, 300_000, 2],
    ["b", 500, 100_000, 1],
  ].flatMap(([tenant, seconds, joules, cost]) => [
    { metric: "tokenwatt.tenant.gpu_time", attributes: ofTenant(String(tenant)), gain: Number(seconds) },
    { metric: "tokenwatt.tenant.energy", attributes: ofTenant(String(tenant)), gain: Number(joules) },
    {
      metric: "tokenwatt.tenant.cost",
      attributes: { ...ofTenant(String(tenant)), ...usd },
      gain: Number(cost),
    },
  ]),
];

/** By hand: a figure of every KPI, the same for each group unless it says otherwise. */
const TRUTH: Readonly<Record<string, number | Readonly<Record<string, Readonly<Record<string, number>>>>>> = {
  tokens_per_gpu_hour: 9_000_000,
  model_tokens_per_gpu_hour: 9_000_000,
  output_tokens_per_gpu_hour: 3_000_000,
  uncached_tokens_per_gpu_hour: 7_800_000,
  tokens_per_fleet_gpu_hour: (7_500_000 * 3600) / 3400,
  tokens_per_token_active_gpu_hour: 15_000_000,
  tokens_per_busy_gpu_hour: 13_500_000,
  token_active_utilization: 0.6,
  capacity_utilization: 0.75,
  tokens_per_joule: 7_500_000 / 780_000,
  model_tokens_per_joule: 7_500_000 / 780_000,
  output_tokens_per_joule: 2_500_000 / 780_000,
  fleet_tokens_per_joule: 7_500_000 / 820_000,
  cost_per_million_tokens: 0.75,
  tokens_per_currency: 8_000_000 / 6,
  gross_margin: 0.4,
  error_share: {
    fleet: { "": 0.08 },
    model: { m: 0.08 },
    tenant: { a: 250 / 4250, b: 0.2 },
    endpoint: { chat: 250 / 4250, batch: 0.2 },
  },
  coverage: 3400 / 3600,
  idle_energy_share: 160 / 820,
};
/** 0.75 of what the capacity makes, in 0.6 of the time. */
const INTENSITY = 0.75 / 0.6;
const USED: Readonly<Record<string, Readonly<Record<string, Readonly<Record<string, number>>>>>> = {
  gateway_tokens: {
    fleet: { "": 5_000_000 },
    tenant: { a: 4_250_000, b: 750_000 },
    model: { m: 5_000_000 },
    endpoint: { chat: 4_250_000, batch: 750_000 },
    kind: { input_uncached: 3_600_000, output: 1_400_000 },
    outcome: { ok: 4_600_000, error: 250_000, aborted: 150_000 },
  },
  gateway_requests: {
    fleet: { "": 8280 },
    tenant: { a: 7920, b: 360 },
    model: { m: 8280 },
    endpoint: { chat: 7920, batch: 360 },
    outcome: { ok: 7200, error: 720, rejected: 360 },
  },
  tokens: {
    fleet: { "": 8_000_000 },
    model: { m: 8_000_000 },
    server: { chat: 8_000_000 },
    replica: { "gpu-1 chat": 8_000_000 },
    gpu_model: { H100: 8_000_000 },
  },
  tenant_seconds: { fleet: { "": 1500 }, model: { m: 1500 }, tenant: { a: 1000, b: 500 } },
  tenant_joules: { fleet: { "": 400_000 }, model: { m: 400_000 }, tenant: { a: 300_000, b: 100_000 } },
  tenant_cost: { fleet: { "": 3 }, model: { m: 3 }, tenant: { a: 2, b: 1 } },
  revenue_earned: { fleet: { "": 10 }, model: { m: 10 } },
};
/** 600 observations up to 0.1 s, 300 up to 0.5 s, 100 up to 2 s: percentiles lie evenly between bounds. */
const BUCKETS = { bounds: [0.1, 0.5, 2], counts: [600, 300, 100, 0] };
const PERCENTILES: Readonly<Record<number, number>> = { 50: 0.1 * (5 / 6), 90: 0.5, 95: 1.25, 99: 1.85 };

interface Question {
  readonly name: string;
  readonly group: GroupName;
  readonly promql: string;
  readonly sql: string;
  readonly column: string;
  readonly truth: Readonly<Record<string, number>>;
}

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
      const labels = ["cluster", "k8s_cluster_name", ...groups[group].map(prometheusLabel), "le"].join(", ");
      return {
        ...{ name: `${metric} p${percentile}`, group, column: `p${percentile}` },
        truth: { [key]: PERCENTILES[percentile] ?? Number.NaN },
        promql: `histogram_quantile(${percentile / 100}, sum by (${labels}) (rate(${seriesName(metric)}_bucket[1h])))`,
        sql: percentileSql(metric, group, percentile),
      };
    }),
  ),
];

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
    ...[...latencies, ...gatewayLatencies].flatMap((metric) => {
      let sum = 0;
      return BUCKETS.counts.map((count, at) => {
        sum += count;
        const le = String(BUCKETS.bounds[at] ?? "+Inf");
        const who = latencies.includes(metric) ? server : a;
        return { series: labelled(`${seriesName(metric)}_bucket`, { ...who, le }), values: rising(sum) };
      });
    }),
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
    shares.map(([time, share]) => {
      const counts = BUCKETS.counts.map((count) => Math.round(count * share * 4)).join(",");
      const who = map(latencies.includes(metric) ? server : a);
      return `(${resource}, 'tokenwatt', '${metric}', ${who}, ${at(-7200)}, ${at(time)}, [${counts}], [${BUCKETS.bounds.join(",")}], 0, 2)`;
    }),
  );
  const setup = [
    `CREATE TABLE otel_metrics_sum (${columns}, Value Float64, Flags UInt32, ${end}, IsMonotonic Bool) ENGINE = MergeTree ORDER BY TimeUnix`,
    `CREATE TABLE otel_metrics_histogram (${columns}, BucketCounts Array(UInt64), ExplicitBounds Array(Float64), Flags UInt32, ${end}) ENGINE = MergeTree ORDER BY TimeUnix`,
    increaseView,
    stepView,
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

describe("every figure in both languages", () => {
  const folder = mkdtempSync(join(tmpdir(), "kpis-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  describe.skipIf(promtool === undefined)("PromQL", () => {
    const answers = promtool === undefined ? [] : askPrometheus(folder);
    test.each(questions.map((one, at) => [one.name, one.group, at] as const))("%s by %s", (_, __, at) => {
      expect(answers[at]).toEqual(expected(questions[at]?.truth ?? {}));
      expect(Object.keys(answers[at] ?? {}).length).toBeGreaterThan(0);
    });
  });

  describe.skipIf(python === undefined || !existsSync(python))("SQL", () => {
    const answers = python === undefined ? [] : askClickHouse();
    const asked = questions.map((one, at) => [one.name, one.group, at] as const);
    test.each(asked.filter(([, , at]) => questions[at]?.sql !== ""))("%s by %s", (_, __, at) => {
      expect(answers[at]).toEqual(expected(questions[at]?.truth ?? {}));
      expect(Object.keys(answers[at] ?? {}).length).toBeGreaterThan(0);
    });
  });
});
