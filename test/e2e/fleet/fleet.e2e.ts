// A thousand hosts from one recording through two gateways into Prometheus, all with their shipped files. A gateway is killed in the
// middle and comes back later: every sample of every host is there, sums and key figures are those of the ledgers.
// E2E_FLEET_HOSTS, E2E_FLEET_GPUS (per host) and E2E_FLEET_PACED=1 (beats of 10 s) for the figures of docs/sizing.md.
import { setTimeout as sleep } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { inUnit } from "../../../agent/export/metrics/metric.ts";
import { findMetric } from "../../../agent/export/metrics/metrics.ts";
import { prometheusLabel, prometheusName } from "../../../agent/export/metrics/prometheus-names.ts";
import { createOtlpEncoder } from "../../../agent/export/otlp/encoder.ts";
import type { LedgerPoint, LedgerSnapshot } from "../../../agent/model.ts";
import type { GroupName, Kpi, Total, TotalName } from "../../../deploy/prometheus/kpis.ts";
import { groups, kpis, totals } from "../../../deploy/prometheus/kpis.ts";
import { kpiPromql } from "../../../deploy/prometheus/promql.ts";
import { deployTool } from "../deploy-tools.ts";
import type { FleetAgent } from "./agents.ts";
import { queueingAgent, spoolingAgent } from "./agents.ts";
import type { Host } from "./recorded.ts";
import { hostBeat, hostName, instanceId, recordedBeats, samplesOf } from "./recorded.ts";
import type { FleetBackend } from "./rig.ts";
import { startBackend } from "./rig.ts";

const prometheus = deployTool("prometheus");
const otelcol = deployTool("otelcol-deploy");
const count = Number(process.env["E2E_FLEET_HOSTS"] ?? 1000);
const gpus = Number(process.env["E2E_FLEET_GPUS"] ?? 1);
const paced = process.env["E2E_FLEET_PACED"] === "1";
/** Hosts with the agent's own sender and spool, and how many of these send through a node Collector. */
const SPOOLING = Math.min(50, count);
const THROUGH_NODE = Math.min(10, count);
const KILLED_AT = 5;
const BACK_AT = 9;
const BEAT_MS = 10_000;

const hosts: readonly Host[] = Array.from({ length: count }, (_, index) => ({ index, gpus }));

