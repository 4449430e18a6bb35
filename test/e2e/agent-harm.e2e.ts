// The whole agent with beats of 2 s under everything at once: kill -9 at random instants, starts included, a reader child
// that is killed, a process that is stopped for a while, a driver that hangs while the agent starts, a Collector that is
// away or loses answers. What was acknowledged is compared with the ledger and with what arrived: lost 0, doubled 0, and
// every second of each GPU is in one state. 14 kills here, more with E2E_AGENT_KILLS; E2E_SEED repeats a run.
import type { ChildProcess } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { fromBinary } from "@bufbuild/protobuf";
import { afterEach, expect, test } from "vitest";
import { openChannel } from "../../agent/platform/grpc.ts";
import { field, message } from "../fakes/grpc-peer.ts";
import { buildFakeNvml, fakeNvml } from "../fakes/nvml/build.ts";
import type { FakeCollector } from "../fakes/otlp-collector.ts";
import { startCollector } from "../fakes/otlp-collector.ts";
import { ExportMetricsServiceRequestSchema } from "../gen/opentelemetry/proto/collector/metrics/v1/metrics_service_pb.ts";
import { AgentHome, end, freePort, pause, until } from "./faults/whole-agent.ts";

const KILLS = Number(process.env["E2E_AGENT_KILLS"] ?? 14);
const SEED = Number(process.env["E2E_SEED"] ?? Date.now() & 0xffff);
const TOKENS = 1000;
const library = buildFakeNvml();

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** Numbers of [0, 1) that follow from the seed (mulberry32). */
function dice(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A gateway: every record has an id and is sent again until the agent says that it is recorded. */
class Gateway {
  acknowledged = 0;
  #isOpen = true;
  #number = 0;
  readonly #done: Promise<unknown>;

  constructor(port: number) {
    const channel = openChannel({ target: `127.0.0.1:${port}` }, { "grpc.max_reconnect_backoff_ms": 200 });
    closing.push(() => channel.close());
    const send = (id: string): Promise<boolean> =>
      new Promise((resolve) => {
        const same = (bytes: Buffer): Buffer => bytes;
        const tokens = field(7, message(field(1, 4), field(3, TOKENS)));
        const record = message(field(1, id), field(2, Date.now() * 1e6), field(3, "m"), field(6, 1), tokens);
        const bytes = message(field(1, "gateway"), field(2, record));
        const path = "/tokenwatt.v1.UsageReports/ReportUsage";
        channel.makeUnaryRequest(path, same, same, bytes, { deadline: Date.now() + 3000 }, (error, answer) =>
          // accepted = 1 (tag 8) or duplicates = 1 (tag 16).
          resolve(error === null && (answer?.[0] === 8 || answer?.[0] === 16)),
        );
      });
    const sender = async (): Promise<void> => {
      while (this.#isOpen) {
        const id = `r${this.#number++}`;
        while (!(await send(id))) await pause(100);
        this.acknowledged += TOKENS;
        await pause(20);
      }
    };
    this.#done = Promise.all(Array.from({ length: 4 }, sender));
  }

  /** Begins no more records and waits for those on the way. */
  async close(): Promise<void> {
    this.#isOpen = false;
    await this.#done;
  }
}

/** The reader child of an agent, if it has one now. */
function readerOf(agent: ChildProcess): number | undefined {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const parent = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ")[1];
      if (parent !== String(agent.pid)) continue;
      if (readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("nvml/child")) return Number(pid);
    } catch {
      // It ended meanwhile.
    }
  }
  return undefined;
}

function signal(pid: number | undefined, name: NodeJS.Signals): boolean {
  try {
    return pid !== undefined && process.kill(pid, name);
  } catch {
    return false;
  }
}

/** The last value of each series of a metric that arrived, summed. */
function arrived(requests: readonly Uint8Array[], name: string): number {
  const last = new Map<string, { readonly time: bigint; readonly value: number }>();
  for (const body of requests) {
    for (const resource of fromBinary(ExportMetricsServiceRequestSchema, body).resourceMetrics) {
      for (const metric of resource.scopeMetrics.flatMap((scope) => scope.metrics)) {
        if (metric.name !== name || metric.data.case !== "sum") continue;
        for (const point of metric.data.value.dataPoints) {
          const key = point.attributes.map((one) => `${one.key}=${one.value?.value.value}`).join();
          if ((point.flags & 1) !== 0 || point.timeUnixNano < (last.get(key)?.time ?? 0n)) continue;
          last.set(key, { time: point.timeUnixNano, value: Number(point.value.value ?? 0) });
        }
      }
    }
  }
  return [...last.values()].reduce((sum, { value }) => sum + value, 0);
}

