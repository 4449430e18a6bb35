// The real Envoy before a small upstream: its gRPC access log and its OpenTelemetry log into our receivers, in the clear
// and by mTLS, over failures and restarts of either side.
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { TokenReading } from "../../../agent/model.ts";
import { envoyAccessLog, openEnvoyAccessLog } from "../../../agent/servers/envoy-access-log/index.ts";
import { openOtlp, otlp } from "../../../agent/servers/otlp/index.ts";
import { context, scratchFolder, until } from "../peers.ts";
import type { Receiver } from "./rig.ts";
import {
  ask,
  authority,
  collector,
  program,
  receive,
  startCollector,
  startEnvoy,
  stat,
  times,
} from "./rig.ts";

function receiveAccessLog(more: object = {}, port = 0): Promise<Receiver> {
  const entry = envoyAccessLog.config.parse({ endpoint: "127.0.0.1:1", tenantHeader: "x-tenant", ...more });
  const open = { ...(entry as Parameters<typeof openEnvoyAccessLog>[0]), endpoint: `127.0.0.1:${port}` };
  return receive(openEnvoyAccessLog(open, context));
}

const als = (port: number) => ({ logs: { kind: "als", port } }) as const;
const byTenant = (readings: readonly TokenReading[], tenant: string): TokenReading | undefined =>
  readings.find((reading) => reading.tenant === tenant);

describe.runIf(program !== undefined)("Envoy's access log", () => {
  test("gives tokens, tenant, model, route and outcome of every request, once", async () => {
    const receiver = await receiveAccessLog();
    const gateway = await startEnvoy(als(receiver.port));
    expect(await ask(gateway, "a")).toBe(200);
    expect(await ask(gateway, "a")).toBe(200);
    expect(await ask(gateway, "b")).toBe(200);
    expect(await ask(gateway, "b", "500")).toBe(500);
    expect(await ask(gateway, "b", "429")).toBe(429);
    expect(await ask(gateway, "b", "hang")).toBe(200);
    expect(await ask(gateway, "b", "break")).toBe(200);
    expect(await ask(gateway, "c", "slow")).toBe(200);
    await until(() => receiver.requests() === 8);
    expect(byTenant(receiver.readings(), "a")).toMatchObject({
      model: "m",
      endpoint: "chat",
      tokens: times(2),
      reasoningTokens: 10,
      requests: { ok: 2 },
      latencies: { "request_duration ok": { count: 2 } },
    });
    expect(byTenant(receiver.readings(), "b")).toMatchObject({
      tokens: times(1),
      requests: { ok: 1, error: 2, rejected: 1, aborted: 1 },
      latencies: {
        "request_duration ok": { count: 1 },
        "request_duration error": { count: 2 },
        "request_duration rejected": { count: 1 },
        "request_duration aborted": { count: 1 },
      },
    });
    expect(byTenant(receiver.readings(), "c")).toMatchObject({ tokens: {}, requests: { ok: 1 } });
  });

  test("counts only what the named upstreams answered, where asked to", async () => {
    const [here, elsewhere] = [await receiveAccessLog({ upstreams: ["127.0.0.1"] }), "192.0.2.1"];
    const gateway = await startEnvoy(als(here.port));
    await ask(gateway, "a");
    await until(() => here.requests() === 1);
    const { upstreamPort } = gateway.config;
    await gateway.stop();
    await here.close();
    const other = await receiveAccessLog({ upstreams: [`127.0.0.1:${upstreamPort + 1}`, elsewhere] });
    const both = await startEnvoy({ ...als(other.port), upstreamPort });
    await ask(both, "a");
    await ask(both, "a");
    await both.stop();
    expect(other.requests()).toBe(0);
  });

  test("goes on over restarts of either side, and nothing it sent while both were up counts twice", async () => {
    const first = await receiveAccessLog();
    const gateway = await startEnvoy(als(first.port));
    for (let sent = 0; sent < 20; sent++) await ask(gateway, "a");
    await until(() => first.requests() === 20);
    await first.close();
    for (let sent = 0; sent < 5; sent++) await ask(gateway, "a");
    await until(async () => (await stat(gateway, "cluster.logs.upstream_cx_connect_fail")) > 0);
    const second = await receiveAccessLog({}, first.port);
    // Envoy loses what it flushes while nobody listens; what it still holds comes late, and nothing comes twice.
    await until(async () => {
      await ask(gateway, "probe");
      return byTenant(second.readings(), "probe") !== undefined;
    });
    for (let sent = 0; sent < 20; sent++) await ask(gateway, "b");
    await until(() => byTenant(second.readings(), "b")?.requests.ok === 20);
    const late = byTenant(second.readings(), "a")?.requests.ok ?? 0;
    console.log(`of 5 requests while nobody listened ${late} were logged`);
    expect(late).toBeLessThanOrEqual(5);
    await gateway.stop();
    const { upstreamPort } = gateway.config;
    const again = await startEnvoy({ ...als(second.port), upstreamPort });
    for (let sent = 0; sent < 20; sent++) await ask(again, "c");
    await until(() => byTenant(second.readings(), "c")?.requests.ok === 20);
    expect(byTenant(second.readings(), "b")).toMatchObject({ tokens: times(20), requests: { ok: 20 } });
    expect(byTenant(second.readings(), "c")).toMatchObject({ tokens: times(20), requests: { ok: 20 } });
  });

  test("arrives by mTLS, and not without a certificate the receiver trusts", async () => {
    const keys = scratchFolder("envoy");
    authority(keys, "ours");
    authority(keys, "others");
    const at = (name: string): string => join(keys, name);
    const tls = {
      certFile: at("ours-end.pem"),
      keyFile: at("ours-end.key"),
      clientCaFile: at("ours-ca.pem"),
    };
    const receiver = await receiveAccessLog({ tls });
    const as = (name: string) => ({
      tls: { cert: at(`${name}-end.pem`), key: at(`${name}-end.key`), authority: at("ours-ca.pem") },
    });
    const trusted = await startEnvoy({ ...als(receiver.port), ...as("ours") });
    const stranger = await startEnvoy({ ...als(receiver.port), ...as("others") });
    await ask(stranger, "stranger");
    await ask(trusted, "a");
    await until(() => receiver.requests() === 1);
    await until(async () => (await stat(stranger, "cluster.logs.upstream_cx_total")) > 0);
    expect(receiver.readings().map((reading) => reading.tenant)).toEqual(["a"]);
  });
});

