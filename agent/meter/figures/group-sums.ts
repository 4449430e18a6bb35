// The sums of one group and period of a report: tokens, seconds and joules by the attribute a line tells apart, money by
// currency, histograms. Money is never summed over two currencies: what tokens earned is their number times the price they
// were booked with, exact in 1e-15 of the currency.
import type { Dimensions, Histogram } from "../../model.ts";
import { outcomes } from "../counters/key-counters.ts";
import { isServed, mergeOrLarger } from "../counters/latency-keys.ts";
import { allocatedStates } from "../gpu-amounts.ts";
import { gpuStates } from "../meter.ts";
import { integerOf } from "../money/split.ts";
import type { CostState } from "./kpis.ts";
import type { Plan } from "./report-plan.ts";

/** Money of one currency: cost in 1e-9 of it, revenue in 1e-15. */
export interface Money {
  readonly currency: string;
  readonly cost: bigint | undefined;
  readonly revenue: bigint | undefined;
}

/** 1e-9 of a currency in 1e-15. */
export const revenuePerCost = 1_000_000n;
/** What costs are booked under. */
export const costParts = [...gpuStates, "unattributed", "all"] as const;
type CostPart = CostState | "all";

interface MoneySums {
  cost: Partial<Record<CostPart, bigint>>;
  /** Of what this host may have served, by model: key figures count the part that its engines made. */
  readonly earnedHere: Map<string, bigint>;
  /** Of old ledgers, which kept no model with it. */
  oldRevenue: bigint | undefined;
  kpiCost: Partial<Record<CostPart, bigint>>;
  revenue: bigint | undefined;
}

/** Tokens of one model: those key figures count, and those a gateway billed that may have been served here. */
interface ModelTokens {
  made: bigint;
  billed: bigint;
}

/** Sums of one group and period: amounts by metric and the attribute a line tells apart, histograms by metric. */
export class Sums {
  readonly #plan: Plan;
  readonly #amounts = new Map<string, bigint>();
  readonly #histograms = new Map<string, Histogram>();
  readonly #money = new Map<string, MoneySums>();
  readonly #models = new Map<string, ModelTokens>();
  /** GPUs of which allocated time was booked, and those of which energy was. */
  readonly #held = new Set<string>();
  readonly #powered = new Set<string>();
  /** Customers' tokens that were booked without a price. */
  unpriced = 0n;

  constructor(plan: Plan) {
    this.#plan = plan;
  }

  /** Adds what one series moved. */
  addMoved(metric: string, dimensions: Dimensions, moved: bigint | Histogram): void {
    if (typeof moved !== "bigint") {
      this.#addHistogram(`${metric} ${dimensions["tokenwatt.outcome"] ?? ""}`, moved);
      return;
    }
    this.#addMoney(metric, dimensions, moved);
    this.#addModel(metric, dimensions, moved);
    const part = partOf(dimensions);
    this.#addAmount(`${metric} ${part}`, moved);
    const gpu = dimensions["hw.id"];
    if (gpu !== undefined && metric === this.#plan.energy) this.#powered.add(gpu);
    if (!(allocatedStates as readonly string[]).includes(part)) return;
    if (gpu !== undefined && metric === this.#plan.time) this.#held.add(gpu);
    if (dimensions["tokenwatt.method"] === "unknown") this.#addAmount(`${metric} ${unknownPart}`, moved);
  }

  #addHistogram(key: string, moved: Histogram): void {
    this.#histograms.set(key, mergeOrLarger(this.#histograms.get(key), moved));
  }

  #addAmount(key: string, moved: bigint): void {
    this.#amounts.set(key, (this.#amounts.get(key) ?? 0n) + moved);
  }

