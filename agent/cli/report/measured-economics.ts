// The inputs of the economics example as this host's own ledger gives them: what was paid, produced and earned.
// Everything is a quotient of sums over the range, in the integers the ledger keeps. What it does not hold must be
// given as a flag; nothing is assumed.

import { bucketMillis } from "../../meter/ledger/grid.ts";
import { integerOf } from "../../meter/money/split.ts";
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
}

/** Reads a range in unix milliseconds. An input is absent where its denominator is empty or nothing was priced. */
export function measure(reader: LedgerReader, from: number, to: number): Measured {
  const metrics = ["gpu.time", "tokens", "gateway.tokens", "billable_tokens", "capacity_tokens", "cost"];
  const series = reader.series(new Set(metrics.map((metric) => `tokenwatt.${metric}`)));
  const sums = reader.sums(from / bucketMillis, to / bucketMillis, series);
  let [all, allocated, tokens, billable, capacity, cost, revenue] = [0n, 0n, 0n, 0n, 0n, 0n, 0n];
  const currencies = new Set<string>();
  for (const [id, moved] of sums) {
    const one = series.get(id);
    if (one === undefined || typeof moved !== "bigint") continue;
    const currency = one.dimensions["tokenwatt.currency"];
    if (currency !== undefined) currencies.add(currency);
    const price = one.dimensions["tokenwatt.price.per_million"];
    if (price !== undefined) revenue += moved * integerOf(price, 9);
    if (one.metric === "tokenwatt.gpu.time") {
      all += moved;
      if (ALLOCATED.includes(one.dimensions["tokenwatt.gpu.state"])) allocated += moved;
    } else if (one.metric === "tokenwatt.tokens") tokens += moved;
    else if (one.metric === "tokenwatt.billable_tokens") billable += moved;
    else if (one.metric === "tokenwatt.capacity_tokens") capacity += moved;
    else if (one.metric === "tokenwatt.cost") cost += moved;
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
  };
}

function ratio(numerator: bigint, denominator: bigint): bigint | undefined {
  return denominator === 0n ? undefined : numerator / denominator;
}
