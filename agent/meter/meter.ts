// From a settled interval to postings: which counter moves by how much, under which attributes (METERING.md 5).
// sum() over any metric without a selector is a true total: no attribute value is a part or a second view of another.
// Amounts are integers in ledger units (tokens, nanoseconds, millijoules); where nothing moved nothing is posted.
import type {
  AnyPosting,
  Dimensions,
  GpuInterval,
  GpuState,
  LatencyKey,
  SettledInterval,
  TokenIncrement,
  UnixNanos,
  UsagePiece,
} from "../model.ts";
import { JoinedSets, noAttributes, SetsOf, WithAttribute } from "./attribute-sets.ts";
import { outcomes, tokenKinds } from "./counters/key-counters.ts";
import { latencyOf, outcomeOf } from "./counters/latency-keys.ts";
import { mergeEngineIncrements } from "./counters/merge-increments.ts";
import type { ServingFacts } from "./customer-meter.ts";
import { CustomerMeter } from "./customer-meter.ts";
import { priceDimensions } from "./customer-sets.ts";
import { gpuDimensions } from "./gauges.ts";
import { residentAmounts, uncertainAmounts } from "./gpu-amounts.ts";
import { HolderSets } from "./holders.ts";
import { Billing } from "./money/billing.ts";
import type { UnitPrice } from "./money/price-book.ts";
import { attributeOf, engineLatencies } from "./names.ts";
import { PostingList } from "./posting-list.ts";
import type { LimitFacts } from "./power-limits.ts";
import { LimitSets, powerLimitKey } from "./power-limits.ts";

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

