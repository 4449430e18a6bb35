// From a settled interval to postings: which counter moves by how much, under which attributes (METERING.md 5).
// sum() over any metric without a selector is a true total: no attribute value is a part or a second view of another.
// Amounts are integers in ledger units (tokens, nanoseconds, millijoules); where nothing moved nothing is posted.
import type {
  AllocatedState,
  AnyPosting,
  Dimensions,
  GpuInfo,
  GpuInterval,
  GpuState,
  LatencyName,
  Outcome,
  ResidentShare,
  ServerInfo,
  SettledInterval,
  TokenIncrement,
  TokenKind,
} from "../model.ts";
import { outcomes, tokenKinds } from "./counters/key-counters.ts";
import { mergeEngineIncrements } from "./counters/merge-increments.ts";
import { Customers } from "./customer-sets.ts";
import { gpuDimensions } from "./gauges.ts";

/** What an interval is read with: the GPUs and servers known when it settled. */
export interface MeterFacts {
  readonly gpus: ReadonlyMap<string, GpuInfo>;
  readonly servers: ReadonlyMap<string, ServerInfo>;
  /** The model a server serves while it serves exactly one (`Increments.soleModel`). */
  readonly soleModel?: (server: string) => string | undefined;
}

/** Every state of a GPU, in the order of METERING.md 2. */
export const gpuStates: readonly GpuState[] = [
  "unobserved",
  "free",
  "other",
  "parked",
  "stalled",
  "token_active",
];
/** The states in which a metered server holds the GPU. */
export const allocatedStates: readonly AllocatedState[] = ["parked", "stalled", "token_active"];

/** Nothing in any state. */
export const zeroByState: Readonly<Record<GpuState, bigint>> = {
  unobserved: 0n,
  free: 0n,
  other: 0n,
  parked: 0n,
  stalled: 0n,
  token_active: 0n,
};

/** Names of the OpenTelemetry GenAI conventions 1.41 where they have one, ours where they have none. */
const engineLatencies: Readonly<Record<LatencyName, string>> = {
  time_to_first_token: "gen_ai.server.time_to_first_token",
  time_per_output_token: "gen_ai.server.time_per_output_token",
  request_duration: "gen_ai.server.request.duration",
  inter_token_latency: "tokenwatt.server.inter_token_latency",
  queue_time: "tokenwatt.server.queue_time",
};
/** An engine's counters do not tell chat from completion; the convention wants one value, and chat is the usual. */
const operationName = "chat";
const dimensionsMax = 10_000;
/** Place of "ok" in `outcomes`. */
const OK = 0;

/** Where the tokens that are billed are counted; a host with a gateway bills from it. */
export type BillingSource = "engine" | "gateway";

/** Postings of one interval by a meter that remembers nothing of earlier ones. */
export function postings(interval: SettledInterval, facts: MeterFacts): readonly AnyPosting[] {
  return new Meter().post(interval, facts);
}

/** Turns intervals into postings. Remembers where servers live, and reuses attribute sets so that ledgers need not. */
export class Meter {
  /** Server -> GPUs it was last seen on: an interval in which the GPU was not readable names no residents. */
  readonly #homes = new Map<string, readonly string[]>();
  readonly #interned = new Map<string, Dimensions>();
  readonly #customers = new Customers();
  #facts: MeterFacts = { gpus: new Map(), servers: new Map() };
  #posted: AnyPosting[] = [];

