// Tokens a server's GPUs could have produced: a rate per GPU, integrated over its allocated GPU-seconds (METERING.md 6).
// A configured rate wins over a catalogued one, and that over the learned one: the highest rate of any 5 minutes in
// which requests queued and the objectives were met. Learned rates fade (half in 14 days), so that a slower model or
// build is not measured by an old record for ever.
import type { Histogram, LatencyName, Posting, SettledInterval, StateRow, UnixNanos } from "../../model.ts";
import { addHistograms } from "../counters/histograms.ts";
import type { Objective } from "../figures/slo.ts";
import { goodput } from "../figures/slo.ts";
import { allocatedStates } from "../gpu-amounts.ts";
import type { MeterFacts } from "../meter.ts";
import { modelAttributes } from "../names.ts";
import type { Catalogue } from "./catalogue.ts";
import { inForce, productRank } from "./catalogue.ts";
import { modelRank } from "./price-book.ts";
import { Remainders } from "./split.ts";

/** Window a rate is learned over. */
const windowNanos = 300e9;
const halfLifeNanos = 14 * 86_400e9;
const nanosPerHour = 3_600_000_000_000n;
/** Part of a window in which requests must have queued: else the server was not at its limit. */
const queuedShareMin = 0.9;
const metShareMin = 0.95;

/** What is known of a server beside its counters. */
export interface CapacityFacts {
  /** Requests waiting as last seen; undefined = the server cannot say, and nothing is learned. */
  readonly waiting: (server: string) => number | undefined;
  /** Whether all of the server's GPUs are on this host: else its rate cannot be learned here. */
  readonly whole: (server: string) => boolean;
}

/** Configured rates: server id to tokens per GPU-hour. */
export type ConfiguredRates = Readonly<Record<string, number>>;

/** Where a capacity rate comes from. */
export type CapacitySource = "config" | "catalog" | "learned";

interface Window {
  tokens: number;
  allocatedNanos: number;
  wallNanos: number;
  queuedNanos: number;
  whole: boolean;
  readonly latencies: Partial<Record<LatencyName, Histogram>>;
}

interface Learned {
  tokensPerGpuHour: number;
  at: UnixNanos;
}

/** Knows each server's sustainable rate and integrates it. */
export class CapacityMeter {
  readonly #configured: ConfiguredRates;
  #catalogue: Catalogue | undefined;
  readonly #objectives: readonly Objective[];
  readonly #windows = new Map<string, Window>();
  readonly #learned = new Map<string, Learned>();
  readonly #remainders = new Remainders();

  constructor(
    configured: ConfiguredRates,
    catalogue: Catalogue | undefined,
    objectives: readonly Objective[] = [],
  ) {
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
    for (const [server, allocatedNanos] of allocatedByServer(interval)) {
      if (!facts.servers.has(server)) continue;
      this.#learn(server, interval, allocatedNanos, facts, end);
      const product = gpuModelOf(server);
      const model = facts.soleModel?.(server);
      const rate = this.rate(server, product, model, end);
      if (rate === undefined) continue;
      const dimensions = {
        "tokenwatt.server.id": server,
        ...modelAttributes(model),
        ...(product === undefined ? {} : { "hw.model": product }),
        "tokenwatt.capacity.source": rate.source,
      };
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
  ): { readonly tokensPerGpuHour: number; readonly source: CapacitySource } | undefined {
    const configured = this.#configured[server];
    if (configured !== undefined) return { tokensPerGpuHour: configured, source: "config" };
    const listed = inForce(this.#catalogue?.capacity ?? [], at - 1n, (entry) => {
      const rank = productRank(entry.gpu, product ?? "");
      return rank === undefined || modelRank(entry.model, model ?? "") === undefined ? undefined : rank;
    });
    if (listed !== undefined) return { tokensPerGpuHour: Number(listed.tokensPerGpuHour), source: "catalog" };
    const learned = this.#learned.get(server);
    return learned === undefined ? undefined : { tokensPerGpuHour: faded(learned, at), source: "learned" };
  }

