// The data-parallel ranks of a page that tells several apart: the page is read once more for each, of the series that have its
// label alone, so that every reader knows ranks without a word of its own. What is booked are the readings as a whole.
import type { RankReading, TokenReading } from "../../model.ts";
import type { MetricPage, PageReading } from "../../source.ts";
import type { PageReadings } from "./readings.ts";

/** How a page says which data-parallel rank a series is of. */
export interface RankLabel {
  readonly label: string;
  /** A counter and a gauge with the label that every rank has from the beginning. */
  readonly counter: string;
  readonly gauge: string;
}

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

/** Ranks read one by one at most. */
const RANKS_MAX = 256;

/** Pages in a row that may leave a rank out. */
const PAGES_MAX = 12;

/**
 * The ranks that the pages of one server show, page by page. What was counted of a rank outlasts its page: of a server that was
 * started again with fewer ranks, those that are gone would else be idle ones of which nothing is known.
 */
export class ShownRanks {
  readonly #labels: readonly RankLabel[];
  /** The last page each was on. */
  readonly #seen = new Map<string, number>();
  #page = 0;

  constructor(labels: readonly RankLabel[]) {
    this.#labels = labels;
  }

  /** Takes in what a page shows, not what was counted of it. */
  take({ samples }: MetricPage): void {
    this.#page++;
    if (this.#seen.size > RANKS_MAX) this.#seen.clear();
    for (const { counter, gauge, label } of this.#labels)
      for (const name of [counter, gauge])
        for (const { labels } of samples.get(name) ?? []) {
          const rank = labels[label];
          if (rank !== undefined) this.#seen.set(rank, this.#page);
        }
  }

  /** Whether a rank was on one of the last pages. */
  has(rank: string): boolean {
    const page = this.#seen.get(rank);
    return page !== undefined && this.#page - page <= PAGES_MAX;
  }
}

/**
 * The label that tells ranks apart, and the ranks, in order of the page; undefined where there are fewer than two. `shown`:
 * those of them that are there, where pages are read one after the other.
 */
export function ranksOn(
  readings: PageReadings,
  labels: readonly RankLabel[],
  shown?: ShownRanks,
): { readonly label: string; readonly ranks: readonly string[] } | undefined {
  for (const { counter, gauge, label } of labels) {
    const ranks = new Set<string>();
    for (const list of [readings.counters(counter), readings.gauges(gauge)])
      for (const sample of list) {
        const rank = sample.labels[label];
        if (rank !== undefined && shown?.has(rank) !== false) ranks.add(rank);
      }
    if (ranks.size > 1 && ranks.size <= RANKS_MAX) return { label, ranks: [...ranks] };
  }
  return undefined;
}

/** A page's reading with the part of each rank in it; `readRank` reads the page as if it had that rank's series alone. */
export function withRanks(
  reading: PageReading,
  ranks: readonly string[],
  readRank: (rank: string) => PageReading,
): PageReading {
  const parts = new Map<string, RankReading[]>();
  for (const rank of ranks) {
    const { activeNanos, readings } = readRank(rank);
    readings.forEach((part, index) => {
      const key = keyOf(part);
      const list = parts.get(key) ?? [];
      // A scheduler's busy time is the rank's, whatever models it serves.
      list.push(rankReading(rank, part, index === 0 ? activeNanos : undefined));
      parts.set(key, list);
    });
  }
  return {
    ...reading,
    readings: reading.readings.map((whole) => {
      const own = parts.get(keyOf(whole));
      return own === undefined ? whole : { ...withKnownGauge(whole, own), ranks: own };
    }),
  };
}

/** Where the page leaves out how many requests a rank runs, nothing else running is not nothing running. */
function withKnownGauge(whole: TokenReading, ranks: readonly RankReading[]): TokenReading {
  const told = ranks.filter(({ running }) => running !== undefined);
  if (whole.running !== 0 || told.length === 0 || told.length === ranks.length) return whole;
  const { running: _unknown, ...rest } = whole;
  return rest;
}

function rankReading(
  rank: string,
  { latencies, progress, requests, running, tokens, waiting }: TokenReading,
  activeNanos: number | undefined,
): RankReading {
  const reading: Mutable<RankReading> = { rank, tokens };
  let ended = 0;
  for (const outcome of ["ok", "error", "aborted"] as const) ended += requests[outcome] ?? 0;
  if (ended > 0) reading.requests = ended;
  if (progress !== undefined) reading.progress = progress;
  if (running !== undefined) reading.running = running;
  if (waiting !== undefined) reading.waiting = waiting;
  if (latencies !== undefined) reading.latencies = latencies;
  if (activeNanos !== undefined) reading.activeNanos = activeNanos;
  return reading;
}

function keyOf({ endpoint, model, tenant }: TokenReading): string {
  return [model, tenant, endpoint].map((name) => name ?? "\u0001").join("\u0000");
}
