// deploy/clickhouse/rollup.sql on ClickHouse's own engine (chdb): random histories (restarts, gaps, repeats, late and unordered
// inserts) of sums and of latency histograms against an oracle and against the raw views, for any window; and every query of
// the page over it. E2E_SEED=n to repeat a run; deploy-bill.e2e.ts times months of many hosts.
import { existsSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { backfill, bill, rollup } from "../../deploy/clickhouse/rollup.ts";
import {
  increaseView,
  kpiSql,
  latencyView,
  percentileSql,
  stepView,
  usageSql,
} from "../../deploy/clickhouse/sql.ts";
import { durations, gatewayLatencies, kpis } from "../../deploy/prometheus/kpis.ts";
import { usages } from "../../deploy/prometheus/usages.ts";
import type { ClickHouse } from "./clickhouse/server.ts";
import { startClickHouse } from "./clickhouse/server.ts";
import { HISTOGRAM_TABLE, SUM_TABLE } from "./clickhouse/tables.ts";
import { deployTool } from "./deploy-tools.ts";

const python = deployTool("chdb/bin/python");
const seed = Number(process.env["E2E_SEED"] ?? Math.floor(Math.random() * 2 ** 31));

const QUARTER = 900;
const DAY = 86_400;
const BEGIN = Date.UTC(2026, 2, 27) / 1000;
const DAYS = 6;

interface Point {
  readonly time: number;
  readonly value: number;
}
/** One life of a series: its points, in order, under one start. */
interface Life {
  readonly metric: string;
  readonly host: string;
  readonly kind: string;
  readonly start: number;
  readonly points: readonly Point[];
}

/** mulberry32: the same figures from the same seed. */
function randomOf(from: number): () => number {
  let state = from;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const random = randomOf(seed);
const upTo = (limit: number): number => Math.floor(random() * limit);

/** Lives of a series one after the other; some points lie exactly on the end of a bucket or day. */
function lives(metric: string, host: string, kind: string): Life[] {
  const found: Life[] = [];
  let time = BEGIN - upTo(2 * DAY);
  while (time < BEGIN + DAYS * DAY) {
    const start = time;
    const points: Point[] = random() < 0.7 ? [{ time: start, value: 0 }] : [];
    const count = 1 + upTo(40);
    let value = 0;
    for (let at = 0; at < count; at++) {
      time += 1 + upTo(random() < 0.1 ? 8 * 3600 : 2400);
      if (random() < 0.2) time = Math.ceil(time / QUARTER) * QUARTER;
      if (random() < 0.05) time = Math.ceil(time / DAY) * DAY;
      value += upTo(1000);
      points.push({ time, value });
    }
    found.push({ metric, host, kind, start, points });
    time += 1 + upTo(3 * 3600);
  }
  return found;
}

/** What a life gained in (from, to] by its points since `since`; undefined where it has none. */
function gained(life: Life, since: number, from: number, to: number): number | undefined {
  const seen = life.points.filter(({ time }) => time > since && time <= to);
  const last = seen.at(-1);
  if (last === undefined) return undefined;
  const before = seen.filter(({ time }) => time <= from).at(-1);
  return last.value - (before?.value ?? (life.start >= from ? 0 : (seen[0] as Point).value));
}

const METRICS = ["tokenwatt.tokens", "tokenwatt.gateway.tokens"];
const all = METRICS.flatMap((metric) =>
  Array.from({ length: 12 }, (_, at) => lives(metric, `gpu-${at % 4}`, `kind-${Math.floor(at / 4)}`)).flat(),
);
const key = (metric: string, host: string, kind: string): string => `${metric} ${host} ${kind}`;

/** By the oracle: the increase of every series that has one in the window. */
function truth(from: number, to: number, since: number): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const life of all) {
    const value = gained(life, since, from, to);
    const name = key(life.metric, life.host, life.kind);
    if (value !== undefined) sums[name] = (sums[name] ?? 0) + value;
  }
  return sums;
}

const at = (seconds: number): string => `toDateTime64(${seconds}, 9)`;
const filled = (sql: string, from: number, to: number, zone = "UTC"): string =>
  sql
    .replaceAll("{from:DateTime64(9)}", at(from))
    .replaceAll("{to:DateTime64(9)}", at(to))
    .replaceAll("{zone:String}", `'${zone}'`);
