// Usage as CloudEvents 1.0 JSON: one event a line for every revision of a closed bucket row of tokens, with what it cost where
// it has a price. Ids derive from the row's key: sending a row twice makes one event, a revision makes a new one.
// A receiver that sums adds `delta` and `cost_delta`, whenever it began; one that replaces takes the highest `revision`.
import type { ReportSource } from "../../meter/figures/report-plan.ts";
import { bucketMillis } from "../../meter/ledger/grid.ts";
import { decimalOf, integerOf } from "../../meter/money/split.ts";
import { nameOf, printableName, unknownName } from "../../meter/names.ts";
import type { Dimensions } from "../../model.ts";
import { rowId } from "../../store/ledger/digests.ts";
import type { StoredRow } from "../../store/ledger/reader.ts";
import type { Question } from "./groups.ts";
import { fits } from "./groups.ts";
import type { ReportRange } from "./range.ts";
import type { LedgerView } from "./repriced.ts";

/** One event per revision of a closed bucket row of tokens, oldest first. */
export function* cloudEvents(
  reader: LedgerView,
  range: ReportRange,
  source: ReportSource,
  where: Question["where"],
): Generator<string> {
  const metric = source === "gateway" ? "tokenwatt.gateway.tokens" : "tokenwatt.tokens";
  const [from, to] = [range.from / bucketMillis, range.to / bucketMillis];
  const seen = new Map<string, number>();
  let bucket = -1;
  for (const row of reader.rows(from, to, metric)) {
    const { dimensions } = row;
    if (!fits(dimensions, where)) continue;
    if (row.bucket !== bucket) seen.clear();
    bucket = row.bucket;
    // A clock that was stepped back gives a bucket a second row of the same names: an event of its own.
    const earlier = (seen.get(row.text) ?? -1) + (row.before === undefined ? 1 : 0);
    seen.set(row.text, earlier);
    const text = earlier === 0 ? row.text : `${row.text} ${earlier}`;
    // Taken back before the bucket closed: no receiver has heard of it.
    if (row.amount === 0n && row.before === undefined) continue;
    yield JSON.stringify({
      specversion: "1.0",
      id: rowId(reader.agentId, { metric, dimensions: text, bucket, revision: row.revision }),
      source: `urn:tokenwatt:${reader.agentId}`,
      type: "tokenwatt.usage.tokens.v1",
      subject: subjectOf(dimensions),
      time: iso((row.bucket + 1) * bucketMillis - 1),
      datacontenttype: "application/json",
      data: {
        // Decimal texts: receivers must not round what is billed.
        tokens: String(row.amount),
        delta: String(row.amount - (row.before ?? 0n)),
        revision: row.revision,
        bucket_start: iso(row.bucket * bucketMillis),
        bucket_end: iso((row.bucket + 1) * bucketMillis),
        metering_source: source,
        kind: dimensions["tokenwatt.token.kind"],
        model: named(dimensions["gen_ai.request.model"]),
        tenant: named(dimensions["tokenwatt.tenant"]),
        endpoint: named(dimensions["tokenwatt.endpoint"]),
        outcome: dimensions["tokenwatt.outcome"],
        server: dimensions["tokenwatt.server.id"],
        gpu_type: dimensions["hw.model"],
        ...moneyOf(row),
      },
    });
  }
}

/** Absent where no price is known. */
function moneyOf({ amount, before, dimensions }: StoredRow): Record<string, string | boolean> {
  const [price, currency] = [dimensions["tokenwatt.price.per_million"], dimensions["tokenwatt.currency"]];
  if (price === undefined || currency === undefined) return {};
  const perMillion = integerOf(price, 9);
  return {
    currency,
    price_version: dimensions["tokenwatt.price.version"] ?? "",
    price_per_million: price,
    billed: dimensions["tokenwatt.billed"] !== "no",
    cost: decimalOf(amount * perMillion, 15),
    cost_delta: decimalOf((amount - (before ?? 0n)) * perMillion, 15),
  };
}

/** CloudEvents 1.0: a text that is not empty and holds no control characters. */
function subjectOf(dimensions: Dimensions): string {
  const tenant = dimensions["tokenwatt.tenant"];
  if (tenant !== undefined) return printableName(nameOf(tenant));
  return printableName(dimensions["tokenwatt.server.id"] || nameOf(unknownName));
}

function named(value: string | undefined): string | undefined {
  return value === undefined ? undefined : nameOf(value);
}

function iso(at: number): string {
  return new Date(at).toISOString();
}
