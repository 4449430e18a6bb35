// The inputs of the economics example as this host's own ledger gives them: what was paid, produced and earned.
// Everything is a quotient of sums over the range, in the integers the ledger keeps. What it does not hold must be
// given as a flag; nothing is assumed.

import { bucketMillis } from "../../meter/ledger/grid.ts";
import { integerOf } from "../../meter/money/split.ts";
import { nameOf } from "../../meter/names.ts";
import type { Dimensions } from "../../model.ts";
import type { LedgerReader } from "../../store/ledger/reader.ts";
import { UsageError } from "../common/errors.ts";
import { NANO } from "../common/numbers.ts";
import type { EconomicsInputs } from "./economics.ts";

const NANOS_PER_HOUR = 3_600_000_000_000n;
const MILLION = 1_000_000n;
const ALLOCATED: readonly (string | undefined)[] = ["parked", "stalled", "token_active"];

/** Sums of a range, and what they say about the inputs. */
export interface Measured {
  readonly inputs: Partial<EconomicsInputs>;
  readonly currency: string | undefined;
  readonly gpuNanos: bigint;
  readonly tokens: bigint;
  readonly billableTokens: bigint;
  readonly cost: bigint;
  readonly revenue: bigint;
  /** By model and product of GPU. */
  readonly rows: readonly MeasuredRow[];
}

/** What one model did on one product of GPU. Ratios in 1e-9; undefined where a denominator is empty. */
export interface MeasuredRow {
  readonly model: string;
  readonly gpuType: string;
  readonly allocatedNanos: bigint;
  /** Undefined: it made tokens and none of them has a price. */
  readonly billableTokens: bigint | undefined;
  readonly tokensPerGpuHour: bigint | undefined;
  readonly pricePerMillion: bigint | undefined;
  readonly revenuePerGpuHour: bigint | undefined;
  readonly costPerGpuHour: bigint | undefined;
  readonly costPerMillion: bigint | undefined;
  readonly ofCapacity: bigint | undefined;
}

interface RowSums {
  allocated: bigint;
  billable: bigint;
  capacity: bigint;
  /** 1e-15 of the currency. */
  revenue: bigint;
  cost: bigint | undefined;
  /** Tokens its engines made. */
  made: bigint;
  isPriced: boolean;
}

/** Reads a range in unix milliseconds. An input is absent where its denominator is empty or nothing was priced. */
export function measure(reader: LedgerReader, from: number, to: number): Measured {
  const metrics = ["gpu.time", "server.gpu_time", "tokens", "gateway.tokens", "billable_tokens"];
  const names = [...metrics, "capacity_tokens", "cost"].map((metric) => `tokenwatt.${metric}`);
  const series = reader.series(new Set(names));
  let [all, allocated, tokens, billable, capacity, cost, revenue] = [0n, 0n, 0n, 0n, 0n, 0n, 0n];
  const currencies = new Set<string>();
  const rows = new Map<string, RowSums>();
  for (const [id, moved] of reader.sums(from / bucketMillis, to / bucketMillis, series)) {
    const one = series.get(id);
    if (one === undefined || typeof moved !== "bigint") continue;
    const { dimensions, metric } = one;
    const currency = dimensions["tokenwatt.currency"];
    if (currency !== undefined) currencies.add(currency);
    const isAllocated = ALLOCATED.includes(dimensions["tokenwatt.gpu.state"]);
    const price = dimensions["tokenwatt.price.per_million"];
    const earned = price === undefined ? 0n : moved * integerOf(price, 9);
    const row = rowOf(rows, dimensions);
    row.isPriced ||= price !== undefined;
    revenue += earned;
    row.revenue += earned;
    if (metric === "tokenwatt.gpu.time") {
      all += moved;
      if (isAllocated) allocated += moved;
    } else if (metric === "tokenwatt.server.gpu_time") row.allocated += isAllocated ? moved : 0n;
    else if (metric === "tokenwatt.tokens") {
      tokens += moved;
      row.made += moved;
    } else if (metric === "tokenwatt.billable_tokens") {
      billable += moved;
      row.billable += moved;
    } else if (metric === "tokenwatt.capacity_tokens") {
      capacity += moved;
      row.capacity += moved;
    } else if (metric === "tokenwatt.cost") {
      cost += moved;
      if (isAllocated) row.cost = (row.cost ?? 0n) + moved;
    }
  }
  if (currencies.size > 1) {
    throw new UsageError(
      `Cannot add ${[...currencies].join(" and ")}: the range holds prices in several currencies`,
      "choose --from and --to so that one catalogue was in force",
    );
  }
  const perHour = ratio(capacity * NANO * NANOS_PER_HOUR, allocated);
  const inputs = {
    gpuHourPrice: cost === 0n ? undefined : ratio(cost * NANOS_PER_HOUR, all),
    utilization: ratio(allocated * NANO, all),
    capacityTokensPerHour: capacity === 0n ? undefined : perHour,
    pricePerMillion: revenue === 0n ? undefined : ratio(revenue, billable),
    tokenActive: capacity === 0n ? undefined : ratio(billable * allocated * NANO, capacity * all),
  };
  const known = Object.entries(inputs).filter(([, value]) => value !== undefined);
  return {
    inputs: Object.fromEntries(known),
    currency: [...currencies][0],
    gpuNanos: all,
    tokens,
    billableTokens: billable,
    cost,
    revenue: revenue / MILLION,
    rows: [...rows]
      .sort(([one], [other]) => (one < other ? -1 : 1))
      .flatMap(([key, sums]) => measuredRow(key, sums)),
  };
}

/** What names no model, or no one product, belongs to no row. */
function rowOf(rows: Map<string, RowSums>, dimensions: Dimensions): RowSums {
  const [model, gpuType] = [dimensions["gen_ai.request.model"], dimensions["hw.model"]];
  const empty = {
    ...{ allocated: 0n, billable: 0n, capacity: 0n, revenue: 0n, made: 0n },
    ...{ cost: undefined, isPriced: false },
  };
  if (model === undefined || gpuType === undefined) return empty;
  const key = `${model}\u0000${gpuType}`;
  const row = rows.get(key) ?? empty;
  rows.set(key, row);
  return row;
}

function measuredRow(key: string, sums: RowSums): readonly MeasuredRow[] {
  const { allocated, capacity, cost } = sums;
  const [model = "", gpuType = ""] = key.split("\u0000");
  if (allocated === 0n && sums.billable === 0n) return [];
  // What was made and has no price earned what nothing can say.
  const isKnown = sums.isPriced || sums.made === 0n;
  const [billable, revenue] = isKnown ? [sums.billable, sums.revenue] : [undefined, undefined];
  return [
    {
      model: nameOf(model),
      gpuType,
      allocatedNanos: allocated,
      billableTokens: billable,
      tokensPerGpuHour: per(billable, NANO * NANOS_PER_HOUR, allocated),
      pricePerMillion: per(revenue, 1n, billable),
      revenuePerGpuHour: per(revenue, NANOS_PER_HOUR, allocated * MILLION),
      costPerGpuHour: per(cost, NANOS_PER_HOUR, allocated),
      costPerMillion: per(cost, MILLION, billable),
      ofCapacity: per(billable, NANO, capacity),
    },
  ];
}

function per(amount: bigint | undefined, unit: bigint, of: bigint | undefined): bigint | undefined {
  return amount === undefined || of === undefined ? undefined : ratio(amount * unit, of);
}

function ratio(numerator: bigint, denominator: bigint): bigint | undefined {
  return denominator === 0n ? undefined : numerator / denominator;
}
