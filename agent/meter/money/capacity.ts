// Tokens a server's GPUs could have produced: a rate per GPU, integrated over its allocated GPU-seconds (METERING.md 6).
// A configured rate wins over a catalogued one, and that over the learned one: the plateau of the curve of weighted tokens
// against requests running, and for servers that do not say how many run, the highest rate of 5 minutes in which requests
// queued and the objectives were met. Learned rates are of weighted tokens; capacity tokens are tokens of the mix served.
import type {
  Dimensions,
  Gauge,
  Nanos,
  Posting,
  SettledInterval,
  StateRow,
  TokenIncrement,
  UnixNanos,
} from "../../model.ts";
import type { Objective } from "../figures/slo.ts";
import type { MeterFacts } from "../meter.ts";
import { modelAttributes } from "../names.ts";
import type { CurveState } from "./capacity-curve.ts";
import { CapacityCurve } from "./capacity-curve.ts";
import type { CapacityFacts, CapacityWindow, Held } from "./capacity-window.ts";
import {
  addInterval,
  addServed,
  emptyWindow,
  heldByServer,
  isObjectiveMet,
  loadOf,
} from "./capacity-window.ts";
import type { Catalogue } from "./catalogue.ts";
import { inForce, productRank } from "./catalogue.ts";
import { modelRank } from "./price-book.ts";
import type { Served } from "./served.ts";
import { keyOf, serverOf } from "./served.ts";
import { Remainders } from "./split.ts";
import type { TokenWeights } from "./tenants.ts";
import { defaultWeights } from "./tenants.ts";

/** Windows a rate of a queued server, and a point of the curve, are learned over. */
const [windowNanos, minuteNanos] = [300e9, 60e9];
/** Share of a minute in execution that says something of the rate. */
const activeShareMin = 0.25;
/** What an interval with tokens leaves of the weight of those before it: about an hour of work. */
const mixKeptRatio = 1 - 1 / 3600;
/** Servers and models whose rates are kept. */
const servedMax = 1024;
const evenWeights: TokenWeights = { output: 1, input: 1, cached: 1 };
const gaugeMs = 10_000;
const halfLifeNanos = 14 * 86_400e9;
const nanosPerHour = 3_600_000_000_000n;
/** Part of a window in which requests must have queued: else the server was not at its limit. */
const queuedShareMin = 0.9;

/** Configured rates: server id to tokens per GPU-hour. */
export type ConfiguredRates = Readonly<Record<string, number>>;

/** Where a capacity rate comes from. */
export type CapacitySource = "config" | "catalog" | "learned";

/** A rate in force, and what is behind a learned one. */
export interface CapacityRate {
  readonly tokensPerGpuHour: number;
  readonly source: CapacitySource;
  /** The share of it that the server was seen to make; absent where nothing beyond was extrapolated. */
  readonly seenRatio?: number;
  /** Minutes it was learned from, and the newest of them. */
  readonly minutes?: number;
  readonly at?: UnixNanos;
}

interface Learned {
  /** Weighted. */
  tokensPerGpuHour: number;
  at: UnixNanos;
}

/** Tokens of late, weighted and plain. */
interface Mix {
  weighted: number;
  tokens: number;
}

/** Knows each server's sustainable rate and integrates it. */
export class CapacityMeter {
  readonly #configured: ConfiguredRates;
  #catalogue: Catalogue | undefined;
  readonly #objectives: readonly Objective[];
  readonly #windows = new Map<string, CapacityWindow>();
  readonly #minutes = new Map<string, CapacityWindow>();
  readonly #learned = new Map<string, Learned>();
  readonly #curves = new Map<string, CapacityCurve>();
  readonly #mixes = new Map<string, Mix>();
  readonly #weights: TokenWeights;
  #gaugedAt: Nanos = Number.NEGATIVE_INFINITY;
  readonly #remainders = new Remainders();

  constructor(
    configured: ConfiguredRates,
    catalogue: Catalogue | undefined,
    objectives: readonly Objective[] = [],
    weights: TokenWeights = defaultWeights,
  ) {
    this.#weights = weights;
    this.#configured = configured;
    this.#catalogue = catalogue;
    this.#objectives = objectives;
  }

  /** Takes rates from another catalogue from now on. */
  setCatalogue(catalogue: Catalogue): void {
    this.#catalogue = catalogue;
  }

