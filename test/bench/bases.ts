// What the bases of 5,400 series cost: a page on which a tenth of them moved against parsing it, memory and stored state
// per series, with one process and with four that take turns. Run with `node --expose-gc test/bench/bases.ts`.
import { createPageParser } from "../../agent/page/parse.ts";
import { SeriesBases } from "../../agent/servers/page/bases.ts";
import { startEpoch } from "../../agent/servers/page/labels.ts";

const SERIES = 5400;
const FAMILIES = 12;
const ROUNDS = 60;
const SECOND = 1e9;

const families = Array.from({ length: FAMILIES }, (_, number) => `made_by_gateway_${number}`);

function pageOf(round: number, process: number): Buffer {
  const lines = [`process_start_time_seconds ${1000 + process}`];
  for (let series = 0; series < SERIES; series++) {
    const moved = 3 * Math.floor((round + 9 - (series % 10)) / 10);
    const labels = `model="model-${series % 7}",team="team-${series % 450}",user="user-${series}"`;
    lines.push(`${families[series % FAMILIES]}_total{${labels}} ${100_000 * (process + 1) + series + moved}`);
  }
  return Buffer.from(`${lines.join("\n")}\n`);
}

interface Costs {
  readonly parseMicros: number;
  readonly takeMicros: number;
  readonly heapBytes: number;
  readonly storedBytes: number;
  readonly commitBytes: number;
}

function costs(processes: number): Costs {
  const pages = Array.from({ length: ROUNDS + 1 }, (_, round) => pageOf(round, round % processes));
  const parser = createPageParser();
  let [parse, take] = [0, 0];
  const bases = (): SeriesBases => new SeriesBases({ bornAtZero: false });
  const one = bases();
  const follow = (on: SeriesBases, round: number): void => {
    const began = performance.now();
    const page = parser.parse(pages[round] as Buffer);
    const parsed = performance.now();
    const start = page.samples.get("process_start_time_seconds")?.[0]?.value ?? 0;
    on.take(page, {
      at: round * 5 * SECOND,
      epoch: startEpoch(start),
      began: -1e12 + start * SECOND,
      oldest: () => undefined,
      instant: (seconds) => seconds * SECOND,
      interrupted: undefined,
      whole: true,
    });
    for (const family of families) on.counters(family);
    if (round < ROUNDS / 4) return;
    parse += parsed - began;
    take += performance.now() - parsed;
  };
  follow(one, 1);
  const before = heapBytes();
  const second = bases();
  for (let round = 1; round <= processes; round++) follow(second, round);
  const heap = heapBytes() - before;
  for (let round = processes; round < ROUNDS; round++) follow(one, round);
  const measured = ROUNDS - ROUNDS / 4;
  const size = (on: SeriesBases): number =>
    on
      .takeChanges(["receiver", "gateway"], (at) => BigInt(Math.round(at)))
      .reduce((sum, { key, value }) => sum + key.length + value.length, 0);
  const stored = size(one);
  follow(one, ROUNDS);
  return {
    parseMicros: (parse / measured) * 1000,
    takeMicros: (take / measured) * 1000,
    heapBytes: heap / SERIES,
    storedBytes: stored / SERIES,
    commitBytes: size(one) / SERIES,
  };
}

function heapBytes(): number {
  globalThis.gc?.();
  const { arrayBuffers, heapUsed } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** One line of facts for the bench's report. */
export function benchBases(): Readonly<Record<string, number>> {
  const [one, four] = [costs(1), costs(4)];
  return {
    series: SERIES,
    parse_us_per_page: one.parseMicros,
    take_us_per_page: one.takeMicros,
    take_us_per_page_of_four: four.takeMicros,
    heap_bytes_per_series: one.heapBytes,
    heap_bytes_per_series_of_four: four.heapBytes,
    stored_bytes_per_series: one.storedBytes,
    stored_bytes_per_series_of_four: four.storedBytes,
    commit_bytes_per_series: one.commitBytes,
  };
}

if (import.meta.main) console.log(JSON.stringify({ bench: "bases", ...benchBases() }));
