// Through the real OpenTelemetry Collector into a real Prometheus, and read back: names, totals, a one-shot series,
// an outage, a restart of the agent. What is read back must be what the ledger said.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Metric } from "../../../agent/export/metrics/metric.ts";
import { metrics } from "../../../agent/export/metrics/metrics.ts";
import { prometheusName } from "../../../agent/export/metrics/prometheus-names.ts";
import { createOtlpEncoder } from "../../../agent/export/otlp/encoder.ts";
import { Sender } from "../../../agent/export/otlp/sender.ts";
import { grpcTransport } from "../../../agent/export/otlp/transport.ts";
import type { LedgerPoint } from "../../../agent/model.ts";
import { systemClock } from "../../../agent/platform/clock.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { openSegmentSpool } from "../../../agent/store/spool/segment-spool.ts";
import type { Spool } from "../../../agent/store/spool/spool.ts";
import { snapshotOf } from "../../fakes/snapshot.ts";
import type { Tool } from "./tools.ts";
import { findTool, startOtelcol, startPrometheus } from "./tools.ts";

const otelcol = findTool("otelcol");
const prometheusTool = findTool("prometheus");
const SECOND = 1_000_000_000n;
const BEAT = 10n * SECOND;
/** The first beat lies this far back, so that every beat of the test is in the past. */
const START = (BigInt(Math.floor(Date.now() / 1000)) - 2_400n) * SECOND;
const ONE_SHOT_BEAT = 60;
const resource = { "service.name": "tokenwatt", "service.instance.id": "e2e", "host.name": "gpu-1" };

/** The steady series' total after a beat. */
const steady = (beat: number): number => beat * 1_000 + (beat % 7);

function point(metric: string, value: LedgerPoint["value"], rest: Partial<LedgerPoint>): LedgerPoint {
  return {
    metric,
    value,
    dimensions: {},
    series: 0,
    start: START,
    time: START,
    isNew: false,
    ended: false,
    ...rest,
  };
}

function beatPoints(beat: number): LedgerPoint[] {
  const time = START + BigInt(beat) * BEAT;
  const server = (id: string) => ({ "tokenwatt.server.id": id, "gen_ai.request.model": "m" });
  const points = [
    point("tokenwatt.tokens", BigInt(steady(beat)), {
      dimensions: server("steady"),
      series: 1,
      time,
      isNew: beat === 1,
    }),
    point("tokenwatt.gpu.energy", BigInt(steady(beat)) * 1000n, { series: 2, time, isNew: beat === 1 }),
  ];
  if (beat >= ONE_SHOT_BEAT) {
    const start = START + BigInt(ONE_SHOT_BEAT - 1) * BEAT;
    const rest = { dimensions: server("one-shot"), series: 3, start, time, isNew: beat === ONE_SHOT_BEAT };
    points.push(point("tokenwatt.tokens", 500n, rest));
  }
  return points;
}