  /** Capacity tokens of one interval that ended at `end`. */
  measureInterval(
    interval: SettledInterval,
    facts: MeterFacts & CapacityFacts,
    end: UnixNanos,
    gpuModelOf: (server: string) => string | undefined,
  ): readonly Posting[] {
    const posted: Posting[] = [];
    for (const [server, held] of heldByServer(interval)) {
      if (!facts.servers.has(server)) continue;
      const allocatedNanos = held.allocated;
      const product = gpuModelOf(server);
      const model = facts.soleModel?.(server);
      this.#learn({ server, model, product }, interval, held, facts, end);
      const rate = this.rate(server, product, model, end);
      if (rate === undefined) continue;
      const dimensions = dimensionsOf(server, model, product, rate.source);
      const amount = this.#remainders.divide(
        `${server} ${rate.source}`,
        BigInt(allocatedNanos) * BigInt(Math.round(rate.tokensPerGpuHour)),
        nanosPerHour,
      );
      if (amount > 0n)
        posted.push({ metric: "tokenwatt.capacity_tokens", dimensions, amount: Number(amount) });
    }
    return posted;
  }

  /** The sustainable rate of a server's GPUs and where it comes from; undefined while no source can say. */
  rate(
    server: string,
    product: string | undefined,
    model: string | undefined,
    at: UnixNanos,
  ): CapacityRate | undefined {
    const configured = this.#configured[server];
    if (configured !== undefined) return { tokensPerGpuHour: configured, source: "config" };
    const listed = inForce(this.#catalogue?.capacity ?? [], at - 1n, (entry) => {
      const rank = productRank(entry.gpu, product ?? "");
      return rank === undefined || modelRank(entry.model, model ?? "") === undefined ? undefined : rank;
    });
    if (listed !== undefined) return { tokensPerGpuHour: Number(listed.tokensPerGpuHour), source: "catalog" };
    const key = keyOf({ server, model, product });
    const mix = this.#mixes.get(key);
    const plain = mix === undefined || !(mix.weighted > 0) ? 1 : mix.tokens / mix.weighted;
    const plateau = this.#curves.get(key)?.plateau(at);
    if (plateau !== undefined) {
      const { minutes, rate, seenRatio } = plateau;
      const seen = seenRatio < 1 ? { seenRatio } : {};
      return { tokensPerGpuHour: rate * 3600 * plain, source: "learned", ...seen, minutes, at: plateau.at };
    }
    const learned = this.#learned.get(key);
    if (learned === undefined) return undefined;
    const tokensPerGpuHour = faded(learned, at) * plain;
    return { tokensPerGpuHour, source: "learned", minutes: windowNanos / minuteNanos, at: learned.at };
  }

  /** The rates in force as gauges: how much, and for a learned one from how many minutes and how old. */
  gauges(
    facts: MeterFacts,
    end: UnixNanos,
    at: Nanos,
    gpuModelOf: (server: string) => string | undefined,
  ): Gauge[] {
    if (at - this.#gaugedAt < gaugeMs * 1e6) return [];
    this.#gaugedAt = at;
    const servers = new Set([...this.#mixes.keys()].map(serverOf));
    return [...servers].flatMap((server) => {
      const product = gpuModelOf(server);
      const model = facts.soleModel?.(server);
      const rate = facts.servers.has(server) ? this.rate(server, product, model, end) : undefined;
      if (rate === undefined) return [];
      const dimensions = dimensionsOf(server, model, product, rate.source);
      const gauge = (metric: string, value: number): Gauge => ({
        metric,
        dimensions,
        value,
        at,
        everyMs: gaugeMs,
      });
      return [
        gauge("tokenwatt.capacity.rate", rate.tokensPerGpuHour),
        ...(rate.source === "learned" ? [gauge("tokenwatt.capacity.seen", rate.seenRatio ?? 1)] : []),
        ...(rate.minutes === undefined ? [] : [gauge("tokenwatt.capacity.minutes", rate.minutes)]),
        ...(rate.at === undefined ? [] : [gauge("tokenwatt.capacity.age", Number(end - rate.at) / 1e9)]),
      ];
    });
  }

  /** Learned rates and carried remainders, for the store. */
  state(): StateRow {
    const learned = [...this.#learned].map(([server, one]) => [server, one.tokensPerGpuHour, String(one.at)]);
    return {
      key: JSON.stringify(["capacity"]),
      value: JSON.stringify({
        served: learned,
        servedCurves: [...this.#curves].map(([server, curve]) => [server, curve.state()]),
        servedMixes: [...this.#mixes],
        remainders: this.#remainders.state(),
      }),
    };
  }

  /** Continues from `state()`. */
  restore(row: StateRow): void {
    const state = JSON.parse(row.value) as {
      served?: readonly [string, number, string][];
      servedCurves?: readonly [string, CurveState][];
      servedMixes?: readonly [string, Mix][];
      remainders: Readonly<Record<string, string>>;
    };
    this.#remainders.restore(state.remainders);
    // A rate of another unit, or of who knows which model, is learned from scratch: its entries have other names.
    for (const [key, tokensPerGpuHour, at] of state.served ?? [])
      this.#learned.set(key, { tokensPerGpuHour, at: BigInt(at) });
    for (const [key, mix] of state.servedMixes ?? []) this.#mixes.set(key, { ...mix });
    for (const [key, points] of state.servedCurves ?? []) {
      const curve = new CapacityCurve();
      curve.restore(points);
      this.#curves.set(key, curve);
    }
  }

  #learn(of: Served, interval: SettledInterval, held: Held, facts: CapacityFacts, end: UnixNanos): void {
    const { server } = of;
    const key = keyOf(of);
    const increments = interval.servers.flatMap((one) => (one.server === server ? one.increments : []));
    this.#learnMix(key, increments);
    const weighted = weightedTokens(increments, this.#weights);
    const load = loadOf(server, facts);
    for (const [windows, nanos] of [
      [this.#windows, windowNanos],
      [this.#minutes, minuteNanos],
    ] as const) {
      const window = windows.get(key) ?? emptyWindow();
      windows.set(key, window);
      addInterval(window, interval.to - interval.from, held, load);
      window.tokens += weighted;
      // Only an objective asks for them.
      if (this.#objectives.length > 0)
        for (const increment of increments) addServed(window.latencies, increment.latencies);
      if (window.wallNanos < nanos) continue;
      windows.set(key, emptyWindow());
      if (!window.whole || window.allocatedNanos === 0) continue;
      const isMet = this.#objectives.every((objective) => isObjectiveMet(objective, window.latencies));
      if (windows === this.#minutes) this.#learnMinute(key, window, isMet, end);
      else if (isMet) this.#learnQueued(key, window, end);
    }
  }

  #learnMinute(key: string, window: CapacityWindow, isMet: boolean, at: UnixNanos): void {
    const { activeNanos, allocatedNanos, runningCount, runningSum, tokens } = window;
    if (runningCount === 0 || activeNanos < activeShareMin * allocatedNanos) return;
    const curve = this.#curves.get(key) ?? new CapacityCurve();
    this.#curves.set(key, curve);
    curve.observeMinute({
      running: runningSum / runningCount,
      rate: (tokens * 1e9) / activeNanos,
      isMet,
      isQueued: window.queuedNanos >= queuedShareMin * window.wallNanos,
      at,
    });
  }

  #learnQueued(key: string, window: CapacityWindow, at: UnixNanos): void {
    if (window.queuedNanos < queuedShareMin * window.wallNanos) return;
    const seen = (window.tokens * Number(nanosPerHour)) / window.allocatedNanos;
    const known = this.#learned.get(key);
    if (known === undefined || seen > faded(known, at))
      this.#learned.set(key, { tokensPerGpuHour: seen, at });
  }

  /** Makes room for another model of a server: what was served longest ago is forgotten. */
  #makeRoom(): void {
    if (this.#mixes.size < servedMax) return;
    const [oldest = ""] = this.#mixes.keys();
    for (const known of [this.#mixes, this.#curves, this.#learned, this.#windows, this.#minutes])
      known.delete(oldest);
  }

  /** The mix of the last hour or so of work. */
  #learnMix(key: string, increments: readonly TokenIncrement[]): void {
    const tokens = weightedTokens(increments, evenWeights);
    const mix = this.#mixes.get(key) ?? { weighted: 0, tokens: 0 };
    // Behind the others: in front are those not served for longest.
    if (!this.#mixes.delete(key)) this.#makeRoom();
    this.#mixes.set(key, mix);
    if (tokens === 0) return;
    mix.weighted = mix.weighted * mixKeptRatio + weightedTokens(increments, this.#weights);
    mix.tokens = mix.tokens * mixKeptRatio + tokens;
  }
}

function dimensionsOf(
  server: string,
  model: string | undefined,
  product: string | undefined,
  source: CapacitySource,
): Dimensions {
  return {
    "tokenwatt.server.id": server,
    ...modelAttributes(model),
    ...(product === undefined ? {} : { "hw.model": product }),
    "tokenwatt.capacity.source": source,
  };
}

function faded(learned: Learned, at: UnixNanos): number {
  const age = Math.max(0, Number(at - learned.at));
  return learned.tokensPerGpuHour * 0.5 ** (age / halfLifeNanos);
}

/** Tokens by weight, those read late left out: they were not made in this window. */
function weightedTokens(increments: readonly TokenIncrement[], weights: TokenWeights): number {
  let sum = 0;
  for (const { family, late, tokens } of increments) {
    if (family !== "engine" || late) continue;
    sum += weights.output * (tokens.output ?? 0) + weights.cached * (tokens.input_cached ?? 0);
    sum += weights.input * ((tokens.input_uncached ?? 0) + (tokens.input_unsplit ?? 0));
  }
  return sum;
}
