// How fast a vLLM-shaped page of 10,000 series is parsed, repeated (same series, new values) and first seen, against
// parse-prometheus-text-format in the same run. Run with `node test/bench/text.ts`.
import parseAlternative from "parse-prometheus-text-format";
import { createPageParser, parsePage } from "../../agent/page/parse.ts";
import { vllmPage } from "./lib/text-page.ts";

const SERIES = 10_000;
const ROUNDS = 40;

/** One line of facts for the bench's report. */
export function benchText(): Readonly<Record<string, number>> {
  const pages = Array.from({ length: 20 }, (_, round) => Buffer.from(vllmPage(SERIES, round)));
  const page = (round: number): Buffer => pages[round % pages.length] as Buffer;
  const parser = createPageParser();
  const [repeated, first, labels, alternative] = rates(page, [
    (round) => void parser.parse(page(round)),
    (round) => void parsePage(page(round)),
    (round) => touchLabels(parsePage(page(round))),
    (round) => void parseAlternative(page(round).toString()),
  ]) as [number, number, number, number];
  const allocated = allocatedBytes(200, (round) => void parser.parse(page(round)));
  return {
    page_bytes: page(0).length,
    repeated_mb_per_s: repeated,
    first_seen_mb_per_s: first,
    first_seen_labels_read_mb_per_s: labels,
    parse_prometheus_text_format_mb_per_s: alternative,
    repeated_ratio: repeated / alternative,
    first_seen_ratio: first / alternative,
    first_seen_labels_read_ratio: labels / alternative,
    allocated_bytes_per_repeated_series: allocated / SERIES,
  };
}

function touchLabels(page: ReturnType<typeof parsePage>): void {
  for (const samples of page.samples.values()) for (const sample of samples) void sample.labels["model_name"];
}

/** Median MB/s of each contestant; they take turns, so that a busy machine slows all of them alike. */
function rates(page: (round: number) => Buffer, contestants: readonly ((round: number) => void)[]): number[] {
  const seen = contestants.map((): number[] => []);
  for (let round = 0; round < ROUNDS; round++) {
    for (const [index, run] of contestants.entries()) {
      const began = process.hrtime.bigint();
      run(round);
      const nanos = Number(process.hrtime.bigint() - began);
      if (round >= ROUNDS / 4) seen[index]?.push((page(round).length / nanos) * 1000);
    }
  }
  return seen.map((rates) => rates.toSorted((a, b) => a - b)[rates.length >> 1] ?? 0);
}

/** Heap bytes one round allocates: the growth while no collection runs; the least of a few tries. */
function allocatedBytes(rounds: number, run: (round: number) => void): number {
  const seen: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const before = process.memoryUsage().heapUsed;
    run(round);
    const grown = process.memoryUsage().heapUsed - before;
    if (grown >= 0) seen.push(grown);
  }
  return seen.toSorted((a, b) => a - b)[seen.length >> 1] ?? 0;
}

if (import.meta.main) console.log(JSON.stringify({ bench: "text", ...benchText() }));
