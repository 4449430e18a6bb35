// What stands behind a fleet, with the shipped files: two gateways of one name, a node Collector before them, Prometheus with its
// rules. Gateways can be killed and come back at their address; what each process takes of the machine is read from /proc.
import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ended, freePort, inherited, ready } from "../deploy-fleet-rig.ts";
import { deployFolder } from "../deploy-tools.ts";

/** A program that can be killed and started again; its processor seconds are those of all its lives. */
export interface Program {
  readonly port: number;
  start(): Promise<void>;
  kill(): Promise<void>;
  cpuSeconds(): number;
  /** Most memory it ever had, MiB. */
  peakMebibytes(): number;
}

export interface FleetBackend {
  readonly folder: string;
  readonly gateways: readonly [Program, Program];
  readonly node: Program;
  readonly prometheus: Program;
  /** A query at an instant, in seconds. */
  query(expr: string, at?: number): Promise<readonly Result[]>;
  /** Series in Prometheus' head. */
  headSeries(): Promise<number>;
  stop(): Promise<void>;
}

interface Result {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [time: number, value: string];
}

/** Starts everything. */
export async function startBackend(tools: {
  readonly prometheus: string;
  readonly otelcol: string;
}): Promise<FleetBackend> {
  const folder = mkdtempSync(join(tmpdir(), "fleet-"));
  for (const file of ["recording-rules.yaml", "alerts.yaml"])
    copyFileSync(join(deployFolder, "prometheus", file), join(folder, file));
  copyFileSync(join(deployFolder, "collector/prometheus.yaml"), join(folder, "prometheus.yaml"));
  const ports = await Promise.all(Array.from({ length: 7 }, freePort));
  const [web = 0, first = 0, second = 0, nodePort = 0, ...health] = ports;
  const prometheus = program(web, /Server is ready to receive web requests/, tools.prometheus, [
    `--config.file=${folder}/prometheus.yaml`,
    `--storage.tsdb.path=${folder}/data`,
    `--web.listen-address=127.0.0.1:${web}`,
    "--web.enable-otlp-receiver",
  ]);
  const collector = (file: string, port: number, healthPort = 0, more: Record<string, string> = {}) =>
    program(port, /Everything is ready/, tools.otelcol, ["--config", join(deployFolder, "collector", file)], {
      OTLP_LISTEN: `127.0.0.1:${port}`,
      HEALTH_LISTEN: `127.0.0.1:${healthPort}`,
      TELEMETRY: "none",
      ...more,
    });
  const backend = { BACKEND: `http://127.0.0.1:${web}/api/v1/otlp` };
  const gateways = [
    collector("gateway-prometheus.yaml", first, health[0], backend),
    collector("gateway-prometheus.yaml", second, health[1], backend),
  ] as const;
  const node = collector("node.yaml", nodePort, health[2], {
    GATEWAY: `127.0.0.1:${first}`,
    GATEWAY_INSECURE: "true",
    STORAGE: join(folder, "node"),
  });
  const programs = [prometheus, ...gateways, node];
  for (const one of programs) await one.start();
  const api = async (path: string): Promise<Record<string, unknown>> => {
    const response = await fetch(`http://127.0.0.1:${web}/api/v1/${path}`);
    const answer = (await response.json()) as { data?: Record<string, unknown>; error?: string };
    if (answer.data === undefined) throw new Error(`${decodeURIComponent(path)}: ${answer.error}`);
    return answer.data;
  };
  return {
    ...{ folder, gateways, node, prometheus },
    query: async (expr, at) => {
      const time = at === undefined ? "" : `&time=${at}`;
      return (await api(`query?query=${encodeURIComponent(expr)}${time}`))["result"] as Result[];
    },
    headSeries: async () =>
      ((await api("status/tsdb"))["headStats"] as { readonly numSeries: number }).numSeries,
    stop: async () => {
      for (const one of programs.toReversed()) await one.kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function program(
  port: number,
  line: RegExp,
  path: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Program {
  let child: ChildProcess | undefined;
  let [spent, peak] = [0, 0];
  const look = (): void => {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    peak = Math.max(peak, Number(/VmHWM:\s+(\d+)/.exec(proc(child, "status"))?.[1]) / 1024);
  };
  const seconds = (): number => {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return 0;
    const fields = proc(child, "stat").split(") ")[1]?.split(" ") ?? [];
    return (Number(fields[11]) + Number(fields[12])) / 100;
  };
  return {
    port,
    start: async () => {
      child = spawn(path, args, { env: { ...inherited, ...env }, stdio: ["ignore", "ignore", "pipe"] });
      await ready(child, line);
    },
    kill: async () => {
      if (child === undefined) return;
      look();
      spent += seconds();
      const gone = child;
      if (gone.exitCode === null && gone.signalCode === null) {
        gone.kill("SIGKILL");
        await ended(gone);
      }
      child = undefined;
    },
    cpuSeconds: () => spent + seconds(),
    peakMebibytes: () => {
      look();
      return peak;
    },
  };
}

function proc(child: ChildProcess, file: string): string {
  return readFileSync(`/proc/${child.pid}/${file}`, "utf8");
}
