// The packed program for tests and benchmarks: made anew by deploy/pack, started as its launcher starts it.
import type { ChildProcess } from "node:child_process";
import { execFileSync, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { createServer, get as httpGet } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { Kind } from "../../deploy/pack/options.ts";
import { missingTools } from "../../deploy/pack/tools.ts";

const project = fileURLToPath(new URL("../..", import.meta.url));

/** Packs the project into a folder for this machine and returns the program's folder. */
export function packFolder(
  out: string,
  kind: Kind = "folder",
  environment: Readonly<Record<string, string>> = {},
  root = project,
): string {
  pack(out, { kinds: [kind], architectures: process.arch, environment, root });
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
  return join(out, `tokenwatt-${version}-linux-${process.arch}`);
}

/** Packs a tarball and unpacks it with the system's tar, as on a host; returns the program's folder. */
export function unpackedTar(out: string): string {
  pack(out, { kinds: ["tarball"], architectures: process.arch, preset: 0 });
  const archive = readdirSync(out).find((name) => name.includes(".tar."));
  execFileSync("tar", ["-xf", archive as string], { cwd: out });
  return join(out, (archive as string).replace(/\.tar\..*/, ""));
}

/** Why these kinds cannot be packed here, or undefined when they can. */
export function whyNoPacking(...kinds: readonly Kind[]): string | undefined {
  const missing = missingTools(kinds);
  if (missing.length === 0) return undefined;
  return `these tools are not installed (sh test/e2e/install-tools.sh): ${missing.join("; ")}`;
}

/** What to pack. */
export interface Packing {
  readonly kinds: readonly Kind[];
  /** With commas between them. */
  readonly architectures: string;
  /** Of xz; 0 takes a third of the time of 1. */
  readonly preset?: number;
  readonly environment?: Readonly<Record<string, string>>;
  readonly root?: string;
}

/** Packs a project, this one unless told otherwise, into a folder. */
export function pack(out: string, packing: Packing): void {
  const { architectures, environment = {}, kinds, preset = 1, root = project } = packing;
  const flags = [
    "--only",
    kinds.join(","),
    "--arch",
    architectures,
    "--out",
    out,
    "--preset",
    String(preset),
  ];
  execFileSync(process.execPath, [join(root, "deploy/pack/main.ts"), ...flags], {
    stdio: ["ignore", "ignore", "inherit"],
    env: { ...process.env, ...environment },
  });
}

/** What an endpoint says. */
interface Answer {
  readonly status: number;
  readonly body: string;
}

/** A started daemon. */
export interface Packed {
  readonly child: ChildProcess;
  /** Milliseconds from start to the first 200 of /-/ready. */
  readonly readyMs: number;
  /** Its answer to GET. */
  get(path: string): Promise<Answer>;
  /** What it wrote to stderr so far. */
  log(): string;
  /** SIGTERM; resolves with the exit code. */
  stop(): Promise<number | null>;
}

/** Starts `bin/tokenwatt run` and waits for /-/ready; throws with its log when that takes over 20 s. */
export async function startPacked(
  folder: string,
  port: number,
  environment: Readonly<Record<string, string>>,
): Promise<Packed> {
  const started = performance.now();
  const child = spawn(join(folder, "bin/tokenwatt"), ["run"], {
    // Nothing of this process' environment: a bare host has no npm, no node, no NODE_OPTIONS.
    env: {
      PATH: "/usr/bin:/bin",
      TOKENWATT_EXPORT_PROMETHEUS_LISTEN: `127.0.0.1:${port}`,
      ...environment,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
  let log = "";
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (text) => (log += text));
  const get = (path: string): Promise<Answer> => getOnce(`http://127.0.0.1:${port}${path}`);
  while (
    !(await get("/-/ready").then(
      (answer) => answer.status === 200,
      () => false,
    ))
  ) {
    if (performance.now() - started > 20_000 || child.exitCode !== null) {
      child.kill("SIGKILL");
      throw new Error(`the packed daemon is not ready (exit code ${child.exitCode}):\n${log}`);
    }
    await sleep(10);
  }
  return {
    child,
    readyMs: performance.now() - started,
    get,
    log: () => log,
    stop: () => {
      child.kill("SIGTERM");
      return ended;
    },
  };
}

// Not fetch(): its first use takes long enough to be seen in the time to ready.
function getOnce(url: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = httpGet(url, { agent: false }, (response) => {
      text(response).then((body) => resolve({ status: response.statusCode ?? 0, body }), reject);
    });
    request.once("error", reject);
  });
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A process and all below it, by pid. */
export function processesOf(pid: number): number[] {
  const below = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean);
  return [pid, ...below.map(Number).flatMap(processesOf)];
}

/** Memory and processor time of one process, from /proc. */
export function footprint(pid: number): {
  readonly rssMb: number;
  readonly pssMb: number;
  /** What is not the page cache of a file: its own memory, whatever the kernel maps of node. */
  readonly anonymousMb: number;
  /** The rest of the resident memory: pages of files. */
  readonly fileMb: number;
  readonly cpuSeconds: number;
  /** The part of it in the kernel. */
  readonly systemSeconds: number;
} {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const mb = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(rollup)?.[1]) / 1024;
  return {
    rssMb: mb("Rss"),
    pssMb: mb("Pss"),
    anonymousMb: mb("Anonymous"),
    fileMb: mb("Rss") - mb("Anonymous"),
    ...cpuSecondsOf(`/proc/${pid}/stat`),
  };
}

/** Seconds of processor time by name of thread. */
export type Used = ReadonlyMap<string, number>;

/** What a process used so far, by name of thread; threads that have ended are in "ended". */
export function processorTimes(pid: number): Used {
  const used = new Map<string, number>();
  let rest = cpuSecondsOf(`/proc/${pid}/stat`).cpuSeconds;
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    const name = readFileSync(`/proc/${pid}/task/${task}/comm`, "utf8").trim();
    const seconds = cpuSecondsOf(`/proc/${pid}/task/${task}/stat`).cpuSeconds;
    used.set(name, (used.get(name) ?? 0) + seconds);
    rest -= seconds;
  }
  return used.set("ended", Math.max(0, rest));
}

/** The program a process runs: the script that Node was given. */
export function programOf(pid: number): string {
  const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
  return words.find((word) => word.endsWith(".mjs"))?.replace(/^.*\//, "") ?? words.join(" ");
}

/** Times a process has gone to sleep by itself so far, over its threads that live. */
export function wakeups(pid: number): number {
  return readdirSync(`/proc/${pid}/task`).reduce((sum, task) => {
    const status = readFileSync(`/proc/${pid}/task/${task}/status`, "utf8");
    return sum + Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)?.[1]);
  }, 0);
}

function cpuSecondsOf(stat: string): { readonly cpuSeconds: number; readonly systemSeconds: number } {
  const fields = readFileSync(stat, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  const [user, system] = [Number(fields[11]) / 100, Number(fields[12]) / 100];
  return { cpuSeconds: user + system, systemSeconds: system };
}
