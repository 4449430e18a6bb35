// What a series is to a quota when the past is read: whose counter it counts for and how much, and what it says of the usage
// beyond a limit (requests, tokens, what they earned).
import { parseDecimal } from "../meter/money/decimal.ts";
import type { Dimensions } from "../model.ts";
import type { Quota } from "./config.ts";
import type { KeyValues } from "./counter.ts";
import { attributeOfKey, factorOf, isMatched, metricPrefix } from "./usage.ts";

/** Usage beyond a limit, whatever the quota counts. What the gateway refused itself is not in it. */
export interface Beyond {
  readonly requests: bigint;
  readonly tokens: bigint;
  /** What its tokens earned, 1e-15 by currency. */
  readonly revenue: Readonly<Record<string, bigint>>;
}

/** A series as a quota sees it. */
export interface PastTarget {
  readonly key: string;
  readonly values: KeyValues;
  /** Fine units that one booked unit counts; undefined where it counts nothing. */
  readonly factor: bigint | undefined;
  readonly says: "requests" | "tokens" | "nothing";
  readonly price: readonly [currency: string, perToken: bigint] | undefined;
}

/** No usage. */
export const beyondNothing: Beyond = { requests: 0n, tokens: 0n, revenue: {} };

/** How a series counts in a quota; undefined where it has nothing to do with it. */
export function targetOf(quota: Quota, metric: string, dimensions: Dimensions): PastTarget | undefined {
  const prefix = metricPrefix(quota);
  const noun = metric.slice(prefix.length);
  const isOwn = metric.startsWith(prefix) && (noun === "requests" || noun === "tokens");
  if (!isOwn || !isMatched(quota, dimensions)) return undefined;
  const values = quota.wild.map((key) => [key, dimensions[attributeOfKey[key]] ?? "unknown"] as const);
  return {
    key: JSON.stringify(values.map(([, value]) => value)),
    values: Object.fromEntries(values),
    factor: factorOf(quota, metric, dimensions),
    says: dimensions["tokenwatt.outcome"] === "rejected" ? "nothing" : noun,
    price: noun === "tokens" ? priceOf(dimensions) : undefined,
  };
}

/** Usage with more of a series. */
export function addBeyond(beyond: Beyond, { price, says }: PastTarget, amount: bigint): Beyond {
  const { requests, revenue, tokens } = beyond;
  if (says === "requests") return { ...beyond, requests: requests + amount };
  if (says === "nothing") return beyond;
  const more = { ...beyond, tokens: tokens + amount };
  if (price === undefined) return more;
  const [currency, perToken] = price;
  return { ...more, revenue: { ...revenue, [currency]: (revenue[currency] ?? 0n) + amount * perToken } };
}

/** What a token earned: 1e-9 of the currency a million tokens is 1e-15 a token. */
function priceOf(dimensions: Dimensions): PastTarget["price"] {
  const [perMillion, currency] = [
    dimensions["tokenwatt.price.per_million"],
    dimensions["tokenwatt.currency"],
  ];
  if (perMillion === undefined || currency === undefined || dimensions["tokenwatt.billed"] === "no")
    return undefined;
  const perToken = parseDecimal(perMillion, 9);
  return perToken === undefined ? undefined : [currency, perToken];
}
