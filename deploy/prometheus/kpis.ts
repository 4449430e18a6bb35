// Every KPI of the metric contract as a quotient of additive totals, once, for all that computes them: recording rules,
// the PromQL and SQL queries of docs/queries.md and the dashboards are written from this table.
// Definitions: agent/meter/figures/kpis.ts. Rates are never averaged; an empty denominator gives no value.

/** Which points of a metric count: an attribute is (or is not) one of these values. */
export interface Selector {
  readonly attribute: string;
  readonly is: readonly string[];
  readonly not?: boolean;
}

/** What a total is summed over. */
export type GroupName =
  | "fleet"
  | "gpu_model"
  | "server"
  | "replica"
  | "model"
  | "tenant"
  | "endpoint"
  | "kind"
  | "outcome";

/** A group: the attributes that name it. A replica is a server on one host; `host.name` is of the resource. */
export const groups: Readonly<Record<GroupName, readonly string[]>> = {
  fleet: [],
  gpu_model: ["hw.model"],
  server: ["tokenwatt.server.id"],
  replica: ["host.name", "tokenwatt.server.id"],
  model: ["gen_ai.request.model"],
  tenant: ["tokenwatt.tenant"],
  endpoint: ["tokenwatt.endpoint"],
  kind: ["tokenwatt.token.kind"],
  outcome: ["tokenwatt.outcome"],
};

/** A sum over one metric, which may be another metric for another group. */
export interface Total {
  readonly metric: Readonly<Partial<Record<GroupName, string>>>;
  readonly where?: readonly Selector[];
  /** A total that is a subset of this one and is taken away. */
  readonly less?: TotalName;
  /** A total that is added to this one. */
  readonly plus?: TotalName;
  /** In money: also summed by currency, and only comparable within it. */
  readonly money?: boolean;
}

const states = (...is: string[]): readonly Selector[] => [{ attribute: "tokenwatt.gpu.state", is }];
const allocated = states("parked", "stalled", "token_active");
const observed = [{ attribute: "tokenwatt.gpu.state", is: ["unobserved", "unattributed"], not: true }];
const output = [{ attribute: "tokenwatt.token.kind", is: ["output"] }];
const uncached = [{ attribute: "tokenwatt.token.kind", is: ["input_cached"], not: true }];

const ofServer = (metric: string) => ({ server: metric, replica: metric });
const everywhere = (metric: string) => ({
  fleet: metric,
  gpu_model: metric,
  model: metric,
  ...ofServer(metric),
});
const engine = everywhere("tokenwatt.tokens");
const unmatched = everywhere("tokenwatt.unmatched_tokens");
const gpuTime = { fleet: "tokenwatt.gpu.time", gpu_model: "tokenwatt.gpu.time" };
const gpuEnergy = { fleet: "tokenwatt.gpu.energy", gpu_model: "tokenwatt.gpu.energy" };
const priced = (metric: string) => ({ fleet: metric, ...ofServer(metric) });
const ofCustomers = (metric: string) => ({
  fleet: metric,
  model: metric,
  tenant: metric,
  endpoint: metric,
  outcome: metric,
});
const gateway = { ...ofCustomers("tokenwatt.gateway.tokens"), kind: "tokenwatt.gateway.tokens" };
const tenants = (metric: string) => ({ fleet: metric, model: metric, tenant: metric });