describe.skipIf(prometheus === undefined || otelcol === undefined)(`a fleet of ${count} hosts`, () => {
  let backend: FleetBackend;
  let beats: readonly LedgerSnapshot[];
  let agents: readonly FleetAgent[];
  let shift = 0n;
  /** When the last beat was made, in seconds: at that instant nothing is extrapolated. */
  let end = 0;
  const sent = { requests: 0, bytes: 0, zipped: 0, sampled: 0 };

  const waiting = (): number => agents.reduce((sum, agent) => sum + agent.waiting(), 0);
  const retries = (): number => agents.reduce((sum, agent) => sum + agent.retries(), 0);
  const waitUntil = async (holds: () => boolean, seconds: number): Promise<void> => {
    for (let waited = 0; !holds(); waited += 20) {
      if (waited > seconds * 1000) throw new Error(`${waiting()} requests still wait after ${seconds} s`);
      await sleep(20);
    }
  };

  beforeAll(async () => {
    beats = await recordedBeats();
    backend = await startBackend({ prometheus: prometheus ?? "", otelcol: otelcol ?? "" });
    const [one, other] = backend.gateways.map(({ port }) => `127.0.0.1:${port}`);
    // As a name of two addresses, handed out in turns.
    const targetOf = (index: number): string => {
      if (index < THROUGH_NODE) return `127.0.0.1:${backend.node.port}`;
      return index % 2 === 0 ? `ipv4:${one},${other}` : `ipv4:${other},${one}`;
    };
    agents = await Promise.all(
      hosts.map(({ index }) => {
        const destination = { target: targetOf(index), index };
        return index < SPOOLING ? spoolingAgent(destination, backend.folder) : queueingAgent(destination);
      }),
    );
    await sendAll();
  }, 1_200_000);
  afterAll(async () => {
    for (const agent of agents ?? []) await agent.stop();
    await backend?.stop();
  });

  async function sendAll(): Promise<void> {
    const last = (beats.at(-1) as LedgerSnapshot).time;
    const now = BigInt(Date.now()) * 1_000_000n;
    // At its own pace the first beat is now; else the last one is.
    shift = now - (paced ? (beats[0] as LedgerSnapshot).time : last);
    end = Number((last + shift) / 1_000_000n) / 1000;
    const encoders = hosts.map((host) =>
      createOtlpEncoder({
        resource: {
          "service.name": "tokenwatt",
          "service.instance.id": instanceId(host),
          "host.name": hostName(host),
          "k8s.cluster.name": `cluster-${host.index % 2}`,
        },
        version: "0",
      }),
    );
    const began = performance.now();
    for (const [number, beat] of beats.entries()) {
      if (paced) await sleep(Math.max(0, began + number * BEAT_MS - performance.now()));
      if (number === BACK_AT) await backend.gateways[0].start();
      for (const [index, encoder] of encoders.entries()) {
        const entries = [...encoder.encode(hostBeat(hosts[index] as Host, beat, shift))];
        for (const { bytes } of entries) {
          sent.requests++;
          sent.bytes += bytes.length;
          if (index !== 0) continue;
          sent.sampled += bytes.length;
          sent.zipped += gzipSync(bytes).length;
        }
        await agents[index]?.commit(entries);
        if (number === KILLED_AT && index === Math.floor(count / 2)) {
          expect(waiting(), "nothing was under way when the gateway was killed").toBeGreaterThan(0);
          await backend.gateways[0].kill();
        }
        // One process makes the beats of all hosts: their answers want a turn.
        if (index % 20 === 0) await sleep(0);
      }
      if (!paced) await waitUntil(() => waiting() < count / 5, 120);
    }
    await waitUntil(() => waiting() === 0, 120);
  }

  test("no sample is lost and none refused, though a gateway was killed", async () => {
    const each = samplesOf(beats.map((beat) => hostBeat({ index: 0, gpus }, beat, shift)));
    const wanted = Object.fromEntries([...each].map(([metric, samples]) => [metric, samples * count]));
    const counted = async (): Promise<Record<string, number>> => {
      const found: Record<string, number> = {};
      for (const name of each.keys()) {
        const metric = findMetric(name);
        if (metric === undefined) throw new Error(`the recording has ${name}, which no table has`);
        const [sum] = await backend.query(`sum(count_over_time(${prometheusName(metric)}[1h]))`);
        found[name] = Number(sum?.value[1] ?? 0);
      }
      return found;
    };
    const total = (counts: Readonly<Record<string, number>>): number =>
      Object.values(counts).reduce((sum, samples) => sum + samples, 0);
    const samples = total(wanted);
    // The node Collector's OK is a place in its queue: its gateway was away, and is asked again for a while.
    let arrived = await counted();
    for (let tries = 0; total(arrived) < samples && tries < 60; tries++) {
      await sleep(1000);
      arrived = await counted();
    }
    console.info(
      JSON.stringify({
        ...{ hosts: count, gpus, beats: beats.length, samples, arrived: total(arrived), retries: retries() },
        seriesOfHost: hostBeat({ index: 0, gpus }, beats.at(-1) as LedgerSnapshot, 0n).points.length,
        ...{ requests: sent.requests, bytesPerRequest: Math.round(sent.bytes / sent.requests) },
        bytesPerSample: Number((sent.bytes / samples).toFixed(1)),
        zippedShare: Number((sent.zipped / sent.sampled).toFixed(3)),
        gatewayCpuSeconds: backend.gateways.map((each) => each.cpuSeconds()),
        gatewayPeakMebibytes: backend.gateways.map((each) => Math.round(each.peakMebibytes())),
        nodeCpuSeconds: backend.node.cpuSeconds(),
        nodePeakMebibytes: Math.round(backend.node.peakMebibytes()),
        prometheusCpuSeconds: backend.prometheus.cpuSeconds(),
        prometheusPeakMebibytes: Math.round(backend.prometheus.peakMebibytes()),
        prometheusSeries: await backend.headSeries(),
      }),
    );
    expect(arrived).toEqual(wanted);
    expect(agents.reduce((sum, agent) => sum + agent.refused(), 0)).toBe(0);
    expect(retries()).toBeGreaterThan(0);
  });

  test("every host is there with its own tokens", async () => {
    const found = await backend.query("sum by (host_name) (last_over_time(tokenwatt_tokens_total[1h]))");
    const own = Object.fromEntries(
      found.map(({ metric, value }) => [metric["host_name"], Number(value[1])] as const),
    );
    expect(own).toEqual(
      Object.fromEntries(
        hosts.map((host) => [
          hostName(host),
          sumOf(lastOf(host), ({ metric }) => metric === "tokenwatt.tokens"),
        ]),
      ),
    );
  });

  test("the sum of every total is the sum of the ledgers", async () => {
    const names = new Set((beats.at(-1) as LedgerSnapshot).points.map(({ metric }) => metric));
    let compared = 0;
    for (const name of names) {
      const metric = findMetric(name);
      if (metric?.kind !== "sum") continue;
      const [found] = await backend.query(`sum(last_over_time(${prometheusName(metric)}[1h]))`);
      const ledgers = hosts.reduce(
        (sum, host) => sum + sumOf(lastOf(host), (point) => point.metric === name),
        0,
      );
      expect(Number(found?.value[1]) / ledgers, name).toBeCloseTo(1, 9);
      compared++;
    }
    expect(compared).toBeGreaterThan(8);
  });

  // Models have no seconds of their own here, and customers no money: each server has one GPU, which bills for itself.
  const asked = kpis.filter(({ name }) => !name.startsWith("model_") && !name.startsWith("tenant_"));
  test.each(asked.flatMap((kpi) => kpi.groups.map((by) => [kpi.name, by, kpi] as const)))(
    "%s by %s is the quotient of the ledgers' sums, in each cluster",
    async (_name, by, kpi) => {
      const found = await backend.query(kpiPromql(kpi, by, "10m"), end);
      const seen = Object.fromEntries(
        found.map(({ metric, value }) => [
          [metric["k8s_cluster_name"], ...groups[by].map((key) => metric[prometheusLabel(key)])].join(" "),
          Number(value[1]),
        ]),
      );
      const truth = quotients(kpi, by);
      expect(Object.keys(truth)).not.toEqual([]);
      expect(Object.keys(seen).sort()).toEqual(Object.keys(truth).sort());
      for (const [key, value] of Object.entries(truth))
        expect(seen[key], key).toBeCloseTo(value, 6 - Math.ceil(Math.log10(Math.abs(value) + 1)));
    },
  );

  const finals = new Map<Host, readonly LedgerPoint[]>();
  function lastOf(host: Host): readonly LedgerPoint[] {
    const found = finals.get(host) ?? hostBeat(host, beats.at(-1) as LedgerSnapshot, 0n).points;
    finals.set(host, found);
    return found;
  }

  function sumOf(points: readonly LedgerPoint[], counts: (point: LedgerPoint) => boolean): number {
    let sum = 0;
    for (const point of points) {
      const metric = findMetric(point.metric);
      if (metric !== undefined && typeof point.value !== "object" && counts(point))
        sum += inUnit(metric, point.value);
    }
    return sum;
  }

  /** A KPI by the ledgers alone, by cluster and group; groups without a denominator are left out. */
  function quotients({ complement, factor = 1, over, under }: Kpi, by: GroupName): Record<string, number> {
    const [above, below] = [over, under].map((name) => totalOf(name, by)) as [Sums, Sums];
    return Object.fromEntries(
      [...below]
        .filter(([key, value]) => value > 0 && above.has(key))
        .map(([key, value]) => {
          const quotient = (factor * (above.get(key) ?? 0)) / value;
          return [key, complement === true ? 1 - quotient : quotient];
        }),
    );
  }

  type Sums = Map<string, number>;

  function totalOf(name: TotalName, by: GroupName): Sums {
    const total: Total = totals[name];
    const sums: Sums = new Map();
    for (const host of hosts) {
      for (const point of lastOf(host)) {
        if (point.metric !== total.metric[by] || typeof point.value === "object") continue;
        const { dimensions, metric, value } = point;
        const counts = (total.where ?? []).every(
          ({ attribute, is, not }) => is.includes(dimensions[attribute] ?? "") !== (not === true),
        );
        if (!counts) continue;
        const key = [
          `cluster-${host.index % 2}`,
          ...groups[by].map((one) => (one === "host.name" ? hostName(host) : dimensions[one])),
        ].join(" ");
        const row = findMetric(metric);
        if (row !== undefined) sums.set(key, (sums.get(key) ?? 0) + inUnit(row, value));
      }
    }
    if (total.less !== undefined)
      for (const [key, value] of totalOf(total.less as TotalName, by))
        sums.set(key, (sums.get(key) ?? 0) - value);
    if (total.plus !== undefined)
      for (const [key, value] of totalOf(total.plus as TotalName, by))
        sums.set(key, (sums.get(key) ?? 0) + value);
    return sums;
  }
});
