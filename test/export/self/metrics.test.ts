// The agent's own metrics reach a collector over a real socket, in a process of their own: the SDK is global.
import { fork } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test, vi } from "vitest";
import { SCHEMA_URL } from "../../../agent/export/metrics/conventions.ts";
import { selfExporter } from "../../../agent/export/self/exporter.ts";
import { selfMetrics } from "../../../agent/export/self/names.ts";
import { startCollector } from "../../fakes/otlp-collector.ts";
import { clientFiles, pem, serverCredentials } from "../../fakes/tls-files.ts";
import { decode, decodeAll } from "../otlp-decode.ts";

describe("startSelfMetrics()", () => {
  test("reports cpu, memory, loop delay and every tally, once more at stop, and ends", async () => {
    const collector = await startCollector();
    const child = fork(fileURLToPath(new URL("metrics-child.ts", import.meta.url)), [
      `127.0.0.1:${collector.port}`,
    ]);
    const [code] = (await once(child, "exit")) as [number];
    expect(code).toBe(0);
    const points = decodeAll(collector.requests);
    expect(decode(collector.requests[0] as Uint8Array)).toMatchObject({
      scope: { name: "tokenwatt.agent", version: "1.2.3" },
      schemas: [SCHEMA_URL, SCHEMA_URL],
    });
    await collector.close();
    const last = new Map(
      points.map((point) => [
        `${point.metric} ${Object.values(point.attributes).join(" ")}`.trim(),
        point.value,
      ]),
    );
    expect(Object.fromEntries(last)).toMatchObject({
      "otel.sdk.exporter.metric_data_point.exported main otlp_grpc_metric_exporter otlp_grpc_metric_exporter/main": 12,
      "otel.sdk.exporter.metric_data_point.exported main otlp_grpc_metric_exporter otlp_grpc_metric_exporter/main partial": 3,
      "tokenwatt.agent.queued_records": 4,
      "tokenwatt.agent.lost_points evicted_bytes": 40,
      "tokenwatt.agent.unsent_age main": 3600,
      "tokenwatt.agent.dead_letters": 5,
      "tokenwatt.agent.gaps gpu": 2,
      "tokenwatt.agent.ledger_records": 7,
      "tokenwatt.agent.ledger_head": 0xfedcba9876543,
    });
    expect(last.get("process.memory.usage")).toBeGreaterThan(10e6);
    expect(last.get("process.cpu.time user")).toBeGreaterThan(0);
    expect(last.get("process.uptime")).toBeGreaterThan(0);
    expect(last.get("nodejs.eventloop.delay.max")).toBe(0.02);
    // Every row of the table has a point: what the page of metrics promises is sent.
    expect([...new Set(points.map(({ metric }) => metric))].sort()).toEqual(
      Object.values(selfMetrics)
        .map(({ name }) => name)
        .sort(),
    );
  });
});

describe("selfExporter()", () => {
  test("goes on with a new key that is as old as one that did not fit", async () => {
    const folder = mkdtempSync(join(tmpdir(), "self-"));
    const collector = await startCollector({ credentials: serverCredentials("trusted", "trusted") });
    const tls = { ...clientFiles("trusted", "trusted"), keyFile: join(folder, "key.pem") };
    const install = (name: string, seconds: number): void => {
      copyFileSync(pem(`${name}-client.key`), tls.keyFile);
      utimesSync(tls.keyFile, seconds, seconds);
    };
    const target = { target: `127.0.0.1:${collector.port}`, tls };
    const exporter = selfExporter({ name: "main", target, gzip: false, timeoutMs: 5_000, backlog: "strict" });
    const metrics = { resource: { attributes: {} }, scopeMetrics: [] } as unknown as Parameters<
      typeof exporter.export
    >[0];
    const codes: number[] = [];
    for (const [name, seconds] of [
      ["trusted", 1000],
      ["stranger", 2000],
      ["trusted", 2000],
    ] as const) {
      install(name, seconds);
      codes.push(
        await new Promise<number>((resolve) => exporter.export(metrics, ({ code }) => resolve(code))),
      );
    }
    expect(codes).toEqual([0, 1, 0]);
    await exporter.shutdown();
    await collector.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test.each(["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost"])(
    "asks no proxy for a collector on %s, and the proxy for one elsewhere",
    async (host) => {
      const asked: string[] = [];
      const proxy = createServer((socket) => {
        socket.once("data", (bytes) => {
          asked.push(String(bytes).split("\r\n", 1)[0] ?? "");
          socket.destroy();
        });
        socket.on("error", () => {});
      }).listen(0, "127.0.0.1");
      await once(proxy, "listening");
      vi.stubEnv("http_proxy", `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`);
      const collector = await startCollector({ listen: host === "[::1]" ? "[::1]:0" : "127.0.0.1:0" });
      const send = async (target: string): Promise<number> => {
        const exporter = selfExporter({
          name: "main",
          target: { target },
          gzip: false,
          timeoutMs: 2000,
          backlog: "strict",
        });
        const metrics = { resource: { attributes: {} }, scopeMetrics: [] };
        const code = await new Promise<number>((resolve) =>
          exporter.export(metrics as unknown as Parameters<typeof exporter.export>[0], (result) =>
            resolve(result.code),
          ),
        );
        await exporter.shutdown();
        return code;
      };
      expect(await send(`${host}:${collector.port}`)).toBe(0);
      expect(asked).toEqual([]);
      const far = send("collector.invalid:4317");
      await expect.poll(() => asked).toContain("CONNECT collector.invalid:4317 HTTP/1.1");
      vi.unstubAllEnvs();
      proxy.close();
      await far;
      await collector.close();
    },
  );

  test("takes up a rotated token, and fails only the exports it cannot read it for", async () => {
    const folder = mkdtempSync(join(tmpdir(), "self-"));
    const collector = await startCollector();
    const bearerFile = join(folder, "token");
    const target = { target: `127.0.0.1:${collector.port}`, bearerFile };
    const exporter = selfExporter({ name: "main", target, gzip: false, timeoutMs: 5_000, backlog: "strict" });
    const metrics = { resource: { attributes: {} }, scopeMetrics: [] } as unknown as Parameters<
      typeof exporter.export
    >[0];
    const send = (): Promise<number> =>
      new Promise((resolve) => exporter.export(metrics, ({ code }) => resolve(code)));
    const codes = [await send()];
    for (const token of ["one", "one", "two"]) {
      writeFileSync(bearerFile, token);
      codes.push(await send());
    }
    expect(codes).toEqual([1, 0, 0, 0]);
    expect(collector.metadata.map((one) => one.get("authorization")[0])).toEqual([
      "Bearer one",
      "Bearer one",
      "Bearer two",
    ]);
    await exporter.shutdown();
    await collector.close();
    rmSync(folder, { recursive: true, force: true });
  });
});
