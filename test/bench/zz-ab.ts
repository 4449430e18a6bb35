// Paired: VARIANTS = json [{name, program?, flags, env?}]; W warm s, S list of minutes

import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { footprint, freePort, processesOf, processorTimes, programOf } from "../tools/packed.ts";
import { STANDARD_LOAD, startLoadedHost } from "./lib/loaded-host.ts";

const load = JSON.parse(process.env["LOAD"] ?? "null") ?? STANDARD_LOAD;
const folder = mkdtempSync(join(tmpdir(), "tw-ab-"));
const P0 = process.env["BENCH_PROGRAM"] ?? "/tmp/wt/prog/tokenwatt-0.1.0-linux-x64";
const variants = JSON.parse(process.env["VARIANTS"] ?? '[{"name":"base"}]');
const DEFAULT = "--max-semi-space-size=2 --heap-growing-percent=40 --no-parallel-scavenge";
const host = await startLoadedHost(folder, load);
if (!host) throw new Error("no cc");
const marks = (process.env["MARKS"] ?? "60,120,300").split(",").map(Number);
const kids: any[] = [];
process.on("exit", () => {
  for (const { child } of kids)
    try {
      child.kill("SIGKILL");
    } catch {}
});
process.on("SIGTERM", () => process.exit(1));
for (const v of variants) {
  const own = join(folder, v.name);
  mkdirSync(own);
  const flags = (v.flags ?? DEFAULT)
    .split(" ")
    .concat(v.more ? v.more.split(" ") : [])
    .filter(Boolean);
  const program = v.program ?? P0;
  const child = spawn(
    v.node ?? join(program, "bin/node"),
    [
      ...flags,
      ...(process.env["PROBE"] ? ["--import", "/tmp/wt/probe.mjs"] : []),
      v.main ?? join(program, "app/main.mjs"),
      "run",
    ],
    {
      env: {
        PATH: "/usr/bin:/bin",
        MALLOC_ARENA_MAX: "1",
        MALLOC_MMAP_THRESHOLD_: "131072",
        MALLOC_TRIM_THRESHOLD_: "131072",
        TOKENWATT_EXPORT_PROMETHEUS_LISTEN: `127.0.0.1:${await freePort()}`,
        ...host.environment,
        TOKENWATT_STATE_DIR: join(own, "state"),
        PROBE_OUT: join(process.env["PROBE_DIR"] ?? "/tmp/wt", `probe-${v.name}`),
        ...(process.env["PROBE_SNAP"] ? { PROBE_SNAP: "1" } : {}),
        ...(v.env ?? {}),
      },
      stdio: ["ignore", v.out ? (await import("node:fs")).openSync(v.out, "w") : "ignore", "inherit"],
      cwd: own,
    },
  );
  kids.push({ v, child });
}
console.log("pids", kids.map((k) => k.child.pid).join(" "));
if (process.env["PERF"]) {
}
const begun = performance.now();
let last: Map<string, any> = new Map(),
  lastAt = 0;
for (const mark of marks) {
  await sleep(Math.max(0, mark * 1000 - (performance.now() - begun)));
  const now = performance.now();
  for (const { v, child } of kids)
    try {
      for (const p of processesOf(child.pid)) {
        const key = `${v.name}/${programOf(p)}`;
        const f = footprint(p);
        const t = processorTimes(p);
        const b = last.get(key);
        const dt = (now - lastAt) / 1000;
        console.log(
          `${String(mark).padStart(4)}s ${key.padEnd(40)} ${b ? ((100 * (f.cpuSeconds - b.f.cpuSeconds)) / dt).toFixed(2) + " %" : f.cpuSeconds.toFixed(2) + " s"} PSS ${f.pssMb.toFixed(1)} anon ${f.anonymousMb.toFixed(1)} ` +
            [...t]
              .map(([n, s]) => [n, s - (b?.t.get(n) ?? 0)] as const)
              .filter(([, d]) => d > 0.02)
              .map(([n, d]) => `${n} ${b ? ((100 * d) / dt).toFixed(2) : d.toFixed(2)}`)
              .join(" "),
        );
        last.set(key, { f, t });
      }
    } catch (e) {
      console.log(v.name, "gone", String(e).slice(0, 80));
    }
  lastAt = now;
}
if (process.env["PROBE"])
  for (const { v, child } of kids) {
    const done = join(process.env["PROBE_DIR"] ?? "/tmp/wt", `probe-${v.name}.done`);
    const main = child.pid;
    (await import("node:fs")).rmSync(done, { force: true });
    process.kill(main, "SIGUSR2");
    while (!existsSync(done)) await sleep(200);
  }
for (const { child } of kids) child.kill("SIGTERM");
await Promise.all(
  kids.map(({ child }) => child.exitCode !== null || new Promise((r) => child.once("exit", r))),
);
host.close();
process.exit(0);
