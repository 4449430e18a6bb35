// From sums of ledger rows to the lines of a report: totals, rates, percentiles and key figures of a group, each of the same
// subjects over the same seconds (METERING.md 1.6).
import type { GpuState, LatencyName, Outcome, Phase, TokenKind } from "../../model.ts";
import { percentile } from "../counters/histograms.ts";
import { outcomes, tokenKinds } from "../counters/key-counters.ts";
import { gpuStates, zeroByState } from "../meter.ts";
import type { CapacitySource } from "../money/capacity-rate.ts";
import { capacitySources } from "../money/capacity-rate.ts";
import type { Money, Sums } from "./group-sums.ts";
import { costParts, revenuePerCost, unknownPart } from "./group-sums.ts";
import type { Kpis, KpiTotals } from "./kpis.ts";
import { kpis } from "./kpis.ts";
import type { Plan } from "./report-plan.ts";
import { isShared, knowsStates } from "./report-plan.ts";

/** One line of a report. Undefined = nothing was booked, or nothing can say. */
export interface ReportLine {
  readonly tokens: Readonly<Partial<Record<TokenKind, bigint>>>;
  readonly allTokens: bigint | undefined;
  readonly requests: Readonly<Partial<Record<Outcome, bigint>>>;
  readonly gpuNanos: Readonly<Partial<Record<GpuState | "all", bigint>>>;
  readonly millijoules: bigint | undefined;
  /** By currency; empty where nothing had a price. */
  readonly money: readonly Money[];
  readonly unpricedTokens: bigint;
  readonly queriesPerSecond: number | undefined;
  readonly tokensPerSecond: number | undefined;
  /** Of requests that were served: not known to have failed. Of all of a line's where lines are of one outcome. */
  readonly percentiles: Percentiles;
  /** Of requests that failed, were aborted or refused, where the source says so. */
  readonly failedPercentiles: Percentiles;
  /** Where the capacity is known from, the weakest last; empty = it is not known. */
  readonly capacitySources: readonly CapacitySource[];
  readonly kpis: Kpis;
}

type Percentiles = Readonly<Partial<Record<LatencyName, Readonly<Record<Quantile, number | undefined>>>>>;

const capacityParts = ["", ...capacitySources] as const;

/** The latency percentiles of a report. */
export type Quantile = "p50" | "p90" | "p95" | "p99";
const quantiles: Readonly<Record<Quantile, number>> = { p50: 0.5, p90: 0.9, p95: 0.95, p99: 0.99 };

/** What a line is made of beside its sums. */
export interface LineFacts {
  /** Seconds the ledger covers; undefined = not known, and no rate is given. */
  readonly seconds: number | undefined;
  /** Sums of the closed buckets alone, where GPU time is shared out when a bucket closes. */
  readonly settled: Sums;
  /** False: an attribute grouped by is missing here, so that figures of two series would not be of the same subjects. */
  readonly isNamed: boolean;
}

/** What follows from the sums of one group. */
export function reportLine(plan: Plan, sums: Sums, facts: LineFacts): ReportLine {
  const tokens = tokensOf(sums, plan.tokens);
  const requests = byPart(outcomes, (outcome) => sums.amount(plan.requests, outcome));
  const allTokens = total(tokens);
  return {
    tokens,
    allTokens,
    requests,
    gpuNanos: byPart([...gpuStates, "all"] as const, (state) =>
      sums.amount(plan.time, state === "all" ? "" : state),
    ),
    millijoules: total(byPart(costParts, (state) => sums.amount(plan.energy, state === "all" ? "" : state))),
    money: sums.money().flatMap(([currency, { cost, revenue }]) => {
      const all = total(cost);
      return all === undefined && revenue === undefined ? [] : [{ currency, cost: all, revenue }];
    }),
    unpricedTokens: sums.unpriced,
    queriesPerSecond: rate(total(requests), facts.seconds),
    tokensPerSecond: rate(allTokens, facts.seconds),
    percentiles: percentilesOf(plan, sums, plan.isByOutcome ? "all" : "served"),
    capacitySources: capacitySourcesOf(plan, sums),
    failedPercentiles: plan.isByOutcome ? {} : percentilesOf(plan, sums, "failed"),
    kpis: { ...(facts.isNamed ? kpisOf(plan, facts.settled) : kpis(nothing)), ...errorShare(plan, sums) },
  };
}

