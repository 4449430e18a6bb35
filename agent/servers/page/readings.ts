// Gathers the samples of one metric page into readings: one per (model, tenant, endpoint), in the words of model.ts.
// The server files say which sample means what; this file adds up, splits input into cached and uncached, turns
// cumulative buckets into a Histogram and drops what cannot be a counter. Long lists are gone through by place: in code
// that is not yet optimised, `for of` makes an object for each element, at every poll of every server.
import type {
  LatencyKey,
  LatencyName,
  Outcome,
  PhaseTimes,
  ProgressKind,
  Role,
  TokenKind,
  TokenReading,
} from "../../model.ts";
import { keepShape } from "../../platform/kept-shapes.ts";
import type { MetricPage, MetricSample, PageReading } from "../../source.ts";
import { defined } from "../entry.ts";
import type { SeriesBases } from "./bases.ts";
import type { RankOf } from "./chosen.ts";
import { answeredHere, ofRank } from "./chosen.ts";
import type { ReadingDraft } from "./draft.ts";
import { summedLabels } from "./draft.ts";
import type { Making } from "./drafts.ts";
import { PageDrafts } from "./drafts.ts";
import { mergeHistograms, pageHistograms } from "./histograms.ts";
import type { Labels, ReaderOptions } from "./labels.ts";
import { startEpoch } from "./labels.ts";
import { partsOf, sumParts } from "./parts.ts";
import { filedName } from "./spelling.ts";

const NONE: readonly MetricSample[] = [];
/** A default that is not made for each call. */
const NO_NAMES: readonly string[] = [];
const RANK_LATENCIES: ReadonlySet<LatencyName> = new Set([
  "request_duration",
  "time_to_first_token",
  "queue_time",
]);

/** How a family of buckets is read. */
export interface LatencyReading {
  /** Turns its unit into seconds. */
  readonly scale?: number;
  /** Only parts with these labels. */
  readonly when?: (labels: Labels) => boolean;
  /** How the requests in it ended: always so, or by its labels. */
  readonly outcome?: Outcome | ((labels: Labels) => Outcome | undefined);
}

/** The readings of one page. */
export class PageReadings {
  readonly page: MetricPage;
  readonly options: ReaderOptions;
  ignored: number;
  readonly errors: string[];
  readonly #bases: Pick<SeriesBases, "counters"> | undefined;
  readonly #drafts: PageDrafts;
  readonly #volume: ProgressKind;
  /** Whether readings remember what they were summed of. */
  readonly #noting: boolean;
  #progressKind: ProgressKind | undefined;
  #epoch: string | undefined;
  #activeNanos: number | undefined;
  #phaseTimes: PhaseTimes | undefined;
  #gpus: readonly string[] | undefined;
  /** Only series of this data-parallel rank are read. */
  readonly #rank: RankOf | undefined;
  /** Names whose unusable samples were counted: a gauge may be asked for more than once. */
  readonly #gauged = new Set<string>();
  /** Configured, else what the page says of itself. */
  role: Role;

  /** `bases`: what was counted of each series, where pages are read one after the other. `rank`: of that one alone. */
  constructor(
    page: MetricPage,
    volume: ProgressKind,
    options: ReaderOptions,
    noting?: "noting",
    bases?: Pick<SeriesBases, "counters">,
    rank?: RankOf,
  ) {
    this.page = page;
    this.#rank = rank;
    this.#bases = bases;
    this.options = options;
    this.ignored = page.ignoredSamples;
    this.errors = [...page.errors];
    this.#volume = volume;
    this.#noting = noting !== undefined;
    this.#drafts = new PageDrafts(options);
    this.role = options.role ?? "combined";
  }

