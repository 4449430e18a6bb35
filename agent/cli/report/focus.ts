// Usage and charges as FOCUS 1.2 (FinOps Open Cost and Usage Specification, data set CostAndUsage), one CSV row per charge
// period, customer, model, token kind, outcome and price. Every row is true by itself: PricingQuantity x unit price = cost,
// exactly, and the rows of a period sum to its revenue. Billing periods are months of the report's calendar; a charge
// period never crosses one. Periods are UTC instants, the end exclusive; our own columns begin with x_.
import type { Period } from "../../meter/figures/calendar.ts";
import { periods } from "../../meter/figures/calendar.ts";
import type { ReportSource } from "../../meter/figures/report-plan.ts";
import { bucketMillis } from "../../meter/ledger/grid.ts";
import { decimalOf, integerOf } from "../../meter/money/split.ts";
import { nameOf, unknownName } from "../../meter/names.ts";
import type { Dimensions } from "../../model.ts";
import type { StoredSeries } from "../../store/ledger/reader.ts";
import { csv } from "./formats.ts";
import type { Question } from "./groups.ts";
import { groupName, only } from "./groups.ts";
import type { ReportRange } from "./range.ts";
import type { LedgerView } from "./repriced.ts";

/** Attributes that tell one charge from another. */
const keys = [
  "tokenwatt.tenant",
  "tokenwatt.endpoint",
  "gen_ai.request.model",
  "tokenwatt.token.kind",
  "tokenwatt.outcome",
  "tokenwatt.currency",
  "tokenwatt.price.version",
  "tokenwatt.price.per_million",
  "tokenwatt.billed",
] as const;

interface Charge {
  readonly period: Period;
  readonly billing: Period;
  readonly dimensions: Dimensions;
  tokens: bigint;
}

/** How many tokens of which models have no price, and are left out: FOCUS knows no charge without a cost. */
export interface Focus {
  readonly unpricedTokens: bigint;
  readonly unpricedModels: readonly string[];
}

/** Writes the charges of a range, period by period: a month of days may have more rows than memory should hold. */
export function writeFocus(
  reader: LedgerView,
  range: ReportRange,
  source: ReportSource,
  where: Question["where"],
  write: (text: string) => void,
): Focus {
  const metric = source === "gateway" ? "tokenwatt.gateway.tokens" : "tokenwatt.tokens";
  const series = only(reader.series(new Set([metric])), where);
  const account = reader.agentId;
  const unpricedModels = new Set<string>();
  let unpricedTokens = 0n;
  write(csv([columns.map(([name]) => name)]));
  for (const period of billedPeriods(range)) {
    const charges: Charge[] = [];
    for (const charge of chargesOf(reader, series, period, source)) {
      const { dimensions, tokens } = charge;
      if (dimensions["tokenwatt.currency"] === undefined) {
        unpricedTokens += tokens;
        unpricedModels.add(groupName("model", dimensions["gen_ai.request.model"]));
      } else charges.push(charge);
    }
    if (charges.length === 0) continue;
    write(csv(charges.map((charge) => columns.map(([, value]) => value(charge, account, source)))));
  }
  return { unpricedTokens, unpricedModels: [...unpricedModels].sort() };
}

/** The range's periods, cut where a billing period ends. */
function billedPeriods({ periods: wanted, zone }: ReportRange): readonly (readonly [Period, Period])[] {
  return wanted.flatMap((period) =>
    periods(period.from, period.to, "month", zone).map((piece): readonly [Period, Period] => [
      { ...piece, name: period.name },
      wholeMonth(piece.from, zone),
    ]),
  );
}

function wholeMonth(at: number, zone: string): Period {
  const day = 86_400_000;
  // A month that begins within 40 days before: the piece of it that holds the instant is the last one.
  const months = periods(at - 40 * day, at + 40 * day, "month", zone);
  const index = months.findIndex(({ from, to }) => from <= at && at < to);
  return months[index] as Period;
}

