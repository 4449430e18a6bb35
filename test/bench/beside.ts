// The packed daemon beside a real Collector that scrapes the same pages in the same minute and sends them on: processor
// time and memory of both, and the ratio; then how the daemon's cost grows with servers, with series and with idle series.
// Processor time is what /proc counts, so other work on the machine changes it little. Bars: 2 % of a core and 120 MB
// outside the driver, 0.4 of the Collector's processor time.
// BENCH_PROGRAM = a tarball unpacked by tar (default: packed anew), BENCH_SECONDS = measured time, BENCH_WARM_SECONDS =
// time before it, BENCH_SETTLED_SECONDS = time before a second measurement beside the Collector (0 = none): a daemon runs for
// months and compiles for minutes. BENCH_CASE = collector, servers, series or idle, with commas between.
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { startReceiver } from "../../agent/cli/demo/receiver.ts";
import { footprint, freePort, processesOf, programOf, startPacked, unpackedTar } from "../tools/packed.ts";
import type { Load } from "./lib/loaded-host.ts";
import { STANDARD_LOAD, startLoadedHost } from "./lib/loaded-host.ts";
import { scrapingCollector, startScraping } from "./lib/scraping-collector.ts";

const SECONDS = Number(process.env["BENCH_SECONDS"] ?? 60);
const WARM_SECONDS = Number(process.env["BENCH_WARM_SECONDS"] ?? 60);
const SETTLED_SECONDS = Number(process.env["BENCH_SETTLED_SECONDS"] ?? 300);
const SCRAPE_SECONDS = 5;
const BEAT_SECONDS = 10;
/** The process that only calls the driver. */
const DRIVER_CHILD = /nvml/;

const folder = mkdtempSync(join(tmpdir(), "tokenwatt-beside-"));
const program = process.env["BENCH_PROGRAM"] ?? unpackedTar(folder);
const cases = (process.env["BENCH_CASE"] ?? "collector,servers,series,idle").split(",");
let hosts = 0;

try {
  if (cases.includes("collector")) {
    for (const one of await measure("16 servers", STANDARD_LOAD, scrapingCollector())) print(one);
  }
  await grow("servers", [1, 4, 16, 64], (servers) => ({
    ...{ engines: Math.ceil(servers / 2), gateways: Math.floor(servers / 2) },
    ...{ teams: 8, pageBytes: 300_000 },
  }));
  await grow("series", [1000, 5000, 20_000], (series) => ({
    ...{ engines: 10, gateways: 6, pageBytes: 300_000 },
    teams: Math.max(1, Math.round((series - 900) / 180)),
  }));
  await grow("idle", [1000, 5000, 20_000], (series) => ({
    ...{ engines: 10, gateways: 6, pageBytes: 300_000, idle: true },
    teams: Math.max(1, Math.round((series - 900) / 180)),
  }));
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** What one program cost. */
interface Cost {
  readonly corePercent: number;
  readonly pssMb: number;
  readonly anonymousMb: number;
}

interface Measured {
  readonly name: string;
  readonly points: number;
  readonly daemon: Cost;
  /** The part of it that calls the driver. */
  readonly driver: Cost;
  readonly collector: Cost | undefined;
}

/** All sizes of a curve in the same minutes. */
async function grow(name: string, sizes: readonly number[], load: (size: number) => Load): Promise<void> {
  if (!cases.includes(name)) return;
  const all = await Promise.all(sizes.map((size) => measure(`${size} ${name}`, load(size))));
  for (const one of all.flat()) print(one);
}

/** Beside a collector also once more when it has settled. */
async function measure(name: string, load: Load, collector?: string): Promise<readonly Measured[]> {
  const own = join(folder, String(hosts++));
  mkdirSync(own);
  const host = await startLoadedHost(own, load);
  if (host === undefined) throw new Error("this bench needs a C compiler for the library that speaks NVML");
  const drain = await startReceiver("127.0.0.1:0");
  const scraping =
    collector === undefined
      ? undefined
      : startScraping(collector, own, host.pages, drain.address, SCRAPE_SECONDS);
  const daemon = await startPacked(program, await freePort(), {
    ...host.environment,
    TOKENWATT_STATE_DIR: join(own, "state"),
  });
  const minute = async (title: string): Promise<Measured> => {
    const pids = processesOf(daemon.child.pid as number);
    const driver = pids.filter((pid) => DRIVER_CHILD.test(programOf(pid)));
    const ends = [pids, driver, scraping?.pid === undefined ? [] : [scraping.pid]].map(begin);
    const received = host.received().data_points;
    await sleep(SECONDS * 1000);
    const points = Math.round(((host.received().data_points - received) * BEAT_SECONDS) / SECONDS);
    const [all, byDriver, scraped] = ends.map((end) => end()) as [Cost, Cost, Cost];
    if (scraping !== undefined && drain.counts().data_points === 0)
      throw new Error("the Collector sent nothing");
    return {
      name: title,
      points,
      daemon: all,
      driver: byDriver,
      collector: scraping === undefined ? undefined : scraped,
    };
  };
  try {
    await sleep(WARM_SECONDS * 1000);
    const warm = await minute(name);
    const rest = SETTLED_SECONDS - WARM_SECONDS - SECONDS;
    if (scraping === undefined || rest <= 0) return [warm];
    await sleep(rest * 1000);
    return [warm, await minute(`after ${SETTLED_SECONDS} s`)];
  } finally {
    await daemon.stop();
    scraping?.kill();
    host.close();
    drain.close();
  }
}

/** Begins to watch processes; the function returned says what they cost since. */
function begin(pids: readonly number[]): () => Cost {
  const cpu = (): number => pids.reduce((sum, pid) => sum + footprint(pid).cpuSeconds, 0);
  const [before, began] = [cpu(), performance.now()];
  return () => {
    const seconds = (performance.now() - began) / 1000;
    const memory = pids.map((pid) => footprint(pid));
    return {
      corePercent: (100 * (cpu() - before)) / seconds,
      pssMb: memory.reduce((sum, { pssMb }) => sum + pssMb, 0),
      anonymousMb: memory.reduce((sum, { anonymousMb }) => sum + anonymousMb, 0),
    };
  };
}

function print({ collector, daemon, driver, name, points }: Measured): void {
  console.log(
    `${name.padEnd(14)} ${String(points).padStart(6)} points a beat: daemon ${shown(daemon)}, of it beside the driver ${shown(driver)}`,
  );
  if (collector === undefined) return;
  const ratio = daemon.corePercent / collector.corePercent;
  console.log(
    `${"".padEnd(14)} the Collector ${shown(collector)}; daemon / Collector: processor ${ratio.toFixed(2)}, memory ${(daemon.pssMb / collector.pssMb).toFixed(2)}`,
  );
}

function shown({ anonymousMb, corePercent, pssMb }: Cost): string {
  return `${corePercent.toFixed(2)} % of a core, PSS ${pssMb.toFixed(0)} MB (anonymous ${anonymousMb.toFixed(0)})`;
}
