// Whose GPU time it was: shares of a bucket by model and by tenant, and what engine and gateway disagree about.
// An engine batches tenants, so nothing measures a tenant's GPU time; it is shared out by weighted tokens when the
// bucket closes, from the gateway's records of models this host serves. What they do not explain is `unattributed`.
import type { BucketNumber, Dimensions, Posting } from "../../model.ts";
import type { Buckets } from "../ledger/buckets.ts";
import { unattributedName, unknownName } from "../names.ts";
import { split } from "./split.ts";

/** What a token costs the GPU, by side: output, computed input, cached input. */
export interface TokenWeights {
  readonly output: number;
  readonly input: number;
  readonly cached: number;
}

/** Weights of METERING.md 4. */
export const defaultWeights: TokenWeights = { output: 2.5, input: 1, cached: 0.1 };

type Amounts = Map<string, bigint>;

interface ServerShare {
  /** Weighted tokens by model. */
  readonly models: Amounts;
  nanos: bigint;
  millijoules: bigint;
  /** Cost by currency and price version. */
  readonly cost: Map<string, bigint>;
}

/** Shares of a closing bucket: GPU time and energy by model, and with cost by tenant and model. */
export function sharePostings(
  buckets: Buckets,
  bucket: BucketNumber,
  weights: TokenWeights,
): readonly Posting[] {
  const servers = readServers(buckets, bucket, weights);
  const tenants = readTenants(buckets, bucket, weights);
  const engineByModel = sumByModel(servers);
  const matched = matchedByModel(buckets, bucket, weights, engineByModel);
  const sums = new Map<string, Posting>();
  for (const server of servers.values()) {
    const models = [...server.models.keys()];
    const names = models.length === 0 ? [unattributedName] : models;
    const method = models.length <= 1 ? "direct" : "token_share";
    const modelWeights = names.map((name) => (models.length <= 1 ? 1n : (server.models.get(name) ?? 0n)));
    const parts = (total: bigint): bigint[] => split(total, modelWeights) ?? modelWeights.map(() => 0n);
    const [nanos, millijoules] = [parts(server.nanos), parts(server.millijoules)];
    for (const [index, model] of names.entries()) {
      const share = { nanos: nanos[index] ?? 0n, millijoules: millijoules[index] ?? 0n };
      const by = { "gen_ai.request.model": model, "tokenwatt.method": method };
      add(sums, "tokenwatt.model.gpu_time", by, share.nanos);
      add(sums, "tokenwatt.model.energy", by, share.millijoules);
      const costs = [...server.cost].map(([priced, cost]) => [priced, parts(cost)[index] ?? 0n] as const);
      for (const [priced, amount] of costs)
        addKept(sums, "tokenwatt.model.cost", { ...by, ...pricedAs(priced) }, amount);
      if (tenants.size === 0) continue;
      addTenants(sums, model, share, costs, tenants.get(model), engineByModel.get(model) ?? 0n);
    }
  }
  for (const [dimensions, amount] of buckets.amounts(bucket, "tokenwatt.gateway.tokens")) {
    const model = modelOf(dimensions);
    const explained = [...(tenants.get(model)?.values() ?? [])].reduce((sum, weight) => sum + weight, 0n);
    const here = matched.get(model) ?? 0n;
    const tokens = here >= explained || explained === 0n ? amount : (amount * here) / explained;
    const by = {
      "tokenwatt.tenant": dimensions["tokenwatt.tenant"] ?? unknownName,
      "gen_ai.request.model": model,
      "tokenwatt.token.kind": dimensions["tokenwatt.token.kind"] ?? "",
    };
    if (here > 0n) addKept(sums, "tokenwatt.tenant.tokens", by, tokens);
  }
  return [...sums.values()];
}

/** Weighted tokens this host's engines made of each model, without those that met no observed GPU time. */
function matchedByModel(
  buckets: Buckets,
  bucket: BucketNumber,
  weights: TokenWeights,
  engine: Amounts,
): Amounts {
  const matched = new Map(engine);
  for (const [dimensions, amount] of buckets.amounts(bucket, "tokenwatt.unmatched_tokens")) {
    const model = modelOf(dimensions);
    bump(matched, model, -weighted(dimensions, amount, weights));
  }
  return matched;
}

