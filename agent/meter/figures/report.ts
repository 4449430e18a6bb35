// From sums of ledger rows to the lines of a report. Money is summed by currency and never over two: what tokens earned is
// their number times the price they were booked with, exact in 1e-15 of the currency.
import type { Dimensions, GpuState, Histogram, LatencyName, Outcome, TokenKind } from "../../model.ts";
import { addHistograms, percentile } from "../counters/histograms.ts";
import { outcomes, tokenKinds } from "../counters/key-counters.ts";
import { allocatedStates, gpuStates, zeroByState } from "../meter.ts";
import { integerOf } from "../money/split.ts";
import type { CostState, Kpis } from "./kpis.ts";
import { kpis } from "./kpis.ts";
import type { Plan } from "./report-plan.ts";
import { isShared, knowsStates } from "./report-plan.ts";

/** Money of one currency: cost in 1e-9 of it, revenue in 1e-15. */
export interface Money {
  readonly currency: string;
  readonly cost: bigint | undefined;
  readonly revenue: bigint | undefined;
}

/** 1e-9 of a currency in 1e-15. */
const revenuePerCost = 1_000_000n;
const costParts = [...gpuStates, "unattributed", "all"] as const;
type CostPart = CostState | "all";

interface MoneySums {
  cost: Partial<Record<CostPart, bigint>>;
  /** Of what was served by this host, as key figures count it. */
  kpiRevenue: bigint | undefined;
  kpiCost: Partial<Record<CostPart, bigint>>;
  revenue: bigint | undefined;
}

/** Sums of one group and period: amounts by metric and the attribute a line tells apart, histograms by metric. */
export class Sums {
  readonly #plan: Plan;
  readonly #amounts = new Map<string, bigint>();
  readonly #histograms = new Map<string, Histogram>();
  readonly #money = new Map<string, MoneySums>();
  /** Customers' tokens that were booked without a price. */
  unpriced = 0n;

  constructor(plan: Plan) {
    this.#plan = plan;
  }

  /** Adds what one series moved. */
  addMoved(metric: string, dimensions: Dimensions, moved: bigint | Histogram): void {
    if (typeof moved !== "bigint") {
      const known = this.#histograms.get(metric);
      const sum = known === undefined ? moved : addHistograms(known, moved);
      // Buckets of other bounds cannot be merged; the series with more observations speaks for the group.
      if (sum !== undefined) this.#histograms.set(metric, sum);
      else if (moved.count > (known?.count ?? 0)) this.#histograms.set(metric, moved);
      return;
    }
    this.#addMoney(metric, dimensions, moved);
    const part = partOf(dimensions);
    this.#addAmount(`${metric} ${part}`, moved);
    const isUnknown = dimensions["tokenwatt.method"] === "unknown";
    if (isUnknown && (allocatedStates as readonly string[]).includes(part))
      this.#addAmount(`${metric} ${unknownPart}`, moved);
  }

  #addAmount(key: string, moved: bigint): void {
    this.#amounts.set(key, (this.#amounts.get(key) ?? 0n) + moved);
  }

  /** Adds all of another group's sums: a total over groups. */
  addSums(other: Sums): void {
    for (const [key, amount] of other.#amounts)
      this.#amounts.set(key, (this.#amounts.get(key) ?? 0n) + amount);
    for (const [metric, histogram] of other.#histograms) this.addMoved(metric, {}, histogram);
    for (const [currency, more] of other.#money) {
      const money = this.#moneyOf(currency);
      for (const field of ["cost", "kpiCost"] as const) {
        for (const [part, amount] of Object.entries(more[field]) as [CostPart, bigint][])
          money[field][part] = (money[field][part] ?? 0n) + amount;
      }
      if (more.revenue !== undefined) money.revenue = (money.revenue ?? 0n) + more.revenue;
      if (more.kpiRevenue !== undefined) money.kpiRevenue = (money.kpiRevenue ?? 0n) + more.kpiRevenue;
    }
    this.unpriced += other.unpriced;
  }

  amount(metric: string | undefined, part = ""): bigint | undefined {
    return metric === undefined ? undefined : this.#amounts.get(`${metric} ${part}`);
  }

  histogram(metric: string | undefined): Histogram | undefined {
    return metric === undefined ? undefined : this.#histograms.get(metric);
  }

  /** By currency, in order of its name. */
  money(): readonly (readonly [currency: string, sums: MoneySums])[] {
    return [...this.#money].sort(([one], [other]) => (one < other ? -1 : 1));
  }

  #addMoney(metric: string, dimensions: Dimensions, moved: bigint): void {
    const { cost, kpiCost, oldRevenue, priced } = this.#plan;
    const currency = dimensions["tokenwatt.currency"];
    if (currency === undefined) {
      if (metric === "tokenwatt.gateway.tokens") this.unpriced += moved;
      return;
    }
    const money = this.#moneyOf(currency);
    const part = (dimensions["tokenwatt.gpu.state"] ?? "all") as CostPart;
    if (metric === cost) money.cost[part] = (money.cost[part] ?? 0n) + moved;
    if (metric === kpiCost) money.kpiCost[part] = (money.kpiCost[part] ?? 0n) + moved;
    if (metric === oldRevenue) earn(money, moved * revenuePerCost, true);
    const price = dimensions["tokenwatt.price.per_million"];
    if (!priced.includes(metric) || price === undefined) return;
    earn(money, moved * integerOf(price, 9), isServedHere(metric, dimensions));
  }

  #moneyOf(currency: string): MoneySums {
    const known = this.#money.get(currency) ?? {
      cost: {},
      kpiCost: {},
      revenue: undefined,
      kpiRevenue: undefined,
    };
    this.#money.set(currency, known);
    return known;
  }
}

