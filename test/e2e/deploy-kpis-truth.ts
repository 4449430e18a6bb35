// One hour whose figures are worked out by hand: what every counter gained in it, and what every key figure must be.
// An H100 held by one server for 3,000 of 3,600 s, two customers at a gateway, prices; half a million tokens read late.

import type { GroupName } from "../../deploy/prometheus/kpis.ts";

export const HOUR = 3600;
export const FROM = Date.UTC(2026, 2, 10, 22) / 1000;

export type Attributes = Readonly<Record<string, string>>;
export interface Counter {
  readonly metric: string;
  readonly attributes: Attributes;
  /** What it gains in the hour. */
  readonly gain: number;
}

export const server = { "tokenwatt.server.id": "chat", "gen_ai.request.model": "m" };
const gpu = { "hw.id": "GPU-1", "hw.model": "H100" };
const usd = { "tokenwatt.currency": "USD", "tokenwatt.price.version": "1" };
const customer = (tenant: string, endpoint: string): Attributes => ({
  "tokenwatt.gateway.id": "gw",
  "tokenwatt.tenant": tenant,
  "tokenwatt.endpoint": endpoint,
  "gen_ai.request.model": "m",
});
const used = (who: Attributes, kind: string, outcome: string, gain: number): Counter => ({
  metric: "tokenwatt.gateway.tokens",
  attributes: { ...who, "tokenwatt.token.kind": kind, "tokenwatt.outcome": outcome },
  gain,
});
const asked = (who: Attributes, outcome: string, gain: number): Counter => ({
  metric: "tokenwatt.gateway.requests",
  attributes: { ...who, "tokenwatt.outcome": outcome },
  gain,
});
const each = (metric: string, attributes: Attributes, key: string, gains: Readonly<Record<string, number>>) =>
  Object.entries(gains).map(([value, gain]) => ({
    metric,
    attributes: { ...attributes, [key]: value },
    gain,
  }));
export const a = customer("a", "chat");
const b = customer("b", "batch");
const ofTenant = (tenant: string): Attributes => ({
  "tokenwatt.tenant": tenant,
  "gen_ai.request.model": "m",
  "tokenwatt.method": "token_share",
});

const learned = { ...server, "hw.model": "H100", "tokenwatt.capacity.source": "learned" };

const HELD = { token_active: 1800, stalled: 200, parked: 1000 };
const JOULES = { token_active: 600_000, stalled: 60_000, parked: 120_000 };
export const counters: readonly Counter[] = [
  ...each("tokenwatt.gpu.time", gpu, "tokenwatt.gpu.state", { ...HELD, free: 400, unobserved: 200 }),
  ...each("tokenwatt.gpu.energy", gpu, "tokenwatt.gpu.state", { ...JOULES, free: 40_000 }),
  ...each("tokenwatt.server.gpu_time", { ...server, ...gpu }, "tokenwatt.gpu.state", HELD),
  ...each("tokenwatt.server.energy", { ...server, ...gpu }, "tokenwatt.gpu.state", JOULES),
  { metric: "tokenwatt.gpu.busy_time", attributes: gpu, gain: 2000 },
  ...each("tokenwatt.tokens", { ...server, "hw.model": "H100" }, "tokenwatt.token.kind", {
    input_uncached: 4_000_000,
    input_cached: 1_000_000,
    output: 3_000_000,
  }),
  ...each(
    "tokenwatt.unmatched_tokens",
    { ...server, "hw.model": "H100", "tokenwatt.reason": "late" },
    "tokenwatt.token.kind",
    { output: 500_000 },
  ),
  { metric: "tokenwatt.model.gpu_time", attributes: { "gen_ai.request.model": "m" }, gain: 3000 },
  { metric: "tokenwatt.model.energy", attributes: { "gen_ai.request.model": "m" }, gain: 780_000 },
  { metric: "tokenwatt.capacity_tokens", attributes: learned, gain: 10_000_000 },
  {
    metric: "tokenwatt.uncertain_capacity_tokens",
    attributes: { ...learned, "tokenwatt.reason": "limit_not_seen" },
    gain: 2_000_000,
  },
  // Half a million were made before the capacity was learned.
  { metric: "tokenwatt.rated_tokens", attributes: learned, gain: 7_500_000 },
  { metric: "tokenwatt.billable_tokens", attributes: { ...server, "hw.model": "H100" }, gain: 8_000_000 },
  {
    metric: "tokenwatt.cost",
    attributes: { ...server, ...usd, "hw.model": "H100", "tokenwatt.gpu.state": "token_active" },
    gain: 6,
  },
  {
    metric: "tokenwatt.revenue",
    attributes: { ...server, ...usd, "tokenwatt.token.kind": "output" },
    gain: 10,
  },
  used(a, "input_uncached", "ok", 3_000_000),
  used(a, "output", "ok", 1_000_000),
  used(a, "output", "error", 250_000),
  used(b, "input_uncached", "ok", 600_000),
  used(b, "output", "aborted", 150_000),
  asked(a, "ok", 7200),
  asked(a, "error", 720),
  asked(b, "rejected", 360),
  ...[
    ["a", 1000, 300_000, 2, 8.5],
    ["b", 500, 100_000, 1, 1.5],
  ].flatMap(([tenant, seconds, joules, cost, revenue]) => [
    { metric: "tokenwatt.tenant.gpu_time", attributes: ofTenant(String(tenant)), gain: Number(seconds) },
    { metric: "tokenwatt.tenant.energy", attributes: ofTenant(String(tenant)), gain: Number(joules) },
    {
      metric: "tokenwatt.tenant.cost",
      attributes: { ...ofTenant(String(tenant)), ...usd },
      gain: Number(cost),
    },
    {
      metric: "tokenwatt.tenant.revenue",
      attributes: { "tokenwatt.tenant": String(tenant), "gen_ai.request.model": "m", ...usd },
      gain: Number(revenue),
    },
  ]),
];