const nothing = { gpuNanos: zeroByState, gpuMillijoules: zeroByState };

/** Key figures of one group: tokens, seconds and money of the same subjects over the same buckets. */
function kpisOf(plan: Plan, sums: Sums): Kpis {
  const states = <K extends string>(parts: readonly K[], metric: string | undefined) =>
    byPart(parts, (state) => sums.amount(metric, state === "all" ? "" : state));
  const gpuNanos = states([...gpuStates, "all"] as const, plan.time);
  const energy = sums.hasAllEnergy ? states([...gpuStates, "all"] as const, plan.energy) : {};
  const tokens = tokensOf(sums, plan.kpiTokens);
  const isKnown = total(tokens) !== undefined;
  // The tenants' tokens are shared out without those that met no GPU time.
  const unmatched =
    isShared(plan) && plan.kpiTokens !== "tokenwatt.tokens" ? {} : tokensOf(sums, plan.unmatched);
  const money = sums.money();
  const cost = money.length === 1 ? money[0]?.[1].kpiCost : undefined;
  const revenue = money.length === 1 && money[0] !== undefined ? sums.earnedHere(money[0][1]) : undefined;
  const figures = kpis({
    // A metric without states holds allocated time only; nothing is known of its states.
    gpuNanos: { ...zeroByState, ...gpuNanos, ...asParked(gpuNanos.all) },
    gpuMillijoules: { ...zeroByState, ...energy, ...asParked(energy.all) },
    ...(isKnown ? { inputTokens: inputOf(tokens), outputTokens: tokens.output ?? 0n } : {}),
    ...(isKnown && tokens.input_unsplit === undefined
      ? { cachedInputTokens: tokens.input_cached ?? 0n }
      : {}),
    unmatchedInputTokens: inputOf(unmatched),
    unmatchedOutputTokens: unmatched.output ?? 0n,
    unmatchedCachedTokens: unmatched.input_cached ?? 0n,
    ...capacityTotals(plan, sums),
    ...optional("unknownNanos", sums.amount(plan.time, unknownPart)),
    ...(cost === undefined ? {} : { cost: { ...cost, ...asParked(cost.all) } }),
    ...(revenue === undefined ? {} : { revenue: Number(revenue) / Number(revenuePerCost) }),
    phases: phasesOf(plan, sums),
    // Nothing booked as uncertain is a share of 0 where the metric carries the group at all.
    ...(plan.uncertainTime === undefined ? {} : { uncertainNanos: sums.amount(plan.uncertainTime) ?? 0n }),
    ...(plan.uncertainEnergy === undefined
      ? {}
      : { uncertainMillijoules: sums.amount(plan.uncertainEnergy) ?? 0n }),
  });
  return onlyKnown(plan, figures);
}

/** Leaves out what a metric of some states, or of none, cannot say. */
function onlyKnown(plan: Plan, figures: Kpis): Kpis {
  const none = undefined;
  const fleet = {
    tokensPerFleetGpuHour: none,
    fleetTokensPerJoule: none,
    coverage: none,
    idleEnergyShare: none,
  };
  const { allocation } = figures.costPerMillionTokens;
  const { allocation: perCurrency } = figures.tokensPerCurrency;
  if (plan.time === "tokenwatt.gpu.time") return figures;
  if (knowsStates(plan)) {
    return {
      ...figures,
      ...fleet,
      costPerMillionTokens: { ...figures.costPerMillionTokens, fleet: none },
      tokensPerCurrency: { ...figures.tokensPerCurrency, fleet: none },
    };
  }
  return {
    ...figures,
    ...fleet,
    tokenActiveUtilization: none,
    tokensPerTokenActiveGpuHour: none,
    intensity: none,
    costPerMillionTokens: { fleet: none, allocation, active: none },
    tokensPerCurrency: { fleet: none, allocation: perCurrency, active: none },
  };
}

