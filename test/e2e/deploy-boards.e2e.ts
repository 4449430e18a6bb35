// Every query of every board on series like those of a busy fleet: two clusters, two types of GPU, tenants, latencies,
// prices, faults. Prometheus' own engine must read each one and find something, with everything chosen and with one
// cluster, host, model, server, customer and currency chosen; so that no panel is empty where there is data.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import type { Metric } from "../../agent/export/metrics/metric.ts";
import { metrics } from "../../agent/export/metrics/metrics.ts";
import { prometheusLabel, prometheusName } from "../../agent/export/metrics/prometheus-names.ts";
import { selfMetrics } from "../../agent/export/self/names.ts";
import { marks } from "../../deploy/grafana/board.ts";
import { dashboards } from "../../deploy/grafana/dashboards.ts";
import { deployFolder, deployTool, runTool } from "./deploy-tools.ts";

const promtool = deployTool("promtool");
type Labels = Readonly<Record<string, string>>;

/** Attributes of which a host has a series for each value. */
const VALUES: Readonly<Record<string, readonly string[]>> = {
  "tokenwatt.gpu.state": ["token_active", "stalled", "parked", "other", "free", "unobserved"],
  "tokenwatt.token.kind": ["input_uncached", "input_cached", "output"],
  "tokenwatt.outcome": ["ok", "error"],
  "tokenwatt.tenant": ["acme", "globex"],
  "error.type": ["", "partial"],
  "hw.state": ["ok"],
  "tokenwatt.quota.scope": ["host", "fleet"],
};
/** What two hosts are: each in a cluster of its own, with another type of GPU. */
const HOSTS: readonly Labels[] = [
  {
    ...{ instance: "gpu-1:9464", "host.name": "gpu-1", "k8s.cluster.name": "east", "hw.id": "GPU-1" },
    ...{ "hw.model": "H100", "tokenwatt.server.id": "chat", "gen_ai.request.model": "large" },
    ...{ "tokenwatt.currency": "USD", "tokenwatt.endpoint": "chat" },
  },
  {
    ...{ instance: "gpu-2:9464", "host.name": "gpu-2", "k8s.cluster.name": "west", "hw.id": "GPU-2" },
    ...{ "hw.model": "A100", "tokenwatt.server.id": "batch", "gen_ai.request.model": "small" },
    ...{ "tokenwatt.currency": "EUR", "tokenwatt.endpoint": "batch" },
  },
];
const OTHERS: Labels = {
  "tokenwatt.destination": "main",
  "tokenwatt.source": "server:chat",
  "tokenwatt.reason": "late",
  "tokenwatt.xid.code": "79",
  "tokenwatt.cost.component": "gpu",
  "tokenwatt.method": "direct",
  "tokenwatt.quota.name": "gold",
  "tokenwatt.quota.window": "day",
  "tokenwatt.policy.mode": "shadow",
  "tokenwatt.policy.decision": "ok",
  "tokenwatt.policy.from": "warn",
  "tokenwatt.policy.to": "over",
};
/** What makes a choice of one of each. */
const ONE: Labels = {
  ...{ cluster: "east", host: "gpu-1", gpu: "H100", model: "large", server: "chat", tenant: "acme" },
  currency: "USD",
};

/** What is taken away from another total: as much of both would leave nothing to divide by. */
const SMALL: ReadonlySet<string> = new Set([
  "tokenwatt.unmatched_tokens",
  "tokenwatt.uncertain_capacity_tokens",
]);

