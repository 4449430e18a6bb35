// The packed daemon as a host sees it: time to /-/ready, memory and processor time, idle and with 8 GPUs (a library that
// speaks NVML), 16 vLLM pages of 300 KB every 5 s and about 5,000 series. Bars: ready under 1 s, main process at most
// 130 MB RSS idle, all processes at most 180 MB PSS loaded, at most 3 % of a core.
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { startReceiver } from "../../agent/export/receiver.ts";
import { buildFakeNvml, fakeNvml } from "../fakes/nvml/build.ts";
import { footprint, freePort, packFolder, processesOf, startPacked } from "../tools/packed.ts";
import { vllmPage } from "../tools/vllm-page.ts";

const SERVERS = 16;
const MODELS = Number(process.env["BENCH_MODELS"] ?? 2);
const SECONDS = Number(process.env["BENCH_SECONDS"] ?? 60);
const folder = mkdtempSync(join(tmpdir(), "tokenwatt-bench-"));
const program = process.env["BENCH_PROGRAM"] ?? packFolder(folder);
const bar = (what: string, seen: number, most: number, unit: string): void => {
  console.log(
    `${what.padEnd(44)} ${seen.toFixed(1).padStart(8)} ${unit.padEnd(6)} bar ${most} ${seen <= most ? "" : "MISSED"}`,
  );
};
try {
  if (process.env["BENCH_CASE"] !== "loaded") await idle();
  await loaded();
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** A host without GPU, server or Collector. */
async function idle(): Promise<void> {
  const times: number[] = [];
  for (let run = 0; run < 5; run++) {
    const daemon = await startPacked(program, await freePort(), {
      TOKENWATT_STATE_DIR: join(folder, `idle-${run}`),
    });
    times.push(daemon.readyMs);
    if (run === 4) {
      await sleep(Math.min(20, SECONDS) * 1000);
      bar("idle: RSS of the main process", footprint(daemon.child.pid as number).rssMb, 130, "MB");
    }
    await daemon.stop();
  }
  bar("idle: start to ready, median of 5", times.sort((a, b) => a - b)[2] as number, 1000, "ms");
}

/** 8 GPUs, 16 servers two to a GPU, about 5,000 series, a Collector that takes everything. */
async function loaded(): Promise<void> {
  const library = buildFakeNvml();
  if (library === undefined) return;
  const began = performance.now();
  const pages = createServer((_, response) => {
    response.setHeader("content-type", "text/plain; version=0.0.4");
    response.end(vllmPage((performance.now() - began) / 1000, MODELS, 300_000));
  }).listen(0, "127.0.0.1");
  await once(pages, "listening");
  const { port } = pages.address() as AddressInfo;
  const collector = await startReceiver("127.0.0.1:0");
  const config = join(folder, "config.yaml");
  writeFileSync(
    config,
    JSON.stringify({
      gpu: { backend: "nvml", nvml: { libraryPath: fakeNvml(library, "gpus 8").path } },
      servers: {
        vllm: Array.from({ length: SERVERS }, (_, index) => ({
          id: `engine-${index}`,
          endpoint: `http://127.0.0.1:${port}/engine/${index}`,
          gpus: [`GPU-0000000${index % 8}-0000-4000-8000-000000000000`],
        })),
      },
    }),
  );
  const daemon = await startPacked(program, await freePort(), {
    TOKENWATT_CONFIG: config,
    TOKENWATT_STATE_DIR: join(folder, "loaded"),
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://${collector.address}`,
  });
  bar("loaded: start to ready", daemon.readyMs, 1000, "ms");
  await sleep(30_000);
  const pid = daemon.child.pid as number;
  const warm = processesOf(pid).map((one) => footprint(one).cpuSeconds);
  const cpuAt = (): number => processesOf(pid).reduce((sum, one) => sum + footprint(one).cpuSeconds, 0);
  const before = cpuAt();
  await sleep(SECONDS * 1000);
  const processes = processesOf(pid).map((one) => ({ one, ...footprint(one) }));
  const cpu = (100 * (cpuAt() - before)) / SECONDS;
  const page = (await daemon.get("/metrics")).body;
  const status = (await daemon.get("/-/status")).body;
  const series = page.split("\n").filter((line) => line !== "" && !line.startsWith("#")).length;
  console.log(
    `loaded: ${series} series on /metrics, ${collector.counts().data_points} OTLP points of ${collector.counts().series} series, ${processes.length} processes`,
  );
  for (const [index, { anonymousMb, cpuSeconds, one, pssMb, rssMb }] of processes.entries()) {
    const percent = (100 * (cpuSeconds - (warm[index] ?? 0))) / SECONDS;
    console.log(
      `  ${commandOf(one)}: RSS ${rssMb.toFixed(1)} MB, PSS ${pssMb.toFixed(1)} MB, anonymous ${anonymousMb.toFixed(1)} MB, ${percent.toFixed(1)} %`,
    );
  }
  if (!status.includes("engine-15")) console.log(`  odd: ${status.slice(0, 500)}`);
  bar(
    "loaded: PSS of all processes",
    processes.reduce((sum, one) => sum + one.pssMb, 0),
    180,
    "MB",
  );
  bar("loaded: processor time, of one core", cpu, 3, "%");
  await daemon.stop();
  if (process.env["BENCH_LOG"] !== undefined) console.log(daemon.log());
  pages.close();
  collector.close();
}

function commandOf(pid: number): string {
  const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
  return words.find((word) => word.endsWith(".mjs"))?.replace(/^.*\//, "") ?? words.join(" ");
}