const table = {
  tokens: { metric: engine },
  unmatched_tokens: { metric: unmatched },
  unmatched_output_tokens: { metric: unmatched, where: output },
  unmatched_uncached_tokens: { metric: unmatched, where: uncached },
  matched_tokens: { metric: engine, less: "unmatched_tokens" },
  matched_output_tokens: { metric: engine, where: output, less: "unmatched_output_tokens" },
  matched_uncached_tokens: { metric: engine, where: uncached, less: "unmatched_uncached_tokens" },
  allocated_seconds: { metric: { ...gpuTime, ...ofServer("tokenwatt.server.gpu_time") }, where: allocated },
  known_seconds: {
    metric: { ...gpuTime, ...ofServer("tokenwatt.server.gpu_time") },
    where: [...allocated, { attribute: "tokenwatt.method", is: ["unknown"], not: true }],
  },
  model_seconds: { metric: { model: "tokenwatt.model.gpu_time" } },
  token_active_seconds: {
    metric: { ...gpuTime, ...ofServer("tokenwatt.server.gpu_time") },
    where: states("token_active"),
  },
  observed_seconds: { metric: gpuTime, where: observed },
  gpu_seconds: { metric: gpuTime },
  busy_seconds: { metric: { fleet: "tokenwatt.gpu.busy_time", gpu_model: "tokenwatt.gpu.busy_time" } },
  allocated_joules: { metric: { ...gpuEnergy, ...ofServer("tokenwatt.server.energy") }, where: allocated },
  model_joules: { metric: { model: "tokenwatt.model.energy" } },
  observed_joules: { metric: gpuEnergy, where: observed },
  idle_joules: { metric: gpuEnergy, where: states("free", "parked") },
  rated_tokens: { metric: everywhere("tokenwatt.rated_tokens") },
  capacity_tokens: { metric: everywhere("tokenwatt.capacity_tokens") },
  uncertain_capacity_tokens: { metric: everywhere("tokenwatt.uncertain_capacity_tokens") },
  capacity_tokens_min: {
    metric: everywhere("tokenwatt.capacity_tokens"),
    less: "uncertain_capacity_tokens",
  },
  capacity_tokens_max: {
    metric: everywhere("tokenwatt.capacity_tokens"),
    plus: "uncertain_capacity_tokens",
  },
  cost: { metric: { ...priced("tokenwatt.cost"), gpu_model: "tokenwatt.cost" }, money: true },
  revenue: { metric: priced("tokenwatt.revenue"), money: true },
  revenue_earned: { metric: { fleet: "tokenwatt.revenue", model: "tokenwatt.revenue" }, money: true },
  tenant_seconds: { metric: tenants("tokenwatt.tenant.gpu_time") },
  tenant_joules: { metric: tenants("tokenwatt.tenant.energy") },
  tenant_cost: { metric: tenants("tokenwatt.tenant.cost"), money: true },
  tenant_revenue: { metric: tenants("tokenwatt.tenant.revenue"), money: true },
  gateway_requests: { metric: ofCustomers("tokenwatt.gateway.requests") },
  gateway_tokens: { metric: gateway },
  failed_gateway_tokens: {
    metric: gateway,
    where: [{ attribute: "tokenwatt.outcome", is: ["ok"], not: true }],
  },
} as const satisfies Readonly<
  Record<string, Omit<Total, "less" | "plus"> & { less?: string; plus?: string }>
>;

/** The names of the totals. */
export type TotalName = keyof typeof table;

export const totals: Readonly<Record<TotalName, Total>> = table;

/** `factor` x over / under, or 1 minus it. */
export interface Kpi {
  readonly name: string;
  readonly title: string;
  readonly unit: string;
  readonly groups: readonly GroupName[];
  readonly factor?: number;
  readonly over: TotalName;
  readonly under: TotalName;
  readonly complement?: boolean;
}

const HOUR = 3600;
const boards: readonly GroupName[] = ["fleet", "gpu_model"];
const holders: readonly GroupName[] = ["fleet", "gpu_model", "server", "replica"];

