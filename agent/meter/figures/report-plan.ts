// Which metrics of the ledger answer a grouping. One is used only where it carries every attribute grouped by, so that the
// sums over groups are the whole; what none carries has no value. A key figure takes its tokens, seconds and money from
// metrics of the same subjects (METERING.md 1.6), whatever is shown beside it.
import type { LatencyName } from "../../model.ts";
import { powerLimitKey } from "../power-limits.ts";

/** What a report may be grouped by, and the attribute behind each. */
export const groupKeys = {
  tenant: "tokenwatt.tenant",
  model: "gen_ai.request.model",
  endpoint: "tokenwatt.endpoint",
  gpu_type: "hw.model",
  gpu: "hw.id",
  server: "tokenwatt.server.id",
  kind: "tokenwatt.token.kind",
  outcome: "tokenwatt.outcome",
  state: "tokenwatt.gpu.state",
  power_limit: powerLimitKey,
} as const;
/** What a report can be grouped by. */
export type Group = keyof typeof groupKeys;
/** Whose counters a report is made of. */
export type ReportSource = "engine" | "gateway";

/** The metrics that answer a grouping, by what they stand for. Absent = nothing carries all its attributes. */
export interface Plan {
  readonly tokens: string | undefined;
  readonly requests: string | undefined;
  readonly time: string | undefined;
  readonly energy: string | undefined;
  readonly cost: string | undefined;
  /** Metrics whose tokens were booked with a price. */
  readonly priced: readonly string[];
  /** Revenue as ledgers kept it before tokens carried their price. */
  readonly oldRevenue: string | undefined;
  /** Tokens, and what of them met no GPU time, as key figures count them. */
  readonly kpiTokens: string | undefined;
  readonly unmatched: string | undefined;
  readonly kpiCost: string | undefined;
  readonly capacity: string | undefined;
  readonly capacityDoubt: string | undefined;
  /** Tokens made while the capacity was known. */
  readonly rated: string | undefined;
  readonly phaseTime: string | undefined;
  readonly phaseEnergy: string | undefined;
  readonly phaseDoubt: string | undefined;
  readonly uncertainTime: string | undefined;
  readonly uncertainEnergy: string | undefined;
  readonly latencies: Readonly<Partial<Record<LatencyName, string>>>;
  /** Whether lines are of one outcome each: then percentiles are of all their requests, else of those that were served. */
  readonly isByOutcome: boolean;
}

type Carrier = readonly [metric: string, groups: readonly Group[]];

const timeCarriers: readonly Carrier[] = [
  ["tokenwatt.gpu.", ["gpu", "gpu_type", "state", "power_limit"]],
  ["tokenwatt.server.", ["server", "gpu", "gpu_type", "state", "power_limit"]],
  ["tokenwatt.model.", ["model"]],
  ["tokenwatt.server.", ["server", "model", "gpu", "gpu_type", "state", "power_limit"]],
  ["tokenwatt.tenant.", ["tenant", "model"]],
];
const usage: readonly Group[] = ["tenant", "endpoint", "model", "kind", "outcome", "server", "gpu_type"];
/** What rests on an assumption is told by GPU, and by the server whose activity is in doubt. */
const doubted: readonly Group[] = ["gpu", "gpu_type", "server", "power_limit"];
const rated: readonly Group[] = ["server", "model", "gpu_type"];
const phased: readonly Group[] = ["server", "model", "gpu_type", "power_limit"];
const engineTokens: Carrier = ["tokenwatt.tokens", ["server", "model", "gpu_type", "kind", "power_limit"]];

/** Which metrics a report by these groups is made of. */
export function planReport(groups: readonly Group[], source: ReportSource): Plan {
  const first = (...carriers: readonly Carrier[]): string | undefined =>
    carriers.find(([, carried]) => groups.every((group) => carried.includes(group)))?.[0];
  const time = first(...timeCarriers);
  const engine = source === "engine";
  const latencies = first(
    engine
      ? ["engine", ["server", "model", "outcome"]]
      : ["gateway", ["tenant", "endpoint", "model", "outcome"]],
  );
  // Told apart by kind or outcome, tokens and what they earned must be those of one family.
  const apart = groups.includes("kind") || groups.includes("outcome");
  const own = engine ? "tokenwatt.tokens" : "tokenwatt.gateway.tokens";
  const priced = apart ? [own] : ["tokenwatt.tokens", "tokenwatt.gateway.tokens"];
  return {
    tokens: engine
      ? first(engineTokens)
      : first(["tokenwatt.gateway.tokens", ["tenant", "endpoint", "model", "kind", "outcome"]]),
    requests: engine
      ? first(["tokenwatt.requests", ["server", "model", "outcome"]])
      : first(["tokenwatt.gateway.requests", ["tenant", "endpoint", "model", "outcome"]]),
    time: time === undefined ? undefined : `${time}${time === "tokenwatt.gpu." ? "time" : "gpu_time"}`,
    energy: time === undefined ? undefined : `${time}energy`,
    cost: first(
      ["tokenwatt.cost", ["gpu", "gpu_type", "server", "model", "state"]],
      ["tokenwatt.tenant.cost", ["tenant", "model"]],
    ),
    priced: first(["", usage]) === undefined ? [] : priced,
    oldRevenue: first(["tokenwatt.revenue", ["server", "model", "kind"]]),
    kpiTokens: first(engineTokens, ["tokenwatt.tenant.tokens", ["tenant", "model", "kind"]]),
    unmatched: first(["tokenwatt.unmatched_tokens", ["server", "model", "gpu_type", "kind", "power_limit"]]),
    kpiCost: first(
      ["tokenwatt.cost", ["gpu", "gpu_type", "server", "state"]],
      ["tokenwatt.model.cost", ["model"]],
      ["tokenwatt.cost", ["gpu", "gpu_type", "server", "model", "state"]],
      ["tokenwatt.tenant.cost", ["tenant", "model"]],
    ),
    capacity: first(["tokenwatt.capacity_tokens", rated]),
    capacityDoubt: first(["tokenwatt.uncertain_capacity_tokens", rated]),
    rated: first(["tokenwatt.rated_tokens", rated]),
    phaseTime: first(["tokenwatt.server.phase_time", phased]),
    phaseEnergy: first(["tokenwatt.server.phase_energy", phased]),
    phaseDoubt: first(["tokenwatt.server.phase_uncertain_energy", phased]),
    uncertainTime: first(["tokenwatt.uncertain_time", doubted]),
    uncertainEnergy: first(["tokenwatt.uncertain_energy", doubted]),
    latencies: latencies === undefined ? {} : latencies === "engine" ? engineLatencies : gatewayLatencies,
    isByOutcome: groups.includes("outcome"),
  };
}

/** Every metric a plan reads. */
export function plannedMetrics(plan: Plan): ReadonlySet<string> {
  const { isByOutcome: _, latencies, priced, ...rest } = plan;
  const all = [...Object.values(rest), ...priced, ...Object.values(latencies)];
  return new Set(all.filter((metric) => metric !== undefined));
}

/** Whether a plan's GPU time is told apart by state; else no share of states can be given. */
export function knowsStates(plan: Plan): boolean {
  return plan.time === "tokenwatt.gpu.time" || plan.time === "tokenwatt.server.gpu_time";
}

/** Whether a plan's GPU time is shared out only when a bucket closes: its figures end with the last closed bucket. */
export function isShared(plan: Plan): boolean {
  return plan.time === "tokenwatt.model.gpu_time" || plan.time === "tokenwatt.tenant.gpu_time";
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
