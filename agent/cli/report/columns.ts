// The columns of a report as a table and as CSV: name, title and how a line gives the value.
// Amounts of money stand beside their currency; hours are told apart by what the GPUs did in them.

import type { Money } from "../../meter/figures/group-sums.ts";
import type { Quantile, ReportLine } from "../../meter/figures/report.ts";
import type { Group, Plan } from "../../meter/figures/report-plan.ts";
import { knowsStates } from "../../meter/figures/report-plan.ts";
import { decimalOf } from "../../meter/money/split.ts";
import type { LatencyName } from "../../model.ts";
import { windowName } from "../policy/past-rows.ts";
import type { LineQuota } from "./quotas.ts";
import { quotaUnit, quotaValue } from "./quotas.ts";

/** What a report is written with. */
export interface Layout {
  readonly plan: Plan;
  readonly groups: readonly Group[];
  readonly hasPeriods: boolean;
  /** A policy has quotas that lines may have. */
  readonly hasQuotas: boolean;
}

/** One row of cells: a group in a period, or more of its money in a further currency. */
export interface Row {
  readonly period: string;
  readonly values: readonly string[];
  /** Absent where the row only adds money of another currency. */
  readonly line: ReportLine | undefined;
  readonly money: Money | undefined;
  /** The fullest of its quotas. */
  readonly quota?: LineQuota | undefined;
}

/** A cell of a report: an integer in its own unit, a number, a text, or not known. */
export type Value = bigint | number | string | undefined;

/** A column. */
export interface Column {
  readonly name: string;
  /** Shorter, for the table. */
  readonly title: string;
  /** Decimals in the table. */
  readonly decimals?: number;
  readonly isLabel?: true;
  readonly isMoney?: true;
  readonly value: (row: Row) => Value;
}

const nanosPerHour = 3.6e12;
const hourStates = ["token_active", "stalled", "parked", "other", "free", "unobserved"] as const;
const latencies: readonly (readonly [LatencyName, string])[] = [
  ["time_to_first_token", "ttft"],
  ["request_duration", "e2e"],
];

/** The columns of a report: groups first, then what the plan can answer, and quotas where there is a policy. */
export function columnsOf({ groups, hasPeriods, hasQuotas, plan }: Layout): readonly Column[] {
  return [
    ...(hasPeriods
      ? [{ name: "period", title: "period", isLabel: true, value: ({ period }: Row) => period } as const]
      : []),
    ...groups.map((group, index) => ({
      name: group,
      title: group,
      isLabel: true as const,
      value: ({ values }: Row) => values[index] ?? "",
    })),
    ...requestColumns,
    ...tokenColumns,
    ...moneyColumns,
    ...(hasQuotas ? quotaColumns : []),
    ...hourColumns(plan),
    ...kpiColumns(knowsStates(plan)),
    ...latencyColumns(),
  ];
}

const requestColumns: readonly Column[] = [
  column("requests", "requests", (line) => sumOf(Object.values(line.requests))),
  column("requests_failed", "failed", (line) => sumOf([line.requests.error, line.requests.aborted])),
  column("requests_rejected", "rejected", (line) => line.requests.rejected),
  column("queries_per_second", "req/s", (line) => line.queriesPerSecond, 4),
];

const tokenColumns: readonly Column[] = [
  column("input_uncached", "in uncached", (line) => line.tokens.input_uncached),
  column("input_cached", "in cached", (line) => line.tokens.input_cached),
  column("input_unsplit", "in unsplit", (line) => line.tokens.input_unsplit),
  column("output", "output", (line) => line.tokens.output),
  column("tokens", "tokens", (line) => line.allTokens),
  column("tokens_per_second", "tok/s", (line) => line.tokensPerSecond, 1),
  column("error_share", "error share", (line) => line.kpis.errorShare, 4),
];

/** Amounts with their currency after them; a table never parts them. */
const moneyColumns: readonly Column[] = [
  { name: "cost", title: "cost", decimals: 2, isMoney: true, value: ({ money }) => costText(money) },
  { name: "revenue", title: "revenue", decimals: 2, isMoney: true, value: ({ money }) => revenueText(money) },
  {
    ...column("cost_per_million_tokens", "cost/1M", ({ kpis }) => kpis.costPerMillionTokens.allocation, 3),
    isMoney: true,
  },
  { name: "currency", title: "currency", isMoney: true, value: ({ money }) => money?.currency },
];

const quotaColumns: readonly Column[] = [
  quotaColumn("quota", "quota", ({ quota }) => quota.name),
  quotaColumn("quota_window", "window", windowName),
  quotaColumn("quota_unit", "unit", ({ quota }) => quotaUnit(quota)),
  quotaColumn("quota_limit", "limit", ({ quota }) => quotaValue(quota.hostLimit, quota)),
  quotaColumn("quota_used", "used", ({ quota, used }) => quotaValue(used, quota)),
  quotaColumn("quota_share", "of limit", ({ share }) => share, 3),
  quotaColumn("quota_state", "quota state", ({ state }) => state),
];

