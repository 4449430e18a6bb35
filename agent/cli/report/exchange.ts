// Usage for billing systems: FOCUS-style CSV per period, and CloudEvents per bucket row.
// FOCUS 1.x: periods in UTC, end exclusive, units as `Tokens`; our own columns begin with x_. CloudEvents 1.0 JSON, one
// event a line, ids derived from the row's key: sending a row twice makes one event, a revision makes a new one.
import type { Period } from "../../meter/figures/calendar.ts";
import type { ReportSource } from "../../meter/figures/report.ts";
import { planReport } from "../../meter/figures/report.ts";
import { bucketMillis } from "../../meter/ledger/grid.ts";
import { split } from "../../meter/money/split.ts";
import type { Dimensions } from "../../model.ts";
import { rowId } from "../../store/ledger/digests.ts";
import type { LedgerReader } from "../../store/ledger/reader.ts";
import { formatNano } from "../common/numbers.ts";
import { csv } from "./formats.ts";
import { reportEntries } from "./groups.ts";
import type { ReportRange } from "./range.ts";

const FOCUS_COLUMNS = [
  "BillingAccountId",
  "SubAccountId",
  "BillingPeriodStart",
  "BillingPeriodEnd",
  "ChargePeriodStart",
  "ChargePeriodEnd",
  "ChargeCategory",
  "ChargeDescription",
  "ServiceCategory",
  "ServiceName",
  "ProviderName",
  "PublisherName",
  "ResourceId",
  "SkuId",
  "ConsumedQuantity",
  "ConsumedUnit",
  "BilledCost",
  "EffectiveCost",
  "ListCost",
  "BillingCurrency",
  "x_TokenKind",
  "x_Model",
  "x_Endpoint",
  "x_MeteringSource",
];

interface Usage {
  readonly period: Period;
  readonly tenant: string;
  readonly server: string;
  readonly model: string;
  readonly endpoint: string;
  readonly kind: string;
  readonly tokens: bigint;
}

/**
 * FOCUS-style rows: one per period, tenant or server, model and kind. The costs of a period, model and kind sum to its
 * revenue exactly; they are empty where no price is known.
 */
export function focusCsv(
  reader: LedgerReader,
  range: ReportRange,
  source: ReportSource,
): { readonly text: string; readonly unpriced: number } {
  const usages = readUsages(reader, range, source);
  const costs = costsOf(usages, readRevenue(reader, range.periods));
  const rows = usages.map((usage, index) => focusRow(usage, costs[index], reader.agentId, source));
  const unpriced = usages.filter((_, index) => costs[index] === undefined).length;
  return { text: csv([FOCUS_COLUMNS, ...rows]), unpriced };
}

function readUsages(reader: LedgerReader, range: ReportRange, source: ReportSource): readonly Usage[] {
  const gateway = source === "gateway";
  const groups = gateway
    ? (["tenant", "model", "endpoint", "kind"] as const)
    : (["server", "model", "kind"] as const);
  const usages: Usage[] = [];
  for (const { line, period, values } of reportEntries(
    reader,
    planReport(groups, source),
    groups,
    range.periods,
  )) {
    const [who = "", model = "", ...rest] = values;
    const [endpoint = "", kind = ""] = gateway ? rest : ["", rest[0]];
    const tokens = line.allTokens ?? 0n;
    if (tokens === 0n) continue;
    usages.push({
      period,
      tenant: gateway ? who : "",
      server: gateway ? "" : who,
      model,
      endpoint,
      kind,
      tokens,
    });
  }
  return usages;
}

function focusRow(usage: Usage, cost: Cost | undefined, agent: string, source: ReportSource): string[] {
  const { endpoint, kind, model, period } = usage;
  const month = billingMonth(period.from);
  const money = cost === undefined ? "" : formatNano(cost.amount);
  return [
    agent,
    usage.tenant,
    month.from,
    month.to,
    iso(period.from),
    iso(period.to),
    "Usage",
    `${kind} tokens of ${model}`,
    "AI and Machine Learning",
    "Token generation",
    "tokenwatt",
    "tokenwatt",
    usage.server,
    `${model}/${kind}`,
    String(usage.tokens),
    "Tokens",
    money,
    money,
    money,
    cost?.currency ?? "",
    kind,
    model,
    endpoint,
    source,
  ];
}