  /**
   * The usable samples of a counter: finite and not negative; where pages are read one after the other, what was counted of
   * its series. The same list as long as the page has the same series.
   */
  counters(name: string): readonly MetricSample[] {
    if (this.#bases === undefined) return this.gauges(name);
    return ofRank(answeredHere(this.#bases.counters(filedName(name)), this.options), this.#rank);
  }

  /** The usable samples of a gauge, or of anything as it is on the page. */
  gauges(name: string): readonly MetricSample[] {
    const samples = ofRank(answeredHere(this.page.samples.get(name) ?? NONE, this.options), this.#rank);
    if (samples.every(isCount)) return samples;
    const usable = samples.filter(isCount);
    if (!this.#gauged.has(name)) this.ignored += samples.length - usable.length;
    this.#gauged.add(name);
    return usable;
  }

  /** The first of `names` that is on the page, or the last. */
  firstOf(...names: readonly string[]): string {
    return names.find((name) => this.page.samples.has(name)) ?? (names.at(-1) as string);
  }

  /** The reading the labels belong to; `summed` notes them as part of it. */
  of(
    labels: Labels,
    summed: "summed" | "other" = "other",
    without: readonly string[] = NO_NAMES,
  ): ReadingDraft {
    const draft = this.#drafts.of(labels);
    if (this.#noting && summed === "summed") draft.noteLabels(labels, without);
    return draft;
  }

  /** The reading that the sample at a place of a list is summed into. */
  #summedAt(
    all: readonly Making[],
    samples: readonly MetricSample[],
    place: number,
    without = NO_NAMES,
  ): ReadingDraft {
    const draft = this.#drafts.at(all[place] as Making);
    if (this.#noting) draft.noteLabels((samples[place] as MetricSample).labels, without);
    return draft;
  }

  /**
   * Adds a counter whole to one kind. A prefill server makes one token per request only to hand the request on: the decode
   * server counts it again, so it is no output here (METERING.md 3).
   */
  tokens(kind: TokenKind, name: string): void {
    if (kind === "output" && this.role === "prefill") return;
    const samples = this.counters(name);
    const all = this.#drafts.ofAll(samples);
    for (let place = 0; place < samples.length; place++)
      this.#summedAt(all, samples, place).tokens(kind, (samples[place] as MetricSample).value);
  }

  /**
   * Adds an input counter that includes cache hits. `cached` gives the hits of one part (labels without `without`), or
   * undefined where the server does not say: those tokens stay unsplit. A decode server's input was counted where it was
   * prefilled (METERING.md 3), so there it is left out.
   */
  input(
    name: string,
    cached: (part: string) => number | undefined,
    without: readonly string[] = NO_NAMES,
    when?: (labels: Labels) => boolean,
  ): void {
    if (this.role === "decode") return;
    const samples = this.counters(name);
    const parts = partsOf(samples, without);
    const { places, sums } = sumParts(samples, parts, when);
    const all = this.#drafts.ofAll(samples);
    for (let part = 0; part < sums.length; part++) {
      const first = places[part] as number;
      if (first === -1) continue;
      const value = sums[part] as number;
      const draft = this.#summedAt(all, samples, first, without);
      const hits = cached(parts.keys[part] as string);
      if (hits === undefined) draft.tokens("input_unsplit", value);
      else {
        const kept = Math.min(hits, value);
        draft.tokens("input_cached", kept);
        draft.tokens("input_uncached", value - kept);
      }
    }
  }

  /** Sums a counter by part, with the labels of one of its samples. */
  sums(
    name: string,
    without: readonly string[] = NO_NAMES,
    when?: (labels: Labels) => boolean,
  ): Map<string, { readonly labels: Labels; readonly value: number }> {
    const samples = this.counters(name);
    const parts = partsOf(samples, without);
    const { places, sums } = sumParts(samples, parts, when);
    const byKey = new Map<string, { readonly labels: Labels; readonly value: number }>();
    for (const [part, key] of parts.keys.entries()) {
      const first = samples[places[part] as number];
      if (first !== undefined) byKey.set(key, { labels: first.labels, value: sums[part] as number });
    }
    return byKey;
  }

  /** Sums a counter by part: its labels without `without`. */
  parts(
    name: string,
    without: readonly string[] = NO_NAMES,
    when?: (labels: Labels) => boolean,
  ): Map<string, number> {
    const samples = this.counters(name);
    const parts = partsOf(samples, without);
    const { places, sums } = sumParts(samples, parts, when);
    const byKey = new Map<string, number>();
    for (let part = 0; part < sums.length; part++)
      if (places[part] !== -1) byKey.set(parts.keys[part] as string, sums[part] as number);
    return byKey;
  }

  /** Adds a request counter; `outcome` judges its labels, undefined = do not count. */
  requests(name: string, outcome: (labels: Labels) => Outcome | undefined): void {
    const samples = this.counters(name);
    const all = this.#drafts.ofAll(samples);
    for (let place = 0; place < samples.length; place++) {
      const { labels, value } = samples[place] as MetricSample;
      const named = outcome(labels);
      if (named !== undefined) this.#drafts.at(all[place] as Making).requests(named, value);
    }
  }

  /** Sums a gauge of requests in the server. */
  inFlight(field: "running" | "waiting", name: string, when?: (labels: Labels) => boolean): void {
    for (const sample of this.gauges(name)) {
      if (when !== undefined && !when(sample.labels)) continue;
      const draft = this.of(sample.labels);
      draft[field] = (draft[field] ?? 0) + Math.round(sample.value);
    }
  }

  /** Averages a gauge of KV cache use over the parts that publish it. */
  kvCache(name: string, when?: (labels: Labels) => boolean): void {
    for (const sample of this.gauges(name)) {
      if (when !== undefined && !when(sample.labels)) continue;
      const draft = this.of(sample.labels);
      const { sum, count } = draft.kv ?? { sum: 0, count: 0 };
      draft.kv = { sum: sum + Math.min(1, sample.value), count: count + 1 };
    }
  }

  /**
   * Adds a histogram. Parts with other bounds than the first are left out. `outcome` says by its labels how the requests in
   * it ended; undefined = the page does not say, and nothing is assumed.
   */
  latency(name: LatencyName, family: string, { scale = 1, when, outcome }: LatencyReading = {}): void {
    if (this.#rank !== undefined) {
      if (RANK_LATENCIES.has(name)) this.#latencySums(name, family, scale, when);
      return;
    }
    for (const { labels, histogram } of pageHistograms((part) => this.counters(part), family, scale, when)) {
      const draft = this.of(labels);
      const ended = typeof outcome === "function" ? outcome(labels) : outcome;
      const key: LatencyKey = ended === undefined ? name : `${name} ${ended}`;
      const merged = histogram === undefined ? undefined : mergeHistograms(draft.latencies[key], histogram);
      if (merged === undefined) this.#fault(`${family} has buckets that cannot be read together`);
      else draft.latencies[key] = merged;
    }
  }

  /** Of a rank's latencies only what they add up to is asked for: how long its requests were in execution. */
  #latencySums(
    name: LatencyName,
    family: string,
    scale: number,
    when: ((labels: Labels) => boolean) | undefined,
  ): void {
    for (const part of ["sum", "count"] as const)
      for (const { labels, value } of this.counters(`${family}_${part}`)) {
        if (when !== undefined && !when(labels)) continue;
        const { latencies } = this.of(labels);
        const known = latencies[name] ?? { bounds: [], counts: [0], sum: 0, count: 0 };
        const sum = known.sum + (part === "sum" ? value * scale : 0);
        const count = known.count + (part === "count" ? value : 0);
        latencies[name] = { bounds: known.bounds, counts: [count], sum, count };
      }
  }

  /** The identity of the process, by its start time: it changes with every restart. */
  epoch(): void {
    const start = this.page.samples.get("process_start_time_seconds")?.[0]?.value;
    if (start !== undefined && start > 0) this.#epoch = startEpoch(start);
  }

  /** How the counters given to `progress` move, where that is sooner than the volume counters. */
  progressMoves(kind: ProgressKind): void {
    this.#progressKind = kind;
  }

  /** Cumulative seconds with at least one request in execution. */
  active(seconds: number | undefined): void {
    if (seconds !== undefined && seconds >= 0) this.#activeNanos = Math.round(seconds * 1e9);
  }

  /** What prefill and decode of the requests that ended took, by the sums and the count of two histograms in seconds. */
  phaseTimes(prefill: string, decode: string): void {
    const total = (name: string): number | undefined => {
      const samples = this.counters(name);
      return samples.length === 0 ? undefined : samples.reduce((sum, { value }) => sum + value, 0);
    };
    const [requests, first, rest] = [`${prefill}_count`, `${prefill}_sum`, `${decode}_sum`].map(total);
    if (requests === undefined || first === undefined || rest === undefined) return;
    const nanos = (seconds: number): number => Math.round(seconds * 1e9);
    this.#phaseTimes = { requests, prefillNanos: nanos(first), decodeNanos: nanos(rest) };
  }

  /** UUIDs of the GPUs the server uses. */
  gpus(uuids: readonly string[]): void {
    if (uuids.length > 0) this.#gpus = uuids;
  }

  /** Everything gathered. A page without a single token counter says so in `errors`. */
  finish(): PageReading {
    const drafts = this.#drafts.finish();
    keepShape(this.options, this);
    // Where some counters move sooner than the booked ones, those that only book must not look like progress.
    if (drafts.some((draft) => draft.progressed !== undefined)) {
      for (const draft of drafts) draft.progressed ??= { input: 0, output: 0 };
    }
    return {
      ...defined({ activeNanos: this.#activeNanos, phaseTimes: this.#phaseTimes, gpus: this.#gpus }),
      readings: drafts.map((draft) => this.#reading(draft)),
      summed: this.#noting ? drafts.map(summedLabels) : [],
      ignoredSamples: this.ignored,
      errors: this.errors,
    };
  }

  #reading(draft: ReadingDraft): TokenReading {
    const { byOutcome, identity, kv, latencies, progressed } = draft;
    // Filled in, not put together of pieces: thousands are made at every poll of a gateway.
    const reading: { -readonly [K in keyof TokenReading]: TokenReading[K] } = {
      role: this.role,
      tokens: draft.tokensByKind,
      requests: draft.requestsByOutcome,
      volume: draft.volumeKind ?? this.#volume,
    };
    if (identity.model !== undefined) reading.model = identity.model;
    if (identity.tenant !== undefined) reading.tenant = identity.tenant;
    if (identity.endpoint !== undefined) reading.endpoint = identity.endpoint;
    if (this.#epoch !== undefined) reading.epoch = this.#epoch;
    if (byOutcome !== undefined) reading.tokensByOutcome = byOutcome;
    if (!isEmpty(latencies)) reading.latencies = latencies;
    if (draft.reasoningTokens !== undefined) reading.reasoningTokens = draft.reasoningTokens;
    if (progressed !== undefined) {
      reading.progress = progressed;
      if (this.#progressKind !== undefined) reading.progressKind = this.#progressKind;
    }
    if (draft.running !== undefined) reading.running = draft.running;
    if (draft.waiting !== undefined) reading.waiting = draft.waiting;
    if (kv !== undefined) reading.kvCacheUtilization = kv.sum / kv.count;
    return reading;
  }

  #fault(problem: string): void {
    if (this.errors.length < 20) this.errors.push(problem);
  }
}

function isEmpty(record: object): boolean {
  for (const _name in record) return false;
  return true;
}

function isCount({ value }: MetricSample): boolean {
  return value >= 0 && value <= Number.MAX_SAFE_INTEGER;
}
