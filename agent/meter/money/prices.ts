// Money by interval: what the GPU-seconds cost and what the tokens earn, at the price in force (METERING.md 6).
// Cost accrues on every GPU-second with a known price, unobserved included; each second is charged once, to the server
// that holds it or to none. Amounts are integers of 1e-9 of the currency; remainders are carried.
import type {
  Dimensions,
  GpuInfo,
  GpuInterval,
  Posting,
  SettledInterval,
  TokenIncrement,
  TokenKind,
  UnixNanos,
} from "../../model.ts";
import { tokenKinds } from "../counters/key-counters.ts";
import { mergeEngineIncrements } from "../counters/merge-increments.ts";
import { bucketOfEnd } from "../ledger/grid.ts";
import type { MeterFacts } from "../meter.ts";
import { allocatedStates, billingSource, gpuStates } from "../meter.ts";
import type { Catalogue } from "./catalogue.ts";
import { inForce, productRank } from "./catalogue.ts";
import { Remainders } from "./split.ts";

const nanosPerHour = 3_600_000_000_000n;
const million = 1_000_000n;
/** Millijoules per kilowatt-hour, times the thousandths of the usage effectiveness. */
const energyDivisor = 3_600_000_000n * 1000n;

/** Prices intervals by one catalogue. */
export class Prices {
  readonly #catalogue: Catalogue;
  readonly remainders = new Remainders();
  /** What was already counted as missing in this bucket. */
  readonly #missed = new Set<string>();
  #bucket = 0n;

  constructor(catalogue: Catalogue) {
    this.#catalogue = catalogue;
  }

  get version(): string {
    return this.#catalogue.version;
  }

