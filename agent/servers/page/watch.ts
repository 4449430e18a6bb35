// What a page says only over time: series that vanish without a restart, and counters that stand while requests run.
// Facts: P3 (LiteLLM evicts series of end users, llm-d those of collected flows, AIBrix those of pods) and P8 (a vLLM
// output handler that died leaves all counters frozen while serving goes on). And that a tenant's first request counts.

import type { Nanos, TokenReading } from "../../model.ts";
import type { Clock } from "../../platform/clock.ts";
import type { MetricPage, MetricSample } from "../../source.ts";
import { partOf, startEpoch } from "./labels.ts";

const HELD_MAX = 20_000;
const FROZEN_NANOS = 120 * 1e9;

interface Held {
  readonly sample: {
    readonly name: string;
    readonly labels: Readonly<Record<string, string>>;
    value: number;
  };
  /** Added to the series since it came back lower than it left. */
  offset: number;
  page: number;
}

/** What is held, by name and then by labels: names are few, and a text of both for each series would weigh more than it. */
class HeldSeries {
  readonly #byName = new Map<string, Map<string, Held>>();
  size = 0;

  get({ labels, name }: MetricSample): Held | undefined {
    return this.#byName.get(name)?.get(partOf(labels));
  }

  add({ labels, name, value }: MetricSample, page: number): Held {
    const held = { sample: { name, labels, value }, offset: 0, page };
    const series = this.#byName.get(name) ?? new Map<string, Held>();
    this.#byName.set(name, series.set(partOf(labels), held));
    this.size++;
    return held;
  }

  clear(): void {
    this.#byName.clear();
    this.size = 0;
  }

  *values(): Generator<Held> {
    for (const series of this.#byName.values()) yield* series.values();
  }
}

/**
 * Keeps the last value of counters that vanish, so that sums over them do not fall, and takes the first value of one that
 * comes back lower as its new base. Everything is forgotten when the process restarts. Series beyond 20,000 pass as is.
 */
export function holdVanished(): (page: MetricPage) => MetricPage {
  const held = new HeldSeries();
  let number = 0;
  let start: number | undefined;
  let seen: MetricPage["samples"] | undefined;
  let samples = new Map<string, readonly MetricSample[]>();
  let pairs: Pair[] = [];
  return (page) => {
    const began = page.samples.get("process_start_time_seconds")?.[0]?.value;
    number++;
    if (began === start && page.samples === seen) {
      // The same series as on the page before: only values moved.
      for (const { read, known } of pairs) update(known, read.value, number);
    } else {
      if (began !== start) held.clear();
      pairs = [];
      samples = keepAll(held, page, number, pairs);
    }
    start = began;
    seen = page.samples;
    return { samples, ignoredSamples: page.ignoredSamples, errors: page.errors };
  };
}

/** A sample of the page and what is held for it. */
interface Pair {
  readonly read: MetricSample;
  readonly known: Held;
}

function keepAll(
  held: HeldSeries,
  page: MetricPage,
  number: number,
  pairs: Pair[],
): Map<string, readonly MetricSample[]> {
  const samples = new Map<string, MetricSample[]>();
  for (const [name, series] of page.samples) {
    samples.set(
      name,
      isCounter(name) ? series.map((sample) => keep(held, sample, number, pairs)) : [...series],
    );
  }
  for (const { sample, page: last } of held.values()) {
    if (last === number) continue;
    const series = samples.get(sample.name) ?? [];
    series.push(sample);
    samples.set(sample.name, series);
  }
  return samples;
}

function keep(held: HeldSeries, read: MetricSample, page: number, pairs: Pair[]): MetricSample {
  let known = held.get(read);
  if (known === undefined) {
    if (held.size >= HELD_MAX) return read;
    known = held.add(read, page);
  } else update(known, read.value, page);
  pairs.push({ read, known });
  return known.sample;
}

function update(known: Held, value: number, page: number): void {
  if (known.page !== page - 1 && value + known.offset < known.sample.value) {
    known.offset = known.sample.value - value;
  }
  known.page = page;
  known.sample.value = value + known.offset;
}

/** Start times and gauges are not held: a gauge that is gone says nothing. */
function isCounter(name: string): boolean {
  return !/(_created|_running|_waiting|_seconds)$/.test(name);
}

/**
 * The run whose page was already seen before this one: a label set or counter that is new on it began in between. Only
 * what this source saw itself counts, for another configuration gives old series new names; and not the page on which a
 * server begins to split its input, or ceases to, for that gives old tokens a new kind.
 */
export function watchBirths(): (page: MetricPage, readings: readonly TokenReading[]) => string | undefined {
  let before:
    | { readonly start: number | undefined; readonly split: boolean; readonly unsplit: boolean }
    | undefined;
  return (page, readings) => {
    const start = page.samples.get("process_start_time_seconds")?.[0]?.value;
    const unsplit = readings.some((reading) => reading.tokens.input_unsplit !== undefined);
    const split = readings.some((reading) => reading.tokens.input_uncached !== undefined);
    const named = before !== undefined && (unsplit || !before.unsplit) && (split || !before.split);
    const same = named && start === before?.start;
    const first = before === undefined;
    before = { start, split, unsplit };
    if (first || start === undefined) return undefined;
    // Named differently, it promises nothing of this page, yet the next one is not the first.
    return same ? startEpoch(start) : `since ${startEpoch(start)}`;
  };
}

/** Says so when requests run for two minutes without any counter moving. */
export function watchFrozen(
  clock: Pick<Clock, "now">,
): (readings: readonly TokenReading[]) => string | undefined {
  let total = -1;
  let moved: Nanos = clock.now();
  return (readings) => {
    let running = 0;
    let sum = 0;
    for (const reading of readings) {
      running += reading.running ?? 0;
      for (const tokens of Object.values(reading.tokens)) sum += tokens;
      sum += (reading.progress?.input ?? 0) + (reading.progress?.output ?? 0);
    }
    const now = clock.now();
    if (sum !== total || running === 0) moved = now;
    total = sum;
    const seconds = Math.round((now - moved) / 1e9);
    return now - moved < FROZEN_NANOS
      ? undefined
      : `counters have not moved for ${seconds} s while ${running} requests run: they may be frozen`;
  };
}