function quotaColumn(
  name: string,
  title: string,
  value: (quota: LineQuota) => Value,
  decimals?: number,
): Column {
  return {
    name,
    title,
    ...(decimals === undefined ? {} : { decimals }),
    value: ({ quota }) => (quota === undefined ? undefined : value(quota)),
  };
}

/** Cost as an exact decimal. */
export function costText(money: Money | undefined): string | undefined {
  return money?.cost === undefined ? undefined : decimalOf(money.cost, 9);
}

/** Revenue as an exact decimal. */
export function revenueText(money: Money | undefined): string | undefined {
  return money?.revenue === undefined ? undefined : decimalOf(money.revenue, 15);
}

function hourColumns(plan: Plan): readonly Column[] {
  const states = knowsStates(plan);
  return [
    column(
      "gpu_hours",
      "GPU-h",
      ({ gpuNanos }) => {
        const { all, parked, stalled, token_active } = gpuNanos;
        return over(states ? sumOf([parked, stalled, token_active]) : all, nanosPerHour);
      },
      3,
    ),
    ...hourStates.map((state) =>
      column(
        `gpu_hours_${state}`,
        `${state.replace("token_active", "active").replace("unobserved", "unseen")} h`,
        ({ gpuNanos }) => over(gpuNanos[state], nanosPerHour),
        3,
      ),
    ),
    column("energy_kwh", "kWh", (line) => over(line.millijoules, 3.6e9), 3),
  ];
}

function kpiColumns(states: boolean): readonly Column[] {
  return [
    column("tokens_per_gpu_hour", "tok/GPU-h", ({ kpis }) => kpis.tokensPerGpuHour, 0),
    column("tokens_per_joule", "tok/J", ({ kpis }) => kpis.tokensPerJoule, 2),
    column(
      "token_active_utilization",
      "active share",
      ({ kpis }) => (states ? kpis.tokenActiveUtilization : undefined),
      3,
    ),
    column("capacity_utilization", "of capacity", ({ kpis }) => kpis.capacityUtilization, 3),
    column("capacity_utilization_min", "at least", ({ kpis }) => kpis.capacityUtilizationMin, 3),
    column("capacity_utilization_max", "at most", ({ kpis }) => kpis.capacityUtilizationMax, 3),
    column("capacity_source", "capacity by", ({ capacitySources }) => capacitySources.at(-1)),
    column("prefill_time_share", "prefill", ({ kpis }) => kpis.prefillTimeShare, 3),
    column("joules_per_input_token", "J/in", ({ kpis }) => kpis.joulesPerInputToken, 4),
    column("prefill_uncertain_share", "± of J/in", ({ kpis }) => kpis.prefillUncertainShare, 2),
    column("joules_per_output_token", "J/out", ({ kpis }) => kpis.joulesPerOutputToken, 3),
    column("decode_uncertain_share", "± of J/out", ({ kpis }) => kpis.decodeUncertainShare, 2),
    column("uncertain_time_share", "uncertain time", ({ kpis }) => kpis.uncertainTimeShare, 3),
    column("uncertain_energy_share", "uncertain kWh", ({ kpis }) => kpis.uncertainEnergyShare, 3),
    column("gross_margin", "margin", ({ kpis }) => kpis.grossMargin, 3),
  ];
}

/** Of served requests; beside them how long it took those that failed to do so. */
function latencyColumns(): readonly Column[] {
  const served = latencies.flatMap(([latency, short]) =>
    (["p50", "p90", "p95", "p99"] as const).map((quantile: Quantile) =>
      column(
        `${short}_${quantile}_seconds`,
        `${short === "ttft" ? "TTFT" : "e2e"} ${quantile}`,
        ({ percentiles }) => percentiles[latency]?.[quantile],
        3,
      ),
    ),
  );
  const failed = (["p50", "p99"] as const).map((quantile) =>
    column(
      `e2e_failed_${quantile}_seconds`,
      `failed e2e ${quantile}`,
      ({ failedPercentiles }) => failedPercentiles.request_duration?.[quantile],
      3,
    ),
  );
  return [...served, ...failed];
}

function column(name: string, title: string, value: (line: ReportLine) => Value, decimals?: number): Column {
  return {
    name,
    title,
    ...(decimals === undefined ? {} : { decimals }),
    value: ({ line }) => (line === undefined ? undefined : value(line)),
  };
}

/** The sum of what is known; undefined where nothing is. */
export function sumOf(parts: readonly (bigint | undefined)[]): bigint | undefined {
  const known = parts.filter((part) => part !== undefined);
  return known.length === 0 ? undefined : known.reduce((total, part) => total + part, 0n);
}

function over(value: bigint | undefined, divisor: number): number | undefined {
  return value === undefined ? undefined : Number(value) / divisor;
}
