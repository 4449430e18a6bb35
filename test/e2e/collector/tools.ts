// The real OpenTelemetry Collector and Prometheus as child processes on free ports.
import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";

const cache = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
const folder = process.env["TOKENWATT_TOOLS"] ?? join(cache, "tokenwatt-tools");

/** Where a tool is; undefined, said loudly, when it was not built. */
export function findTool(name: "otelcol" | "prometheus"): string | undefined {
  const path = join(folder, name);
  if (existsSync(path)) return path;
  console.warn(`SKIPPED: ${name} is not in ${folder}; build it with: sh test/e2e/collector/install.sh`);
  return undefined;
}

export interface Tool {
  readonly port: number;
  stop(): Promise<void>;
}

/** A Collector that takes OTLP/gRPC and passes it on to Prometheus over OTLP/HTTP. */
export async function startOtelcol(path: string, prometheusPort: number, port?: number): Promise<Tool> {
  const chosen = port ?? (await freePort());
  const config = join(mkdtempSync(join(tmpdir(), "otelcol-")), "config.yaml");
  writeFileSync(
    config,
    `receivers:
  otlp:
    protocols:
      grpc:
        endpoint: 127.0.0.1:${chosen}
exporters:
  otlphttp:
    endpoint: http://127.0.0.1:${prometheusPort}/api/v1/otlp
    tls: {insecure: true}
    sending_queue: {enabled: false}
service:
  telemetry:
    metrics: {level: none}
  pipelines:
    metrics: {receivers: [otlp], exporters: [otlphttp]}
`,
  );
  const child = spawn(path, ["--config", config], { stdio: ["ignore", "ignore", "pipe"] });
  await ready(child, /Everything is ready/);
  return { port: chosen, stop: () => stop(child) };
}

/** A Prometheus with its OTLP endpoint on and a day of out-of-order samples allowed, as our shipped config has it. */
export async function startPrometheus(
  path: string,
): Promise<Tool & { query(text: string): Promise<Sample[]> }> {
  const port = await freePort();
  const home = mkdtempSync(join(tmpdir(), "prometheus-"));
  writeFileSync(join(home, "prometheus.yml"), "storage:\n  tsdb:\n    out_of_order_time_window: 25h\n");
  const flags = [
    `--config.file=${home}/prometheus.yml`,
    `--storage.tsdb.path=${home}/data`,
    `--web.listen-address=127.0.0.1:${port}`,
    "--web.enable-otlp-receiver",
    "--log.level=info",
  ];
  const child = spawn(path, flags, { stdio: ["ignore", "ignore", "pipe"] });
  await ready(child, /Server is ready to receive web requests/);
  return {
    port,
    stop: () => stop(child),
    query: async (text) => {
      const response = await fetch(`http://127.0.0.1:${port}/api/v1/query?query=${encodeURIComponent(text)}`);
      const { data, error } = (await response.json()) as { data?: { result: Sample[] }; error?: string };
      if (data === undefined) throw new Error(`${text}: ${error}`);
      return data.result;
    },
  };
}

export interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [time: number, value: string];
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

function ready(child: ChildProcess, line: RegExp): Promise<void> {
  return new Promise((resolve, reject) => {
    let seen = "";
    const timer = setTimeout(() => reject(new Error(`not ready in 60 s: ${seen}`)), 60_000);
    child.once("exit", (code) => reject(new Error(`ended with ${code}: ${seen}`)));
    child.stderr?.on("data", (chunk: Buffer) => {
      seen = (seen + chunk.toString()).slice(-5_000);
      if (!line.test(seen)) return;
      clearTimeout(timer);
      resolve();
    });
  });
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  await ended;
}