export const kpis: readonly Kpi[] = [
  {
    name: "tokens_per_gpu_hour",
    title: "Tokens per allocated GPU-hour",
    unit: "tokens",
    groups: holders,
    factor: HOUR,
    over: "matched_tokens",
    under: "allocated_seconds",
  },
  {
    name: "model_tokens_per_gpu_hour",
    title: "Tokens per GPU-hour allotted to a model",
    unit: "tokens",
    groups: ["model"],
    factor: HOUR,
    over: "matched_tokens",
    under: "model_seconds",
  },
  {
    name: "output_tokens_per_gpu_hour",
    title: "Output tokens per allocated GPU-hour",
    unit: "tokens",
    groups: holders,
    factor: HOUR,
    over: "matched_output_tokens",
    under: "allocated_seconds",
  },
  {
    name: "uncached_tokens_per_gpu_hour",
    title: "Tokens that came from no cache per allocated GPU-hour",
    unit: "tokens",
    groups: holders,
    factor: HOUR,
    over: "matched_uncached_tokens",
    under: "allocated_seconds",
  },
  {
    name: "tokens_per_fleet_gpu_hour",
    title: "Tokens per observed GPU-hour, used or not",
    unit: "tokens",
    groups: boards,
    factor: HOUR,
    over: "matched_tokens",
    under: "observed_seconds",
  },
  {
    name: "tokens_per_token_active_gpu_hour",
    title: "Tokens per token-active GPU-hour",
    unit: "tokens",
    groups: holders,
    factor: HOUR,
    over: "matched_tokens",
    under: "token_active_seconds",
  },
  {
    name: "tokens_per_busy_gpu_hour",
    title: "Tokens per hour in which the GPU worked",
    unit: "tokens",
    groups: boards,
    factor: HOUR,
    over: "matched_tokens",
    under: "busy_seconds",
  },
  {
    name: "token_active_utilization",
    title: "Token-active utilisation: token-active per allocated GPU-second of known activity",
    unit: "ratio",
    groups: holders,
    over: "token_active_seconds",
    under: "known_seconds",
  },
  {
    name: "capacity_utilization",
    title: "Capacity utilisation: tokens per token of capacity, while that was known",
    unit: "ratio",
    groups: holders,
    over: "rated_tokens",
    under: "capacity_tokens",
  },
  {
    name: "capacity_utilization_min",
    title: "Capacity utilisation at least: where the capacity is learned, it may be more",
    unit: "ratio",
    groups: holders,
    over: "rated_tokens",
    under: "capacity_tokens_max",
  },
  {
    name: "capacity_utilization_max",
    title: "Capacity utilisation at most: where the capacity is learned, it may be less",
    unit: "ratio",
    groups: holders,
    over: "rated_tokens",
    under: "capacity_tokens_min",
  },
  {
    name: "tokens_per_joule",
    title: "Tokens per joule of the GPU boards, allocated states",
    unit: "tokens",
    groups: holders,
    over: "matched_tokens",
    under: "allocated_joules",
  },
  {
    name: "model_tokens_per_joule",
    title: "Tokens per joule allotted to a model",
    unit: "tokens",
    groups: ["model"],
    over: "matched_tokens",
    under: "model_joules",
  },
  {
    name: "output_tokens_per_joule",
    title: "Output tokens per joule of the GPU boards, allocated states",
    unit: "tokens",
    groups: holders,
    over: "matched_output_tokens",
    under: "allocated_joules",
  },
  {
    name: "fleet_tokens_per_joule",
    title: "Tokens per joule of the GPU boards, all observed states",
    unit: "tokens",
    groups: boards,
    over: "matched_tokens",
    under: "observed_joules",
  },
  {
    name: "cost_per_million_tokens",
    title: "Cost of a million tokens",
    unit: "currency",
    groups: holders,
    factor: 1e6,
    over: "cost",
    under: "matched_tokens",
  },
  {
    name: "tokens_per_currency",
    title: "Tokens per unit of money spent",
    unit: "tokens",
    groups: holders,
    over: "matched_tokens",
    under: "cost",
  },
  {
    name: "gross_margin",
    title: "Gross margin: 1 - cost / revenue",
    unit: "ratio",
    groups: ["fleet", "server", "replica"],
    over: "cost",
    under: "revenue",
    complement: true,
  },
  {
    name: "tenant_gross_margin",
    title: "Gross margin of customers: 1 - cost / revenue, where the cost is known",
    unit: "ratio",
    groups: ["tenant"],
    over: "tenant_cost",
    under: "tenant_revenue",
    complement: true,
  },
  {
    name: "error_share",
    title: "Share of gateway tokens whose request did not end well",
    unit: "ratio",
    groups: ["fleet", "model", "tenant", "endpoint"],
    over: "failed_gateway_tokens",
    under: "gateway_tokens",
  },
  {
    name: "coverage",
    title: "Share of the GPU-seconds that were observed",
    unit: "ratio",
    groups: boards,
    over: "observed_seconds",
    under: "gpu_seconds",
  },
  {
    name: "idle_energy_share",
    title: "Share of the energy spent while nothing was asked for",
    unit: "ratio",
    groups: boards,
    over: "idle_joules",
    under: "observed_joules",
  },
];

/** A quotient of two key figures. */
export interface Compound {
  readonly name: string;
  readonly title: string;
  readonly groups: readonly GroupName[];
  /** Names of key figures. */
  readonly over: string;
  readonly under: string;
}

/** How deep the batches were while somebody was served: what was made of what that time could have made. */
export const intensity: Compound = {
  name: "intensity",
  title: "Intensity: capacity utilisation per token-active utilisation",
  groups: holders,
  over: "capacity_utilization",
  under: "token_active_utilization",
};

/** The key figure of that name; throws where there is none. */
export function kpiNamed(name: string): Kpi {
  const found = kpis.find((one) => one.name === name);
  if (found === undefined) throw new Error(`No KPI ${name}`);
  return found;
}

/** Histograms of what customers saw, recorded by model, endpoint and tenant. */
export const gatewayLatencies: readonly string[] = [
  "tokenwatt.gateway.time_to_first_token",
  "tokenwatt.gateway.time_per_output_token",
  "tokenwatt.gateway.inter_token_latency",
  "tokenwatt.gateway.request_duration",
  "tokenwatt.gateway.queue_time",
];

/** Histograms whose p50, p90, p95 and p99 are recorded; bounds are passed through, so only equal ones may be summed. */
export const latencies: readonly string[] = [
  "gen_ai.server.time_to_first_token",
  "gen_ai.server.time_per_output_token",
  "gen_ai.server.request.duration",
  "tokenwatt.server.inter_token_latency",
  "tokenwatt.server.queue_time",
];

export const percentiles: readonly number[] = [50, 90, 95, 99];

/**
 * Whose latencies percentiles are of. `served`: requests that went well, and those of which nothing says how they ended.
 * `failed`: those that are known to have failed, been aborted or refused; how long that took moves nothing that is served.
 */
export type Ended = "served" | "failed";

/** The outcomes of requests that count as served; the empty one is that of a series without the attribute. */
export const servedOutcomes: readonly string[] = ["", "ok"];

/** Histograms of durations, whose failed requests have percentiles of their own beside those of served ones. */
export const durations: readonly string[] = [
  "gen_ai.server.request.duration",
  "tokenwatt.gateway.request_duration",
];
