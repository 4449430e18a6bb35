// The real OpenTelemetry Collector and Prometheus as child processes on free ports.
import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { toolsFolder } from "../tools-folder.ts";

/** Where a tool is; undefined, said loudly, when it was not built. */
export function findTool(name: "otelcol" | "prometheus"): string | undefined {
  const path = join(toolsFolder, name);
  if (existsSync(path)) return path;
  console.warn(`SKIPPED: ${name} is not in ${toolsFolder}; build it with: sh test/e2e/collector/install.sh`);
  return undefined;
}

/** A configuration as we ship it. */
function shipped(name: string): string {
  return fileURLToPath(new URL(`../../../deploy/collector/${name}`, import.meta.url));
}

export interface Tool {
  readonly port: number;
  stop(): Promise<void>;
}

/** The Collector under the configuration we ship, in front of a Prometheus. */
export async function startOtelcol(path: string, prometheusPort: number, port?: number): Promise<Tool> {
  const chosen = port ?? (await freePort());
  const env = {
    ...process.env,
    OTLP_LISTEN: `127.0.0.1:${chosen}`,
    PROMETHEUS_URL: `http://127.0.0.1:${prometheusPort}`,
  };
  const child = spawn(path, ["--config", shipped("direct.yaml")], {
    env,
    stdio: ["ignore", "ignore", "pipe"],
  });
  await ready(child, /Everything is ready/);
  return { port: chosen, stop: () => stop(child) };
}

/** Prometheus under the configuration we ship. */
export async function startPrometheus(
  path: string,
): Promise<Tool & { query(text: string): Promise<Sample[]> }> {
  const port = await freePort();
  const home = mkdtempSync(join(tmpdir(), "prometheus-"));
  const flags = [
    `--config.file=${shipped("prometheus.yaml")}`,
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
