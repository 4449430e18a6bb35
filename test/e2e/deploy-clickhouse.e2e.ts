// Demo, node Collector, gateway and ClickHouse, each with its shipped file: the exporter makes its tables and inserts, and
// the SQL of docs/queries.md gives what the agent itself reports of the same run. ClickHouse is its own engine (chdb)
// behind the part of the HTTP interface that the exporter's client speaks.

import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createOtlpEncoder } from "../../agent/export/otlp/encoder.ts";
import { grpcTransport } from "../../agent/export/otlp/transport.ts";
import { rollup } from "../../deploy/clickhouse/rollup.ts";
import { increaseView, kpiSql, latencyView, percentileSql } from "../../deploy/clickhouse/sql.ts";
import { kpis } from "../../deploy/prometheus/kpis.ts";
import { snapshotOf } from "../fakes/snapshot.ts";
import type { ClickHouse } from "./clickhouse/server.ts";
import { startClickHouse } from "./clickhouse/server.ts";
import { ended, freePort, inherited, main, PRICES, ready } from "./deploy-fleet-rig.ts";
import { deployFolder, deployTool } from "./deploy-tools.ts";

const python = deployTool("chdb/bin/python");
const otelcol = deployTool("otelcol-deploy");
const usable = python !== undefined && otelcol !== undefined && existsSync(python);
const DEMO = "40s";

interface Summary {
  readonly state_seconds: Readonly<Record<string, number>>;
  readonly energy_joules: Readonly<Record<string, number>>;
  readonly input_tokens: number;
  readonly output_tokens: number;
  readonly kpis: Readonly<Record<string, number>>;
}