/** Shares out one model's part of one server over the tenants the gateway saw. */
function addTenants(
  sums: Map<string, Posting>,
  model: string,
  share: { readonly nanos: bigint; readonly millijoules: bigint },
  costs: readonly (readonly [string, bigint])[],
  tenants: Amounts | undefined,
  engineWeight: bigint,
): void {
  const named = [...(tenants ?? [])].sort(([one], [other]) => (one < other ? -1 : 1));
  const explained = named.reduce((sum, [, weight]) => sum + weight, 0n);
  // The gateway may also send elsewhere: then its tokens exceed the engine's, and nothing stays unexplained.
  const rest = engineWeight > explained ? engineWeight - explained : 0n;
  const names = [...named.map(([name]) => name), unattributedName];
  const weights: bigint[] = [...named.map(([, weight]) => weight), rest];
  if (!weights.some((weight) => weight > 0n)) weights[weights.length - 1] = 1n;
  const parts = (total: bigint): bigint[] => split(total, weights) ?? [];
  const [nanos, millijoules] = [parts(share.nanos), parts(share.millijoules)];
  const costParts = costs.map(([priced, cost]) => [priced, parts(cost)] as const);
  for (const [index, tenant] of names.entries()) {
    const by = {
      "tokenwatt.tenant": tenant,
      "gen_ai.request.model": model,
      "tokenwatt.method": "token_share",
    };
    add(sums, "tokenwatt.tenant.gpu_time", by, nanos[index] ?? 0n);
    add(sums, "tokenwatt.tenant.energy", by, millijoules[index] ?? 0n);
    for (const [priced, amounts] of costParts) {
      add(sums, "tokenwatt.tenant.cost", { ...by, ...pricedAs(priced) }, amounts[index] ?? 0n);
    }
  }
}

/** Engine minus gateway of one model in one bucket, and what explains part of it. */
export interface Reconciliation {
  readonly model: string;
  readonly engineInput: string;
  readonly engineOutput: string;
  readonly gatewayInput: string;
  readonly gatewayOutput: string;
  readonly residualInput: string;
  readonly residualOutput: string;
  /** Gateway tokens of requests that did not end well: inside the gateway's figures, often outside its bills. */
  readonly failedTokens: string;
  /** Requests the engine finished beyond the gateway's: retries, probes, n > 1 counted once, traffic past the gateway. */
  readonly surplusRequests: string;
  readonly abortedRequests: string;
}

/** Engine minus gateway for every model both families, or one of them, named in a bucket; empty without a gateway. */
export function reconcile(buckets: Buckets, bucket: BucketNumber): readonly Reconciliation[] {
  const models = new Map<string, Record<string, bigint>>();
  const count = (model: string, field: string, amount: bigint): void => {
    const fields = models.get(model) ?? {};
    fields[field] = (fields[field] ?? 0n) + amount;
    models.set(model, fields);
  };
  let gateway = false;
  for (const [family, metric] of [
    ["engine", "tokenwatt.tokens"],
    ["gateway", "tokenwatt.gateway.tokens"],
  ] as const) {
    for (const [dimensions, amount] of buckets.amounts(bucket, metric)) {
      gateway ||= family === "gateway";
      const model = modelOf(dimensions);
      count(model, `${family}${sideOf(dimensions)}`, amount);
      if (family === "gateway" && dimensions["tokenwatt.outcome"] !== "ok") count(model, "failed", amount);
    }
  }
  for (const [dimensions, amount] of buckets.amounts(bucket, "tokenwatt.requests")) {
    count(modelOf(dimensions), "engineRequests", amount);
    if (dimensions["tokenwatt.outcome"] === "aborted") count(modelOf(dimensions), "aborted", amount);
  }
  for (const [dimensions, amount] of buckets.amounts(bucket, "tokenwatt.gateway.requests")) {
    if (dimensions["tokenwatt.outcome"] !== "rejected") count(modelOf(dimensions), "gatewayRequests", amount);
  }
  if (!gateway) return [];
  const get = (fields: Record<string, bigint>, field: string): bigint => fields[field] ?? 0n;
  return [...models].map(([model, of]) => ({
    model,
    engineInput: String(get(of, "engineInput")),
    engineOutput: String(get(of, "engineOutput")),
    gatewayInput: String(get(of, "gatewayInput")),
    gatewayOutput: String(get(of, "gatewayOutput")),
    residualInput: String(get(of, "engineInput") - get(of, "gatewayInput")),
    residualOutput: String(get(of, "engineOutput") - get(of, "gatewayOutput")),
    failedTokens: String(get(of, "failed")),
    surplusRequests: String(get(of, "engineRequests") - get(of, "gatewayRequests")),
    abortedRequests: String(get(of, "aborted")),
  }));
}