  /** The postings of one interval, to be booked together. */
  post(interval: SettledInterval, facts: MeterFacts): readonly AnyPosting[] {
    this.#facts = facts;
    this.#posted = [];
    this.#remember(interval);
    for (const gpu of interval.gpus) this.#gpu(gpu);
    const tenantsFromEngines = billingSource(facts) === "engine";
    for (const server of interval.servers) {
      for (const increment of server.increments) {
        // An engine that names tenants stands in for a gateway where there is none.
        const named = tenantsFromEngines && increment.tenant !== undefined;
        if (increment.family === "gateway" || named) this.#gateway(increment);
      }
      for (const increment of mergeEngineIncrements(server.increments)) {
        if (increment.family === "engine") this.#engine(increment, interval);
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
    return this.#posted;
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
    for (const state of gpuStates) {
      const time = { ...board, "tokenwatt.gpu.state": state, "tokenwatt.method": gpu.activityMethod };
      this.#add("tokenwatt.gpu.time", time, gpu.nanos[state]);
    }
    for (const state of [...gpuStates, "unattributed"] as const) {
      const energy = { ...board, "tokenwatt.gpu.state": state, "tokenwatt.method": gpu.energyMethod };
      this.#add("tokenwatt.gpu.energy", energy, gpu.millijoules[state]);
    }
    this.#add("tokenwatt.gpu.busy_time", board, gpu.busyNanos);
    const rejected = { ...board, reason: "impossible" };
    this.#add("tokenwatt.rejected_energy", rejected, gpu.rejectedMillijoules);
    for (const resident of gpu.residents) this.#resident(resident, board);
    for (const { server, reason, nanos, millijoules } of gpu.uncertain ?? []) {
      const about = { ...board, ...text("tokenwatt.server.id", server), "tokenwatt.reason": reason };
      this.#add("tokenwatt.uncertain_time", about, nanos);
      this.#add("tokenwatt.uncertain_energy", about, millijoules);
    }
  }

  #resident(resident: ResidentShare, board: Dimensions): void {
    const server = this.#server(resident.server, this.#facts.soleModel?.(resident.server));
    for (const state of allocatedStates) {
      const share = {
        ...server,
        ...board,
        "tokenwatt.gpu.state": state,
        "tokenwatt.method": resident.method,
      };
      this.#add("tokenwatt.server.gpu_time", share, resident.nanos[state]);
      this.#add("tokenwatt.server.energy", share, resident.millijoules[state]);
    }
  }

  #engine(increment: TokenIncrement, interval: SettledInterval): void {
    const server = this.#server(increment.server, increment.model);
    const hardware = text("hw.model", this.gpuModel(increment.server));
    const role = { "tokenwatt.server.role": increment.role };
    const reason = this.#unmatched(increment, interval);
    for (const kind of tokenKinds) {
      const amount = increment.tokens[kind] ?? 0;
      const named = { "tokenwatt.token.kind": kind };
      this.#add("tokenwatt.tokens", { ...server, ...hardware, ...named, ...role }, amount);
      if (reason === undefined) continue;
      this.#add("tokenwatt.unmatched_tokens", { ...server, ...named, reason }, amount);
    }
    this.#add("tokenwatt.reasoning_tokens", server, increment.reasoningTokens);
    for (const outcome of outcomes) {
      const amount = increment.requests[outcome] ?? 0;
      this.#add("tokenwatt.requests", { ...server, "tokenwatt.outcome": outcome }, amount);
    }
    const inference = {
      ...server,
      "gen_ai.operation.name": operationName,
      ...text("gen_ai.provider.name", this.#facts.servers.get(increment.server)?.type),
    };
    for (const name of Object.keys(increment.latencies) as LatencyName[]) {
      const metric = engineLatencies[name];
      this.#addHistogram(metric, metric.startsWith("gen_ai.") ? inference : server, increment, name);
    }
  }

  #gateway(increment: TokenIncrement): void {
    const sets = this.#customers.of(increment);
    // Counted, not iterated with entries(): this runs for every customer, and V8 makes a pair for each step.
    for (let kind = 0; kind < tokenKinds.length; kind++) {
      const name = tokenKinds[kind] as TokenKind;
      let rest = increment.tokens[name] ?? 0;
      if (rest === 0) continue;
      for (let outcome = OK + 1; outcome < outcomes.length; outcome++) {
        const amount = Math.min(rest, increment.tokensByOutcome?.[outcomes[outcome] as Outcome]?.[name] ?? 0);
        rest -= amount;
        if (amount !== 0) this.#book("tokenwatt.gateway.tokens", sets.tokens(kind, outcome), amount);
      }
      if (rest !== 0) this.#book("tokenwatt.gateway.tokens", sets.tokens(kind, OK), rest);
    }
    for (let outcome = 0; outcome < outcomes.length; outcome++) {
      const amount = increment.requests[outcomes[outcome] as Outcome] ?? 0;
      if (amount !== 0) this.#book("tokenwatt.gateway.requests", sets.requests(outcome), amount);
    }
    for (const name of Object.keys(increment.latencies) as LatencyName[]) {
      this.#addHistogram(`tokenwatt.gateway.${name}`, sets.customer, increment, name);
    }
  }

  /** Why these tokens meet no observed GPU time, if so: read late, or mostly while the server's GPUs were not read. */
  #unmatched(increment: TokenIncrement, interval: SettledInterval): string | undefined {
    if (increment.late) return "late";
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
    return { "tokenwatt.server.id": id, ...text("gen_ai.request.model", model) };
  }

  #add(metric: string, dimensions: Dimensions, amount: number): void {
    if (amount !== 0) this.#book(metric, this.#intern(dimensions), amount);
  }

  #book(metric: string, dimensions: Dimensions, amount: number): void {
    this.#posted.push({ metric, dimensions, amount });
  }

  #addHistogram(metric: string, dimensions: Dimensions, increment: TokenIncrement, name: LatencyName): void {
    const histogram = increment.latencies[name];
    if (histogram === undefined) return;
    this.#posted.push({ metric, dimensions: this.#intern(dimensions), histogram });
  }

  /** The same object for the same attributes: the ledger finds a series by it without building a key. */
  #intern(dimensions: Dimensions): Dimensions {
    // Joined, not added up: a text added up piece by piece stays in memory as its pieces.
    const key = Object.entries(dimensions).flat().join("\u0000");
    const known = this.#interned.get(key);
    if (known !== undefined) return known;
    if (this.#interned.size >= dimensionsMax) this.#interned.clear();
    this.#interned.set(key, dimensions);
    return dimensions;
  }
}

/** Which family is billed: the gateways' where there is one, for it knows what a customer got. */
export function billingSource(facts: MeterFacts): BillingSource {
  for (const server of facts.servers.values()) if (server.family === "gateway") return "gateway";
  return "engine";
}

/** The name of the law in a violation's text, which goes on with figures after a colon. */
function lawOf(violation: string): string {
  return (violation.split(":", 1)[0] ?? violation).slice(0, 80);
}

function text(key: string, value: string | undefined): Dimensions {
  return value === undefined || value === "" ? {} : { [key]: value };
}