  /** Cost, revenue, billable tokens and misses of one interval that ended at `end`. */
  post(
    interval: SettledInterval,
    facts: MeterFacts,
    end: UnixNanos,
    gpuModelOf: (server: string) => string | undefined,
  ): readonly Posting[] {
    const bucket = bucketOfEnd(end);
    if (bucket !== this.#bucket) this.#missed.clear();
    this.#bucket = bucket;
    const posted: Posting[] = [];
    for (const gpu of interval.gpus) this.#gpu(posted, gpu, facts, end);
    const source = billingSource(facts);
    for (const server of interval.servers) {
      for (const increment of mergeEngineIncrements(server.increments)) {
        if (increment.family !== source) continue;
        this.#revenue(posted, increment, end, billedTo(increment, facts, gpuModelOf));
      }
    }
    return posted;
  }

  #gpu(posted: Posting[], gpu: GpuInterval, facts: MeterFacts, end: UnixNanos): void {
    const info = facts.gpus.get(gpu.gpu);
    const product = info?.name ?? "unknown";
    const price = inForce(this.#catalogue.gpus, end - 1n, (entry) => productRank(entry.gpu, product));
    if (price === undefined) {
      this.#miss(posted, product, "gpu_price");
      return;
    }
    const energy = price.energyIncluded ? undefined : inForce(this.#catalogue.energy, end - 1n, () => 0);
    if (!price.energyIncluded && energy === undefined) this.#miss(posted, product, "energy_price");
    for (const part of costParts(gpu, facts)) {
      const base = { ...hardware(info, product), ...part.holder, "tokenwatt.gpu.state": part.state };
      const key = `${gpu.gpu} ${part.holder["tokenwatt.server.id"] ?? ""} ${part.state}`;
      const rent = this.remainders.divide(
        `${key} ${price.version}`,
        BigInt(part.nanos) * price.perGpuHour,
        nanosPerHour,
      );
      this.#cost(posted, base, "gpu", price.version, rent);
      if (energy === undefined) continue;
      const power = this.remainders.divide(
        `${key} ${energy.version}`,
        BigInt(part.millijoules) * energy.perKilowattHour * energy.usageEffectivenessMilli,
        energyDivisor,
      );
      this.#cost(posted, base, "energy", energy.version, power);
    }
  }

  #cost(posted: Posting[], base: Dimensions, component: string, version: string, amount: bigint): void {
    if (amount === 0n) return;
    const dimensions = { ...base, "tokenwatt.cost.component": component, ...this.#priced(version) };
    posted.push({ metric: "tokenwatt.cost", dimensions, amount: Number(amount) });
  }

  #revenue(posted: Posting[], increment: TokenIncrement, end: UnixNanos, payer: Dimensions): void {
    let billable = 0;
    for (const kind of tokenKinds) {
      const tokens = billedTokens(increment, kind);
      if (tokens === 0) continue;
      const model = increment.model ?? "unknown";
      const price = inForce(this.#catalogue.tokens, end - 1n, (entry) =>
        entry.kind === kind ? modelRank(entry.model, model) : undefined,
      );
      if (price === undefined) {
        if (this.#catalogue.tokens.length > 0) this.#miss(posted, model, "token_price");
        continue;
      }
      billable += tokens;
      const { "hw.model": _hardware, ...who } = payer;
      const dimensions = { ...who, "tokenwatt.token.kind": kind, ...this.#priced(price.version) };
      const key = Object.values(dimensions).join(" ");
      const amount = this.remainders.divide(key, BigInt(tokens) * price.perMillion, million);
      if (amount > 0n) posted.push({ metric: "tokenwatt.revenue", dimensions, amount: Number(amount) });
    }
    if (billable > 0) {
      posted.push({ metric: "tokenwatt.billable_tokens", dimensions: payer, amount: billable });
    }
  }

  #priced(version: string): Dimensions {
    return { "tokenwatt.currency": this.#catalogue.currency, "tokenwatt.price.version": version };
  }

  /** Once per bucket and name: the miss is a fact about the catalogue, not about the number of ticks. */
  #miss(posted: Posting[], name: string, reason: string): void {
    const key = `${reason} ${name}`;
    if (this.#missed.has(key)) return;
    this.#missed.add(key);
    const named = reason === "token_price" ? { "gen_ai.request.model": name } : { "hw.model": name };
    posted.push({ metric: "tokenwatt.catalog_misses", dimensions: { ...named, reason }, amount: 1 });
  }
}

/** Tokens of a kind a customer pays for: all an engine made, or those of a gateway's requests that ended well. */
export function billedTokens(increment: TokenIncrement, kind: TokenKind): number {
  const all = increment.tokens[kind] ?? 0;
  if (increment.family === "engine") return all;
  const { error, aborted, rejected } = increment.tokensByOutcome ?? {};
  return Math.max(0, all - (error?.[kind] ?? 0) - (aborted?.[kind] ?? 0) - (rejected?.[kind] ?? 0));
}

interface CostPart {
  readonly holder: Dimensions;
  readonly state: string;
  readonly nanos: number;
  readonly millijoules: number;
}

/** Every second and joule of a GPU once: the allocated ones under their servers, the rest under none. */
function* costParts(gpu: GpuInterval, facts: MeterFacts): Generator<CostPart> {
  const shared = gpu.residents.reduce(
    (sum, { nanos }) => sum + allocatedStates.reduce((one, state) => one + nanos[state], 0),
    0,
  );
  const allocated = allocatedStates.reduce((sum, state) => sum + gpu.nanos[state], 0);
  const byServer = shared === allocated;
  for (const state of gpuStates) {
    if (byServer && (allocatedStates as readonly string[]).includes(state)) continue;
    yield { holder: {}, state, nanos: gpu.nanos[state], millijoules: gpu.millijoules[state] };
  }
  yield { holder: {}, state: "unattributed", nanos: 0, millijoules: gpu.millijoules.unattributed };
  if (!byServer) return;
  for (const resident of gpu.residents) {
    const model = facts.soleModel?.(resident.server);
    const holder = {
      "tokenwatt.server.id": resident.server,
      ...(model === undefined ? {} : { "gen_ai.request.model": model }),
    };
    for (const state of allocatedStates) {
      yield { holder, state, nanos: resident.nanos[state], millijoules: resident.millijoules[state] };
    }
  }
}

/** Who is billed for these tokens: the engine, or of a gateway's the one engine here that serves the model. */
function billedTo(
  increment: TokenIncrement,
  facts: MeterFacts,
  gpuModelOf: (server: string) => string | undefined,
): Dimensions {
  const model = increment.model ?? "unknown";
  let server: string | undefined = increment.server;
  if (increment.family === "gateway") {
    const engines = [...facts.servers.values()].filter(
      ({ family, id }) => family === "engine" && facts.soleModel?.(id) === model,
    );
    server = engines.length === 1 ? engines[0]?.id : undefined;
  }
  const product = server === undefined ? undefined : gpuModelOf(server);
  return {
    ...(server === undefined ? {} : { "tokenwatt.server.id": server }),
    "gen_ai.request.model": model,
    ...(product === undefined ? {} : { "hw.model": product }),
  };
}

function hardware(info: GpuInfo | undefined, product: string): Dimensions {
  return info === undefined ? {} : { "hw.model": product };
}

/** Exact names first, `*` for every model last. */
export function modelRank(pattern: string, model: string): number | undefined {
  if (pattern === model) return 1;
  return pattern === "*" ? 0 : undefined;
}
