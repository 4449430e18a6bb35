// A small fleet on one machine: the demo as agent, node Collector, gateway and Prometheus, each with its shipped file.
import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { deployFolder } from "./deploy-tools.ts";

/** The agent from source. */
export const main = fileURLToPath(new URL("../../agent/main.ts", import.meta.url));
/** Prices of everything the demo has. */
export const PRICES = `version: e2e
currency: USD
gpus: [{gpu: H100 80GB, pricePerGpuHour: 3, energyIncluded: false}]
energy: [{pricePerKilowattHour: 0.12, powerUsageEffectiveness: 1.3}]
tokens:
  - {model: decoder-8b, kind: input, pricePerMillionTokens: 0.1}
  - {model: decoder-8b, kind: output, pricePerMillionTokens: 0.4}
capacity: [{gpu: H100 80GB, model: decoder-8b, tokensPerGpuHour: 40000000}]
`;

/** Without what would configure the agent. */
export const inherited = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !name.startsWith("TOKENWATT_")),
);

export interface Fleet {
  query(expr: string): Promise<readonly Series[]>;
  range(expr: string, seconds: number): Promise<readonly Series[]>;
  rules(): Promise<
    readonly { readonly name: string; readonly health: string; readonly lastError?: string }[]
  >;
  /** What the agent itself says on /metrics. */
  page(): Promise<string>;
  stop(): Promise<void>;
}

interface Series {
  readonly metric: Readonly<Record<string, string>>;
  readonly value?: readonly [number, string];
  readonly values?: readonly (readonly [number, string])[];
}

/** Starts everything; the demo meters its recorded H100 until `stop`. */
export async function startFleet(tools: { prometheus: string; otelcol: string }): Promise<Fleet> {
  const folder = mkdtempSync(join(tmpdir(), "fleet-"));
  const children: ChildProcess[] = [];
  const [web, gateway, node, page, ...health] = await Promise.all(Array.from({ length: 6 }, freePort));
  const start = async (
    path: string,
    args: string[],
    env: Record<string, string>,
    line?: RegExp,
  ): Promise<void> => {
    const child = spawn(path, args, { env: { ...inherited, ...env }, stdio: ["ignore", "ignore", "pipe"] });
    children.push(child);
    if (line !== undefined) await ready(child, line);
    else child.stderr?.resume();
  };
  for (const file of ["recording-rules.yaml", "alerts.yaml"]) {
    copyFileSync(join(deployFolder, "prometheus", file), join(folder, file));
  }
  copyFileSync(join(deployFolder, "collector/prometheus.yaml"), join(folder, "prometheus.yaml"));
  writeFileSync(join(folder, "prices.yaml"), PRICES);
  const flags = [
    `--config.file=${folder}/prometheus.yaml`,
    `--storage.tsdb.path=${folder}/data`,
    `--web.listen-address=127.0.0.1:${web}`,
    "--web.enable-otlp-receiver",
  ];
  await start(tools.prometheus, flags, {}, /Server is ready to receive web requests/);
  const collector = (
    file: string,
    storage: string,
    listen: number | undefined,
    healthPort: number | undefined,
    env: Record<string, string>,
  ) =>
    start(
      tools.otelcol,
      ["--config", join(deployFolder, "collector", file)],
      {
        OTLP_LISTEN: `127.0.0.1:${listen}`,
        HEALTH_LISTEN: `127.0.0.1:${healthPort}`,
        STORAGE: join(folder, storage),
        TELEMETRY: "none",
        ...env,
      },
      /Everything is ready/,
    );
  await collector("gateway-prometheus.yaml", "gateway", gateway, health[0], {
    BACKEND: `http://127.0.0.1:${web}/api/v1/otlp`,
  });
  await collector("node.yaml", "node", node, health[1], {
    GATEWAY: `127.0.0.1:${gateway}`,
    GATEWAY_INSECURE: "true",
  });
  await start(process.execPath, [main, "demo", "--scene", "solo", "--json"], {
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${node}`,
    TOKENWATT_EXPORT_PROMETHEUS_LISTEN: `127.0.0.1:${page}`,
    TOKENWATT_PRICES: join(folder, "prices.yaml"),
    OTEL_RESOURCE_ATTRIBUTES: "host.name=gpu-1",
  });
  const api = async (path: string): Promise<Record<string, unknown>> => {
    const answer = (await (await fetch(`http://127.0.0.1:${web}/api/v1/${path}`)).json()) as {
      data?: Record<string, unknown>;
      error?: string;
    };
    if (answer.data === undefined) throw new Error(`${decodeURIComponent(path)}: ${answer.error}`);
    return answer.data;
  };
  return {
    query: async (expr) => (await api(`query?query=${encodeURIComponent(expr)}`))["result"] as Series[],
    range: async (expr, seconds) => {
      const end = Date.now() / 1000;
      const answer = await api(
        `query_range?query=${encodeURIComponent(expr)}&start=${end - seconds}&end=${end}&step=5`,
      );
      return answer["result"] as Series[];
    },
    rules: async () => {
      const { groups } = (await api("rules")) as { groups: { rules: { name: string; health: string }[] }[] };
      return groups.flatMap((group) => group.rules);
    },
    page: async () => (await fetch(`http://127.0.0.1:${page}/metrics`)).text(),
    stop: async () => {
      for (const child of children.toReversed()) await ended(child);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A port that was free a moment ago. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

/** Resolves when a line of stderr matches; fails when it ends or says nothing for 60 s. */
export function ready(child: ChildProcess, line: RegExp): Promise<void> {
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

/** Ends it with SIGTERM and waits. */
export async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  await exit;
}