function receiveLogs(port = 0): Promise<Receiver> {
  const entry = otlp.config.parse({ endpoint: "127.0.0.1:1", tenantAttribute: "tenant" });
  const open = { ...(entry as Parameters<typeof openOtlp>[0]), endpoint: `127.0.0.1:${port}` };
  return receive(openOtlp(open, context));
}

describe.runIf(program !== undefined)("Envoy's OpenTelemetry log", () => {
  test("goes on over a restart of the receiver, and nothing counts twice", async () => {
    const first = await receiveLogs();
    const gateway = await startEnvoy({ logs: { kind: "otlp", port: first.port } });
    for (let sent = 0; sent < 20; sent++) await ask(gateway, "a");
    await until(() => first.requests() === 20);
    await first.close();
    for (let sent = 0; sent < 5; sent++) await ask(gateway, "a");
    await until(async () => (await stat(gateway, "cluster.logs.upstream_cx_connect_fail")) > 0);
    const second = await receiveLogs(first.port);
    await until(async () => {
      await ask(gateway, "probe");
      return byTenant(second.readings(), "probe") !== undefined;
    });
    for (let sent = 0; sent < 20; sent++) await ask(gateway, "b");
    await until(() => byTenant(second.readings(), "b")?.requests.ok === 20);
    const late = byTenant(second.readings(), "a")?.requests.ok ?? 0;
    console.log(`of 5 requests while nobody listened ${late} were logged`);
    expect(late).toBeLessThanOrEqual(5);
    expect(byTenant(second.readings(), "b")).toMatchObject({ tokens: times(20), requests: { ok: 20 } });
  });

  test.runIf(collector !== undefined)(
    "through a Collector loses nothing while the agent is away",
    async () => {
      const first = await receiveLogs();
      const port = await startCollector(first.port);
      const gateway = await startEnvoy({ logs: { kind: "otlp", port } });
      for (let sent = 0; sent < 5; sent++) await ask(gateway, "a");
      await until(() => first.requests() === 5);
      await first.close();
      for (let sent = 0; sent < 5; sent++) await ask(gateway, "b");
      // Envoy has handed over what it held once its next call to the Collector has succeeded.
      const calls = await stat(gateway, "cluster.logs.upstream_rq_total");
      await until(async () => (await stat(gateway, "cluster.logs.upstream_rq_total")) > calls);
      const second = await receiveLogs(first.port);
      await until(() => byTenant(second.readings(), "b")?.requests.ok === 5);
      expect(second.readings()).toMatchObject([{ tenant: "b", tokens: times(5), requests: { ok: 5 } }]);
    },
  );

  test("gives usage and outcome of every request", async () => {
    const receiver = await receiveLogs();
    const gateway = await startEnvoy({ logs: { kind: "otlp", port: receiver.port } });
    await ask(gateway, "a");
    await ask(gateway, "a");
    await ask(gateway, "b");
    await ask(gateway, "b", "500");
    await ask(gateway, "b", "429");
    await ask(gateway, "");
    await until(() => receiver.requests() === 6);
    expect(byTenant(receiver.readings(), "a")).toMatchObject({
      model: "m",
      tokens: times(2),
      requests: { ok: 2 },
    });
    expect(byTenant(receiver.readings(), "b")).toMatchObject({
      model: "m",
      tokens: times(1),
      requests: { ok: 1, error: 1, rejected: 1 },
    });
    expect(receiver.readings().filter((reading) => reading.tenant === undefined)).toMatchObject([
      { model: "m", tokens: times(1), requests: { ok: 1 } },
    ]);
  });
});