function errorShare(plan: Plan, sums: Sums): Partial<Kpis> {
  if (plan.tokens?.includes("gateway") !== true) return {};
  const all = total(tokensOf(sums, plan.tokens));
  if (all === undefined || all <= 0n) return {};
  const ok = tokenKinds.reduce((sum, kind) => sum + (sums.amount(plan.tokens, `${kind} ok`) ?? 0n), 0n);
  return { errorShare: Number(all - ok) / Number(all) };
}

/**
 * Capacity, and what was made while it was known. Ledgers of earlier versions do not say the latter: all tokens may be from
 * before a rate was learned, and no utilisation is made of them.
 */
function capacityTotals(plan: Plan, sums: Sums): Partial<KpiTotals> {
  const rated = capacityOf(sums, plan.rated);
  if (rated === undefined) return {};
  return {
    ratedTokens: rated,
    ...optional("capacityTokens", capacityOf(sums, plan.capacity)),
    ...optional("uncertainCapacityTokens", capacityOf(sums, plan.capacityDoubt)),
  };
}

/** Over all that a capacity is known from; of a ledger of earlier versions too. */
function capacityOf(sums: Sums, metric: string | undefined): bigint | undefined {
  return total(byPart(capacityParts, (source) => sums.amount(metric, source)));
}

/** Where a group's capacity is known from, the weakest last; empty where it is not. */
function capacitySourcesOf(plan: Plan, sums: Sums): readonly CapacitySource[] {
  return capacitySources.filter((source) => sums.amount(plan.capacity, source) !== undefined);
}

function phasesOf(plan: Plan, sums: Sums): NonNullable<KpiTotals["phases"]> {
  const of = (phase: Phase) => ({
    nanos: sums.amount(plan.phaseTime, phase) ?? 0n,
    millijoules: sums.amount(plan.phaseEnergy, phase) ?? 0n,
  });
  return {
    ...{ prefill: of("prefill"), decode: of("decode"), unsplit: of("unsplit") },
    uncertainMillijoules: sums.amount(plan.phaseDoubt) ?? 0n,
  };
}

function tokensOf(sums: Sums, metric: string | undefined): Partial<Record<TokenKind, bigint>> {
  return byPart(tokenKinds, (kind) =>
    total(
      byPart(["", ...outcomes] as const, (outcome) =>
        sums.amount(metric, outcome === "" ? kind : `${kind} ${outcome}`),
      ),
    ),
  );
}

function percentilesOf(plan: Plan, sums: Sums, of: "served" | "failed" | "all"): Percentiles {
  const found: Partial<Record<LatencyName, Record<Quantile, number | undefined>>> = {};
  for (const [name, metric] of Object.entries(plan.latencies) as [LatencyName, string][]) {
    const histogram = sums.histogram(metric, of);
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

function asParked(all: bigint | undefined): { readonly parked?: bigint } {
  return all === undefined ? {} : { parked: all };
}

function total(parts: Readonly<Partial<Record<string, bigint>>>): bigint | undefined {
  const known = Object.values(parts).filter((part) => part !== undefined);
  return known.length === 0 ? undefined : known.reduce((sum, part) => sum + part, 0n);
}

function inputOf(tokens: Readonly<Partial<Record<TokenKind, bigint>>>): bigint {
  return (tokens.input_uncached ?? 0n) + (tokens.input_cached ?? 0n) + (tokens.input_unsplit ?? 0n);
}

function rate(amount: bigint | undefined, seconds: number | undefined): number | undefined {
  return amount === undefined || seconds === undefined || !(seconds > 0)
    ? undefined
    : Number(amount) / seconds;
}

function optional<K extends string>(key: K, value: bigint | undefined): Partial<Record<K, bigint>> {
  return value === undefined ? {} : ({ [key]: value } as Partial<Record<K, bigint>>);
}
