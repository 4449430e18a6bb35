// What reading GPUs costs outside the driver: the NVML backend over a fake library, 1 Hz as by default.
// Prints CPU per GPU and second of the reader child (user time; the fake driver's own share is in it), its memory, and how
// long a poll keeps the agent's event loop busy, each against its budget.
import { readFileSync } from "node:fs";
import { nvmlBackend } from "../../agent/gpu/nvml/index.ts";
import { systemClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { buildFakeNvml, fakeNvml } from "../fakes/nvml/build.ts";

const SECONDS = 8;
const BUDGET = { userMs: 1, pssMegabytes: 60, loopMs: 5 };
const library = buildFakeNvml();
if (library === undefined) process.exit(0);
for (const [gpus, processes] of [
  [1, 1],
  [8, 4],
  [16, 1000],
] as const) {
  await measure(gpus, processes);
}

async function measure(gpus: number, processes: number): Promise<void> {
  const lines = Array.from({ length: gpus }, (_, gpu) => `processes ${gpu} ${processes}`);
  const fake = fakeNvml(library ?? "", `gpus ${gpus}`, ...lines);
  const clock = systemClock();
  const context = { clock, log: silentLog, signal: new AbortController().signal };
  const source = await nvmlBackend.open(nvmlBackend.config.parse({ libraryPath: fake.path }), context);
  for (let warm = 0; warm < 30; warm++) await source.poll();
  const pid = source.status()["pid"] as number;
  const before = cpu(pid);
  const took: number[] = [];
  const stretches: number[] = [];
  for (let second = 0; second < SECONDS; second++) {
    const began = clock.now();
    const watch = watchLoop();
    await source.poll();
    stretches.push(watch());
    took.push((clock.now() - began) / 1e6);
    await clock.sleep(1000 - (clock.now() - began) / 1e6);
  }
  const after = cpu(pid);
  const perGpu = (ms: number): number => ms / gpus / SECONDS;
  console.log(`${gpus} GPUs x ${processes} processes, ${SECONDS} s at 1 Hz`);
  print("  child user CPU per GPU and second", perGpu(after.user - before.user), "ms", BUDGET.userMs);
  print(
    "  child system CPU per GPU and second (fake driver: stat() per call)",
    perGpu(after.system - before.system),
    "ms",
  );
  print("  longest turn of the agent's loop during a poll", Math.max(...stretches), "ms", BUDGET.loopMs);
  print("  child PSS", pss(pid), "MB", BUDGET.pssMegabytes);
  print("  poll, median", took.sort((left, right) => left - right)[SECONDS / 2] ?? 0, "ms");
  await source.close();
}

/** Watches the turns of the event loop; the result is the longest one so far, in CPU time, so that a busy machine does not count. */
function watchLoop(): () => number {
  let longest = 0;
  let watching = true;
  let last = process.cpuUsage();
  const turn = (): void => {
    const now = process.cpuUsage();
    longest = Math.max(longest, now.user + now.system - last.user - last.system);
    last = now;
    if (watching) setImmediate(turn);
  };
  setImmediate(turn);
  return () => {
    watching = false;
    return longest / 1000;
  };
}

function print(name: string, value: number, unit: string, budget?: number): void {
  const of =
    budget === undefined ? "" : `  (${(value / budget).toFixed(2)} of the budget of ${budget} ${unit})`;
  console.log(`${name}: ${value.toFixed(2)} ${unit}${of}`);
}

/** User and system milliseconds of a process: fields 14 and 15 of /proc/PID/stat, in ticks of 10 ms. */
function cpu(pid: number): { user: number; system: number } {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return { user: Number(fields[11]) * 10, system: Number(fields[12]) * 10 };
}

function pss(pid: number): number {
  const line = /^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "latin1"));
  return Number(line?.[1] ?? 0) / 1024;
}