/** What a ledger holds, and how long it has been kept: since the first start, to the end of the last commit. */
function ledgerSums(stateDir: string): {
  readonly tokens: number;
  readonly gpuSeconds: readonly number[];
  readonly keptSeconds: number;
} {
  const database = new DatabaseSync(`${stateDir}/ledger.db`, { readOnly: true });
  try {
    const sum = database.prepare(
      "SELECT sum(total) AS sum FROM series WHERE metric = ? AND role IS NOT 'kept' GROUP BY json_extract(dimensions, ?)",
    );
    const of = (metric: string, by: string): number[] => sum.all(metric, by).map((row) => Number(row["sum"]));
    const first = database
      .prepare("SELECT at FROM audit WHERE kind = 'start' ORDER BY sequence LIMIT 1")
      .get();
    const last = database.prepare("SELECT value FROM meta WHERE key = 'time'").get();
    return {
      keptSeconds: Number(BigInt(String(last?.["value"])) - BigInt(String(first?.["at"]))) / 1e9,
      tokens: of("tokenwatt.gateway.tokens", "$.none").reduce((all, one) => all + one, 0),
      gpuSeconds: of("tokenwatt.gpu.time", '$."hw.id"').map((nanos) => nanos / 1e9),
    };
  } finally {
    database.close();
  }
}

test.skipIf(library === undefined)(
  `${KILLS} x kill -9 amid hung drivers, dead readers, stops and a flapping Collector: nothing lost, nothing doubled`,
  { timeout: 120_000 + KILLS * 20_000 },
  async () => {
    console.log(`seed ${SEED}`);
    const random = dice(SEED);
    const nvml = fakeNvml(library as string, "gpus 2");
    const [usage, collectorPort] = [await freePort(), await freePort()];
    const home = await AgentHome.make({
      gpu: { backend: "nvml", nvml: { libraryPath: nvml.path } },
      servers: { "usage-reports": [{ id: "u", endpoint: `127.0.0.1:${usage}` }] },
      export: { otlp: { endpoint: `http://127.0.0.1:${collectorPort}` }, prometheus: { listen: "" } },
      rates: { exportMs: 2000 },
    });
    const requests: Uint8Array[] = [];
    const collect = async (): Promise<FakeCollector> => {
      const answer = () => (random() < 0.2 ? ({ kind: "taken_then_lost" } as const) : undefined);
      return startCollector({ listen: `127.0.0.1:${collectorPort}`, answer });
    };
    let collector: FakeCollector | undefined = await collect();
    const setCollector = async (up: boolean): Promise<void> => {
      if (up) collector ??= await collect();
      else if (collector !== undefined) {
        requests.push(...collector.requests);
        await collector.close();
        collector = undefined;
      }
    };
    closing.push(() => collector?.close());
    let agent = home.start();
    closing.push(() => end(agent, "SIGKILL"));
    // From the first GPU on everything is known to the ledger.
    await until("GPUs to be in the ledger", () => /"metering started"/.test(home.log));
    await pause(5000);
    const gateway = new Gateway(usage);
    const counts = { starts: 0, hung: 0, readers: 0, stops: 0 };
    for (let kill = 0; kill < KILLS; kill++) {
      await setCollector(random() < 0.6);
      // A start takes about a second: half of the kills are in it.
      const runMs = random() < 0.5 ? 100 + 1200 * random() : 2000 + 4000 * random();
      if (runMs < 1300) counts.starts++;
      await pause(runMs / 2);
      if (runMs >= 1300 && random() < 0.5 && signal(readerOf(agent), "SIGKILL")) counts.readers++;
      if (runMs >= 1300 && random() < 0.3 && signal(agent.pid, "SIGSTOP")) {
        counts.stops++;
        await pause(2500);
        signal(agent.pid, "SIGCONT");
      }
      await pause(runMs / 2);
      await end(agent, "SIGKILL");
      await pause(1000 * random());
      const hangs = random() < 0.4;
      if (hangs) counts.hung++;
      nvml.scenario("gpus 2", ...(hangs ? ["hang nvmlInit_v2 -1"] : []));
      agent = home.start();
    }
    await end(agent, "SIGKILL");
    nvml.scenario("gpus 2");
    await setCollector(true);
    agent = home.start();
    await gateway.close();
    await pause(6000);
    await end(agent, "SIGTERM");
    requests.push(...(collector?.requests ?? []));
    const { gpuSeconds, keptSeconds, tokens } = ledgerSums(home.stateDir);
    const sent = gateway.acknowledged;
    const verdict = home.command("verify").text.split("\n")[0];
    console.log(
      `${KILLS} kills (${JSON.stringify(counts)}): ${sent} tokens acknowledged, ledger ${tokens - sent}, collector ` +
        `${arrived(requests, "tokenwatt.gateway.tokens") - sent} off; GPU seconds ${gpuSeconds.join(", ")} of ${keptSeconds}; ${verdict}`,
    );
    expect(sent).toBeGreaterThan(0);
    expect(tokens).toBe(sent);
    expect(arrived(requests, "tokenwatt.gateway.tokens")).toBe(sent);
    expect(gpuSeconds).toHaveLength(2);
    // To the microsecond: each second in one state, whatever happened in it.
    for (const seconds of gpuSeconds) expect(seconds).toBeCloseTo(keptSeconds, 6);
    expect(verdict).toMatch(/^sound/);
  },
);