  /** Learned rates and carried remainders, for the store. */
  state(): StateRow {
    const learned = [...this.#learned].map(([server, one]) => [server, one.tokensPerGpuHour, String(one.at)]);
    return {
      key: JSON.stringify(["capacity"]),
      value: JSON.stringify({ learned, remainders: this.#remainders.state() }),
    };
  }

  /** Continues from `state()`. */
  restore(row: StateRow): void {
    const state = JSON.parse(row.value) as {
      learned: readonly [string, number, string][];
      remainders: Readonly<Record<string, string>>;
    };
    this.#remainders.restore(state.remainders);
    for (const [server, tokensPerGpuHour, at] of state.learned) {
      this.#learned.set(server, { tokensPerGpuHour, at: BigInt(at) });
    }
  }

  #learn(
    server: string,
    interval: SettledInterval,
    allocatedNanos: number,
    facts: CapacityFacts,
    end: UnixNanos,
  ): void {
    const window = this.#windows.get(server) ?? emptyWindow();
    this.#windows.set(server, window);
    const length = interval.to - interval.from;
    window.wallNanos += length;
    window.allocatedNanos += allocatedNanos;
    if ((facts.waiting(server) ?? 0) > 0) window.queuedNanos += length;
    window.whole &&= facts.whole(server);
    for (const one of interval.servers) {
      if (one.server !== server) continue;
      window.tokens += engineTokens(one.increments);
      for (const increment of one.increments) addLatencies(window.latencies, increment.latencies);
    }
    if (window.wallNanos < windowNanos) return;
    this.#windows.set(server, emptyWindow());
    const queued = window.queuedNanos >= queuedShareMin * window.wallNanos;
    if (!queued || !window.whole || window.allocatedNanos === 0) return;
    if (!this.#objectives.every((objective) => isMet(objective, window.latencies))) return;
    const seen = (window.tokens * Number(nanosPerHour)) / window.allocatedNanos;
    const known = this.#learned.get(server);
    if (known === undefined || seen > faded(known, end)) {
      this.#learned.set(server, { tokensPerGpuHour: seen, at: end });
    }
  }
}

function emptyWindow(): Window {
  return { tokens: 0, allocatedNanos: 0, wallNanos: 0, queuedNanos: 0, whole: true, latencies: {} };
}

/** An objective counts as met by a window when 95 % of its requests certainly met it; unobserved is not met. */
function isMet(objective: Objective, latencies: Window["latencies"]): boolean {
  const met = goodput(objective, latencies);
  return met !== undefined && met.min >= metShareMin * met.requests;
}

function addLatencies(sums: Window["latencies"], more: Window["latencies"]): void {
  for (const name of Object.keys(more) as LatencyName[]) {
    const [known, moved] = [sums[name], more[name]];
    if (moved === undefined) continue;
    sums[name] = known === undefined ? moved : (addHistograms(known, moved) ?? moved);
  }
}

function faded(learned: Learned, at: UnixNanos): number {
  const age = Math.max(0, Number(at - learned.at));
  return learned.tokensPerGpuHour * 0.5 ** (age / halfLifeNanos);
}

/** Tokens of all kinds, those read late left out: they were not made in this window. */
function engineTokens(increments: SettledInterval["servers"][number]["increments"]): number {
  let sum = 0;
  for (const { family, late, tokens } of increments) {
    if (family !== "engine" || late) continue;
    for (const amount of Object.values(tokens)) sum += amount ?? 0;
  }
  return sum;
}

function allocatedByServer(interval: SettledInterval): ReadonlyMap<string, number> {
  const sums = new Map<string, number>();
  for (const gpu of interval.gpus) {
    for (const { nanos, server } of gpu.residents) {
      const held = allocatedStates.reduce((sum, state) => sum + nanos[state], 0);
      sums.set(server, (sums.get(server) ?? 0) + held);
    }
  }
  return sums;
}