describe.skipIf(otelcol === undefined || prometheusTool === undefined)(
  "through a real Collector and Prometheus",
  () => {
    const folder = mkdtempSync(join(tmpdir(), "real-"));
    let prometheus: Awaited<ReturnType<typeof startPrometheus>>;
    let collector: Tool;
    let spool: Spool;
    let sender: Sender;
    let beat = 0;

    const openAgent = async (): Promise<void> => {
      spool = await openSegmentSpool({
        folder,
        destinations: ["main"],
        log: silentLog,
        bytesMax: 50_000_000,
      });
      sender = new Sender({
        destination: "main",
        transport: grpcTransport({ target: `127.0.0.1:${collector.port}` }, { gzip: true }),
        spool,
        clock: systemClock(),
        log: silentLog,
        retryMs: { first: 50, longest: 500 },
        limits: { thinAfterMs: 1e12, drainTimesLive: 10, jitterMs: 0 },
      });
      sender.start();
    };
    const encode = (points: readonly LedgerPoint[]) =>
      createOtlpEncoder({ resource, version: "0" }).encode(snapshotOf(points));
    const run = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i++) spool.commit(await spool.append(encode(beatPoints(++beat))));
    };
    const value = async (query: string): Promise<number> =>
      Number((await prometheus.query(query))[0]?.value[1]);

    beforeAll(async () => {
      prometheus = await startPrometheus(prometheusTool ?? "");
      collector = await startOtelcol(otelcol ?? "", prometheus.port);
      await openAgent();
    });
    afterAll(async () => {
      await sender?.stop();
      await spool?.close();
      await collector?.stop();
      await prometheus?.stop();
      rmSync(folder, { recursive: true, force: true });
    });

    /** Every beat so far is there, under one start, with the ledger's total. */
    const judge = async (): Promise<void> => {
      expect(await sender.flush(20_000)).toBe(true);
      const series = 'tokenwatt_tokens_total{tokenwatt_server_id="steady"}';
      expect(await value(`last_over_time(${series}[2h])`)).toBe(steady(beat));
      expect(await value(`count_over_time(${series}[2h])`)).toBe(beat + 1);
      expect(await value(`resets(${series}[2h])`)).toBe(0);
      expect(await value("last_over_time(tokenwatt_gpu_energy_joules_total[2h])")).toBe(steady(beat));
      const { droppedPoints } = sender.status();
      expect(droppedPoints).toEqual({});
    };

    test("totals read back equal the ledger's", async () => {
      await run(50);
      await judge();
    });

    test("an outage of the Collector leaves no hole", async () => {
      const { port } = collector;
      await collector.stop();
      await run(40);
      expect(await sender.flush(500)).toBe(false);
      collector = await startOtelcol(otelcol ?? "", prometheus.port, port);
      await judge();
    });

    test("a restart of the agent goes on with the same series", async () => {
      await run(5);
      await sender.stop();
      await spool.close();
      await openAgent();
      await run(45);
      await judge();
    });

    test("a destination in parallel mode gets live points first and its backlog after them, and Prometheus takes both", async () => {
      const steadySeries = 'tokenwatt_tokens_total{tokenwatt_server_id="late"}';
      const time = START + 200n * BEAT;
      const late = (at: bigint, total: bigint, isNew: boolean) =>
        encode([
          point("tokenwatt.tokens", total, {
            dimensions: { "tokenwatt.server.id": "late" },
            start: START,
            time: at,
            isNew,
          }),
        ]);
      for (const [at, total, isNew] of [
        [time, 300n, false],
        [time - 5n * BEAT, 200n, false],
        [time - 9n * BEAT, 100n, true],
      ] as const) {
        spool.commit(await spool.append(late(at, total, isNew)));
      }
      expect(await sender.flush(20_000)).toBe(true);
      expect(sender.status().droppedPoints).toEqual({});
      expect(await value(`count_over_time(${steadySeries}[2h])`)).toBe(4);
      expect(await value(`resets(${steadySeries}[2h])`)).toBe(0);
      expect(await value(`last_over_time(${steadySeries}[2h])`)).toBe(300);
    });

    test("a series that jumps once to 500 shows an increase of 500", async () => {
      const series = 'tokenwatt_tokens_total{tokenwatt_server_id="one-shot"}';
      expect(await value(`max_over_time(${series}[2h]) - min_over_time(${series}[2h])`)).toBe(500);
      const increase = await value(`increase(${series}[2h])`);
      expect(increase).toBeGreaterThan(495);
      expect(increase).toBeLessThan(510);
    });

    test("every metric has the name our /metrics gives it", async () => {
      const time = BigInt(Date.now()) * 1_000_000n;
      const histogram = { bounds: [1], counts: [1, 2], sum: 5, count: 3 };
      const dimensions = { "tokenwatt.server.id": "names" };
      const points = metrics.map((metric, series) =>
        point(metric.name, sampleOf(metric, histogram), { dimensions, series, start: time - SECOND, time }),
      );
      spool.commit(await spool.append(encode(points)));
      expect(await sender.flush(20_000)).toBe(true);
      const found = await prometheus.query('{tokenwatt_server_id="names"}');
      expect(found.every((one) => one.metric["host_name"] === "gpu-1")).toBe(true);
      const names = new Set(
        found.map((one) =>
          (one.metric["__name__"] ?? "").replace(/_(bucket|sum|count)$/, (suffix, _, at, whole) =>
            isHistogram(whole.slice(0, at)) ? "" : suffix,
          ),
        ),
      );
      expect([...names].sort()).toEqual(metrics.map(prometheusName).sort());
    });

    test("a series that ended is gone from instant queries at once", async () => {
      const time = BigInt(Date.now()) * 1_000_000n;
      const ended = point("tokenwatt.tokens", 5n, {
        dimensions: { "tokenwatt.server.id": "names" },
        series: 0,
        start: time - 9n * SECOND,
        time,
        ended: true,
      });
      spool.commit(await spool.append(encode([ended])));
      expect(await sender.flush(20_000)).toBe(true);
      await new Promise((resolve) => setTimeout(resolve, 100));
      expect(await prometheus.query('tokenwatt_tokens_total{tokenwatt_server_id="names"}')).toEqual([]);
      expect(await prometheus.query('tokenwatt_requests_total{tokenwatt_server_id="names"}')).toHaveLength(1);
    });
  },
);

function sampleOf(metric: Metric, histogram: LedgerPoint["value"]): LedgerPoint["value"] {
  return metric.kind === "histogram" ? histogram : metric.kind === "gauge" ? 0.5 : 3n;
}

function isHistogram(name: string): boolean {
  return metrics.some((metric) => metric.kind === "histogram" && prometheusName(metric) === name);
}
