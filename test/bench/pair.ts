// Packed builds beside each other in the same minutes, each with a host at work of its own: processor time by process, the
// part of it in the kernel, wake-ups and memory, and each build's ratio to the first. The machine's other work hits all alike,
// so differences of 2 or 3 % can be seen; two equal builds tell what the noise is.
// BENCH_PROGRAMS = folders that `npm run pack -- --only folder` wrote, with commas between (a folder twice is two daemons;
// without it nothing is measured), BENCH_COLLECTOR=1 = also the Collector that scrapes the pages of the first,
// BENCH_WARM_SECONDS = time before, BENCH_ROUNDS times BENCH_SECONDS = measured time: the ratio of each round shows the noise.
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { startReceiver } from "../../agent/cli/demo/receiver.ts";
import { footprint, freePort, processesOf, programOf, startPacked, wakeups } from "../tools/packed.ts";
import { startLoadedHost } from "./lib/loaded-host.ts";
import { scrapingCollector, startScraping } from "./lib/scraping-collector.ts";

const SECONDS = Number(process.env["BENCH_SECONDS"] ?? 30);
const ROUNDS = Number(process.env["BENCH_ROUNDS"] ?? 4);
const WARM_SECONDS = Number(process.env["BENCH_WARM_SECONDS"] ?? 120);
const SCRAPE_SECONDS = 5;

/** A program under test. */
interface Running {
  readonly name: string;
  readonly pid: number;
  end(): Promise<unknown>;
}

/** What one process used since it began, and holds. */
interface Used {
  readonly program: string;
  readonly cpuSeconds: number;
  readonly systemSeconds: number;
  readonly wakeups: number;
  readonly pssMb: number;
  readonly anonymousMb: number;
}

type Quantity = keyof Omit<Used, "program">;
/** All processes of a program at one instant. */
type Reading = readonly Used[];

const programs = process.env["BENCH_PROGRAMS"]?.split(",") ?? [];
if (programs.length === 0) console.log("no builds to compare: see the head of test/bench/pair.ts");
else await compare();

async function compare(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "tokenwatt-pair-"));
  const running: Running[] = [];
  try {
    running.push(...(await startAll(folder)));
    await sleep(WARM_SECONDS * 1000);
    // Now, not at the start: there are children that only starting needs.
    const pids = running.map(({ pid }) => processesOf(pid));
    const readings = [pids.map(read)];
    for (let round = 0; round < ROUNDS; round++) {
      await sleep(SECONDS * 1000);
      readings.push(pids.map(read));
    }
    for (const [index, { name }] of running.entries()) {
      const of = (place: number): Reading[] => readings.map((reading) => reading[place] as Reading);
      print(name, of(index), of(0));
    }
  } finally {
    await Promise.all(running.map((each) => each.end()));
    rmSync(folder, { recursive: true, force: true });
  }
}

async function startAll(folder: string): Promise<readonly Running[]> {
  const started = await Promise.all(
    programs.map((program, index) => start(program, join(folder, String(index)))),
  );
  const running = started.map(({ running }) => running);
  const collector = process.env["BENCH_COLLECTOR"] === "1" ? scrapingCollector() : undefined;
  if (collector === undefined) return running;
  const drain = await startReceiver("127.0.0.1:0");
  const scraping = startScraping(collector, folder, started[0]?.pages ?? [], drain.address, SCRAPE_SECONDS);
  const end = async (): Promise<void> => {
    scraping.kill();
    drain.close();
  };
  return [...running, { name: "the Collector", pid: scraping.pid as number, end }];
}

async function start(
  program: string,
  folder: string,
): Promise<{ readonly running: Running; readonly pages: readonly string[] }> {
  mkdirSync(folder);
  const host = await startLoadedHost(folder);
  if (host === undefined) throw new Error("this bench needs a C compiler for the library that speaks NVML");
  const daemon = await startPacked(program, await freePort(), {
    ...host.environment,
    TOKENWATT_STATE_DIR: join(folder, "state"),
  });
  const pid = daemon.child.pid as number;
  return {
    running: { name: program, pid, end: () => daemon.stop().finally(() => host.close()) },
    pages: host.pages,
  };
}

function read(pids: readonly number[]): Reading {
  return pids.map((pid) => ({ program: programOf(pid), wakeups: wakeups(pid), ...footprint(pid) }));
}

/** The ratio to the first program, whole and by round; then a line for the whole and one for each process. */
function print(name: string, own: readonly Reading[], first: readonly Reading[]): void {
  const ratio = (from: number, to: number): string =>
    (grown(own, "cpuSeconds", from, to) / grown(first, "cpuSeconds", from, to)).toFixed(3);
  const rounds = own.slice(1).map((_, round) => ratio(round, round + 1));
  console.log(`${name}: ${ratio(0, ROUNDS)} of the first (${rounds.join(" ")})`);
  printCost("all", own);
  for (const [index, { program }] of (own[0] ?? []).entries()) {
    const alone = own.map((reading) => reading.slice(index, index + 1));
    printCost(program, alone);
  }
}

function printCost(program: string, readings: readonly Reading[]): void {
  const seconds = SECONDS * ROUNDS;
  const percent = (key: Quantity): string => ((100 * grown(readings, key)) / seconds).toFixed(3);
  const mean = (key: Quantity): string =>
    (readings.reduce((sum, reading) => sum + total(reading, key), 0) / readings.length).toFixed(1);
  console.log(
    `  ${program.padEnd(24)} ${percent("cpuSeconds")} % of a core (kernel ${percent("systemSeconds")}), ` +
      `${(grown(readings, "wakeups") / seconds).toFixed(1)} wake-ups a second, ` +
      `PSS ${mean("pssMb")} MB (anonymous ${mean("anonymousMb")})`,
  );
}

/** By how much a quantity of all processes grew from one reading to another. */
function grown(readings: readonly Reading[], key: Quantity, from = 0, to = readings.length - 1): number {
  return total(readings[to], key) - total(readings[from], key);
}

function total(reading: Reading | undefined, key: Quantity): number {
  return reading?.reduce((sum, used) => sum + used[key], 0) ?? 0;
}