  /** Adds all of another group's sums: a total over groups. */
  addSums(other: Sums): void {
    for (const [key, amount] of other.#amounts)
      this.#amounts.set(key, (this.#amounts.get(key) ?? 0n) + amount);
    for (const [key, histogram] of other.#histograms) this.#addHistogram(key, histogram);
    for (const [currency, more] of other.#money) {
      const money = this.#moneyOf(currency);
      for (const field of ["cost", "kpiCost"] as const) {
        for (const [part, amount] of Object.entries(more[field]) as [CostPart, bigint][])
          money[field][part] = (money[field][part] ?? 0n) + amount;
      }
      for (const field of ["revenue", "oldRevenue"] as const) {
        const amount = more[field];
        if (amount !== undefined) money[field] = (money[field] ?? 0n) + amount;
      }
      for (const [model, amount] of more.earnedHere)
        money.earnedHere.set(model, (money.earnedHere.get(model) ?? 0n) + amount);
    }
    for (const [model, { billed, made }] of other.#models) {
      this.#modelOf(model).billed += billed;
      this.#modelOf(model).made += made;
    }
    this.unpriced += other.unpriced;
    for (const gpu of other.#held) this.#held.add(gpu);
    for (const gpu of other.#powered) this.#powered.add(gpu);
  }

  /** Whether each GPU that was held has energy: else joules are of fewer GPUs than tokens are. */
  get hasAllEnergy(): boolean {
    return this.#held.isSubsetOf(this.#powered);
  }

  amount(metric: string | undefined, part = ""): bigint | undefined {
    return metric === undefined ? undefined : this.#amounts.get(`${metric} ${part}`);
  }

  /**
   * A latency of some requests. `served`: that went well, or of which nothing says how they ended. Buckets of other bounds
   * cannot be merged; those with more observations speak for the group.
   */
  histogram(metric: string, of: "served" | "failed" | "all"): Histogram | undefined {
    let sum: Histogram | undefined;
    for (const outcome of [undefined, ...outcomes]) {
      if (of !== "all" && isServed(outcome) !== (of === "served")) continue;
      const part = this.#histograms.get(`${metric} ${outcome ?? ""}`);
      if (part !== undefined) sum = mergeOrLarger(sum, part);
    }
    return sum;
  }

  /** By currency, in order of its name. */
  money(): readonly (readonly [currency: string, sums: MoneySums])[] {
    return [...this.#money].sort(([one], [other]) => (one < other ? -1 : 1));
  }

  /**
   * What this host's GPUs earned of a currency, in 1e-15 of it: where a gateway spreads a model over hosts, the share of its
   * tokens that key figures count. Undefined = nothing was earned.
   */
  earnedHere({ earnedHere, oldRevenue }: MoneySums): bigint | undefined {
    if (this.#plan.kpiTokens === undefined) return undefined;
    let sum = oldRevenue;
    for (const [model, amount] of earnedHere) {
      const { billed, made } = this.#models.get(model) ?? { billed: 0n, made: 0n };
      sum = (sum ?? 0n) + (made < billed ? (amount * (made < 0n ? 0n : made)) / billed : amount);
    }
    return sum;
  }

  /** Tokens by model, of both sides. */
  #addModel(metric: string, dimensions: Dimensions, moved: bigint): void {
    const { kpiTokens, unmatched } = this.#plan;
    const model = dimensions["gen_ai.request.model"] ?? "";
    if (metric === kpiTokens) this.#modelOf(model).made += moved;
    if (metric === unmatched && kpiTokens === "tokenwatt.tokens") this.#modelOf(model).made -= moved;
    const isPriced = dimensions["tokenwatt.currency"] !== undefined || metric === "tokenwatt.gateway.tokens";
    if (isPriced && isServedHere(metric, dimensions)) this.#modelOf(model).billed += moved;
  }

  #modelOf(model: string): ModelTokens {
    const known = this.#models.get(model) ?? { made: 0n, billed: 0n };
    this.#models.set(model, known);
    return known;
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
    if (metric === oldRevenue) {
      money.revenue = (money.revenue ?? 0n) + moved * revenuePerCost;
      money.oldRevenue = (money.oldRevenue ?? 0n) + moved * revenuePerCost;
    }
    const price = dimensions["tokenwatt.price.per_million"];
    if (!priced.includes(metric) || price === undefined) return;
    const earned = moved * integerOf(price, 9);
    money.revenue = (money.revenue ?? 0n) + earned;
    if (!isServedHere(metric, dimensions)) return;
    const model = dimensions["gen_ai.request.model"] ?? "";
    money.earnedHere.set(model, (money.earnedHere.get(model) ?? 0n) + earned);
  }

  #moneyOf(currency: string): MoneySums {
    const known = this.#money.get(currency) ?? {
      cost: {},
      kpiCost: {},
      revenue: undefined,
      oldRevenue: undefined,
      earnedHere: new Map<string, bigint>(),
    };
    this.#money.set(currency, known);
    return known;
  }
}

/** A gateway may send elsewhere too; what that earns has no cost here. */
function isServedHere(metric: string, dimensions: Dimensions): boolean {
  return metric === "tokenwatt.tokens" || dimensions["tokenwatt.upstream"] === "here";
}

/** The attribute a line tells apart inside one metric: state, phase, source of a capacity, kind, kind and outcome, or outcome. */
function partOf(dimensions: Dimensions): string {
  const [state, kind, outcome] = [
    dimensions["tokenwatt.gpu.state"] ??
      dimensions["tokenwatt.phase"] ??
      dimensions["tokenwatt.capacity.source"],
    dimensions["tokenwatt.token.kind"],
    dimensions["tokenwatt.outcome"],
  ];
  if (kind !== undefined && outcome !== undefined) return `${kind} ${outcome}`;
  return state ?? kind ?? outcome ?? "";
}

/** Name under which allocated time is summed of which nothing says whether it was token-active. */
export const unknownPart = "unknown activity";
