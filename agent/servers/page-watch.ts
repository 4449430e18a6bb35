// What a page says only over time: series that vanish without a restart, and counters that stand while requests run.
// Facts: P3 (LiteLLM evicts series of end users, llm-d those of collected flows, AIBrix those of pods) and P8 (a vLLM
// output handler that died leaves all counters frozen while serving goes on). And that a tenant's first request counts.
import type { Clock } from "../clock.ts";
import type { Nanos, TokenReading } from "../model.ts";
import type { MetricPage, MetricSample } from "../source.ts";
import { partOf, startEpoch } from "./page-labels.ts";

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

/**
 * Keeps the last value of counters that vanish, so that sums over them do not fall, and takes the first value of one that
 * comes back lower as its new base. Everything is forgotten when the process restarts. Series beyond 20,000 pass as is.
 */
export function holdVanished(): (page: MetricPage) => MetricPage {
  const held = new Map<string, Held>();
  let number = 0;
  let start: number | undefined;
  return (page) => {
    const began = page.samples.get("process_start_time_seconds")?.[0]?.value;
    if (began !== start) held.clear();
    start = began;
    number++;
    const samples = new Map<string, MetricSample[]>();
    for (const [name, series] of page.samples) {
      samples.set(name, isCounter(name) ? series.map((sample) => keep(held, sample, number)) : [...series]);
    }
    for (const { sample, page: last } of held.values()) {
      if (last === number) continue;
      const series = samples.get(sample.name) ?? [];
      series.push(sample);
      samples.set(sample.name, series);
    }
    return { samples, ignoredSamples: page.ignoredSamples, errors: page.errors };
  };
}

function keep(held: Map<string, Held>, sample: MetricSample, page: number): MetricSample {
  const key = `${sample.name}\u0000${partOf(sample.labels)}`;
  const known = held.get(key);
  if (known === undefined) {
    if (held.size < HELD_MAX) {
      const { name, labels, value } = sample;
      held.set(key, { sample: { name, labels, value }, offset: 0, page });
    }
    return sample;
  }
  if (known.page !== page - 1 && sample.value + known.offset < known.sample.value) {
    known.offset = known.sample.value - sample.value;
  }
  known.page = page;
  known.sample.value = sample.value + known.offset;
  return known.sample;
}

/** Start times and gauges are not held: a gauge that is gone says nothing. */
function isCounter(name: string): boolean {
  return !/(_created|_running|_waiting|_seconds)$/.test(name);
}

/**
 * The run whose page was already seen before this one: a label set or counter that is new on it began in between. Only
 * what this source saw itself counts, for another configuration gives old series new names; and not the page on which a
 * server begins to split its input, for that gives old tokens a new kind.
 */
export function watchBirths(): (page: MetricPage, readings: readonly TokenReading[]) => string | undefined {
  let before: { readonly start: number | undefined; readonly unsplit: boolean } | undefined;
  return (page, readings) => {
    const start = page.samples.get("process_start_time_seconds")?.[0]?.value;
    const unsplit = readings.some((reading) => reading.tokens.input_unsplit !== undefined);
    const same = before !== undefined && start === before.start && (unsplit || !before.unsplit);
    const first = before === undefined;
    before = { start, unsplit };
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
