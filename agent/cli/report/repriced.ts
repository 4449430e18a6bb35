// A ledger as it would have been under another price file: the same tokens of the same customers, each at the price that
// file has for its time. Nothing is written. A change of price counts from the bucket it falls in: nothing finer is kept.

import { priceDimensions } from "../../meter/customer-sets.ts";
import type { Catalogue } from "../../meter/money/catalogue.ts";
import { PriceBook } from "../../meter/money/price-book.ts";
import { givenName, printableName, unknownName } from "../../meter/names.ts";
import type { Dimensions, Outcome, TokenKind } from "../../model.ts";
import { BUCKET_NANOS } from "../../model.ts";
import type { LedgerReader, StoredRow, StoredSeries } from "../../store/ledger/reader.ts";
import type { Moved } from "../../store/ledger/series-pages.ts";

/** What a report reads of a ledger. */
export type LedgerView = Pick<
  LedgerReader,
  "agentId" | "time" | "rowsFrom" | "closedUntil" | "held" | "heldSince" | "series" | "sums" | "rows"
>;

/** More series than a ledger ever numbers. */
const stretchStep = 2 ** 40;
const priceKeys: ReadonlySet<string> = new Set([
  "tokenwatt.currency",
  "tokenwatt.price.version",
  "tokenwatt.price.per_million",
  "tokenwatt.billed",
]);

/** The ledger with tokens of `metric` priced by `catalogue`; other tokens, and revenue of old ledgers, earn nothing. */
export function repriced(reader: LedgerReader, catalogue: Catalogue, metric: string): LedgerView {
  const book = new PriceBook();
  // The ledger has names as they can be printed; one that is a word of ours is marked there and not in a price file.
  const tokens = catalogue.tokens.map((one) => ({ ...one, model: printableName(one.model) }));
  book.take({ ...catalogue, tokens }, 0n);
  const edges = edgesOf(catalogue);
  const priced = (stored: StoredSeries, bucket: number): StoredSeries => {
    const bare = Object.entries(stored.dimensions).filter(([key]) => !priceKeys.has(key));
    const dimensions: Dimensions = Object.fromEntries(bare);
    if (stored.metric !== metric) return { ...stored, dimensions };
    const price = book.price(
      givenName(dimensions["gen_ai.request.model"] ?? unknownName),
      dimensions["tokenwatt.token.kind"] as TokenKind,
      dimensions["tokenwatt.outcome"] as Outcome | undefined,
      BigInt(bucket) * BUCKET_NANOS,
    );
    return { ...stored, dimensions: { ...dimensions, ...priceDimensions(price) } };
  };
  const isTokens = (name: string): boolean =>
    name === "tokenwatt.tokens" || name === "tokenwatt.gateway.tokens";
  const stored = new Map<number, StoredSeries>();
  return {
    agentId: reader.agentId,
    time: reader.time,
    rowsFrom: reader.rowsFrom,
    closedUntil: reader.closedUntil,
    held: reader.held,
    heldSince: reader.heldSince,
    series: (metrics) => {
      const all = new Map<number, StoredSeries>();
      for (const [id, one] of reader.series(metrics)) {
        stored.set(id, one);
        if (one.metric === "tokenwatt.revenue") continue;
        if (!isTokens(one.metric)) all.set(id, one);
        else
          for (const [index, edge] of edges.entries()) all.set(id + index * stretchStep, priced(one, edge));
      }
      return all;
    },
    sums: (from, to, series) => {
      const wanted = new Map<number, StoredSeries>();
      for (const id of series.keys()) {
        const one = stored.get(id % stretchStep);
        if (one !== undefined) wanted.set(id % stretchStep, one);
      }
      const sums = new Map<number, Moved>();
      for (const [index, edge] of edges.entries()) {
        const [start, end] = [Math.max(from, edge), Math.min(to, edges[index + 1] ?? to)];
        if (start >= end) continue;
        for (const [id, moved] of reader.sums(start, end, wanted)) {
          const one = stored.get(id);
          if (one !== undefined) addTo(sums, isTokens(one.metric) ? id + index * stretchStep : id, moved);
        }
      }
      return sums;
    },
    *rows(from, to, wanted): Generator<StoredRow> {
      for (const row of reader.rows(from, to, wanted)) {
        const { dimensions } = priced(row, row.bucket);
        yield { ...row, dimensions };
      }
    },
  };
}

/** First buckets of the stretches in which no price changes. */
function edgesOf({ tokens }: Catalogue): readonly number[] {
  const instants = tokens.flatMap(({ from, to }) => [from, to]).filter((at) => at !== undefined);
  const buckets = instants.map((at) => Number((at + BUCKET_NANOS - 1n) / BUCKET_NANOS));
  return [...new Set([0, ...buckets])].sort((one, other) => one - other);
}

function addTo(sums: Map<number, Moved>, id: number, moved: Moved): void {
  const known = sums.get(id);
  if (known === undefined) sums.set(id, moved);
  else if (typeof known === "bigint" && typeof moved === "bigint") sums.set(id, known + moved);
  else if (typeof known !== "bigint" && typeof moved !== "bigint") {
    const counts = known.counts.map((count, place) => count + (moved.counts[place] ?? 0));
    sums.set(id, { ...known, counts, sum: known.sum + moved.sum, count: known.count + moved.count });
  }
}
