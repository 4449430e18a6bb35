// The metrics table is the contract: its page is up to date, its names and units obey METERING.md 5.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { CONVENTIONS, SCHEMA_URL } from "../../../agent/export/metrics/conventions.ts";
import { inUnit, LEDGER_UNITS } from "../../../agent/export/metrics/metric.ts";
import { findMetric, metrics } from "../../../agent/export/metrics/metrics.ts";
import { metricsPage } from "../../../agent/export/metrics/page.ts";
import { prometheusName } from "../../../agent/export/metrics/prometheus-names.ts";
import { selfMetrics } from "../../../agent/export/self/names.ts";

describe("metrics", () => {
  test("METRICS.md is what the table says; run `npm run generate` when this fails", () => {
    const page = readFileSync(new URL("../../../agent/export/METRICS.md", import.meta.url), "utf8");
    expect(page).toBe(metricsPage());
  });

  test("names are unique on both roads out", () => {
    expect(new Set(metrics.map((metric) => metric.name)).size).toBe(metrics.length);
    expect(new Set(metrics.map(prometheusName)).size).toBe(metrics.length);
  });

  test("units never contain a slash and only sums are scaled from ledger units", () => {
    for (const metric of metrics) {
      expect(metric.unit).not.toContain("/");
      if (metric.kind !== "sum") expect(LEDGER_UNITS[metric.ledger]).toBe(1);
      if (metric.unit === "s" && metric.kind === "sum") expect(metric.ledger).toBe("nanosecond");
      if (metric.unit === "J") expect(metric.ledger).toBe("millijoule");
    }
  });

  test("names have no type, unit or number in them, and every attribute key has a namespace", () => {
    const words =
      /(^|[._])(total|count|counter|gauge|histogram|ratio|seconds|joules|watts|bytes|celsius|hertz)$/;
    const rows = [...metrics, ...Object.values(selfMetrics)];
    expect(rows.filter(({ name }) => words.test(name)).map(({ name }) => name)).toEqual([]);
    const keys = new Set(rows.flatMap(({ attributes }) => attributes));
    expect([...keys].filter((key) => !/^[a-z][a-z0-9_]*(\.[a-z0-9_]+)+$/.test(key))).toEqual([]);
  });

  test("names that are not ours are those of the conventions of the schema URL", async () => {
    const conventions = await import("@opentelemetry/semantic-conventions/incubating");
    const known = new Set<unknown>(Object.values(conventions));
    const rows = [...metrics, ...Object.values(selfMetrics)];
    const foreign = rows.flatMap(({ attributes, name }) => [name, ...attributes]);
    expect(foreign.filter((name) => !name.startsWith("tokenwatt.") && !known.has(name))).toEqual([]);
    const lock = readFileSync(new URL("../../../package.json", import.meta.url), "utf8");
    const { devDependencies } = JSON.parse(lock) as { devDependencies: Record<string, string> };
    const version = devDependencies["@opentelemetry/semantic-conventions"];
    expect(SCHEMA_URL).toBe(`https://opentelemetry.io/schemas/${version}`);
    expect(CONVENTIONS).toContain(`conventions ${version} `);
  });

  test("attributes of a metric are named once", () => {
    for (const metric of metrics) expect(new Set(metric.attributes).size).toBe(metric.attributes.length);
  });

  test("findMetric() knows every row and nothing else; inUnit() divides by the ledger unit", () => {
    for (const metric of metrics) expect(findMetric(metric.name)).toBe(metric);
    expect(findMetric("tokenwatt.nonsense")).toBeUndefined();
    const time = findMetric("tokenwatt.gpu.time");
    expect(time && inUnit(time, 2_500_000_000n)).toBe(2.5);
  });
});
