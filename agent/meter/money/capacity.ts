// Tokens a server's GPUs could have produced: a rate per GPU, integrated over its allocated GPU-seconds (METERING.md 6).
// A configured rate wins over a catalogued one, and that over the learned one: what the costs of the server's work make of
// the mix it serves at the batch that is its limit, between bounds; and for servers that do not say how many run, the
// highest rate of 5 minutes in which requests queued and the objectives were met, in weighted tokens.
// Capacity tokens are tokens of the mix served.
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
import type { CurveState } from "./capacity-curve.ts";
import { CapacityCurve } from "./capacity-curve.ts";
import type { CapacityRate } from "./capacity-rate.ts";
import { capacityDimensions, rateGauges } from "./capacity-rate.ts";
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
import type { Mix } from "./served-mix.ts";
import { addToMix, emptyMix, plainTokens, restoredMix, weightedTokens, workTokens } from "./served-mix.ts";
import { Remainders } from "./split.ts";
import type { TokenWeights } from "./tenants.ts";
import { defaultWeights } from "./tenants.ts";

/** Windows a rate of a queued server, and a point of the curve, are learned over. */
const [windowNanos, minuteNanos] = [300e9, 60e9];
/** Share of a minute in execution that says something of the rate. */
const activeShareMin = 0.25;
/** Servers and models whose rates are kept. */
const servedMax = 1024;
const gaugeMs = 10_000;
const noIncrements: readonly TokenIncrement[] = [];
const halfLifeNanos = 14 * 86_400e9;
const nanosPerHour = 3_600_000_000_000n;
/** Part of a window in which requests must have queued: else the server was not at its limit. */
const queuedShareMin = 0.9;
/** And part of a minute of the curve: what ran while they did is the limit. */
const queuedMinuteShareMin = 0.5;

/** Configured rates: server id to tokens per GPU-hour. */
export type ConfiguredRates = Readonly<Record<string, number>>;

interface Learned {
  /** Weighted. */
  tokensPerGpuHour: number;
  at: UnixNanos;
}

