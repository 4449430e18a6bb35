// How fast a recording is metered, against real time; and what the agent costs while it meters the demo live.
// Alternative: the recording's own duration. CPU and memory are the agent process's, helpers of the demo left out.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { MALLOC, NODE_FLAGS } from "../../deploy/pack/runtime.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const demo = `${root}deploy/demo/h100-solo-8b`;

for (const poll of ["1s", "5s"]) {
  const started = performance.now();
  const child = spawn(
    process.execPath,
    [`${root}agent/main.ts`, "replay", demo, "--json", "--token-poll", poll],
    {
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  let bytes = 0;
  child.stdout.on("data", (chunk: Buffer) => (bytes += chunk.length));
  await once(child, "close");
  const seconds = (performance.now() - started) / 1000;
  console.log(
    `replay of 125.2 s at ${poll} polls: ${seconds.toFixed(2)} s with process start, ${(125.2 / seconds).toFixed(0)} x real time, ${bytes} bytes of JSON`,
  );
}

const WARM_SECONDS = 8;
const MEASURED_SECONDS = 20;
const child = spawn(
  process.execPath,
  [
    ...NODE_FLAGS,
    `${root}agent/main.ts`,
    "demo",
    "--scene",
    "solo",
    "--json",
    "--duration",
    `${WARM_SECONDS + MEASURED_SECONDS + 5}s`,
  ],
  {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...MALLOC, NODE_COMPILE_CACHE: `${root}node_modules/.cache/node` },
  },
);
const begun = performance.now();
let first: number | undefined;
child.stdout.on("data", (chunk: Buffer) => {
  if (first === undefined && /"tokens_per_gpu_hour":[0-9]/.test(chunk.toString()))
    first = performance.now() - begun;
});
await sleep(WARM_SECONDS * 1000);
const before = cpuSeconds(child.pid ?? 0);
await sleep(MEASURED_SECONDS * 1000);
const used = cpuSeconds(child.pid ?? 0) - before;
const status = readFileSync(`/proc/${child.pid}/status`, "utf8");
const rss = Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024;
const peak = Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) / 1024;
console.log(`demo, first KPI after ${((first ?? Number.NaN) / 1000).toFixed(2)} s (bar: 3 s)`);
console.log(`demo, agent process: ${((100 * used) / MEASURED_SECONDS).toFixed(2)} % of a core (bar: 2 %)`);
console.log(
  `demo, agent process: ${rss.toFixed(0)} MB RSS, peak ${peak.toFixed(0)} MB (bar from source: 140 MB)`,
);
await once(child, "close");

/** User and system seconds of a process so far. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