const ofGpu = new WithAttribute("hw.id");
const ofServer = new WithAttribute("tokenwatt.server.id");
const ofModel = new WithAttribute("gen_ai.request.model");
const ofProduct = new WithAttribute("hw.model");
const inState = new WithAttribute("tokenwatt.gpu.state");
const byMethod = new WithAttribute("tokenwatt.method");
const forReason = new WithAttribute("tokenwatt.reason");
const ofKind = new WithAttribute("tokenwatt.token.kind");
const inRole = new WithAttribute("tokenwatt.server.role");
const endedAs = new WithAttribute("tokenwatt.outcome");
const ofOperation = new WithAttribute("gen_ai.operation.name");
const ofProvider = new WithAttribute("gen_ai.provider.name");
const ofSource = new WithAttribute("tokenwatt.source");
const ofLaw = new WithAttribute("tokenwatt.law");
const underLimit = new WithAttribute(powerLimitKey);
const atPrice = new JoinedSets();
const priceSets = new SetsOf<UnitPrice>();
const energyStates = [...gpuStates, "unattributed"] as const;

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
    for (const gpu of interval.gpus) this.#gpu(gpu, interval);
    const fromEngines = isBilledByEngines(facts);
    for (const server of interval.servers) {
      // An engine that names tenants stands in for a gateway where there is none.
      const namesTenants = fromEngines && server.increments.some((one) => one.tenant !== undefined);
      // By place: a gateway has thousands.
      for (let place = 0; place < server.increments.length; place++) {
        const increment = server.increments[place] as TokenIncrement;
        if (increment.family === "gateway" || namesTenants)
          this.customers.meterIncrement(increment, end - 1n);
      }
      const pricedAt = fromEngines && !namesTenants ? end - 1n : undefined;
      const merged = mergeEngineIncrements(server.increments);
      for (let place = 0; place < merged.length; place++) {
        const increment = merged[place] as TokenIncrement;
        if (increment.family === "engine") this.#engine(increment, interval, pricedAt);
        if (increment.resets > 0) {
          const source = ofSource.of(noAttributes, `server:${increment.server}`);
          this.#add("tokenwatt.counter_resets", source, increment.resets);
        }
      }
    }
    this.#add("tokenwatt.late_samples", noAttributes, interval.lateSamples);
    for (const violation of interval.violations) {
      this.#add("tokenwatt.invariant_violations", ofLaw.of(noAttributes, lawOf(violation)), 1);
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

  #gpu(gpu: GpuInterval, { servers }: SettledInterval): void {
    const info = this.#facts.gpus.get(gpu.gpu);
    const board = info === undefined ? ofGpu.of(noAttributes, gpu.gpu) : gpuDimensions(info);
    const limit = this.#limits?.ofGpu(gpu.gpu);
    // A GPU is in one state or two: sets of the others are not made.
    for (const state of gpuStates) {
      if (gpu.nanos[state] === 0) continue;
      const time = byMethod.of(inState.of(board, state), gpu.activityMethod);
      this.#add("tokenwatt.gpu.time", time, gpu.nanos[state], limit);
    }
    for (const state of energyStates) {
      if (gpu.millijoules[state] === 0) continue;
      const energy = byMethod.of(inState.of(board, state), gpu.energyMethod);
      this.#add("tokenwatt.gpu.energy", energy, gpu.millijoules[state], limit);
    }
    this.#add("tokenwatt.gpu.busy_time", board, gpu.busyNanos);
    this.#add("tokenwatt.rejected_energy", forReason.of(board, "impossible"), gpu.rejectedMillijoules);
    const take = (metric: string, dimensions: Dimensions, amount: number): void =>
      this.#add(metric, dimensions, amount, limit);
    for (const resident of gpu.residents) {
      const server = this.#server(resident.server, this.#facts.soleModel?.(resident.server));
      const isUnknown =
        resident.nanos.token_active === 0 &&
        servers.some((one) => one.server === resident.server && one.activityMethod === "unknown");
      residentAmounts(resident, server, board, take, isUnknown);
    }
    this.#posted.addAll(this.holders.postings(gpu, info));
    uncertainAmounts(gpu, board, take);
  }

  #engine(increment: TokenIncrement, interval: SettledInterval, pricedAt: UnixNanos | undefined): void {
    const server = this.#server(increment.server, increment.model);
    const product = this.gpuModel(increment.server);
    const onProduct = ofProduct.of(server, product === "" ? undefined : product);
    const reason = this.#unmatched(increment, interval);
    const limit = this.#limits?.ofServer(increment.server);
    const payer = ofModel.of(onProduct, attributeOf(increment.model));
    for (const kind of tokenKinds) {
      const amount = increment.tokens[kind] ?? 0;
      if (amount === 0) continue;
      const named = ofKind.of(onProduct, kind);
      const dimensions = inRole.of(named, increment.role);
      const price =
        pricedAt === undefined ? undefined : this.#billing.price(increment.model, kind, undefined, pricedAt);
      const kept = pricedSet(underLimit.of(dimensions, limit), price);
      this.#posted.addAmount("tokenwatt.tokens", dimensions, amount, kept);
      if (price !== undefined) this.#billing.earn(price, payer, kind, amount, {});
      if (increment.doubt !== undefined)
        this.#add("tokenwatt.uncertain_tokens", forReason.of(named, increment.doubt), amount);
      if (reason !== undefined)
        this.#add("tokenwatt.unmatched_tokens", forReason.of(named, reason), amount, limit);
    }
    this.#add("tokenwatt.reasoning_tokens", server, increment.reasoningTokens);
    for (const outcome of outcomes) {
      const amount = increment.requests[outcome] ?? 0;
      if (amount !== 0) this.#add("tokenwatt.requests", endedAs.of(server, outcome), amount);
    }
    const type = this.#facts.servers.get(increment.server)?.type;
    const inference = ofProvider.of(ofOperation.of(server, operationName), type === "" ? undefined : type);
    for (const key of Object.keys(increment.latencies) as LatencyKey[]) {
      const metric = engineLatencies[latencyOf(key)];
      const of = metric.startsWith("gen_ai.") ? inference : server;
      const histogram = increment.latencies[key];
      if (histogram !== undefined)
        this.#posted.addHistogram(metric, endedAs.of(of, outcomeOf(key)), histogram);
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
    const named = model === undefined || model === "" ? undefined : attributeOf(model);
    return ofModel.of(ofServer.of(noAttributes, id), named);
  }

  /** `limit`: under which power limit the ledger's rows are, beside what is exported. */
  #add(metric: string, dimensions: Dimensions, amount: number, limit?: string): void {
    if (amount === 0) return;
    const kept = limit === undefined ? undefined : underLimit.of(dimensions, limit);
    this.#posted.addAmount(metric, dimensions, amount, kept);
  }
}

/** What tokens are kept under at a price. */
function pricedSet(set: Dimensions, price: UnitPrice | undefined): Dimensions {
  if (price === undefined) return set;
  return atPrice.of(
    set,
    priceSets.of(price, "", () => priceDimensions(price)),
  );
}

/** Whether engines' tokens are billed: a gateway, where there is one, knows what a customer got. */
function isBilledByEngines({ servers }: MeterFacts): boolean {
  return [...servers.values()].every(({ family }) => family !== "gateway");
}

/** The name of the law in a violation's text, which goes on with figures after a colon. */
function lawOf(violation: string): string {
  return (violation.split(":", 1)[0] ?? violation).slice(0, 80);
}