function readServers(
  buckets: Buckets,
  bucket: BucketNumber,
  weights: TokenWeights,
): Map<string, ServerShare> {
  const servers = new Map<string, ServerShare>();
  const of = (dimensions: Dimensions): ServerShare | undefined => {
    const id = dimensions["tokenwatt.server.id"];
    if (id === undefined) return undefined;
    const known = servers.get(id) ?? { models: new Map(), nanos: 0n, millijoules: 0n, cost: new Map() };
    servers.set(id, known);
    return known;
  };
  for (const [dimensions, amount] of buckets.amounts(bucket, "tokenwatt.server.gpu_time")) {
    const server = of(dimensions);
    if (server !== undefined) server.nanos += amount;
  }
  for (const [dimensions, amount] of buckets.amounts(bucket, "tokenwatt.server.energy")) {
    const server = of(dimensions);
    if (server !== undefined) server.millijoules += amount;
  }
  for (const [dimensions, amount] of buckets.amounts(bucket, "tokenwatt.cost")) {
    const priced = `${dimensions["tokenwatt.currency"]}\u0000${dimensions["tokenwatt.price.version"]}`;
    const server = of(dimensions);
    if (server !== undefined) server.cost.set(priced, (server.cost.get(priced) ?? 0n) + amount);
  }
  for (const [dimensions, amount] of buckets.amounts(bucket, "tokenwatt.tokens")) {
    const server = of(dimensions);
    const model = dimensions["gen_ai.request.model"];
    if (server !== undefined && model !== undefined)
      bump(server.models, model, weighted(dimensions, amount, weights));
  }
  return servers;
}

function readTenants(buckets: Buckets, bucket: BucketNumber, weights: TokenWeights): Map<string, Amounts> {
  const tenants = new Map<string, Amounts>();
  for (const [dimensions, amount] of buckets.amounts(bucket, "tokenwatt.gateway.tokens")) {
    const model = modelOf(dimensions);
    const known = tenants.get(model) ?? new Map<string, bigint>();
    tenants.set(model, known);
    bump(known, dimensions["tokenwatt.tenant"] ?? "unknown", weighted(dimensions, amount, weights));
  }
  return tenants;
}

function sumByModel(servers: Map<string, ServerShare>): Amounts {
  const sums: Amounts = new Map();
  for (const { models } of servers.values()) for (const [model, weight] of models) bump(sums, model, weight);
  return sums;
}

/** Weighted tokens in thousandths. */
function weighted(dimensions: Dimensions, amount: bigint, weights: TokenWeights): bigint {
  const kind = dimensions["tokenwatt.token.kind"];
  const weight =
    kind === "output" ? weights.output : kind === "input_cached" ? weights.cached : weights.input;
  return amount * BigInt(Math.round(weight * 1000));
}

function add(sums: Map<string, Posting>, metric: string, dimensions: Dimensions, amount: bigint): void {
  if (amount === 0n) return;
  const key = `${metric} ${Object.values(dimensions).join("\u0000")}`;
  const known = sums.get(key);
  sums.set(key, { metric, dimensions, amount: (known?.amount ?? 0) + Number(amount) });
}

/** Kept by the ledger alone. */
function addKept(sums: Map<string, Posting>, metric: string, dimensions: Dimensions, amount: bigint): void {
  if (amount <= 0n) return;
  const key = `${metric} ${Object.values(dimensions).join("\u0000")}`;
  const known = sums.get(key)?.amount ?? 0;
  sums.set(key, { metric, dimensions, keptOnly: true, amount: known + Number(amount) });
}

function pricedAs(priced: string): Dimensions {
  const [currency = "", version = ""] = priced.split("\u0000");
  return { "tokenwatt.currency": currency, "tokenwatt.price.version": version };
}

function bump(amounts: Amounts, name: string, amount: bigint): void {
  amounts.set(name, (amounts.get(name) ?? 0n) + amount);
}

function modelOf(dimensions: Dimensions): string {
  return dimensions["gen_ai.request.model"] ?? "unknown";
}

function sideOf(dimensions: Dimensions): "Input" | "Output" {
  return dimensions["tokenwatt.token.kind"] === "output" ? "Output" : "Input";
}