/** Knows each server's sustainable rate and integrates it. */
export class CapacityMeter {
  readonly #configured: ConfiguredRates;
  #catalogue: Catalogue | undefined;
  readonly #objectives: readonly Objective[];
  readonly #windows = new Map<string, CapacityWindow>();
  readonly #minutes = new Map<string, CapacityWindow>();
  readonly #stretches = [this.#windows, this.#minutes] as const;
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
      const of = { server, model, product };
      this.#learn(of, interval, held, facts, end);
      const rate = this.rate(server, product, model, end);
      if (rate === undefined) continue;
      const dimensions = capacityDimensions(of, rate.source);
      const made = plainTokens(incrementsOf(interval, server));
      if (made > 0) posted.push({ metric: "tokenwatt.rated_tokens", dimensions, amount: made });
      const amount = this.#remainders.divide(
        `${server} ${rate.source}`,
        BigInt(allocatedNanos) * BigInt(Math.round(rate.tokensPerGpuHour)),
        nanosPerHour,
      );
      if (amount > 0n)
        posted.push({ metric: "tokenwatt.capacity_tokens", dimensions, amount: Number(amount) });
      this.#postDoubt(posted, server, dimensions, allocatedNanos, rate);
    }
    return posted;
  }

  #postDoubt(
    posted: Posting[],
    server: string,
    dimensions: Dimensions,
    allocatedNanos: number,
    { reason, uncertainPerGpuHour = 0 }: CapacityRate,
  ): void {
    if (reason === undefined) return;
    const amount = this.#remainders.divide(
      `${server} ${reason}`,
      BigInt(allocatedNanos) * BigInt(Math.round(uncertainPerGpuHour)),
      nanosPerHour,
    );
    if (amount > 0n)
      posted.push({
        metric: "tokenwatt.uncertain_capacity_tokens",
        dimensions: { ...dimensions, "tokenwatt.reason": reason },
        amount: Number(amount),
      });
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
    const plateau = mix === undefined ? undefined : this.#curves.get(key)?.plateau(at, mix);
    if (plateau !== undefined) {
      const { isLimitSeen, minutes, rate, rateLeast } = plateau;
      return {
        tokensPerGpuHour: rate * 3600,
        source: "learned",
        uncertainPerGpuHour: (rate - rateLeast) * 3600,
        reason: isLimitSeen ? "fitted_work" : "limit_not_seen",
        minutes,
        at: plateau.at,
      };
    }
    const plain = mix === undefined || !(mix.weighted > 0) ? 1 : mix.tokens / mix.weighted;
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
      return rateGauges(rate, { server, model, product }, end, at, gaugeMs);
    });
  }

  /** Learned rates and carried remainders, for the store. */
  state(): StateRow {
    const learned = [...this.#learned].map(([server, one]) => [server, one.tokensPerGpuHour, String(one.at)]);
    return {
      key: JSON.stringify(["capacity"]),
      value: JSON.stringify({
        served: learned,
        servedWork: [...this.#curves].map(([server, curve]) => [server, curve.state()]),
        servedMixes: [...this.#mixes],
        remainders: this.#remainders.state(),
      }),
    };
  }

  /** Continues from `state()`. */
  restore(row: StateRow): void {
    const state = JSON.parse(row.value) as {
      served?: readonly [string, number, string][];
      servedWork?: readonly [string, CurveState][];
      servedMixes?: readonly [string, Partial<Mix>][];
      remainders: Readonly<Record<string, string>>;
    };
    this.#remainders.restore(state.remainders);
    // A rate of another unit, or of who knows which model, is learned from scratch: its entries have other names.
    for (const [key, tokensPerGpuHour, at] of state.served ?? [])
      this.#learned.set(key, { tokensPerGpuHour, at: BigInt(at) });
    for (const [key, mix] of state.servedMixes ?? []) this.#mixes.set(key, restoredMix(mix));
    for (const [key, points] of state.servedWork ?? []) {
      const curve = new CapacityCurve();
      curve.restore(points);
      this.#curves.set(key, curve);
    }
  }

  #learn(of: Served, interval: SettledInterval, held: Held, facts: CapacityFacts, end: UnixNanos): void {
    const { server } = of;
    const key = keyOf(of);
    const increments = incrementsOf(interval, server);
    const executed = held.allocated > 0 ? held.active / held.allocated : 0;
    this.#learnMix(key, increments, (interval.to - interval.from) * executed);
    const weighted = weightedTokens(increments, this.#weights);
    const load = loadOf(server, facts);
    const [prompts, outputs] = workTokens(increments);
    const length = interval.to - interval.from;
    for (const windows of this.#stretches) {
      const window = openWindow(windows, key);
      addInterval(window, length, held, load);
      window.tokens += weighted;
      window.prompts += prompts;
      window.outputs += outputs;
      // Only an objective asks for them.
      if (this.#objectives.length > 0)
        for (const increment of increments) addServed(window.latencies, increment.latencies);
      if (window.wallNanos < (windows === this.#minutes ? minuteNanos : windowNanos)) continue;
      windows.delete(key);
      if (!window.whole || window.allocatedNanos === 0) continue;
      const isMet = this.#objectives.every((objective) => isObjectiveMet(objective, window.latencies));
      if (windows === this.#minutes) this.#learnMinute(key, window, isMet, end);
      else if (isMet) this.#learnQueued(key, window, end);
    }
  }

  #learnMinute(key: string, window: CapacityWindow, isMet: boolean, at: UnixNanos): void {
    const { activeNanos, allocatedNanos, cacheCount, cacheSum, outputs, prompts, runningCount } = window;
    if (runningCount === 0 || activeNanos < activeShareMin * allocatedNanos) return;
    const curve = this.#curves.get(key) ?? new CapacityCurve();
    this.#curves.set(key, curve);
    const { queuedCount, queuedMost, queuedNanos, queuedSum, wallNanos } = window;
    const isQueued = queuedCount > 0 && queuedNanos >= queuedMinuteShareMin * wallNanos;
    curve.observeMinute({
      ...{ prompts, outputs, isMet, at },
      seconds: activeNanos / 1e9,
      running: window.runningSum / runningCount,
      cacheRatio: cacheCount === 0 ? undefined : cacheSum / cacheCount,
      queued: isQueued ? { running: queuedSum / queuedCount, runningMost: queuedMost } : undefined,
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

  /** The mix of the last minutes of work, `executedNanos` of it in this interval. */
  #learnMix(key: string, increments: readonly TokenIncrement[], executedNanos: number): void {
    const mix = this.#mixes.get(key) ?? emptyMix();
    // Behind the others: in front are those not served for longest.
    if (!this.#mixes.delete(key)) this.#makeRoom();
    this.#mixes.set(key, mix);
    addToMix(mix, increments, this.#weights, executedNanos);
  }
}

/** Those of one server, which an interval has once. */
function incrementsOf({ servers }: SettledInterval, server: string): readonly TokenIncrement[] {
  for (const one of servers) if (one.server === server) return one.increments;
  return noIncrements;
}

/** The stretch of a server that is still gathered. */
function openWindow(windows: Map<string, CapacityWindow>, key: string): CapacityWindow {
  let window = windows.get(key);
  if (window === undefined) {
    window = emptyWindow();
    windows.set(key, window);
  }
  return window;
}

function faded(learned: Learned, at: UnixNanos): number {
  const age = Math.max(0, Number(at - learned.at));
  return learned.tokensPerGpuHour * 0.5 ** (age / halfLifeNanos);
}
