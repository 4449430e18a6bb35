// From a settled interval to postings: which counter moves by how much, under which attributes (METERING.md 5).
// sum() over any metric without a selector is a true total: no attribute value is a part or a second view of another.
// Amounts are integers in ledger units (tokens, nanoseconds, millijoules); where nothing moved nothing is posted.
import type {
  AnyPosting,
  Dimensions,
  GpuInterval,
  GpuState,
  LatencyKey,
  ResidentShare,
  SettledInterval,
  TokenIncrement,
  UnixNanos,
  UsagePiece,
} from "../model.ts";
import { AttributeSets } from "./attribute-sets.ts";
import { outcomes, tokenKinds } from "./counters/key-counters.ts";
import { latencyOf, outcomeAttributes, outcomeOf } from "./counters/latency-keys.ts";
import { mergeEngineIncrements } from "./counters/merge-increments.ts";
import type { ServingFacts } from "./customer-meter.ts";
import { CustomerMeter } from "./customer-meter.ts";
import { priceDimensions } from "./customer-sets.ts";
import { gpuDimensions } from "./gauges.ts";
import { residentAmounts, uncertainAmounts } from "./gpu-amounts.ts";
import { HolderSets } from "./holders.ts";
import { Billing } from "./money/billing.ts";
import { attributeOf, attributes, engineLatencies, modelAttributes } from "./names.ts";
import { PostingList } from "./posting-list.ts";
import type { LimitFacts } from "./power-limits.ts";
import { LimitSets } from "./power-limits.ts";

/** What an interval is read with: the GPUs and servers known when it settled. */
export type MeterFacts = LimitFacts & ServingFacts;

/** Every state of a GPU, in the order of METERING.md 2. */
export const gpuStates: readonly GpuState[] = [
  "unobserved",
  "free",
  "other",
  "parked",
  "stalled",
  "token_active",
];
/** Nothing in any state. */
export const zeroByState: Readonly<Record<GpuState, bigint>> = {
  unobserved: 0n,
  free: 0n,
  other: 0n,
  parked: 0n,
  stalled: 0n,
  token_active: 0n,
};

/** An engine's counters do not tell chat from completion; the convention wants one value, and chat is the usual. */
const operationName = "chat";

/**
 * Postings of one interval by a meter that remembers nothing of earlier ones.
 * Exported for its test: sums of many intervals.
 */
export function postings(interval: SettledInterval, facts: MeterFacts): readonly AnyPosting[] {
  return new Meter().meterInterval(interval, facts);
}

/** Turns intervals into postings. Remembers where servers live, and reuses attribute sets so that ledgers need not. */
export class Meter {
  /** Server -> GPUs it was last seen on: an interval in which the GPU was not readable names no residents. */
  readonly #homes = new Map<string, readonly string[]>();
  readonly #sets = new AttributeSets();
  readonly holders = new HolderSets();
  readonly customers: CustomerMeter;
  #facts: MeterFacts = { gpus: new Map(), servers: new Map() };
  #posted = new PostingList();
  #limits: LimitSets | undefined;
  readonly #billing: Billing;
  constructor(billing: Billing = new Billing(), latencyTenants: readonly string[] = []) {
    this.#billing = billing;
    this.customers = new CustomerMeter(billing, (server) => this.gpuModel(server), latencyTenants);
  }

  /** The postings of one interval that ended at `end`, to be booked together; they are gathered in `into`. */
  meterInterval(
    interval: SettledInterval,
    facts: MeterFacts,
    end: UnixNanos = 1n,
    into = new PostingList(),
  ): readonly AnyPosting[] {
    this.#begin(facts, into);
    this.#remember(interval);
    this.#limits = new LimitSets(interval, this.#homes, facts);
    for (const gpu of interval.gpus) this.#gpu(gpu);
    const fromEngines = isBilledByEngines(facts);
    for (const server of interval.servers) {
      // An engine that names tenants stands in for a gateway where there is none.
      const namesTenants = fromEngines && server.increments.some((one) => one.tenant !== undefined);
      for (const increment of server.increments) {
        if (increment.family === "gateway" || namesTenants)
          this.customers.meterIncrement(increment, end - 1n);
      }
      const pricedAt = fromEngines && !namesTenants ? end - 1n : undefined;
      for (const increment of mergeEngineIncrements(server.increments)) {
        if (increment.family === "engine") this.#engine(increment, interval, pricedAt);
        if (increment.resets > 0) {
          const source = { "tokenwatt.source": `server:${increment.server}` };
          this.#add("tokenwatt.counter_resets", source, increment.resets);
        }
      }
    }
    this.#add("tokenwatt.late_samples", {}, interval.lateSamples);
    for (const violation of interval.violations) {
      this.#add("tokenwatt.invariant_violations", { "tokenwatt.law": lawOf(violation) }, 1);
    }
    this.#posted.addAll(this.#billing.postings());
    return this.#posted.all;
  }