function earn(money: MoneySums, amount: bigint, isHere: boolean): void {
  money.revenue = (money.revenue ?? 0n) + amount;
  if (isHere) money.kpiRevenue = (money.kpiRevenue ?? 0n) + amount;
}

/** A gateway may send elsewhere too; what that earns has no cost here. */
function isServedHere(metric: string, dimensions: Dimensions): boolean {
  return metric === "tokenwatt.tokens" || dimensions["tokenwatt.upstream"] === "here";
}

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
  readonly percentiles: Readonly<
    Partial<Record<LatencyName, Readonly<Record<Quantile, number | undefined>>>>
  >;
  readonly kpis: Kpis;
}

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
    percentiles: percentilesOf(plan, sums),
    kpis: { ...(facts.isNamed ? kpisOf(plan, facts.settled) : kpis(nothing)), ...errorShare(plan, sums) },
  };
}

/** Name under which allocated time is summed of which nothing says whether it was token-active. */
const unknownPart = "unknown activity";
const nothing = { gpuNanos: zeroByState, gpuMillijoules: zeroByState };

/** Key figures of one group: tokens, seconds and money of the same subjects over the same buckets. */
function kpisOf(plan: Plan, sums: Sums): Kpis {
  const states = <K extends string>(parts: readonly K[], metric: string | undefined) =>
    byPart(parts, (state) => sums.amount(metric, state === "all" ? "" : state));
  const gpuNanos = states([...gpuStates, "all"] as const, plan.time);
  const energy = states([...gpuStates, "all"] as const, plan.energy);
  const tokens = tokensOf(sums, plan.kpiTokens);
  const isKnown = total(tokens) !== undefined;
  // The tenants' tokens are shared out without those that met no GPU time.
  const unmatched =
    isShared(plan) && plan.kpiTokens !== "tokenwatt.tokens" ? {} : tokensOf(sums, plan.unmatched);
  const money = sums.money();
  const cost = money.length === 1 ? money[0]?.[1].kpiCost : undefined;
  const revenue = money.length === 1 ? money[0]?.[1].kpiRevenue : undefined;
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
    ...optional("billableTokens", sums.amount(plan.billable)),
    ...optional("capacityTokens", sums.amount(plan.capacity)),
    ...optional("unknownNanos", sums.amount(plan.time, unknownPart)),
    ...(cost === undefined ? {} : { cost: { ...cost, ...asParked(cost.all) } }),
    ...(revenue === undefined ? {} : { revenue: Number(revenue) / Number(revenuePerCost) }),
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
    uncertainTimeShare: none,
    uncertainEnergyShare: none,
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

function tokensOf(sums: Sums, metric: string | undefined): Partial<Record<TokenKind, bigint>> {
  return byPart(tokenKinds, (kind) =>
    total(
      byPart(["", ...outcomes] as const, (outcome) =>
        sums.amount(metric, outcome === "" ? kind : `${kind} ${outcome}`),
      ),
    ),
  );
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