/** One event per closed bucket row of tokens, oldest first. */
export function* cloudEvents(
  reader: LedgerReader,
  range: ReportRange,
  source: ReportSource,
): Generator<string> {
  const metric = source === "gateway" ? "tokenwatt.gateway.tokens" : "tokenwatt.tokens";
  const [from, to] = [range.from / bucketMillis, range.to / bucketMillis];
  for (const row of reader.rows(from, to, metric)) {
    const { dimensions } = row;
    yield JSON.stringify({
      specversion: "1.0",
      id: rowId(reader.agentId, { metric, dimensions: row.text, bucket: row.bucket, revision: row.revision }),
      source: `urn:tokenwatt:${reader.agentId}`,
      type: "tokenwatt.usage.tokens.v1",
      subject: dimensions["tokenwatt.tenant"] ?? dimensions["tokenwatt.server.id"] ?? "unknown",
      time: iso((row.bucket + 1) * bucketMillis - 1),
      datacontenttype: "application/json",
      data: {
        // Decimal texts: receivers must not round what is billed.
        tokens: String(row.amount),
        // What a receiver that sums must add: a revision corrects, it does not repeat.
        delta: String(row.amount - (row.before ?? 0n)),
        revision: row.revision,
        bucket_start: iso(row.bucket * bucketMillis),
        bucket_end: iso((row.bucket + 1) * bucketMillis),
        metering_source: source,
        kind: dimensions["tokenwatt.token.kind"],
        model: dimensions["gen_ai.request.model"],
        tenant: dimensions["tokenwatt.tenant"],
        endpoint: dimensions["tokenwatt.endpoint"],
        outcome: dimensions["tokenwatt.outcome"],
        server: dimensions["tokenwatt.server.id"],
        gpu_type: dimensions["hw.model"],
      },
    });
  }
}

interface Cost {
  readonly amount: bigint;
  readonly currency: string;
}

/** Each usage's part of what its period, model and kind earned, by its tokens. */
function costsOf(
  usages: readonly Usage[],
  revenue: ReadonlyMap<string, Cost>,
): readonly (Cost | undefined)[] {
  const together = new Map<string, number[]>();
  for (const [index, usage] of usages.entries()) {
    const key = revenueKey(usage.period, usage.model, usage.kind);
    together.set(key, [...(together.get(key) ?? []), index]);
  }
  const costs: (Cost | undefined)[] = usages.map(() => undefined);
  for (const [key, indexes] of together) {
    const earned = revenue.get(key);
    if (earned === undefined) continue;
    const parts = split(
      earned.amount,
      indexes.map((index) => usages[index]?.tokens ?? 0n),
    );
    for (const [place, index] of indexes.entries()) {
      costs[index] = { amount: parts?.[place] ?? 0n, currency: earned.currency };
    }
  }
  return costs;
}

/** What each period, model and kind earned, at the prices in force when it was booked. */
function readRevenue(reader: LedgerReader, periods: readonly Period[]): ReadonlyMap<string, Cost> {
  const revenue = new Map<string, Cost>();
  const series = reader.series(new Set(["tokenwatt.revenue"]));
  for (const period of periods) {
    for (const [id, amount] of reader.sums(period.from / bucketMillis, period.to / bucketMillis, series)) {
      const dimensions: Dimensions = series.get(id)?.dimensions ?? {};
      const model = dimensions["gen_ai.request.model"] ?? "";
      const key = revenueKey(period, model, dimensions["tokenwatt.token.kind"] ?? "");
      const before = revenue.get(key)?.amount ?? 0n;
      revenue.set(key, {
        amount: before + (amount as bigint),
        currency: dimensions["tokenwatt.currency"] ?? "",
      });
    }
  }
  return revenue;
}

function revenueKey(period: Period, model: string, kind: string): string {
  return `${period.from} ${kind} ${model}`;
}

function billingMonth(at: number): { readonly from: string; readonly to: string } {
  const date = new Date(at);
  const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()];
  return { from: iso(Date.UTC(year, month, 1)), to: iso(Date.UTC(year, month + 1, 1)) };
}

function iso(at: number): string {
  return new Date(at).toISOString();
}
