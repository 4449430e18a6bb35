// The packed daemon as a host sees it, against a bare Node: time to /-/ready, memory and processor time, idle and on a host
// at work (8 GPUs, 16 servers with 300 KB pages, 5,000 exported series, a receiver on loopback).
// Bars: ready under 1 s, main process at most 130 MB RSS idle, all processes at most 180 MB PSS and 3 % of a core.
// BENCH_PROGRAM = a tarball unpacked by tar (default: packed anew), BENCH_SECONDS = measured time, BENCH_CASE = start, idle or loaded.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Packed, Used } from "../tools/packed.ts";
import {
  footprint,
  freePort,
  processesOf,
  processorTimes,
  programOf,
  startPacked,
  unpackedTar,
} from "../tools/packed.ts";
import type { LoadedHost } from "./lib/loaded-host.ts";
import { startLoadedHost } from "./lib/loaded-host.ts";

const SECONDS = Number(process.env["BENCH_SECONDS"] ?? 60);
const WARM_SECONDS = Number(process.env["BENCH_WARM_SECONDS"] ?? 90);
const STARTS = 7;
/** By then the pages that only starting needed were given back. */
const SETTLED_SECONDS = 40;
const BEAT_SECONDS = 10;
const folder = mkdtempSync(join(tmpdir(), "tokenwatt-bench-"));
const program = process.env["BENCH_PROGRAM"] ?? unpackedTar(folder);
const cases = (process.env["BENCH_CASE"] ?? "bare,idle,start,loaded").split(",");
const host = await startLoadedHost(folder);
try {
  if (cases.includes("bare")) await bare();
  if (cases.includes("idle")) await idle();
  if (cases.includes("start") && host !== undefined) await start(host);
  if (cases.includes("loaded") && host !== undefined) await loaded(host);
} finally {
  host?.close();
  rmSync(folder, { recursive: true, force: true });
}

/** The alternative to everything below: the same Node doing nothing. */
async function bare(): Promise<void> {
  const node = join(program, "bin/node");
  const times = Array.from({ length: STARTS }, () => {
    const began = performance.now();
    spawnSync(node, ["-e", "0"]);
    return performance.now() - began;
  });
  const child = spawn(node, ["-e", "console.log(1);setInterval(() => {}, 1e6)"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  await once(child.stdout, "data");
  const { pssMb, rssMb } = footprint(child.pid as number);
  child.kill();
  console.log(`bare Node: RSS ${mb(rssMb)}, PSS ${mb(pssMb)}, start to end ${median(times).toFixed(0)} ms`);
}

/** A host without GPU, server or Collector. */
async function idle(): Promise<void> {
  const times: number[] = [];
  for (let run = 0; run < STARTS; run++) {
    const daemon = await startPacked(program, await freePort(), {
      TOKENWATT_STATE_DIR: join(folder, `idle-${run}`),
    });
    times.push(daemon.readyMs);
    if (run === STARTS - 1) {
      await sleep(Math.min(SETTLED_SECONDS, SECONDS) * 1000);
      bar("idle: RSS of the main process", footprint(daemon.child.pid as number).rssMb, 130, "MB");
    }
    await daemon.stop();
  }
  bar(`idle: start to ready, median of ${STARTS}`, median(times), 1000, "ms");
}

/** Cold starts on the host at work, each with an empty state directory, and what they cost in processor time. */
async function start({ environment }: LoadedHost): Promise<void> {
  const times: number[] = [];
  const costs: number[] = [];
  for (let run = 0; run < STARTS; run++) {
    const daemon = await startPacked(program, await freePort(), {
      ...environment,
      TOKENWATT_STATE_DIR: join(folder, `start-${run}`),
    });
    times.push(daemon.readyMs);
    costs.push(1000 * sum(processesOf(daemon.child.pid as number).map((pid) => footprint(pid).cpuSeconds)));
    await daemon.stop();
  }
  console.log(`loaded: processor time until ready ${median(costs).toFixed(0)} ms, median of ${STARTS}`);
  bar(`loaded: start to ready, median of ${STARTS}`, median(times), 1000, "ms");
}

/** Memory after minutes and processor time over a minute, by process and thread. */
async function loaded(host: LoadedHost): Promise<void> {
  const daemon = await startPacked(program, await freePort(), {
    ...host.environment,
    TOKENWATT_STATE_DIR: join(folder, "loaded"),
  });
  await sleep(WARM_SECONDS * 1000);
  const pids = processesOf(daemon.child.pid as number);
  const before = new Map(pids.map((pid) => [pid, processorTimes(pid)]));
  const received = host.received().data_points;
  await sleep(SECONDS * 1000);
  let cpu = 0;
  let pss = 0;
  for (const pid of pids) {
    const used = spent(before.get(pid) ?? new Map(), processorTimes(pid));
    cpu += sum(used.values());
    pss += footprint(pid).pssMb;
    printProcess(pid, used);
  }
  const beats = SECONDS / BEAT_SECONDS;
  const points = Math.round((host.received().data_points - received) / beats);
  console.log(
    `loaded: ${points} points in a beat at the receiver, ${await linesOf(daemon)} lines on /metrics`,
  );
  bar("loaded: PSS of all processes", pss, 180, "MB");
  bar("loaded: processor time, of one core", cpu, 3, "%");
  await daemon.stop();
  if (process.env["BENCH_LOG"] !== undefined) console.log(daemon.log());
}

function printProcess(pid: number, used: Used): void {
  const { anonymousMb, pssMb, rssMb } = footprint(pid);
  console.log(
    `  ${programOf(pid)}: RSS ${mb(rssMb)}, PSS ${mb(pssMb)}, anonymous ${mb(anonymousMb)}, ` +
      `${sum(used.values()).toFixed(2)} %`,
  );
  const threads = [...used].filter(([, percent]) => percent > 0).sort(([, a], [, b]) => b - a);
  console.log(
    `    by thread: ${threads.map(([name, percent]) => `${name} ${percent.toFixed(2)} %`).join(", ")}`,
  );
}

/** Percent of a core by name of thread. */
function spent(before: Used, after: Used): Used {
  return new Map(
    [...after].map(([name, seconds]) => [name, (100 * (seconds - (before.get(name) ?? 0))) / SECONDS]),
  );
}

async function linesOf(daemon: Packed): Promise<number> {
  const page = (await daemon.get("/metrics")).body;
  return page.split("\n").filter((line) => line !== "" && !line.startsWith("#")).length;
}

function bar(what: string, seen: number, most: number, unit: string): void {
  const missed = seen <= most ? "" : "MISSED";
  console.log(`${what.padEnd(44)} ${seen.toFixed(1).padStart(8)} ${unit.padEnd(6)} bar ${most} ${missed}`);
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

function mb(value: number): string {
  return `${value.toFixed(1)} MB`;
}
