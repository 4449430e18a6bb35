// From sums of ledger rows to the lines of a report: which metrics answer a grouping, and what follows from their sums.
// A metric is used only where it carries every attribute grouped by; what none carries stays empty, never repeated.
import type { Dimensions, GpuState, Histogram, LatencyName, Outcome, TokenKind } from "../../model.ts";
import { addHistograms, percentile } from "../counters/histograms.ts";
import { outcomes, tokenKinds } from "../counters/key-counters.ts";
import { gpuStates, zeroByState } from "../meter.ts";
import type { Kpis } from "./kpis.ts";
import { kpis } from "./kpis.ts";

/** What a report may be grouped by. */
export type Group =
  | "tenant"
  | "model"
  | "endpoint"
  | "gpu_type"
  | "gpu"
  | "server"
  | "kind"
  | "outcome"
  | "state";
export type ReportSource = "engine" | "gateway";

/** Attribute behind each group. */
export const groupKeys: Readonly<Record<Group, string>> = {
  tenant: "tokenwatt.tenant",
  model: "gen_ai.request.model",
  endpoint: "tokenwatt.endpoint",
  gpu_type: "hw.model",
  gpu: "hw.id",
  server: "tokenwatt.server.id",
  kind: "tokenwatt.token.kind",
  outcome: "tokenwatt.outcome",
  state: "tokenwatt.gpu.state",
};

/** The metrics that answer a grouping, by what they stand for. Absent = nothing carries all its attributes. */
export interface Plan {
  readonly tokens: string | undefined;
  readonly requests: string | undefined;
  readonly time: string | undefined;
  readonly energy: string | undefined;
  readonly cost: string | undefined;
  readonly revenue: string | undefined;
  readonly unmatched: string | undefined;
  readonly billable: string | undefined;
  readonly capacity: string | undefined;
  readonly uncertainTime: string | undefined;
  readonly uncertainEnergy: string | undefined;
  readonly latencies: Readonly<Partial<Record<LatencyName, string>>>;
}

type Carrier = readonly [metric: string, groups: readonly Group[]];

const timeCarriers: readonly Carrier[] = [
  ["tokenwatt.gpu.", ["gpu", "gpu_type", "state"]],
  ["tokenwatt.server.", ["server", "gpu", "gpu_type", "state"]],
  ["tokenwatt.model.", ["model"]],
  ["tokenwatt.server.", ["server", "model", "gpu", "gpu_type", "state"]],
  ["tokenwatt.tenant.", ["tenant", "model"]],
];

/** Which metrics a report by these groups is made of. */
export function planReport(groups: readonly Group[], source: ReportSource): Plan {
  const first = (...carriers: readonly Carrier[]): string | undefined =>
    carriers.find(([, carried]) => groups.every((group) => carried.includes(group)))?.[0];
  const time = first(...timeCarriers);
  const engine = source === "engine";
  const latencies = first(
    engine ? ["engine", ["server", "model"]] : ["gateway", ["tenant", "endpoint", "model"]],
  );
  return {
    tokens: engine
      ? first(["tokenwatt.tokens", ["server", "model", "gpu_type", "kind"]])
      : first(["tokenwatt.gateway.tokens", ["tenant", "endpoint", "model", "kind", "outcome"]]),
    requests: engine
      ? first(["tokenwatt.requests", ["server", "model", "outcome"]])
      : first(["tokenwatt.gateway.requests", ["tenant", "endpoint", "model", "outcome"]]),
    time: time === undefined ? undefined : `${time}${time === "tokenwatt.gpu." ? "time" : "gpu_time"}`,
    energy: time === undefined ? undefined : `${time}energy`,
    cost: first(
      ["tokenwatt.cost", ["gpu_type", "server", "model", "state"]],
      ["tokenwatt.tenant.cost", ["tenant", "model"]],
    ),
    revenue: first(["tokenwatt.revenue", ["server", "model", "kind"]]),
    unmatched: engine ? first(["tokenwatt.unmatched_tokens", ["server", "model", "kind"]]) : undefined,
    billable: first(["tokenwatt.billable_tokens", ["server", "model", "gpu_type"]]),
    capacity: first(["tokenwatt.capacity_tokens", ["server", "model", "gpu_type"]]),
    uncertainTime: first(["tokenwatt.uncertain_time", ["gpu", "gpu_type"]]),
    uncertainEnergy: first(["tokenwatt.uncertain_energy", ["gpu", "gpu_type"]]),
    latencies: latencies === undefined ? {} : latencies === "engine" ? engineLatencies : gatewayLatencies,
  };
}