describe.skipIf(!usable)("deploy/collector/gateway-clickhouse.yaml, live", () => {
  const folder = mkdtempSync(join(tmpdir(), "gateway-clickhouse-"));
  const children: ChildProcess[] = [];
  let clickhouse: ClickHouse;
  let gateway = "";
  let summary: Summary;
  let from = 0;
  let to = 0;

  beforeAll(async () => {
    clickhouse = await startClickHouse(python ?? "");
    const [gatewayPort, node, ...health] = await Promise.all(Array.from({ length: 4 }, freePort));
    gateway = `127.0.0.1:${gatewayPort}`;
    const collector = async (file: string, env: Record<string, string>): Promise<void> => {
      const config = ["--config", join(deployFolder, "collector", file)];
      const child = spawn(otelcol ?? "", config, {
        env: { ...inherited, TELEMETRY: "none", ...env },
        stdio: ["ignore", "ignore", "pipe"],
      });
      children.push(child);
      await ready(child, /Everything is ready/);
    };
    await collector("gateway-clickhouse.yaml", {
      // Blocks as they are: the engine behind this address decompresses nothing.
      CLICKHOUSE: `${clickhouse.url}?compress=none`,
      OTLP_LISTEN: gateway,
      HEALTH_LISTEN: `127.0.0.1:${health[0]}`,
      STORAGE: join(folder, "gateway"),
    });
    await clickhouse.query("USE otel");
    for (const sql of [increaseView, latencyView, ...rollup]) await clickhouse.query(sql);
    await collector("node.yaml", {
      GATEWAY: gateway,
      GATEWAY_INSECURE: "true",
      OTLP_LISTEN: `127.0.0.1:${node}`,
      HEALTH_LISTEN: `127.0.0.1:${health[1]}`,
      STORAGE: join(folder, "node"),
    });
    writeFileSync(join(folder, "prices.yaml"), PRICES);
    from = (Math.floor(Date.now() / 900_000) - 1) * 900;
    summary = await demo(`http://127.0.0.1:${node}`);
    to = (Math.floor(Date.now() / 900_000) + 2) * 900;
    await arrived();
  }, 300_000);
  afterAll(async () => {
    for (const child of children.toReversed()) await ended(child);
    await clickhouse?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Runs the demo to its end and returns what it says of itself. */
  async function demo(endpoint: string): Promise<Summary> {
    const child = spawn(process.execPath, [main, "demo", "--scene", "solo", "--json", "--duration", DEMO], {
      env: {
        ...inherited,
        OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
        TOKENWATT_EXPORT_PROMETHEUS_LISTEN: `127.0.0.1:${await freePort()}`,
        TOKENWATT_PRICES: join(folder, "prices.yaml"),
        OTEL_RESOURCE_ATTRIBUTES: "host.name=gpu-1",
      },
      stdio: ["ignore", "pipe", "inherit"],
    });
    let out = "";
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk.toString();
    });
    await new Promise((resolve) => child.once("close", resolve));
    return JSON.parse(out.trim().split("\n").at(-1) ?? "") as Summary;
  }

  /** The gateway gathers for 5 s; waits until nothing more comes. */
  async function arrived(): Promise<void> {
    let before = -1;
    for (let tries = 0; tries < 30; tries++) {
      await sleep(7000);
      const [row] = await clickhouse.query("SELECT count() AS points FROM otel.otel_metrics_sum");
      const points = Number(row?.["points"]);
      if (points > 0 && points === before) return;
      before = points;
    }
    throw new Error("points still come after the demo has ended");
  }

  const literal = (sql: string): string =>
    sql
      .replaceAll("{from:DateTime64(9)}", `toDateTime64(${from}, 9)`)
      .replaceAll("{to:DateTime64(9)}", `toDateTime64(${to}, 9)`);

  test("the exporter makes its tables and inserts; no dimension is lost", async () => {
    const made = clickhouse.statements.filter((sql) => sql.startsWith("CREATE TABLE")).length;
    expect(made).toBeGreaterThanOrEqual(5);
    expect(clickhouse.statements.some((sql) => sql.includes('INSERT INTO "otel"."otel_metrics_sum"'))).toBe(
      true,
    );
    const rows = await clickhouse.query(
      `SELECT DISTINCT ServiceName AS service, ResourceAttributes['host.name'] AS host,
       Attributes['tokenwatt.server.id'] AS server, Attributes['hw.model'] AS model
       FROM otel.otel_metrics_sum WHERE MetricName = 'tokenwatt.tokens'`,
    );
    expect(rows).toEqual([
      { service: "tokenwatt", host: "gpu-1", server: "decoder-8b", model: "NVIDIA H100 80GB HBM3" },
    ]);
  });

  test.each(["tokenwatt_increase", "tokenwatt_increase_15m"])(
    "sums over %s are the agent's own totals",
    async (view) => {
      const sums = async (metric: string, attribute: string): Promise<Record<string, number>> => {
        const rows = await clickhouse.query(
          literal(`SELECT attributes['${attribute}'] AS key, sum(increase) AS total
          FROM ${view}(from = {from:DateTime64(9)}, to = {to:DateTime64(9)})
          WHERE metric = '${metric}' GROUP BY key`),
        );
        return Object.fromEntries(rows.map(({ key, total }) => [String(key), Number(total)]));
      };
      const tokens = await sums("tokenwatt.tokens", "tokenwatt.token.kind");
      expect(tokens["output"]).toBe(summary.output_tokens);
      expect(
        (tokens["input_unsplit"] ?? 0) + (tokens["input_uncached"] ?? 0) + (tokens["input_cached"] ?? 0),
      ).toBe(summary.input_tokens);
      for (const [metric, own] of [
        ["tokenwatt.gpu.time", summary.state_seconds],
        ["tokenwatt.gpu.energy", summary.energy_joules],
      ] as const) {
        const seen = await sums(metric, "tokenwatt.gpu.state");
        for (const [state, value] of Object.entries(own)) {
          expect([metric, state, seen[state] ?? 0]).toEqual([metric, state, expect.closeTo(value, 6)]);
        }
      }
    },
  );

  test.each(["tokenwatt_increase", "tokenwatt_increase_15m"])(
    "the shipped SQL over %s gives the agent's own key figures",
    async (view) => {
      for (const name of [
        "tokens_per_gpu_hour",
        "output_tokens_per_gpu_hour",
        "token_active_utilization",
        "tokens_per_joule",
        "output_tokens_per_joule",
      ]) {
        const kpi = kpis.find((one) => one.name === name);
        if (kpi === undefined) throw new Error(`no KPI ${name}`);
        for (const group of kpi.groups) {
          const [row] = await clickhouse.query(
            literal(kpiSql(kpi, group)).replaceAll("tokenwatt_increase(", `${view}(`),
          );
          const ratio = Number(row?.[name]) / (summary.kpis[name] ?? Number.NaN);
          expect([name, group, ratio]).toEqual([name, group, expect.closeTo(1, 9)]);
        }
      }
    },
  );

  test("every other query of the page runs on these tables", async () => {
    for (const kpi of kpis) {
      for (const group of kpi.groups) await clickhouse.query(literal(kpiSql(kpi, group)));
    }
    const cost = kpis.find((one) => one.name === "cost_per_million_tokens");
    const [row] = await clickhouse.query(literal(kpiSql(cost as (typeof kpis)[number], "fleet")));
    expect(row).toMatchObject({ currency: "USD" });
    expect(Number(row?.["cost_per_million_tokens"])).toBeGreaterThan(0);
  });

  test("percentiles of what was served come from the exporter's histograms, over the raw points and the rollup", async () => {
    const time = BigInt(Date.now()) * 1_000_000n;
    const point = (series: number, outcome: string, counts: readonly number[]) => ({
      ...{ metric: "tokenwatt.gateway.request_duration", series, isNew: false, ended: false },
      dimensions: { "tokenwatt.endpoint": "chat", "tokenwatt.outcome": outcome },
      ...{ start: time - 1_000_000_000n, time },
      value: { bounds: [0.5, 60], counts, sum: 1, count: counts.reduce((sum, one) => sum + one, 0) },
    });
    const [entry] = createOtlpEncoder({ resource: { "service.name": "tokenwatt" }, version: "0" }).encode(
      snapshotOf([point(1, "ok", [10, 0, 0]), point(2, "error", [0, 90, 0])]),
    );
    const transport = grpcTransport({ target: gateway }, { gzip: true });
    const sent = await transport.send(entry?.bytes ?? new Uint8Array(0), AbortSignal.timeout(10_000));
    transport.close();
    expect(sent).toMatchObject({ kind: "accepted" });
    for (const view of ["tokenwatt_latency_increase", "tokenwatt_latency_increase_15m"]) {
      const ask = async (percentile: number, ended: "served" | "failed") => {
        const sql = percentileSql("tokenwatt.gateway.request_duration", "endpoint", percentile, ended);
        const rows = await clickhouse.query(
          literal(sql).replaceAll("tokenwatt_latency_increase(", `${view}(`),
        );
        return rows.map((row) => [row["endpoint"], Number(row[`p${percentile}`])]);
      };
      expect(await ask(50, "served")).toEqual([["chat", 0.25]]);
      expect(await ask(50, "failed")).toEqual([["chat", 30.25]]);
    }
  });

  test("the gateway says OK when the rows are in, and not now while ClickHouse fails", async () => {
    const transport = grpcTransport({ target: gateway }, { gzip: true });
    const time = BigInt(Date.now()) * 1_000_000n;
    const [entry] = createOtlpEncoder({ resource: { "service.name": "tokenwatt" }, version: "0" }).encode(
      snapshotOf([
        {
          ...{ metric: "tokenwatt.tokens", value: 7n, series: 1, isNew: false, ended: false },
          ...{ dimensions: { "tokenwatt.server.id": "asked" }, start: time - 1_000_000_000n, time },
        },
      ]),
    );
    const send = () => transport.send(entry?.bytes ?? new Uint8Array(0), AbortSignal.timeout(10_000));
    const rows = () =>
      clickhouse.query(
        "SELECT Value AS value FROM otel.otel_metrics_sum WHERE Attributes['tokenwatt.server.id'] = 'asked'",
      );
    clickhouse.fail(true);
    expect(await send()).toMatchObject({ kind: "retry" });
    expect(await rows()).toEqual([]);
    clickhouse.fail(false);
    expect(await send()).toMatchObject({ kind: "accepted" });
    expect(await rows()).toEqual([{ value: 7 }]);
    transport.close();
  });
});
