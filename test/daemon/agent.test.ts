// The agent as a whole, over real sockets: two recorded GPUs, two token servers, an OTLP collector, the HTTP endpoints.
// Agent time runs faster than wall time, so that seconds of metering take a moment.
import { mkdtempSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { fromBinary } from "@bufbuild/protobuf";
import { afterEach, describe, expect, test } from "vitest";
import { loadConfig } from "../../agent/config/load.ts";
import type { Agent, AgentOptions } from "../../agent/daemon/agent.ts";
import { startAgent } from "../../agent/daemon/agent.ts";
import type { GpuSample, LedgerPoint, SettledInterval } from "../../agent/model.ts";
import type { Clock } from "../../agent/platform/clock.ts";
import { systemClock } from "../../agent/platform/clock.ts";
import type { Facts, Log } from "../../agent/platform/log.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { tokenCounters } from "../../agent/servers/token-counters/index.ts";
import type { TokenCountersServer } from "../../agent/servers/token-counters/server.ts";
import { serveTokenCounters } from "../../agent/servers/token-counters/server.ts";
import type { GpuSource, SourceContext } from "../../agent/source.ts";
import { SourceError } from "../../agent/source.ts";
import { ledgerPath } from "../../agent/store/state-folder.ts";
import type { FakeCollector } from "../fakes/otlp-collector.ts";
import { startCollector } from "../fakes/otlp-collector.ts";
import { ExportMetricsServiceRequestSchema } from "../gen/opentelemetry/proto/collector/metrics/v1/metrics_service_pb.ts";
import { ringOf } from "../tools/rings.ts";

const SPEED = 20;
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

interface Setup {
  readonly agent: Agent;
  readonly clock: Clock;
  readonly intervals: SettledInterval[];
  readonly lines: { readonly level: string; readonly event: string; readonly facts: Facts }[];
  readonly context: SourceContext;
  readonly stateDir: string;
}

/** A log that remembers. */
function memoryLog(lines: Setup["lines"][number][]): Log {
  const take =
    (level: string) =>
    (event: string, facts: Facts = {}): void => {
      lines.push({ level, event, facts });
    };
  const log: Log = {
    debug: take("debug"),
    info: take("info"),
    warn: take("warn"),
    error: take("error"),
    with: () => log,
  };
  return log;
}

/** Two GPUs that burn 300 W and 100 W and hold one process each; `broken` makes polls fail. */
function twoGpus(clock: Clock, state: { broken?: SourceError } = {}): GpuSource {
  const started = clock.now();
  const gpu = (index: number, watts: number): GpuSample => {
    const at = clock.now();
    const seconds = (at - started) / 1e9;
    return {
      gpu: `GPU-${index}`,
      at,
      energyMillijoules: Math.round(watts * 1000 * seconds),
      energyEpoch: "one",
      powerWatts: watts,
      utilizationRatio: 0.9,
      processes: [{ pid: 100 + index, type: "compute" }],
      utilizationRing: ringOf([1, 2, 3, 4, 5].map((step) => ({ at: at - (5 - step) * 200e6, value: 0.9 }))),
    };
  };
  return {
    backend: "test",
    generation: 0,
    inventory: async () =>
      [0, 1].map((index) => ({
        uuid: `GPU-${index}`,
        index,
        name: "NVIDIA Test",
        weight: 1,
        powerLimitWatts: 700,
      })),
    poll: async () => {
      if (state.broken !== undefined) throw state.broken;
      const now = clock.now();
      return { sent: now, received: now, samples: [gpu(0, 300), gpu(1, 100)], gaps: [] };
    },
    close: async () => {},
    status: () => ({}),
  };
}

/** A server on one GPU that makes 100 tokens a second, half of them output. */
async function tokenServer(
  clock: Clock,
  pid: number,
): Promise<TokenCountersServer & { readonly made: () => number }> {
  const started = clock.now();
  const made = (): number => Math.floor((clock.now() - started) / 20e6) * 2;
  let last = 0;
  const service = await serveTokenCounters("127.0.0.1:0", {
    clock,
    intervalMs: 1000,
    read: () => {
      last = made();
      return [
        {
          epochId: "one",
          pids: [pid],
          running: 1,
          activeNanos: clock.now() - started,
          counters: [
            {
              model: `model-${pid}`,
              tokens: [
                { kind: "input_unsplit", tokens: last / 2 },
                { kind: "output", tokens: last / 2 },
              ],
            },
          ],
        },
      ];
    },
  });
  closing.push(() => service.close());
  return Object.assign(service, { made: () => last });
}

async function start(
  collector: FakeCollector | undefined,
  more: (context: SourceContext) => Promise<Partial<AgentOptions>>,
  settings: readonly string[] = [],
): Promise<Setup> {
  const clock = systemClock({ speed: SPEED });
  const lines: Setup["lines"] = [];
  const log = memoryLog(lines);
  const context: SourceContext = { clock, log, signal: new AbortController().signal };
  const intervals: SettledInterval[] = [];
  const stateDir = mkdtempSync(join(tmpdir(), "tokenwatt-daemon-"));
  const { config } = loadConfig({
    env: {},
    file: false,
    settings: [
      `stateDir=${stateDir}`,
      "export.prometheus.listen=127.0.0.1:0",
      "rates.exportMs=2000",
      ...(collector === undefined ? [] : [`export.otlp.endpoint=http://127.0.0.1:${collector.port}`]),
      ...settings,
    ],
  });
  const agent = await startAgent({
    config,
    clock,
    log,
    env: {},
    onInterval: (interval) => intervals.push(interval),
    ...(await more(context)),
  });
  closing.push(() => agent.stop({ flushMs: 1000 * SPEED }));
  return { agent, clock, intervals, lines, context, stateDir };
}

async function until(condition: () => boolean): Promise<void> {
  for (let round = 0; round < 400 && !condition(); round++) {
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  expect(condition()).toBe(true);
}

/** Last value per series of a metric, over everything a collector took. */
function received(collector: FakeCollector, name: string): Map<string, number> {
  const values = new Map<string, number>();
  for (const body of collector.requests) {
    for (const resource of fromBinary(ExportMetricsServiceRequestSchema, body).resourceMetrics) {
      for (const metric of resource.scopeMetrics.flatMap((scope) => scope.metrics)) {
        if (metric.name !== name || metric.data.case !== "sum") continue;
        for (const point of metric.data.value.dataPoints) {
          const attributes = point.attributes
            .map(({ key, value }) => `${key}=${value?.value.value}`)
            .join(",");
          values.set(attributes, Number(point.value.value ?? 0));
        }
      }
    }
  }
  return values;
}

/** Bodies of the audit entries of a kind. */
function onRecord(stateDir: string, kind: string): unknown[] {
  const database = new DatabaseSync(ledgerPath(stateDir), { readOnly: true });
  const rows = database.prepare("SELECT body FROM audit WHERE kind = ?").all(kind);
  database.close();
  return rows.map((row) => JSON.parse(String(row["body"])));
}

const sum = (values: Iterable<number>): number => [...values].reduce((total, value) => total + value, 0);

describe("an agent with two GPUs and two servers", () => {
  test("ships exactly the tokens, seconds and joules it metered", async () => {
    const collector = await startCollector();
    closing.push(() => collector.close());
    const setup = await start(collector, async (context) => {
      const servers = await Promise.all([tokenServer(context.clock, 100), tokenServer(context.clock, 101)]);
      return {
        gpu: twoGpus(context.clock),
        servers: servers.map((server, index) =>
          tokenCounters.open(
            tokenCounters.config.parse({ endpoint: server.address, id: `server-${index}` }),
            context,
          ),
        ),
      };
    });
    const booked = (): number =>
      sum(
        setup.intervals
          .flatMap((interval) => interval.servers.flatMap((server) => server.increments))
          .flatMap((increment) => Object.values(increment.tokens)),
      );
    await until(() => setup.intervals.length >= 12 && booked() > 1000);
    await setup.agent.stop({ flushMs: 2000 * SPEED });
    const gpus = setup.intervals.flatMap((interval) => interval.gpus);
    const metered = sum(setup.intervals.map((interval) => interval.to - interval.from));
    for (const uuid of ["GPU-0", "GPU-1"]) {
      const own = gpus.filter((gpu) => gpu.gpu === uuid);
      expect(sum(own.flatMap((gpu) => Object.values(gpu.nanos)))).toBe(metered);
    }
    const seconds = received(collector, "tokenwatt.gpu.time");
    expect(sum(seconds.values())).toBeCloseTo((2 * metered) / 1e9, 6);
    const joules = received(collector, "tokenwatt.gpu.energy");
    expect(sum(joules.values())).toBeCloseTo(
      sum(gpus.flatMap((gpu) => Object.values(gpu.millijoules))) / 1e3,
      6,
    );
    const increments = setup.intervals.flatMap((interval) =>
      interval.servers.flatMap((server) => server.increments),
    );
    const tokens = sum(increments.flatMap((increment) => Object.values(increment.tokens)));
    expect(tokens).toBeGreaterThan(1000);
    expect(sum(received(collector, "tokenwatt.tokens").values())).toBe(tokens);
    const active = [...seconds.keys()].filter((attributes) => attributes.includes("token_active"));
    const gpusAtWork = new Set(active.map((attributes) => /hw.id=(GPU-\d)/.exec(attributes)?.[1]));
    expect([...gpusAtWork].sort()).toEqual(["GPU-0", "GPU-1"]);
    for (const [attributes] of received(collector, "tokenwatt.server.gpu_time")) {
      const pair = /tokenwatt.server.id=server-(\d)/.exec(attributes)?.[1];
      expect(attributes).toContain(`hw.id=GPU-${pair}`);
    }
    expect(onRecord(setup.stateDir, "delivery")[0]).toMatchObject({
      destination: expect.any(String),
      head: { hash: expect.stringMatching(/^[0-9a-f]{64}$/) },
    });
  });

  test("shows the committed snapshot on /metrics, and its state on /-/status", async () => {
    const setup = await start(undefined, async (context) => ({ gpu: twoGpus(context.clock), servers: [] }));
    const page = async (path: string): Promise<Response> =>
      fetch(`http://${setup.agent.exports.address}${path}`);
    expect((await page("/-/healthy")).status).toBe(200);
    // What was settled is shown once the beat that carries it is on disk.
    const isShown = ({ metric }: LedgerPoint): boolean => metric === "tokenwatt.gpu.time";
    await until(() => setup.agent.ready() && setup.agent.exports.snapshot?.points.some(isShown) === true);
    expect((await page("/-/ready")).status).toBe(200);
    const text = await (await page("/metrics")).text();
    expect(text).toMatch(/tokenwatt_gpu_time_seconds_total\{[^}]*hw_id="GPU-1"[^}]*\} \d/);
    const status = (await (await page("/-/status")).json()) as Record<string, unknown>;
    expect(status).toMatchObject({ gpu_backend: { chosen: "test" }, sources: { gpu: { ok: true } } });
    expect(status).toMatchObject({
      degraded: null,
      export: { ledger: { head: { hash: expect.stringMatching(/^[0-9a-f]{64}$/) } } },
    });
  });

  test("stays up while the GPUs cannot be read, and books the time as unobserved", async () => {
    const state: { broken?: SourceError } = {};
    const setup = await start(undefined, async (context) => {
      const server = await tokenServer(context.clock, 100);
      return {
        gpu: twoGpus(context.clock, state),
        servers: [
          tokenCounters.open(tokenCounters.config.parse({ endpoint: server.address, id: "a" }), context),
        ],
      };
    });
    await until(() => setup.intervals.length >= 3);
    state.broken = new SourceError("transient", "Cannot read GPUs: the driver does not answer");
    const before = setup.intervals.length;
    await until(() => setup.intervals.length >= before + 10);
    delete state.broken;
    const blind = setup.intervals.slice(before + 5).flatMap((interval) => interval.gpus);
    expect(sum(blind.map((gpu) => gpu.nanos.unobserved))).toBe(
      2 * sum(setup.intervals.slice(before + 5).map((interval) => interval.to - interval.from)),
    );
    const increments = setup.intervals
      .slice(before + 5)
      .flatMap((one) => one.servers.flatMap((two) => two.increments));
    expect(increments.length).toBeGreaterThan(0);
    await until(() =>
      setup.lines.some((line) => line.event === "source read again" && line.facts["source"] === "gpu"),
    );
    expect(setup.lines).toContainEqual({
      level: "warn",
      event: "source cannot be read",
      facts: { source: "gpu", cause: "Cannot read GPUs: the driver does not answer" },
    });
  });

  test("takes servers in and lets them go when the configuration is reloaded", async () => {
    const setup = await start(undefined, async (context) => ({ gpu: twoGpus(context.clock) }));
    const server = await tokenServer(setup.clock, 100);
    const entry = (id: string): string => JSON.stringify([{ id, endpoint: server.address }]);
    const base = ["export.prometheus.listen=127.0.0.1:0"];
    const load = (settings: string[]): Parameters<Agent["reload"]>[0] =>
      loadConfig({ env: {}, file: false, settings: [...base, ...settings] }).config;
    const added = await setup.agent.reload(load([`servers.token-counters=${entry("late")}`]));
    expect(added.applied.join()).toContain("servers.token-counters");
    await until(() =>
      setup.intervals.some((interval) => interval.servers.some((one) => one.increments.length > 0)),
    );
    expect([...setup.agent.pipeline.intake.servers.keys()]).toEqual(["late"]);
    const file = { file: "c.yaml", uid: 7, modified: "2026-11-01T00:00:00.000Z", digest: "0123456789ab" };
    const changed = await setup.agent.reload(load(["rates.tickMs=500"]), undefined, file);
    expect([...setup.agent.pipeline.intake.servers.keys()]).toEqual([]);
    expect(changed.needRestart).toContain("rates.tickMs");
    setup.agent.noteRefused(file);
    await setup.agent.exports.beat();
    expect(onRecord(setup.stateDir, "config").slice(-2)).toEqual([
      { changed: expect.arrayContaining(["rates.tickMs"]), config: file },
      { refused: true, config: file },
    ]);
  });

  test("refuses a port that is taken, with what to do", async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    closing.push(() => other.close());
    const { port } = other.address() as { port: number };
    const clock = systemClock();
    const { config } = loadConfig({
      env: {},
      file: false,
      settings: [`export.prometheus.listen=127.0.0.1:${port}`],
    });
    const failed = startAgent({ config, clock, log: silentLog, env: {}, gpu: twoGpus(clock), servers: [] });
    await expect(failed).rejects.toMatchObject({
      kind: "misconfigured",
      message: expect.stringContaining(String(port)),
      hint: expect.stringContaining("export.prometheus.listen"),
    });
  });
});