const engineLatencies: Readonly<Record<LatencyName, string>> = {
  time_to_first_token: "gen_ai.server.time_to_first_token",
  time_per_output_token: "gen_ai.server.time_per_output_token",
  inter_token_latency: "tokenwatt.server.inter_token_latency",
  request_duration: "gen_ai.server.request.duration",
  queue_time: "tokenwatt.server.queue_time",
};
const gatewayLatencies: Readonly<Record<LatencyName, string>> = {
  time_to_first_token: "tokenwatt.gateway.time_to_first_token",
  time_per_output_token: "tokenwatt.gateway.time_per_output_token",
  inter_token_latency: "tokenwatt.gateway.inter_token_latency",
  request_duration: "tokenwatt.gateway.request_duration",
  queue_time: "tokenwatt.gateway.queue_time",
};

/** Every metric a plan reads. */
export function plannedMetrics(plan: Plan): ReadonlySet<string> {
  const { latencies, ...rest } = plan;
  return new Set(
    [...Object.values(rest), ...Object.values(latencies)].filter((metric) => metric !== undefined),
  );
}

/** Sums of one group and period: amounts by metric and the attribute a line tells apart, histograms by metric. */
export class Sums {
  readonly #amounts = new Map<string, bigint>();
  readonly #histograms = new Map<string, Histogram>();

  add(metric: string, dimensions: Dimensions, moved: bigint | Histogram): void {
    if (typeof moved === "bigint") {
      const key = `${metric} ${partOf(dimensions)}`;
      this.#amounts.set(key, (this.#amounts.get(key) ?? 0n) + moved);
      return;
    }
    const known = this.#histograms.get(metric);
    const sum = known === undefined ? moved : addHistograms(known, moved);
    // Buckets of other bounds cannot be merged; the series with more observations speaks for the group.
    if (sum !== undefined) this.#histograms.set(metric, sum);
    else if (moved.count > (known?.count ?? 0)) this.#histograms.set(metric, moved);
  }

  amount(metric: string | undefined, part = ""): bigint | undefined {
    return metric === undefined ? undefined : this.#amounts.get(`${metric} ${part}`);
  }

  histogram(metric: string | undefined): Histogram | undefined {
    return metric === undefined ? undefined : this.#histograms.get(metric);
  }
}

/** One line of a report. Undefined = nothing was booked, or nothing can say. Money in 1e-9 of the currency. */
export interface ReportLine {
  readonly tokens: Readonly<Partial<Record<TokenKind, bigint>>>;
  readonly allTokens: bigint | undefined;
  readonly requests: Readonly<Partial<Record<Outcome, bigint>>>;
  readonly gpuNanos: Readonly<Partial<Record<GpuState | "all", bigint>>>;
  readonly millijoules: bigint | undefined;
  readonly cost: bigint | undefined;
  readonly revenue: bigint | undefined;
  readonly queriesPerSecond: number | undefined;
  readonly tokensPerSecond: number | undefined;
  readonly percentiles: Readonly<
    Partial<Record<LatencyName, Readonly<Record<Quantile, number | undefined>>>>
  >;
  readonly kpis: Kpis;
}

export type Quantile = "p50" | "p90" | "p95" | "p99";
const quantiles: Readonly<Record<Quantile, number>> = { p50: 0.5, p90: 0.9, p95: 0.95, p99: 0.99 };