/** By hand: a figure of every KPI, the same for each group unless it says otherwise. */
export const TRUTH: Readonly<
  Record<string, number | Readonly<Record<string, Readonly<Record<string, number>>>>>
> = {
  tokens_per_gpu_hour: 9_000_000,
  model_tokens_per_gpu_hour: 9_000_000,
  output_tokens_per_gpu_hour: 3_000_000,
  uncached_tokens_per_gpu_hour: 7_800_000,
  tokens_per_fleet_gpu_hour: (7_500_000 * 3600) / 3400,
  tokens_per_token_active_gpu_hour: 15_000_000,
  tokens_per_busy_gpu_hour: 13_500_000,
  token_active_utilization: 0.6,
  capacity_utilization: 0.75,
  capacity_utilization_min: 7.5 / 12,
  capacity_utilization_max: 7.5 / 8,
  tokens_per_joule: 7_500_000 / 780_000,
  model_tokens_per_joule: 7_500_000 / 780_000,
  output_tokens_per_joule: 2_500_000 / 780_000,
  fleet_tokens_per_joule: 7_500_000 / 820_000,
  // Of tokens that met observed GPU time: only that is in the cost.
  cost_per_million_tokens: 0.8,
  tokens_per_currency: 7_500_000 / 6,
  gross_margin: 0.4,
  tenant_gross_margin: { tenant: { a: 1 - 2 / 8.5, b: 1 - 1 / 1.5 } },
  error_share: {
    fleet: { "": 0.08 },
    model: { m: 0.08 },
    tenant: { a: 250 / 4250, b: 0.2 },
    endpoint: { chat: 250 / 4250, batch: 0.2 },
  },
  coverage: 3400 / 3600,
  idle_energy_share: 160 / 820,
};
/** 0.75 of what the capacity makes, in 0.6 of the time. */
export const INTENSITY = 0.75 / 0.6;
export const USED: Readonly<Record<string, Readonly<Record<string, Readonly<Record<string, number>>>>>> = {
  gateway_tokens: {
    fleet: { "": 5_000_000 },
    tenant: { a: 4_250_000, b: 750_000 },
    model: { m: 5_000_000 },
    endpoint: { chat: 4_250_000, batch: 750_000 },
    kind: { input_uncached: 3_600_000, output: 1_400_000 },
    outcome: { ok: 4_600_000, error: 250_000, aborted: 150_000 },
  },
  gateway_requests: {
    fleet: { "": 8280 },
    tenant: { a: 7920, b: 360 },
    model: { m: 8280 },
    endpoint: { chat: 7920, batch: 360 },
    outcome: { ok: 7200, error: 720, rejected: 360 },
  },
  tokens: {
    fleet: { "": 8_000_000 },
    model: { m: 8_000_000 },
    server: { chat: 8_000_000 },
    replica: { "gpu-1 chat": 8_000_000 },
    gpu_model: { H100: 8_000_000 },
  },
  tenant_seconds: { fleet: { "": 1500 }, model: { m: 1500 }, tenant: { a: 1000, b: 500 } },
  tenant_joules: { fleet: { "": 400_000 }, model: { m: 400_000 }, tenant: { a: 300_000, b: 100_000 } },
  tenant_cost: { fleet: { "": 3 }, model: { m: 3 }, tenant: { a: 2, b: 1 } },
  // 3 and 0.6 million input tokens that went well at 2.5 USD a million, and 1 million of output at 1: all the revenue.
  tenant_revenue: { fleet: { "": 10 }, model: { m: 10 }, tenant: { a: 8.5, b: 1.5 } },
  revenue_earned: { fleet: { "": 10 }, model: { m: 10 } },
};
/** 600 observations up to 0.1 s, 300 up to 0.5 s, 100 up to 2 s: percentiles lie evenly between bounds. */
export const BUCKETS = { bounds: [0.1, 0.5, 2], counts: [600, 300, 100, 0] };
export const PERCENTILES: Readonly<Record<number, number>> = {
  50: 0.1 * (5 / 6),
  90: 0.5,
  95: 1.25,
  99: 1.85,
};

/**
 * The same observations by how they ended: some went well, of some nothing is said; and, to be in none of the percentiles
 * above, 300 refusals of at most 0.1 s and 100 failures of 0.5 to 2 s.
 */
export const ENDED: readonly { readonly outcome?: string; readonly counts: readonly number[] }[] = [
  { outcome: "ok", counts: [400, 200, 60, 0] },
  { counts: [200, 100, 40, 0] },
  { outcome: "rejected", counts: [300, 0, 0, 0] },
  { outcome: "error", counts: [0, 0, 100, 0] },
];
export const FAILED: Readonly<Record<number, number>> = { 50: 0.1 * (2 / 3), 99: 0.5 + 1.5 * 0.96 };

/** A figure, how it is asked for, and what it must be. */
export interface Question {
  readonly name: string;
  readonly group: GroupName;
  readonly promql: string;
  readonly sql: string;
  readonly column: string;
  readonly truth: Readonly<Record<string, number>>;
}
