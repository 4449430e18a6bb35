// Rules without Prometheus: every name exists, every alert has a runbook, a firing and a non-firing case.
// That they parse and that the cases come out is judged by promtool in test/e2e/deploy-prometheus.e2e.ts.
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { kpis } from "../../deploy/prometheus/kpis.ts";
import { usages } from "../../deploy/prometheus/usages.ts";
import { knownLabels, knownSeries, namesIn, rulesOf, unknownNames } from "./promql-names.ts";

const deploy = fileURLToPath(new URL("../../deploy/", import.meta.url));
const recording = rulesOf("recording-rules.yaml");
const recorded = new Set(recording.map((rule) => rule.record ?? ""));
const alerts = rulesOf("alerts.yaml").filter((rule) => rule.alert !== undefined);

interface TestFile {
  readonly tests: readonly {
    readonly name: string;
    readonly promql_expr_test: readonly { exp_samples: unknown[] }[];
  }[];
}
const cases = readdirSync(`${deploy}prometheus/tests`).flatMap(
  (file) => (parse(readFileSync(`${deploy}prometheus/tests/${file}`, "utf8")) as TestFile).tests,
);

describe("namesIn()", () => {
  test("finds series and labels, not functions, strings or clauses", () => {
    const text = `sum by (job, le) (rate(a_total{x="b_total",y=~"z"}[5m])) / on (q) group_left (hw) (c:d:e > 1e3) and up`;
    expect(namesIn(text)).toEqual({
      series: ["a_total", "c:d:e", "up"],
      labels: ["job", "le", "q", "hw", "x", "y"],
    });
  });
  test("knows the self-metrics under the names a Collector gives them", () => {
    for (const name of ["tokenwatt_agent_queue_size_bytes", "tokenwatt_agent_export_retries_total"]) {
      expect(knownSeries()).toContain(name);
    }
  });
  test("an unknown name is told", () => {
    expect(unknownNames('sum by (colour) (tokenwatt_token_total{job="x"})')).toEqual([
      "tokenwatt_token_total",
      "label colour",
    ]);
  });
});

describe("recording rules", () => {
  test("use series and labels of the metrics table, or recorded ones", () => {
    expect(recording.flatMap((rule) => unknownNames(rule.expr, recorded))).toEqual([]);
  });
  test("record every KPI for each of its groups, over both windows", () => {
    for (const kpi of kpis) {
      for (const group of kpi.groups) {
        for (const window of ["5m", "1h"]) {
          expect(recorded).toContain(
            `${group}:tokenwatt_${kpi.name.replace(/^model_/, "")}:ratio_rate${window}`,
          );
        }
      }
    }
  });
  test("have one expression for each name", () => {
    expect(recorded.size).toBe(recording.length);
  });
});

/** The rows that every operator asks for, and the figures that answer them. */
const rows: readonly (readonly [string, readonly (readonly [string, readonly string[]])[]])[] = [
  [
    "usage by customer, model, endpoint, direction",
    [["gateway_tokens", ["tenant", "model", "endpoint", "kind"]]],
  ],
  ["requests and QPS", [["gateway_requests", ["tenant", "model", "endpoint", "fleet"]]]],
  [
    "tokens per second",
    [
      ["gateway_tokens", ["model", "tenant"]],
      ["tokens", ["server", "model"]],
    ],
  ],
  ["errors by token volume", [["error_share", ["fleet", "model", "tenant", "endpoint"]]]],
  ["tokens per GPU-hour and GPU type", [["tokens_per_gpu_hour", ["fleet", "server", "gpu_model"]]]],
  ["tokens per unit of money", [["tokens_per_currency", ["fleet", "server", "gpu_model"]]]],
  ["tokens per watt", [["tokens_per_joule", ["fleet", "server", "gpu_model"]]]],
  [
    "what customers cost and earn",
    [
      ["tenant_cost", ["tenant"]],
      ["tenant_revenue", ["tenant"]],
      ["tenant_gross_margin", ["tenant"]],
      ["revenue_earned", ["model"]],
    ],
  ],
];

describe("figures", () => {
  test.each(rows)("%s has a query for each of its groups", (_, wanted) => {
    for (const [name, by] of wanted) {
      const figure = kpis.find((one) => one.name === name) ?? usages.find((one) => one.total === name);
      expect(figure?.groups, name).toEqual(expect.arrayContaining([...by]));
    }
  });
  test("percentiles are recorded for what engines and what customers saw", () => {
    for (const percentile of [50, 90, 95, 99]) {
      expect(recorded).toContain(`server:gen_ai_server_time_to_first_token_seconds:p${percentile}_5m`);
      for (const group of ["model", "endpoint", "tenant"])
        expect(recorded).toContain(`${group}:tokenwatt_gateway_request_duration_seconds:p${percentile}_5m`);
    }
  });
});

describe("alerts", () => {
  test("are at least 14 and have names of their own", () => {
    expect(new Set(alerts.map((rule) => rule.alert)).size).toBe(alerts.length);
    expect(alerts.length).toBeGreaterThanOrEqual(14);
  });
  test.each(alerts.map((rule) => [rule.alert ?? "", rule] as const))(
    "%s names only what exists",
    (_, rule) => {
      expect(unknownNames(rule.expr, recorded)).toEqual([]);
      const labels = [...JSON.stringify(rule.annotations).matchAll(/\$labels\.(\w+)/g)].map(
        ([, label]) => label,
      );
      expect(labels.flatMap((label) => unknownNames(`sum by (${label}) (up)`))).toEqual([]);
    },
  );
  test.each(alerts.map((rule) => [rule.alert ?? "", rule] as const))(
    "%s has a page and both cases",
    (name, rule) => {
      expect(["critical", "warning", "info"]).toContain(rule.labels?.severity);
      expect(rule.annotations?.["runbook_url"]).toBe(`runbooks/${name}.md`);
      const page = readFileSync(`${deploy}docs/runbooks/${name}.md`, "utf8");
      for (const part of ["Meaning", "Look at", "Fix", "Silence when"]) expect(page).toContain(`**${part}`);
      const expected = cases
        .filter((one) => one.name.startsWith(`${name} `))
        .map((one) => one.promql_expr_test[0]?.exp_samples.length);
      expect(expected).toContain(1);
      expect(expected).toContain(0);
    },
  );
  test("no runbook is left of an alert that is gone", () => {
    const pages = readdirSync(`${deploy}docs/runbooks`).map((file) => file.replace(".md", ""));
    expect(pages.sort()).toEqual(alerts.map((rule) => rule.alert ?? "").sort());
  });
  test("no XID code has two severities", () => {
    const codes = alerts
      .flatMap((rule) => [
        ...new Set([...rule.expr.matchAll(/tokenwatt_xid_code=~"([^"]+)"/g)].map((one) => one[1])),
      ])
      .flatMap((list) => (list ?? "").split("|"));
    expect(new Set(codes).size).toBe(codes.length);
    expect(codes).toContain("79");
  });
  test("runbooks name only series and labels that exist", () => {
    const known = new Set([...knownSeries(), ...knownLabels()]);
    for (const name of alerts.map((rule) => rule.alert)) {
      const page = readFileSync(`${deploy}docs/runbooks/${name}.md`, "utf8");
      const named = [...page.matchAll(/\b(?:tokenwatt|hw|gen_ai)_[a-z_]{4,}\b/g)].map(([word]) => word);
      for (const word of named) expect(known, `${name}: ${word}`).toContain(word);
    }
  });
});