/** What follows from the sums of one group over `seconds`. */
export function reportLine(plan: Plan, sums: Sums, seconds: number): ReportLine {
  const tokens = byPart(tokenKinds, (kind) => sumOutcomes(sums, plan.tokens, kind));
  const requests = byPart(outcomes, (outcome) => sums.amount(plan.requests, outcome));
  const gpuNanos = byPart([...gpuStates, "all"] as const, (state) =>
    sums.amount(plan.time, state === "all" ? "" : state),
  );
  const energy = byPart([...gpuStates, "unattributed", "all"] as const, (state) =>
    sums.amount(plan.energy, state === "all" ? "" : state),
  );
  const cost = byPart([...gpuStates, "unattributed", "all"] as const, (state) =>
    sums.amount(plan.cost, state === "all" ? "" : state),
  );
  const revenue = total(byPart(["", ...tokenKinds] as const, (kind) => sums.amount(plan.revenue, kind)));
  const unmatched = byPart(tokenKinds, (kind) => sums.amount(plan.unmatched, kind));
  const allTokens = total(tokens);
  const allRequests = total(requests);
  const ok = plan.tokens?.includes("gateway") ? sumKinds(sums, plan.tokens, "ok") : undefined;
  return {
    tokens,
    allTokens,
    requests,
    gpuNanos,
    millijoules: total(energy),
    cost: total(cost),
    revenue,
    queriesPerSecond: rate(allRequests, seconds),
    tokensPerSecond: rate(allTokens, seconds),
    percentiles: percentilesOf(plan, sums),
    kpis: kpis({
      // A metric without states holds allocated time only; nothing is known of its states.
      gpuNanos: {
        ...zeroByState,
        ...gpuNanos,
        ...(gpuNanos.all === undefined ? {} : { parked: gpuNanos.all }),
      },
      gpuMillijoules: {
        ...zeroByState,
        ...energy,
        ...(energy.all === undefined ? {} : { parked: energy.all }),
      },
      inputTokens: inputOf(tokens),
      outputTokens: tokens.output ?? 0n,
      ...(tokens.input_unsplit === undefined ? { cachedInputTokens: tokens.input_cached ?? 0n } : {}),
      unmatchedInputTokens: inputOf(unmatched),
      unmatchedOutputTokens: unmatched.output ?? 0n,
      unmatchedCachedTokens: unmatched.input_cached ?? 0n,
      ...optional("billableTokens", sums.amount(plan.billable)),
      ...optional("capacityTokens", sums.amount(plan.capacity)),
      cost: { ...cost, ...(cost.all === undefined ? {} : { parked: cost.all }) },
      ...optional("revenue", revenue),
      // Nothing booked as uncertain is a share of 0 where the metric carries the group at all.
      ...optional("uncertainNanos", carried(plan.uncertainTime, sums)),
      ...optional("uncertainMillijoules", carried(plan.uncertainEnergy, sums)),
      ...(ok === undefined || allTokens === undefined ? {} : { gatewayTokens: { ok, all: allTokens } }),
    }),
  };
}

/** Whether a plan's GPU time is told apart by state; else no share of states can be given. */
export function knowsStates(plan: Plan): boolean {
  return plan.time === "tokenwatt.gpu.time" || plan.time === "tokenwatt.server.gpu_time";
}

/** The attribute a line tells apart inside one metric: state, kind, kind and outcome, or outcome. */
function partOf(dimensions: Dimensions): string {
  const [state, kind, outcome] = [
    dimensions["tokenwatt.gpu.state"],
    dimensions["tokenwatt.token.kind"],
    dimensions["tokenwatt.outcome"],
  ];
  if (kind !== undefined && outcome !== undefined) return `${kind} ${outcome}`;
  return state ?? kind ?? outcome ?? "";
}

function sumOutcomes(sums: Sums, metric: string | undefined, kind: TokenKind): bigint | undefined {
  return total(
    byPart(["", ...outcomes] as const, (outcome) =>
      sums.amount(metric, outcome === "" ? kind : `${kind} ${outcome}`),
    ),
  );
}

function sumKinds(sums: Sums, metric: string, outcome: Outcome): bigint {
  return tokenKinds.reduce((all, kind) => all + (sums.amount(metric, `${kind} ${outcome}`) ?? 0n), 0n);
}

function percentilesOf(plan: Plan, sums: Sums): ReportLine["percentiles"] {
  const found: Partial<Record<LatencyName, Record<Quantile, number | undefined>>> = {};
  for (const [name, metric] of Object.entries(plan.latencies) as [LatencyName, string][]) {
    const histogram = sums.histogram(metric);
    if (histogram === undefined) continue;
    found[name] = Object.fromEntries(
      Object.entries(quantiles).map(([quantile, share]) => [quantile, percentile(histogram, share)]),
    ) as Record<Quantile, number | undefined>;
  }
  return found;
}

function byPart<K extends string>(
  parts: readonly K[],
  pick: (part: K) => bigint | undefined,
): Partial<Record<K, bigint>> {
  const found: Partial<Record<K, bigint>> = {};
  for (const part of parts) {
    const amount = pick(part);
    if (amount !== undefined) found[part] = amount;
  }
  return found;
}

function total(parts: Readonly<Partial<Record<string, bigint>>>): bigint | undefined {
  const known = Object.values(parts).filter((part) => part !== undefined);
  return known.length === 0 ? undefined : known.reduce((sum, part) => sum + part, 0n);
}

function inputOf(tokens: Readonly<Partial<Record<TokenKind, bigint>>>): bigint {
  return (tokens.input_uncached ?? 0n) + (tokens.input_cached ?? 0n) + (tokens.input_unsplit ?? 0n);
}

function carried(metric: string | undefined, sums: Sums): bigint | undefined {
  return metric === undefined ? undefined : (sums.amount(metric) ?? 0n);
}

function rate(amount: bigint | undefined, seconds: number): number | undefined {
  return amount === undefined || !(seconds > 0) ? undefined : Number(amount) / seconds;
}

function optional<K extends string>(key: K, value: bigint | undefined): Partial<Record<K, bigint>> {
  return value === undefined ? {} : ({ [key]: value } as Partial<Record<K, bigint>>);
}
