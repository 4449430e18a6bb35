// A month of many hosts in deploy/clickhouse/rollup.sql on ClickHouse's own engine (chdb), timed: its bill, its latency
// percentiles, and what the views cost an insert. E2E_BILL_HOSTS=1000 for the full measure.
import { existsSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bill, rollup } from "../../deploy/clickhouse/rollup.ts";
import { percentileSql } from "../../deploy/clickhouse/sql.ts";
import type { ClickHouse } from "./clickhouse/server.ts";
import { startClickHouse } from "./clickhouse/server.ts";
import { HISTOGRAM_TABLE, SUM_TABLE } from "./clickhouse/tables.ts";
import { deployTool } from "./deploy-tools.ts";

const python = deployTool("chdb/bin/python");
const hosts = Number(process.env["E2E_BILL_HOSTS"] ?? 50);
const QUARTER = 900;
const DAY = 86_400;
const at = (seconds: number): string => `toDateTime64(${seconds}, 9)`;
const filled = (sql: string, from: number, to: number): string =>
  sql.replaceAll("{from:DateTime64(9)}", at(from)).replaceAll("{to:DateTime64(9)}", at(to));

describe.skipIf(python === undefined || !existsSync(python))("a month", () => {
  let clickhouse: ClickHouse;
  const TENANTS = 20;
  const KINDS = ["input_uncached", "input_cached", "output"];
  const MONTH = Date.UTC(2026, 2, 1) / 1000;
  const MONTH_DAYS = 31;

  beforeAll(async () => {
    clickhouse = await startClickHouse(python ?? "");
    for (const sql of ["CREATE DATABASE otel", "USE otel", SUM_TABLE, HISTOGRAM_TABLE, ...rollup])
      await clickhouse.query(sql);
  });
  afterAll(() => clickhouse?.stop());

  test(`of ${hosts} hosts has its bill within seconds, and it is right`, async () => {
    const metrics: readonly (readonly [string, readonly string[]])[] = [
      ["tokenwatt.gateway.tokens", KINDS],
      ["tokenwatt.gateway.requests", [""]],
      ["tokenwatt.tenant.gpu_time", [""]],
      ["tokenwatt.tenant.energy", [""]],
      ["tokenwatt.tenant.cost", [""]],
      ["tokenwatt.tenant.revenue", [""]],
    ];
    let rows = 0;
    const began = performance.now();
    for (const [metric, kinds] of metrics) {
      const series = hosts * TENANTS * kinds.length;
      const named = `map('tokenwatt.tenant', concat('tenant-', toString(number % ${TENANTS})), 'gen_ai.request.model', 'm',
        'tokenwatt.token.kind', ['${kinds.join("','")}'][1 + intDiv(number, ${TENANTS}) % ${kinds.length}],
        'tokenwatt.currency', 'USD')`;
      const host = `concat('gpu-', toString(intDiv(number, ${TENANTS * kinds.length})))`;
      await clickhouse.query(
        `INSERT INTO tokenwatt_series SELECT '${metric}', cityHash64('${metric}', number), ${named}, ${host}, ${host}, 'east' FROM numbers(${series})`,
      );
      // A day of every series after the other, from a day before the month to a day after it; 1,000 more in each bucket.
      const buckets = series * 96 * (MONTH_DAYS + 2);
      const which = `intDiv(number % ${series * 96}, 96)`;
      const bucket = `${MONTH - DAY} + 900 * (number % 96) + ${DAY} * intDiv(number, ${series * 96})`;
      await clickhouse.query(
        `INSERT INTO tokenwatt_15m SELECT '${metric}', cityHash64('${metric}', toUInt64(${which})), ${at(MONTH - 9 * DAY)},
          toDateTime(${bucket}, 'UTC'), 1000. * intDiv(${bucket} - ${MONTH - 9 * DAY}, 900) + ${which} % 7 AS last, last - 500 FROM numbers(${buckets})
          SETTINGS max_threads = 2`,
      );
      rows += buckets;
    }
    const inserted = performance.now() - began;
    const size = await clickhouse.query(
      "SELECT table, sum(bytes_on_disk) AS bytes FROM system.parts WHERE active AND table IN ('tokenwatt_15m', 'tokenwatt_day') GROUP BY table ORDER BY table",
    );
    const figures: Record<string, unknown> = {
      hosts,
      series: hosts * TENANTS * (KINDS.length + 5),
      rows,
      insert_seconds: inserted / 1000,
      bytes_per_row: Number(size[0]?.["bytes"]) / rows,
      day_table_bytes: Number(size[1]?.["bytes"]),
    };
    // The month in UTC and in Berlin, whose clocks go forward in it.
    for (const [zone, from, to] of [
      ["UTC", MONTH, MONTH + MONTH_DAYS * DAY],
      ["Europe/Berlin", MONTH - 3600, MONTH + MONTH_DAYS * DAY - 7200],
    ] as const) {
      const asked = performance.now();
      const found = await clickhouse.query(filled(bill, from, to));
      figures[`bill_seconds ${zone}`] = (performance.now() - asked) / 1000;
      const gain = (1000 * (to - from)) / QUARTER;
      expect(found).toHaveLength(TENANTS);
      for (const one of found) {
        expect(one).toMatchObject({ cluster: "east", model: "m" });
        for (const kind of KINDS) expect(Number(one[`${kind}_tokens`])).toBe(hosts * gain);
        expect(Number(one["requests"])).toBe(hosts * gain);
        expect(Number(one["gpu_hours"])).toBeCloseTo((hosts * gain) / 3600, 3);
        expect(one["cost"]).toEqual({ USD: hosts * gain });
        expect(one["revenue"]).toEqual({ USD: hosts * gain });
      }
    }
    console.info(JSON.stringify(figures));
  });

  test("of latencies has its percentiles, of served and of failed requests", async () => {
    // Two endpoints of each host, each with requests that went well and some that failed after a minute.
    const ways = 4;
    const series = hosts * ways;
    const metric = "tokenwatt.gateway.request_duration";
    const bounds = "[0.1, 0.5, 1, 2, 5, 10, 20, 40, 80]";
    const named = `map('tokenwatt.endpoint', concat('e', toString(number % 2)), 'tokenwatt.outcome', ['ok', 'error'][1 + intDiv(number, 2) % 2])`;
    const host = `concat('gpu-', toString(intDiv(number, ${ways})))`;
    await clickhouse.query(
      `INSERT INTO tokenwatt_latency_series SELECT '${metric}', cityHash64('${metric}', number), ${named}, ${host}, ${host}, 'east', ${bounds} FROM numbers(${series})`,
    );
    const rows = series * 96 * (MONTH_DAYS + 2);
    const which = `intDiv(number % ${series * 96}, 96)`;
    const bucket = `${MONTH - DAY} + 900 * (number % 96) + ${DAY} * intDiv(number, ${series * 96})`;
    const past = `intDiv(${bucket} - ${MONTH - 9 * DAY}, 900)`;
    // In each bucket 100 requests of 0.1 to 0.5 s and 100 of 0.5 to 1 s; or 10 of 40 to 80 s, which failed.
    const counts = `if(intDiv(${which}, 2) % 2 = 0, [0, 100, 100, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 10, 0])`;
    const began = performance.now();
    await clickhouse.query(
      `INSERT INTO tokenwatt_latency_15m SELECT '${metric}', cityHash64('${metric}', toUInt64(${which})), ${at(MONTH - 9 * DAY)},
        toDateTime(${bucket}, 'UTC'), arrayMap(each -> toUInt64(each * ${past}), ${counts}) AS last, last FROM numbers(${rows}) SETTINGS max_threads = 2`,
    );
    const inserted = performance.now() - began;
    const [size] = await clickhouse.query(
      "SELECT sum(bytes_on_disk) AS bytes FROM system.parts WHERE active AND table = 'tokenwatt_latency_15m'",
    );
    const asked = performance.now();
    const ask = (percentile: number, ended: "served" | "failed") => {
      const sql = percentileSql(metric, "endpoint", percentile, ended);
      const rolled = sql.replace("tokenwatt_latency_increase(", "tokenwatt_latency_increase_15m(");
      return clickhouse.query(filled(rolled, MONTH, MONTH + MONTH_DAYS * DAY));
    };
    const served = await ask(50, "served");
    const seconds = (performance.now() - asked) / 1000;
    expect(served.map(({ p50 }) => Number(p50))).toEqual([0.5, 0.5]);
    expect((await ask(99, "served")).map(({ p99 }) => Number(p99))).toEqual([0.99, 0.99]);
    expect((await ask(50, "failed")).map(({ p50 }) => Number(p50))).toEqual([60, 60]);
    const figures = { hosts, series, rows, insert_seconds: inserted / 1000, month_seconds: seconds };
    console.info(JSON.stringify({ ...figures, bytes_per_row: Number(size?.["bytes"]) / rows }));
  });

  test("what the views cost an insert of raw points", async () => {
    const points = 100_000;
    const raw = (table: string) => `INSERT INTO ${table} SELECT
      map('service.instance.id', toString(intDiv(number, 40)), 'host.name', toString(intDiv(number, 40)), 'k8s.cluster.name', 'east', 'os.type', 'linux'),
      'tokenwatt', 'tokenwatt.tokens', map('tokenwatt.token.kind', toString(number % 4), 'tokenwatt.server.id', toString(intDiv(number, 4) % 10), 'hw.model', 'H100'),
      ${at(MONTH)}, ${at(MONTH + DAY)}, toFloat64(number), 0, 2, true FROM numbers(${points}) SETTINGS max_threads = 1`;
    await clickhouse.query(SUM_TABLE.replace("otel_metrics_sum", "alone"));
    const timed = async (sql: string): Promise<number> => {
      const began = performance.now();
      await clickhouse.query(sql);
      return (performance.now() - began) / 1000;
    };
    const alone = await timed(raw("alone"));
    const both = await timed(raw("otel_metrics_sum"));
    console.info(
      JSON.stringify({
        points,
        alone_points_per_second: Math.round(points / alone),
        with_rollup: Math.round(points / both),
      }),
    );
    const [kept] = await clickhouse.query(
      "SELECT sum(value) AS total FROM tokenwatt_15m WHERE metric = 'tokenwatt.tokens'",
    );
    expect(Number(kept?.["total"])).toBe((points * (points - 1)) / 2);
  });
});
