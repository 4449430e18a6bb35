// The agent as users run it: a process of its own with a configuration file, its endpoints on a free port, its log kept.
// Everything lies in a fresh folder; a test ends what it started by its process.
import type { ChildProcess } from "node:child_process";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { NODE_FLAGS } from "../../../deploy/pack/runtime.ts";

const main = fileURLToPath(new URL("../../../agent/main.ts", import.meta.url));
/** As the shipped unit starts it. */
const FLAGS = NODE_FLAGS;

/** Waits for real time to pass: what is watched are processes. */
export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until something holds; throws what it waited for after `seconds`. */
export async function until(what: string, holds: () => unknown, seconds = 60): Promise<void> {
  for (let waited = 0; waited < seconds * 20; waited++) {
    if (await holds()) return;
    await pause(50);
  }
  throw new Error(`waited ${seconds} s for: ${what}`);
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

/** An answer of the endpoints; status 0 with the error's code where there is none. */
export interface Answer {
  readonly status: number;
  readonly body: string;
  readonly ms: number;
}

/** A place to run one agent after another: configuration, state, endpoints. */
export class AgentHome {
  readonly folder = mkdtempSync(join(tmpdir(), "tokenwatt-faults-"));
  readonly configFile = join(this.folder, "config.yaml");
  readonly port: number;
  log = "";

  private constructor(port: number) {
    this.port = port;
  }

  /** A home with a free port; keys of `config` are laid over ones for a host without GPU and beats of a second. */
  static async make(config: Readonly<Record<string, unknown>>): Promise<AgentHome> {
    const home = new AgentHome(await freePort());
    home.configure(config);
    return home;
  }

  get stateDir(): string {
    return join(this.folder, "state");
  }

  configure(config: Readonly<Record<string, unknown>>): void {
    const { export: exports, ...rest } = config;
    const whole = {
      stateDir: this.stateDir,
      discovery: { enabled: false, kubernetes: "off" },
      rates: { exportMs: 1000 },
      ...rest,
      export: { prometheus: { listen: `127.0.0.1:${this.port}` }, ...(exports as object | undefined) },
    };
    writeFileSync(this.configFile, JSON.stringify(whole));
  }

  /** Starts an agent; it may not be ready yet. */
  start(environment: Readonly<Record<string, string>> = {}): ChildProcess {
    const child = spawn(process.execPath, [...FLAGS, main, "run", "--config", this.configFile], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...environment },
    });
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on("data", (text: Buffer) => {
        this.log = (this.log + text).slice(-4_000_000);
      });
    }
    return child;
  }

  /** Starts an agent and waits until it is ready. */
  async startReady(environment: Readonly<Record<string, string>> = {}): Promise<ChildProcess> {
    const child = this.start(environment);
    await until("the agent to be ready", async () => {
      if (child.exitCode !== null) throw new Error(`the agent ended with ${child.exitCode}:\n${this.log}`);
      return (await this.page("/-/ready")).status === 200;
    });
    return child;
  }

  page(path: string, timeout = 5000): Promise<Answer> {
    const started = Date.now();
    const answer = (status: number, body: string): Answer => ({ status, body, ms: Date.now() - started });
    return new Promise((resolve) => {
      const request = get({ host: "127.0.0.1", port: this.port, path, timeout, agent: false }, (response) => {
        let body = "";
        response.setEncoding("utf8").on("data", (text: string) => {
          body += text;
        });
        response.on("end", () => resolve(answer(response.statusCode ?? 0, body)));
        response.on("error", (error) => resolve(answer(0, error.message)));
      });
      request.on("timeout", () => request.destroy(new Error("timeout")));
      request.on("error", (error: NodeJS.ErrnoException) => resolve(answer(0, error.code ?? error.message)));
    });
  }

  /** A command of the program on this home's configuration. */
  command(...args: readonly string[]): { readonly code: number | null; readonly text: string } {
    const done = spawnSync(process.execPath, [main, ...args, "--config", this.configFile], {
      encoding: "utf8",
    });
    return { code: done.status, text: done.stdout + done.stderr };
  }
}

/** Ends a process and waits for it; returns its exit code. */
export async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) {
    const ended = once(child, "exit");
    child.kill(signal);
    await ended;
  }
  return child.exitCode;
}

/** A field of /proc/PID/status in MB, such as `VmRSS` or `RssAnon`. */
export function memoryMb(child: ChildProcess, field: string): number {
  const text = readFileSync(`/proc/${child.pid}/status`, "utf8");
  return Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(text)?.[1] ?? Number.NaN) / 1024;
}

const rows: string[][] = [];

/** A row of the table that is printed at the end: what is promised, and what was seen. */
export function saw(promise: string, seen: string): void {
  rows.push([promise, seen]);
}

/** Prints the rows so far. */
export function printSeen(): void {
  const width = Math.max(0, ...rows.map(([promise = ""]) => promise.length));
  for (const [promise = "", seen = ""] of rows.splice(0)) console.log(`| ${promise.padEnd(width)} | ${seen}`);
}