  /** Postings of what requests `server` saw used at times of their own; one without a time was used now, at `now`. */
  postUsage(
    server: string,
    usage: readonly UsagePiece[],
    facts: MeterFacts,
    now: UnixNanos,
  ): readonly AnyPosting[] {
    this.#begin(facts, new PostingList());
    this.customers.meterUsage(server, usage, now);
    this.#posted.addAll(this.#billing.postings());
    return this.#posted.all;
  }

  #begin(facts: MeterFacts, posted: PostingList): void {
    posted.begin();
    this.#facts = facts;
    this.#posted = posted;
    this.customers.begin(facts, this.#posted);
  }

  /** The product name of a server's GPUs while they are all alike. */
  gpuModel(server: string): string | undefined {
    const homes = this.#homes.get(server) ?? this.#facts.servers.get(server)?.gpus ?? [];
    const names = new Set(homes.map((gpu) => this.#facts.gpus.get(gpu)?.name));
    return names.size === 1 ? [...names][0] : undefined;
  }

  #remember(interval: SettledInterval): void {
    const seen = new Map<string, string[]>();
    for (const gpu of interval.gpus) {
      for (const { server } of gpu.residents) {
        const homes = seen.get(server);
        if (homes === undefined) seen.set(server, [gpu.gpu]);
        else homes.push(gpu.gpu);
      }
    }
    for (const [server, homes] of seen) this.#homes.set(server, homes);
    if (this.#homes.size <= seen.size + this.#facts.servers.size + 1) return;
    for (const server of this.#homes.keys()) {
      if (!seen.has(server) && !this.#facts.servers.has(server)) this.#homes.delete(server);
    }
  }

  #gpu(gpu: GpuInterval): void {
    const info = this.#facts.gpus.get(gpu.gpu);
    const board = info === undefined ? { "hw.id": gpu.gpu } : gpuDimensions(info);
    const limit = this.#limits?.ofGpu(gpu.gpu);
    // A GPU is in one state or two: sets of the others are not made.
    for (const state of gpuStates) {
      if (gpu.nanos[state] === 0) continue;
      const time = { ...board, "tokenwatt.gpu.state": state, "tokenwatt.method": gpu.activityMethod };
      this.#add("tokenwatt.gpu.time", time, gpu.nanos[state], limit);
    }
    for (const state of [...gpuStates, "unattributed"] as const) {
      if (gpu.millijoules[state] === 0) continue;
      const energy = { ...board, "tokenwatt.gpu.state": state, "tokenwatt.method": gpu.energyMethod };
      this.#add("tokenwatt.gpu.energy", energy, gpu.millijoules[state], limit);
    }
    this.#add("tokenwatt.gpu.busy_time", board, gpu.busyNanos);
    const rejected = { ...board, "tokenwatt.reason": "impossible" };
    this.#add("tokenwatt.rejected_energy", rejected, gpu.rejectedMillijoules);
    for (const resident of gpu.residents) this.#resident(resident, board, limit);
    this.#posted.addAll(this.holders.postings(gpu, info));
    for (const { amount, dimensions, metric } of uncertainAmounts(gpu, board))
      this.#add(metric, dimensions, amount, limit);
  }

  #resident(resident: ResidentShare, board: Dimensions, limit: Dimensions | undefined): void {
    const server = this.#server(resident.server, this.#facts.soleModel?.(resident.server));
    for (const { amount, dimensions, metric } of residentAmounts(resident, server, board))
      this.#add(metric, dimensions, amount, limit);
  }

  #engine(increment: TokenIncrement, interval: SettledInterval, pricedAt: UnixNanos | undefined): void {
    const server = this.#server(increment.server, increment.model);
    const hardware = attributes("hw.model", this.gpuModel(increment.server));
    const role = { "tokenwatt.server.role": increment.role };
    const reason = this.#unmatched(increment, interval);
    const limit = this.#limits?.ofServer(increment.server);
    const payer = this.#sets.same({
      ...server,
      "gen_ai.request.model": attributeOf(increment.model),
      ...hardware,
    });
    for (const kind of tokenKinds) {
      const amount = increment.tokens[kind] ?? 0;
      if (amount === 0) continue;
      const named = { "tokenwatt.token.kind": kind };
      const dimensions = this.#sets.same({ ...server, ...hardware, ...named, ...role });
      const price =
        pricedAt === undefined ? undefined : this.#billing.price(increment.model, kind, undefined, pricedAt);
      const kept = this.#sets.same({ ...dimensions, ...priceDimensions(price), ...limit });
      this.#posted.addAmount("tokenwatt.tokens", dimensions, amount, kept);
      if (price !== undefined) this.#billing.earn(price, payer, kind, amount, {});
      if (increment.doubt !== undefined) {
        const doubted = { ...server, ...hardware, ...named, "tokenwatt.reason": increment.doubt };
        this.#add("tokenwatt.uncertain_tokens", doubted, amount);
      }
      if (reason === undefined) continue;
      const unmatched = { ...server, ...hardware, ...named, "tokenwatt.reason": reason };
      this.#add("tokenwatt.unmatched_tokens", unmatched, amount, limit);
    }
    this.#add("tokenwatt.reasoning_tokens", server, increment.reasoningTokens);
    for (const outcome of outcomes) {
      const amount = increment.requests[outcome] ?? 0;
      if (amount === 0) continue;
      this.#add("tokenwatt.requests", { ...server, "tokenwatt.outcome": outcome }, amount);
    }
    const inference = {
      ...server,
      "gen_ai.operation.name": operationName,
      ...attributes("gen_ai.provider.name", this.#facts.servers.get(increment.server)?.type),
    };
    for (const key of Object.keys(increment.latencies) as LatencyKey[]) {
      const metric = engineLatencies[latencyOf(key)];
      this.#addHistogram(metric, metric.startsWith("gen_ai.") ? inference : server, increment, key);
    }
  }

  /** Why these tokens meet no observed GPU time, if so: read late, made on another host, or mostly while the server's GPUs were not read. */
  #unmatched(increment: TokenIncrement, interval: SettledInterval): string | undefined {
    if (increment.late) return "late";
    if (increment.elsewhere) return "elsewhere";
    const homes = this.#homes.get(increment.server);
    if (homes === undefined) return undefined;
    let [unobserved, all] = [0, 0];
    for (const gpu of interval.gpus) {
      if (!homes.includes(gpu.gpu)) continue;
      unobserved += gpu.nanos.unobserved;
      for (const state of gpuStates) all += gpu.nanos[state];
    }
    return unobserved * 2 > all ? "unobserved" : undefined;
  }

  #server(id: string, model: string | undefined): Dimensions {
    return { "tokenwatt.server.id": id, ...modelAttributes(model) };
  }

  /** `more`: what the ledger's rows carry beside what is exported. */
  #add(metric: string, dimensions: Dimensions, amount: number, more?: Dimensions): void {
    if (amount === 0) return;
    const kept = more === undefined ? undefined : this.#sets.same({ ...dimensions, ...more });
    this.#posted.addAmount(metric, this.#sets.same(dimensions), amount, kept);
  }

  #addHistogram(metric: string, of: Dimensions, increment: TokenIncrement, key: LatencyKey): void {
    const histogram = increment.latencies[key];
    if (histogram === undefined) return;
    const dimensions = this.#sets.same({ ...of, ...outcomeAttributes(outcomeOf(key)) });
    this.#posted.addHistogram(metric, dimensions, histogram);
  }
}

/** Whether engines' tokens are billed: a gateway, where there is one, knows what a customer got. */
function isBilledByEngines({ servers }: MeterFacts): boolean {
  return [...servers.values()].every(({ family }) => family !== "gateway");
}

/** The name of the law in a violation's text, which goes on with figures after a colon. */
function lawOf(violation: string): string {
  return (violation.split(":", 1)[0] ?? violation).slice(0, 80);
}