/** The same query over the rollup. */
const rolled = (sql: string): string =>
  sql.replaceAll(/tokenwatt_(increase|latency_increase|step)\(/g, "tokenwatt_$1_15m(");

function row({ host, kind, metric, start }: Life, { time, value }: Point, flags = 0): string {
  return `({'service.instance.id':'i-${host}','host.name':'${host}','k8s.cluster.name':'east'}, 'tokenwatt', '${metric}', {'tokenwatt.token.kind':'${kind}','tokenwatt.server.id':'s'}, ${at(start)}, ${at(time)}, ${value}, ${flags}, 2, true)`;
}

const BOUNDS = [0.1, 1, 10];
const LATENCY = "tokenwatt.gateway.request_duration";
const timed = Array.from({ length: 6 }, (_, at) => lives(LATENCY, `gpu-${at % 2}`, `e${at % 3}`)).flat();

/** A value as counts of requests: half of them quick, so that none of the counts ever falls. */
const countsOf = (value: number): number[] => [
  Math.floor(value / 2),
  0,
  Math.floor(value / 3),
  value - Math.floor(value / 2) - Math.floor(value / 3),
];

/** Requests of one host's endpoint; those of the third endpoint failed. */
function latencyRow({ host, kind, start }: Life, { time, value }: Point, flags = 0): string {
  const outcome = kind === "e2" ? "error" : "ok";
  return `({'service.instance.id':'i-${host}','host.name':'${host}','k8s.cluster.name':'east'}, 'tokenwatt', '${LATENCY}',
    {'tokenwatt.endpoint':'${kind}','tokenwatt.outcome':'${outcome}'}, ${at(start)}, ${at(time)}, [${countsOf(value).join(",")}], [${BOUNDS.join(",")}], ${flags}, 2)`;
}

/** By the oracle: the counts of every host's endpoint in the window, where it has any. */
function countsIn(from: number, to: number, since: number): Record<string, readonly number[]> {
  const sums: Record<string, number[]> = {};
  for (const life of timed) {
    const points = life.points.filter(({ time }) => time > since && time <= to);
    if (points.length === 0) continue;
    const last = countsOf((points.at(-1) as Point).value);
    const before = points.filter(({ time }) => time <= from).at(-1);
    const base = countsOf(before?.value ?? (life.start >= from ? 0 : (points[0] as Point).value));
    const name = `${life.host} ${life.kind}`;
    sums[name] = last.map((count, place) => (sums[name]?.[place] ?? 0) + count - (base[place] ?? 0));
  }
  return sums;
}

function shuffled<T>(items: readonly T[]): T[] {
  return items
    .map((item) => [random(), item] as const)
    .sort(([left], [right]) => left - right)
    .map(([, item]) => item);
}

describe.skipIf(python === undefined || !existsSync(python))("deploy/clickhouse/rollup.sql", () => {
  let clickhouse: ClickHouse;
  const rows = shuffled(
    all.flatMap((life) => {
      const last = life.points.at(-1) as Point;
      // The end of a series: a point without a value, which must not count as one.
      const end = random() < 0.5 ? [row(life, { time: last.time + 1, value: 0 }, 1)] : [];
      return [...life.points.map((point) => row(life, point)), ...end];
    }),
  );
  const timedRows = shuffled(
    timed.flatMap((life) => {
      const last = life.points.at(-1) as Point;
      const end = random() < 0.5 ? [latencyRow(life, { time: last.time + 1, value: 0 }, 1)] : [];
      return [...life.points.map((point) => latencyRow(life, point)), ...end];
    }),
  );
  const insert = async (some: readonly string[], table = "sum"): Promise<void> => {
    await clickhouse.query(`INSERT INTO otel_metrics_${table} VALUES ${some.join(",")}`);
  };
  const windows = Array.from({ length: 30 }, () => {
    const from = BEGIN + QUARTER * upTo((DAYS * DAY) / QUARTER);
    return [from, from + QUARTER * (1 + upTo(random() < 0.3 ? 8 : (3 * DAY) / QUARTER))] as const;
  });

  beforeAll(async () => {
    console.info(`E2E_SEED=${seed}: ${rows.length} points in ${all.length} lives`);
    clickhouse = await startClickHouse(python ?? "");
    const made = [SUM_TABLE, HISTOGRAM_TABLE, increaseView, stepView, latencyView];
    for (const sql of ["CREATE DATABASE otel", "USE otel", ...made]) await clickhouse.query(sql);
    // A third was there before the views; the rest comes in parts, whatever its time.
    const third = Math.floor(rows.length / 3);
    const half = Math.floor(timedRows.length / 2);
    await insert(rows.slice(0, third));
    await insert(timedRows.slice(0, half), "histogram");
    for (const sql of [...rollup, ...backfill]) await clickhouse.query(sql);
    await insert(rows.slice(third, 2 * third));
    await insert(rows.slice(2 * third));
    await insert(timedRows.slice(half), "histogram");
  });
  afterAll(() => clickhouse?.stop());

  async function increases(view: string, from: number, to: number): Promise<Record<string, number>> {
    const found =
      await clickhouse.query(`SELECT metric, host, attributes['tokenwatt.token.kind'] AS kind, sum(increase) AS total
      FROM ${view}(from = ${at(from)}, to = ${at(to)}) WHERE cluster = 'east' AND instance = concat('i-', host)
      GROUP BY metric, host, kind`);
    return Object.fromEntries(
      found.map((one) => [
        key(String(one["metric"]), String(one["host"]), String(one["kind"])),
        Number(one["total"]),
      ]),
    );
  }
  async function countsOfView(view: string, from: number, to: number): Promise<object> {
    const found =
      await clickhouse.query(`SELECT host, attributes['tokenwatt.endpoint'] AS endpoint, bounds, sumForEach(counts) AS total
      FROM ${view}(from = ${at(from)}, to = ${at(to)}) WHERE cluster = 'east' AND metric = '${LATENCY}' GROUP BY host, endpoint, bounds`);
    return Object.fromEntries(
      found.map((one) => [
        `${one["host"]} ${one["endpoint"]}`,
        (one["total"] as unknown as string[]).map(Number),
      ]),
    );
  }
  const dayBefore = (from: number): number => Math.floor(from / DAY) * DAY - DAY;

  const judge = async (): Promise<void> => {
    for (const [from, to] of windows) {
      expect(await increases("tokenwatt_increase", from, to)).toEqual(truth(from, to, from - DAY));
      expect(await increases("tokenwatt_increase_15m", from, to)).toEqual(truth(from, to, dayBefore(from)));
      expect(await countsOfView("tokenwatt_latency_increase", from, to)).toEqual(
        countsIn(from, to, from - DAY),
      );
      const days = await countsOfView("tokenwatt_latency_increase_15m", from, to);
      expect(days).toEqual(countsIn(from, to, dayBefore(from)));
    }
  };

  test("increases and counts are the oracle's in any window of full quarters, as the raw view's are", judge);

  test("steps of a local calendar sum to the increase of the window", async () => {
    const [from, to] = [BEGIN + DAY - 3600, BEGIN + (DAYS - 1) * DAY - 7200];
    for (const [total, metric] of [
      ["tokens", "tokenwatt.tokens"],
      ["gateway_tokens", "tokenwatt.gateway.tokens"],
    ] as const) {
      const sql = usageSql(total, "fleet", "day");
      const found = await clickhouse.query(filled(rolled(sql), from, to, "Europe/Berlin"));
      const sums = found.map((one) => Number(one[total])).filter((one) => one !== 0);
      // The clocks go forward on 29 March: four or five days, one of them of 23 hours.
      expect(sums.length).toBeGreaterThan(3);
      const days = [
        BEGIN + DAY - 3600,
        BEGIN + 2 * DAY - 3600,
        BEGIN + 3 * DAY - 7200,
        BEGIN + 4 * DAY - 7200,
      ];
      const byHand = days.map((begin, index) => {
        const end = days[index + 1] ?? to;
        // A life that began before the window has its base there, whatever the day.
        return all
          .filter((life) => life.metric === metric)
          .reduce(
            (sum, life) =>
              sum +
              (gained(life, dayBefore(from), from, end) ?? 0) -
              (gained(life, dayBefore(from), from, begin) ?? 0),
            0,
          );
      });
      expect(sums).toEqual(byHand);
    }
  });

  test("clients that split a script at semicolons get whole statements", () => {
    for (const sql of [...rollup, ...backfill]) expect(sql).not.toContain(";");
  });

  test("a window that would cut a bucket is refused", async () => {
    await expect(increases("tokenwatt_increase_15m", BEGIN + 1, BEGIN + DAY)).rejects.toThrow(
      /full quarters/,
    );
    await expect(increases("tokenwatt_increase_15m", BEGIN, BEGIN + DAY - 1)).rejects.toThrow(
      /full quarters/,
    );
    await expect(
      clickhouse.query(
        `SELECT sum(step) FROM tokenwatt_step_15m(from = ${at(BEGIN)}, to = ${at(BEGIN + 901)})`,
      ),
    ).rejects.toThrow(/full quarters/);
  });

  test("every query of the page runs over it, and says what it says over the raw points", async () => {
    const [from, to] = [BEGIN + DAY, BEGIN + 3 * DAY];
    const queries = [
      ...kpis.flatMap((kpi) => kpi.groups.map((group) => kpiSql(kpi, group))),
      ...usages.flatMap(({ groups, total }) => groups.map((group) => usageSql(total, group, "day"))),
      ...gatewayLatencies.map((metric) => percentileSql(metric, "endpoint", 99)),
      percentileSql(durations[1] ?? "", "endpoint", 99, "failed"),
    ];
    for (const sql of queries) {
      expect(rolled(sql)).not.toBe(sql);
      const raw = await clickhouse.query(filled(sql, from, to));
      expect(await clickhouse.query(filled(rolled(sql), from, to)), sql).toEqual(raw);
    }
    await clickhouse.query(filled(bill, from, to));
    const ended = (how: "served" | "failed") =>
      clickhouse.query(filled(rolled(percentileSql(LATENCY, "endpoint", 99, how)), from, to));
    expect((await ended("served")).map(({ endpoint }) => endpoint)).toEqual(["e0", "e1"]);
    expect((await ended("failed")).map(({ endpoint }) => endpoint)).toEqual(["e2"]);
  });

  test("points that come again, a second backfill, merges and the script run again change nothing", async () => {
    await insert(rows.slice(0, 500));
    await insert(timedRows.slice(0, 100), "histogram");
    for (const sql of [...rollup, ...backfill]) await clickhouse.query(sql);
    const tables = ["15m", "day", "series"].flatMap((part) => [
      `tokenwatt_${part}`,
      `tokenwatt_latency_${part}`,
    ]);
    for (const table of tables) await clickhouse.query(`OPTIMIZE TABLE ${table} FINAL`);
    await judge();
  });
});
