// Agent, node Collector, gateway and Prometheus with the shipped files, fed by the demo: totals arrive as the agent has
// them, every rule evaluates, every expression of every dashboard does, and what the demo can show is shown.
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { dashboards } from "../../deploy/grafana/dashboards.ts";
import { kpis } from "../../deploy/prometheus/kpis.ts";
import { kpiPromql } from "../../deploy/prometheus/promql.ts";
import type { Fleet } from "./deploy-fleet-rig.ts";
import { startFleet } from "./deploy-fleet-rig.ts";
import { deployTool } from "./deploy-tools.ts";

const prometheus = deployTool("prometheus");
const otelcol = deployTool("otelcol-deploy");
const MEASURED_SECONDS = 100;

/** What one host without faults, tenants, latencies or a meter of its own cannot show. */
const EMPTY_IN_DEMO = [
  "Alerts that fire",
  "Time to first token by server",
  "KV cache in use",
  "Requests per second by outcome",
  "Share of gateway tokens whose request did not end well by endpoint",
  "Faults",
  "Tokens and samples that came late",
  "Tokens per GPU-hour allotted to a model",
  "Tokens per joule allotted to a model",
  "GPU-hours by customer",
  "Cost by customer",
  "Revenue by customer",
  "Gross margin by customer",
  "Tokens",
  "Requests",
  "Queries per second now",
  "Tokens lost to errors",
  "Tokens by customer",
  "Tokens by model",
  "Tokens by endpoint",
  "Input against output",
  "Requests by customer",
  "Requests per second",
  "Tokens per second",
  "Tokens per second by customer",
  "Requests by outcome",
  "Time to first token",
  "Duration of requests",
  "Time until requests failed",
  "Time to first token by model",
  "Time per output token by model",
  "Tokens lost to errors by customer",
  "Tokens lost to errors by model",
  "Quotas by what is used of them",
  "Quotas now",
  "Quotas that came over",
  "Decisions of rate-limit calls",
];

const filled = (expr: string): string =>
  expr
    .replaceAll(/\$(cluster|host|gpu|model|server|tenant|currency)\b/g, ".*")
    .replaceAll("$__interval", "1m")
    .replaceAll("$__rate_interval", "1m")
    .replaceAll("$__range", "5m");

describe.skipIf(prometheus === undefined || otelcol === undefined)("a fleet with the shipped files", () => {
  let fleet: Fleet;
  beforeAll(async () => {
    fleet = await startFleet({ prometheus: prometheus ?? "", otelcol: otelcol ?? "" });
    await sleep(MEASURED_SECONDS * 1000);
  });
  afterAll(() => fleet?.stop());

  test("totals pass node and gateway and arrive as the agent has them", async () => {
    const name = "tokenwatt_tokens_total";
    const [arrived] = await fleet.query(`sum by (host_name, job) (${name})`);
    expect(arrived?.metric).toEqual({ host_name: "gpu-1", job: "tokenwatt" });
    const page = await fleet.page();
    const own = [...page.matchAll(/^tokenwatt_tokens_total\{.*\} (\S+)$/gm)].reduce(
      (sum, [, value]) => sum + Number(value),
      0,
    );
    const there = Number(arrived?.value?.[1]);
    expect(there).toBeGreaterThan(0);
    expect(there).toBeLessThanOrEqual(own);
    expect(there).toBeGreaterThan(own * 0.6);
  });

  test("a scrape and the way by OTLP name the same series", async () => {
    const page = await fleet.page();
    const ours = "tokenwatt_.+|hw_.+|process_.+|nodejs_.+|otel_sdk_.+";
    const scraped = new Set(
      [...page.matchAll(/^(\w+)\{/gm)].flatMap(([, name = ""]) =>
        new RegExp(`^(${ours})$`).test(name) ? [name] : [],
      ),
    );
    const pushed = await fleet.query(`group by (__name__) ({__name__=~"${ours}"})`);
    const names = new Set(pushed.map((one) => one.metric["__name__"]));
    expect([...scraped].filter((name) => !names.has(name))).toEqual([]);
  });

  test("every rule evaluates", async () => {
    const rules = await fleet.rules();
    expect(rules.length).toBeGreaterThan(200);
    expect(rules.filter((rule) => rule.health === "err")).toEqual([]);
  });

  test("no alert fires on a healthy host", async () => {
    expect(await fleet.query('ALERTS{alertstate="firing"}')).toEqual([]);
  });

  test.each(kpis.flatMap((kpi) => kpi.groups.map((group) => [kpi.name, group, kpi] as const)))(
    "KPI %s by %s evaluates",
    async (name, group, kpi) => {
      const found = await fleet.query(kpiPromql(kpi, group, "1m"));
      // Capacity is priced; this scene of the demo has no gateway and so no customers.
      if (name === "error_share" || name.startsWith("tenant_")) expect(found).toEqual([]);
      else if (!name.startsWith("model_"))
        expect(found.length, kpiPromql(kpi, group, "1m")).toBeGreaterThan(0);
      for (const one of found) expect(Number(one.value?.[1])).toSatisfy(Number.isFinite);
    },
  );

  test("headline figures are those of the recording", async () => {
    const figure = async (name: string): Promise<number> => {
      const kpi = kpis.find((one) => one.name === name);
      const [found] = kpi === undefined ? [] : await fleet.query(kpiPromql(kpi, "fleet", "2m"));
      return Number(found?.value?.[1]);
    };
    const [perHour, active, perJoule] = await Promise.all(
      ["tokens_per_gpu_hour", "token_active_utilization", "output_tokens_per_joule"].map(figure),
    );
    console.info(
      `measured: ${perHour} tokens per GPU-hour, ${active} token-active, ${perJoule} output tokens per joule`,
    );
    // The whole recording has 24.6 M, 0.54 and 6.7; a window of it has its own.
    expect(perHour).toBeGreaterThan(10e6);
    expect(perHour).toBeLessThan(70e6);
    expect(active).toBeGreaterThan(0.3);
    expect(active).toBeLessThanOrEqual(1);
    expect(perJoule).toBeGreaterThan(3);
    expect(perJoule).toBeLessThan(14);
  });

  test.each(Object.entries(dashboards))(
    "dashboard %s: every expression evaluates, and shows what there is",
    async (_name, dashboard) => {
      const empty: string[] = [];
      for (const panel of dashboard.panels) {
        let shown = 0;
        for (const { expr, instant } of panel.queries) {
          const text = filled(expr);
          const series = instant === true ? fleet.query(text) : fleet.range(text, MEASURED_SECONDS);
          shown += (await series).length;
        }
        if (shown === 0) empty.push(panel.title);
      }
      expect(empty.filter((title) => !EMPTY_IN_DEMO.includes(title))).toEqual([]);
    },
  );
});