function chargesOf(
  reader: LedgerView,
  series: ReadonlyMap<number, StoredSeries>,
  [period, billing]: readonly [Period, Period],
  source: ReportSource,
): readonly Charge[] {
  const charges = new Map<string, Charge>();
  for (const [id, moved] of reader.sums(period.from / bucketMillis, period.to / bucketMillis, series)) {
    const stored = series.get(id)?.dimensions;
    if (stored === undefined || typeof moved !== "bigint" || moved === 0n) continue;
    const told = source === "gateway" ? keys : ([...keys, "tokenwatt.server.id"] as const);
    const key = told.map((name) => stored[name] ?? "").join("\u0000");
    const known = charges.get(key) ?? { period, billing, dimensions: stored, tokens: 0n };
    known.tokens += moved;
    charges.set(key, known);
  }
  return [...charges]
    .filter(([, { tokens }]) => tokens !== 0n)
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([, charge]) => charge);
}

type Column = readonly [
  name: string,
  value: (charge: Charge, account: string, source: ReportSource) => string,
];

const provider = "tokenwatt";
const unit = "Tokens";

/** FOCUS columns in alphabetical order, as the specification lists them, then ours. */
const columns: readonly Column[] = [
  ["BilledCost", costOf],
  ["BillingAccountId", (_charge, account) => account],
  ["BillingAccountName", (_charge, account) => account],
  ["BillingAccountType", () => "Host"],
  ["BillingCurrency", ({ dimensions }) => dimensions["tokenwatt.currency"] ?? ""],
  ["BillingPeriodEnd", ({ billing }) => iso(billing.to)],
  ["BillingPeriodStart", ({ billing }) => iso(billing.from)],
  ["ChargeCategory", () => "Usage"],
  // Null: no correction of a billing period that was invoiced before.
  ["ChargeClass", () => ""],
  ["ChargeDescription", describe],
  ["ChargeFrequency", () => "Usage-Based"],
  ["ChargePeriodEnd", ({ period }) => iso(period.to)],
  ["ChargePeriodStart", ({ period }) => iso(period.from)],
  ["ConsumedQuantity", ({ tokens }) => String(tokens)],
  ["ConsumedUnit", () => unit],
  ["ContractedCost", costOf],
  ["ContractedUnitPrice", unitPriceOf],
  ["EffectiveCost", costOf],
  // Null: no invoice is issued here.
  ["InvoiceId", () => ""],
  ["InvoiceIssuerName", () => provider],
  ["ListCost", costOf],
  ["ListUnitPrice", unitPriceOf],
  ["PricingCategory", () => "Standard"],
  ["PricingCurrency", ({ dimensions }) => dimensions["tokenwatt.currency"] ?? ""],
  ["PricingCurrencyContractedUnitPrice", unitPriceOf],
  ["PricingCurrencyEffectiveCost", costOf],
  ["PricingCurrencyListUnitPrice", unitPriceOf],
  ["PricingQuantity", ({ tokens }) => asDecimal(String(tokens))],
  ["PricingUnit", () => unit],
  ["ProviderName", () => provider],
  ["PublisherName", () => provider],
  ["ResourceId", ({ dimensions }, _account, source) => resourceOf(dimensions, source)],
  ["ResourceName", ({ dimensions }, _account, source) => resourceOf(dimensions, source)],
  [
    "ResourceType",
    ({ dimensions }, _account, source) => (resourceOf(dimensions, source) === "" ? "" : "Model server"),
  ],
  ["ServiceCategory", () => "AI and Machine Learning"],
  ["ServiceName", () => "Token generation"],
  ["ServiceSubcategory", () => "Generative AI"],
  ["SkuId", ({ dimensions }) => skuOf(dimensions)],
  ["SkuMeter", ({ dimensions }) => dimensions["tokenwatt.token.kind"] ?? ""],
  ["SkuPriceDetails", priceDetailsOf],
  ["SkuPriceId", priceIdOf],
  ["SubAccountId", accountOf],
  ["SubAccountName", accountOf],
  ["SubAccountType", (charge) => (accountOf(charge) === "" ? "" : "Tenant")],
  ["x_TokenKind", ({ dimensions }) => dimensions["tokenwatt.token.kind"] ?? ""],
  ["x_Model", ({ dimensions }) => groupName("model", dimensions["gen_ai.request.model"])],
  ["x_Endpoint", ({ dimensions }, _account, source) => endpointOf(dimensions, source)],
  ["x_Outcome", ({ dimensions }) => dimensions["tokenwatt.outcome"] ?? ""],
  ["x_PriceVersion", ({ dimensions }) => dimensions["tokenwatt.price.version"] ?? ""],
  ["x_MeteringSource", (_charge, _account, source) => source],
];

