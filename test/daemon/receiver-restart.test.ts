// A caller that sends again what it already sent, to an agent that was stopped or killed in between.
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { afterEach, describe, expect, test } from "vitest";
import { loadConfig } from "../../agent/config/load.ts";
import type { Agent } from "../../agent/daemon/agent.ts";
import { startAgent } from "../../agent/daemon/agent.ts";
import { systemClock } from "../../agent/platform/clock.ts";
import { openChannel } from "../../agent/platform/grpc.ts";
import { silentLog } from "../../agent/platform/log.ts";
import type { GpuSource } from "../../agent/source.ts";
import { ledgerPath } from "../../agent/store/state-folder.ts";
import { ReportUsageRequestSchema, ReportUsageResponseSchema } from "../gen/tokenwatt/v1/usage_pb.ts";
import { metricsRequest } from "../servers/otlp-messages.ts";

/** Agent time runs this much faster than wall time; a later life begins where an earlier one cannot have got to. */
const SPEED = 20;
const LATER_MS = 300_000;
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), "tokenwatt-restart-"));
  closing.push(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

const noGpus: GpuSource = {
  backend: "test",
  generation: 0,
  inventory: async () => [],
  poll: async () => ({ sent: 0, received: 0, samples: [], gaps: [] }),
  close: async () => {},
  status: () => ({}),
};

/** One life of an agent with both receivers on sockets. */
async function live(
  stateDir: string,
  laterMs = 0,
): Promise<{ agent: Agent; socket: (name: string) => string }> {
  const sockets = mkdtempSync(join(tmpdir(), "tokenwatt-sockets-"));
  const sources = { monotonic: process.hrtime.bigint, wall: () => Date.now() + laterMs };
  const clock = systemClock({ speed: SPEED, sources });
  const socket = (name: string): string => `unix:${join(sockets, name)}`;
  const entry = (name: string): string =>
    `servers.${name}=${JSON.stringify([{ id: name, endpoint: socket(name) }])}`;
  const { config } = loadConfig({
    env: {},
    file: false,
    settings: [
      `stateDir=${stateDir}`,
      "export.prometheus.listen=127.0.0.1:0",
      "rates.exportMs=60000",
      entry("usage-reports"),
      entry("otlp"),
    ],
  });
  const agent = await startAgent({ config, clock, log: silentLog, env: {}, gpu: noGpus });
  closing.push(() => agent.stop({ flushMs: 1000 }));
  closing.push(() => rmSync(sockets, { recursive: true, force: true }));
  return { agent, socket };
}

/** Calls once the receiver listens. */
async function call(target: string, method: string, request: Uint8Array): Promise<Buffer> {
  const channel = openChannel({ target }, { "grpc.use_local_subchannel_pool": 1 });
  const bytes = (buffer: Buffer): Buffer => buffer;
  const once = () =>
    new Promise<Buffer>((resolve, reject) => {
      channel.makeUnaryRequest(method, bytes, bytes, Buffer.from(request), (error, value) =>
        error === null ? resolve(value as Buffer) : reject(error),
      );
    });
  try {
    await new Promise<void>((resolve, reject) =>
      channel.waitForReady(Date.now() + 5000, (error) => (error === undefined ? resolve() : reject(error))),
    );
    return await once();
  } finally {
    channel.close();
  }
}

async function report(target: string, ids: readonly string[], endTime: bigint) {
  const records = ids.map((id) => ({
    id,
    endTimeUnixNanos: endTime,
    model: "m",
    tenant: "t",
    outcome: 1,
    tokens: [{ kind: 4, tokens: 8n, outcome: 0, $typeName: "tokenwatt.v1.TokenCount" as const }],
  }));
  const request = create(ReportUsageRequestSchema, { source: "gateway", records: records as never });
  const answer = await call(
    target,
    "/tokenwatt.v1.UsageReports/ReportUsage",
    toBinary(ReportUsageRequestSchema, request),
  );
  return fromBinary(ReportUsageResponseSchema, answer);
}

function push(target: string, total: number, start: number, time: number): Promise<Buffer> {
  const name = "gen_ai.client.inference.usage.output_tokens";
  const request = metricsRequest([{ name, points: [{ sum: total, start, time, attributes: {} }] }]);
  return call(target, "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", request);
}

/** The kinds of everything on a ledger's record. */
function recordKinds(stateDir: string): string[] {
  const database = new DatabaseSync(ledgerPath(stateDir), { readOnly: true });
  const kinds = database.prepare("SELECT DISTINCT kind FROM audit").all();
  database.close();
  return kinds.map((row) => String(row["kind"]));
}

/** The listeners whose callers are on record. */
function callers(stateDir: string): string[] {
  const database = new DatabaseSync(ledgerPath(stateDir), { readOnly: true });
  const rows = database.prepare("SELECT body FROM audit WHERE kind = 'access'").all();
  database.close();
  return [...new Set(rows.map((row) => String(JSON.parse(String(row["body"])).listener)))].sort();
}

/** Output tokens of a model on the committed page. */
async function outputTokens(agent: Agent, model: string): Promise<number> {
  await agent.exports.recorded();
  const page = await (await fetch(`http://${agent.exports.address}/metrics`)).text();
  return page
    .split("\n")
    .filter(
      (line) =>
        /^tokenwatt_gateway_tokens_total\{/.test(line) && line.includes(`gen_ai_request_model="${model}"`),
    )
    .filter((line) => line.includes('"output"'))
    .reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
}

async function eventually(read: () => Promise<number>, wanted: number): Promise<void> {
  let seen = await read();
  for (let round = 0; round < 40 && seen < wanted; round++) seen = await read();
  expect(seen).toBe(wanted);
}

describe("an agent that is started again", () => {
  for (const end of ["stopped", "killed"] as const) {
    test(`counts what is sent again once, after it was ${end}`, async () => {
      const state = folder();
      const first = await live(state);
      const clock = systemClock();
      const began = clock.unixNanos(clock.now());
      const start = Number(began) + 50e9;
      expect(await report(first.socket("usage-reports"), ["a", "b"], began)).toMatchObject({ accepted: 2n });
      await push(first.socket("otlp"), 100, start, start + 1e9);
      // Killed: everything that was answered is on disk, whatever a stop would still have written.
      const atTheKill = folder();
      cpSync(state, atTheKill, { recursive: true });
      await first.agent.stop({ flushMs: 1000 });
      // Written over in place: a ledger in another file would be taken for a copy, and its series begin anew.
      if (end === "killed") cpSync(atTheKill, state, { recursive: true });
      const second = await live(state, LATER_MS);
      expect(await report(second.socket("usage-reports"), ["a", "b", "c"], began)).toMatchObject({
        accepted: 1n,
        duplicates: 2n,
      });
      await push(second.socket("otlp"), 100, start, start + 1e9);
      await push(second.socket("otlp"), 130, start, start + 2e9);
      await eventually(() => outputTokens(second.agent, "m"), 24);
      await eventually(() => outputTokens(second.agent, "unknown"), 130);
      // Nothing was lost, and nothing says so: neither the record nor the metrics behind the alerts.
      const page = await (await fetch(`http://${second.agent.exports.address}/metrics`)).text();
      expect(page).not.toMatch(/^tokenwatt_counter_resets_total\{.*[^0]$/m);
      expect(recordKinds(state)).not.toContain("unmetered");
      expect(recordKinds(state)).not.toContain("reset");
      await second.agent.stop({ flushMs: 1000 });
      expect(callers(state)).toEqual(["http", "server:otlp", "server:usage-reports"]);
    });
  }
});
