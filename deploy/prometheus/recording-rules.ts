// deploy/prometheus/recording-rules.yaml: every KPI as recorded series over 5 minutes and 1 hour.
// Names follow level:metric:operation; totals are recorded first, KPIs are quotients of what was recorded.
import { stringify } from "yaml";
import type { Ended, GroupName, TotalName } from "./kpis.ts";
import { durations, gatewayLatencies, intensity, kpis, latencies, percentiles } from "./kpis.ts";
import { bucketsPromql, quotient, seriesName, totalPromql } from "./promql.ts";
import { usages } from "./usages.ts";

interface Rule {
  readonly record: string;
  readonly expr: string;
}

const WINDOWS = ["5m", "1h"];

const HEAD = `# Recording rules of tokenwatt: every KPI of the metric contract, over 5 minutes and 1 hour.
# Generated from deploy/prometheus/kpis.ts by deploy/generate.ts; do not edit. docs/queries.md explains each figure.
# Longer windows: quotients of sum_over_time of the recorded totals, never averages of recorded KPIs.
`;

/** The recorded series of a total. */
export function totalRecord(name: TotalName, group: GroupName, window: string): string {
  return `${group}:tokenwatt_${name}:rate${window}`;
}

/** The recorded series of a KPI. */
export function kpiRecord(name: string, group: GroupName, window: string): string {
  return `${group}:tokenwatt_${name.replace(/^model_/, "")}:ratio_rate${window}`;
}

/** The whole file. */
export function recordingRules(): string {
  const file = {
    groups: [
      ...WINDOWS.map((window) => ({
        name: `tokenwatt-totals-${window}`,
        interval: "1m",
        rules: [...totalRules(window), ...kpiRules(window), ...intensityRules(window)],
      })),
      { name: "tokenwatt-latency-5m", interval: "1m", rules: latencyRules() },
      { name: "tokenwatt-quotas", interval: "1m", rules: quotaRules() },
    ],
  };
  return HEAD + stringify(file, { lineWidth: 0 });
}

function totalRules(window: string): Rule[] {
  const used = new Map<string, Rule>();
  for (const kpi of kpis) {
    for (const name of [kpi.over, kpi.under]) {
      for (const group of kpi.groups) {
        const record = totalRecord(name, group, window);
        used.set(record, { record, expr: totalPromql(name, group, window) });
      }
    }
  }
  for (const { total, groups: by } of usages) {
    for (const group of by) {
      const record = totalRecord(total, group, window);
      used.set(record, { record, expr: totalPromql(total, group, window) });
    }
  }
  return [...used.values()];
}

function kpiRules(window: string): Rule[] {
  return kpis.flatMap((kpi) =>
    kpi.groups.map((group) => ({
      record: kpiRecord(kpi.name, group, window),
      expr: quotient(kpi, group, totalRecord(kpi.over, group, window), totalRecord(kpi.under, group, window)),
    })),
  );
}

/** Quotas over all hosts that count a part of them: used, limit, and one by the other whatever the unit. */
function quotaRules(): Rule[] {
  const by =
    "cluster, k8s_cluster_name, tokenwatt_quota_name, tokenwatt_quota_window, tokenwatt_tenant, gen_ai_request_model, tokenwatt_endpoint";
  const words = ["tokens", "requests", "cost"];
  const rules = words.flatMap((word) => [
    {
      record: `quota:tokenwatt_used_${word}:fleet`,
      expr: `sum by (${by}) (tokenwatt_quota_used_${word}{tokenwatt_quota_scope="host"})`,
    },
    {
      record: `quota:tokenwatt_limit_${word}:fleet`,
      expr: `max by (${by}) (tokenwatt_quota_limit_${word}{tokenwatt_quota_scope="fleet"})`,
    },
  ]);
  const ratios = words.map(
    (word) => `quota:tokenwatt_used_${word}:fleet / quota:tokenwatt_limit_${word}:fleet`,
  );
  const reset = {
    record: "quota:tokenwatt_reset_time:fleet",
    expr: `max by (${by}) (tokenwatt_quota_reset_time_seconds)`,
  };
  return [...rules, { record: "quota:tokenwatt_used_ratio:fleet", expr: ratios.join(" or ") }, reset];
}

function intensityRules(window: string): Rule[] {
  const { groups: by, name, over, under } = intensity;
  return by.map((group) => ({
    record: kpiRecord(name, group, window),
    expr: `${kpiRecord(over, group, window)} / (${kpiRecord(under, group, window)} > 0)`,
  }));
}

function latencyRules(): Rule[] {
  return [
    ...percentileRules(["server", "replica", "model"], latencies, "served", percentiles),
    ...percentileRules(["model", "endpoint", "tenant"], gatewayLatencies, "served", percentiles),
    // Beside them, how long it takes to fail: a median and a tail say whether it is refusals or timeouts.
    ...durations.flatMap((metric) =>
      percentileRules(
        latencies.includes(metric) ? ["server"] : ["model", "endpoint"],
        [metric],
        "failed",
        [50, 99],
      ),
    ),
  ];
}

function percentileRules(
  by: readonly GroupName[],
  metrics: readonly string[],
  ended: Ended,
  recorded: readonly number[],
): Rule[] {
  return by.flatMap((group) =>
    metrics.flatMap((metric) => {
      const name = ended === "served" ? seriesName(metric) : `${seriesName(metric)}_failed`;
      const buckets = `${group}:${name}_bucket:rate5m`;
      return [
        { record: buckets, expr: bucketsPromql(metric, group, "5m", ended) },
        ...recorded.map((percentile) => ({
          record: `${group}:${name}:p${percentile}_5m`,
          expr: `histogram_quantile(${percentile / 100}, ${buckets})`,
        })),
      ];
    }),
  );
}