/** Exact: tokens times the price per million they were booked with. */
function costOf({ dimensions, tokens }: Charge): string {
  return asDecimal(decimalOf(tokens * perMillionOf(dimensions), 15));
}

/** Of one token. */
function unitPriceOf({ dimensions }: Charge): string {
  return asDecimal(decimalOf(perMillionOf(dimensions), 15));
}

/** 1e-9 of the currency. What has a currency has a price (`priceDimensions`). */
function perMillionOf(dimensions: Dimensions): bigint {
  const price = dimensions["tokenwatt.price.per_million"];
  if (price === undefined)
    throw new Error(`Cannot charge for ${skuOf(dimensions)}: a currency without a price`);
  return integerOf(price, 9);
}

/** FOCUS columns of type Decimal: readers that guess a column's type from its texts must not take them for integers. */
function asDecimal(decimal: string): string {
  return decimal.includes(".") ? decimal : `${decimal}.0`;
}

function describe({ dimensions }: Charge): string {
  const kind = dimensions["tokenwatt.token.kind"] ?? "";
  const outcome = dimensions["tokenwatt.outcome"];
  const unbilled = dimensions["tokenwatt.billed"] === "no" ? `, ${outcome} and not billed` : "";
  return `${kind} tokens of ${groupName("model", dimensions["gen_ai.request.model"])}${unbilled}`;
}

function skuOf(dimensions: Dimensions): string {
  const model = groupName("model", dimensions["gen_ai.request.model"]);
  return `${model}/${dimensions["tokenwatt.token.kind"] ?? ""}`;
}

function priceIdOf({ dimensions }: Charge): string {
  const [version, price] = [dimensions["tokenwatt.price.version"], dimensions["tokenwatt.price.per_million"]];
  const unbilled = dimensions["tokenwatt.billed"] === "no" ? "/not-billed" : "";
  return `${skuOf(dimensions)}/${version}/${price}${unbilled}`;
}

/** What people compare prices by: a million tokens, not one. */
function priceDetailsOf(charge: Charge): string {
  return JSON.stringify({ x_PricePerMillionTokens: charge.dimensions["tokenwatt.price.per_million"] });
}

/** Null where the gateway named no tenant: FOCUS knows no account of that name. */
function accountOf({ dimensions }: Charge): string {
  const tenant = dimensions["tokenwatt.tenant"];
  return tenant === undefined || tenant === unknownName ? "" : nameOf(tenant);
}

function resourceOf(dimensions: Dimensions, source: ReportSource): string {
  return source === "engine" ? (dimensions["tokenwatt.server.id"] ?? "") : "";
}

function endpointOf(dimensions: Dimensions, source: ReportSource): string {
  return source === "engine" ? "" : groupName("endpoint", dimensions["tokenwatt.endpoint"]);
}

/** FOCUS wants whole seconds in UTC. */
function iso(at: number): string {
  return `${new Date(at).toISOString().slice(0, 19)}Z`;
}