function seriesOf(metric: Metric): { series: string; values: string }[] {
  const many = metric.attributes.filter((key) => key in VALUES);
  let sets: Labels[] = HOSTS.map((host) => {
    const own = metric.attributes.flatMap((key) => {
      const value = host[key] ?? OTHERS[key];
      return value === undefined ? [] : [[key, value] as const];
    });
    const where = { job: "tokenwatt", instance: host["instance"] ?? "" };
    const resource = {
      "host.name": host["host.name"] ?? "",
      "k8s.cluster.name": host["k8s.cluster.name"] ?? "",
    };
    return { ...where, ...resource, ...Object.fromEntries(own) };
  });
  for (const key of many)
    sets = sets.flatMap((set) => (VALUES[key] ?? []).map((value) => ({ ...set, [key]: value })));
  const name = prometheusName(metric);
  const text = (set: Labels, suffix = "", more: Labels = {}): string =>
    `${name}${suffix}{${Object.entries({ ...set, ...more })
      .filter(([, value]) => value !== "")
      .map(([key, value]) => `${prometheusLabel(key)}="${value}"`)
      .join(",")}}`;
  if (metric.kind === "histogram")
    return sets.flatMap((set) =>
      ["0.1", "1", "+Inf"].map((le, at) => ({
        series: text(set, "_bucket", { le }),
        values: `0+${60 * (at + 1)}x90`,
      })),
    );
  const rises = metric.kind === "sum";
  const rising = SMALL.has(metric.name) ? "0+1x90" : "0+30x90";
  return sets.map((set) => ({ series: text(set), values: rises ? rising : "0.5+0x90" }));
}

const given = [
  ...[...metrics, ...Object.values(selfMetrics)].flatMap(seriesOf),
  ...HOSTS.map(({ instance, ...host }) => ({
    series: `target_info{job="tokenwatt",instance="${instance}",host_name="${host["host.name"]}",k8s_cluster_name="${host["k8s.cluster.name"]}"}`,
    values: "1+0x90",
  })),
  {
    series:
      'ALERTS{alertname="GpuStalled",alertstate="firing",severity="warning",job="tokenwatt",instance="gpu-1:9464",k8s_cluster_name="east"}',
    values: "1+0x90",
  },
];

const filled = (expr: string, chosen: Labels | undefined): string =>
  expr
    .replaceAll(
      /\$(cluster|host|gpu|model|server|tenant|currency)\b/g,
      (_, name: string) => chosen?.[name] ?? ".*",
    )
    .replaceAll(/\$__(rate_interval|interval)/g, "5m")
    .replaceAll("$__range", "1h");

const questions = [
  ...Object.entries(dashboards).flatMap(([board, { panels }]) =>
    panels.flatMap(({ queries, title }) =>
      queries.flatMap(({ expr, legend }) =>
        [undefined, ONE].map((chosen) => ({
          name: `${board} / ${title} / ${legend}${chosen === undefined ? "" : ", one of each chosen"}`,
          expr: filled(expr, chosen),
        })),
      ),
    ),
  ),
  ...marks
    .filter(({ name }) => name !== "Agent restarts")
    .map(({ expr, name }) => ({ name: `mark ${name}`, expr: filled(expr, ONE) })),
];

describe.skipIf(promtool === undefined)("boards", () => {
  const folder = mkdtempSync(join(tmpdir(), "boards-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test("every query is read and finds something", () => {
    const impossible = { labels: '{nothing="is so"}', value: 0 };
    const cases = questions.map(({ expr }) => ({ expr, eval_time: "80m", exp_samples: [impossible] }));
    const file = join(folder, "boards.yaml");
    const rule_files = [join(deployFolder, "prometheus/recording-rules.yaml")];
    const tests = [{ interval: "1m", input_series: given, promql_expr_test: cases }];
    writeFileSync(file, stringify({ rule_files, evaluation_interval: "10m", tests }, { lineWidth: 0 }));
    const { text } = runTool(promtool ?? "false", ["test", "rules", file]);
    const answers = text.split(/^\s*expr: /m).slice(1);
    expect(answers.length, text.slice(0, 2000)).toBe(questions.length);
    const finds = (answer = ""): boolean => /^\s*\{/.test(answer.split("got:")[1] ?? "");
    const empty = questions.filter((_, at) => !finds(answers[at]));
    expect(empty.map(({ expr, name }) => `${name}: ${expr}`)).toEqual([]);
  });
});
