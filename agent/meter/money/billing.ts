// What tokens earn: each is booked at the price of its own instant, under its tenant and endpoint (METERING.md 8).
// The ledger keeps tokens with their price, so that quantity x unit price is exact; the exported counters of revenue and
// billable tokens are sums over customers, in 1e-9 of the currency with remainders carried. By tenant: tenant-revenue.ts.
import type { Dimensions, Outcome, Posting, StateRow, TokenKind, UnixNanos } from "../../model.ts";
import { BUCKET_NANOS } from "../../model.ts";
import { attributeOf, unknownName } from "../names.ts";
import type { OwnTime } from "../posting-list.ts";
import type { Catalogue } from "./catalogue.ts";
import type { UnitPrice } from "./price-book.ts";
import { PriceBook } from "./price-book.ts";
import { Remainders } from "./split.ts";
import { TenantRevenue } from "./tenant-revenue.ts";

const remaindersKey = '["revenue"]';
const bookKey = '["price-book"]';
const million = 1_000_000n;

interface Earned {
  readonly price: UnitPrice;
  readonly payer: Dimensions;
  readonly kind: TokenKind;
  readonly own: OwnTime;
  tokens: number;
}

/** Prices tokens as they are booked and sums up what they earn. */
export class Billing {
  readonly #book = new PriceBook();
  readonly #remainders = new Remainders();
  readonly #earned = new Map<string, Earned>();
  readonly #ofTenants = new TenantRevenue();
  /** What was already counted as missing in this bucket. */
  readonly #missed = new Set<string>();
  #misses: Posting[] = [];
  #bucket = -1n;

  /** Prices by this catalogue from `since` on. */
  take(catalogue: Catalogue, since: UnixNanos): void {
    this.#book.take(catalogue, since);
  }

  /** Without prices from `since` on: what was used before keeps the price of then. */
  end(since: UnixNanos): void {
    if (!this.#book.isEmpty) this.#book.take({ version: "none", currency: "", tokens: [] }, since);
  }

  /** The price of a model's tokens used at `at`, as it was known at `knownAt`; a miss is counted once per bucket. */
  price(
    model: string | undefined,
    kind: TokenKind,
    outcome: Outcome | undefined,
    at: UnixNanos,
    knownAt?: UnixNanos,
  ): UnitPrice | undefined {
    if (this.#book.isEmpty) return undefined;
    const price = this.#book.price(model ?? unknownName, kind, outcome, at, knownAt);
    if (price === undefined && this.#book.hasPrices(at)) this.#miss(model, at);
    return price;
  }

  /** Notes that tokens were booked at a price; `postings()` says what they earned. `customer`: who used them, if known. */
  earn(
    price: UnitPrice,
    payer: Dimensions,
    kind: TokenKind,
    tokens: number,
    own: OwnTime,
    customer?: Dimensions,
  ): void {
    if (!price.isBilled) return;
    if (customer !== undefined && own.takesBack !== true) this.#ofTenants.earn(price, customer, tokens);
    const bucket = own.at === undefined ? "" : String(own.at / BUCKET_NANOS);
    const { currency, perMillion, version } = price;
    const who = Object.values(payer).join("\u0000");
    const key = `${kind} ${currency} ${perMillion} ${bucket} ${own.takesBack ?? ""} ${version}\u0000${who}`;
    const known = this.#earned.get(key);
    if (known === undefined) this.#earned.set(key, { price, payer, kind, own, tokens });
    else known.tokens += tokens;
  }

  /** Revenue, by tenant too, billable tokens and misses since the last call. */
  postings(): readonly Posting[] {
    const posted = [...this.#misses, ...this.#ofTenants.postings()];
    this.#misses = [];
    for (const { kind, own, payer, price, tokens } of this.#earned.values()) {
      const { "hw.model": _hardware, ...who } = payer;
      const priced = { "tokenwatt.currency": price.currency, "tokenwatt.price.version": price.version };
      posted.push({
        metric: "tokenwatt.billable_tokens",
        dimensions: payer,
        kept: payer,
        amount: tokens,
        ...own,
      });
      if (own.takesBack === true) continue;
      const dimensions = { ...who, "tokenwatt.token.kind": kind, ...priced };
      const key = Object.values(dimensions).join(" ");
      const amount = this.#remainders.divide(key, BigInt(tokens) * price.perMillion, million);
      if (amount > 0n) {
        posted.push({ metric: "tokenwatt.revenue", dimensions, kept: false, amount: Number(amount) });
      }
    }
    this.#earned.clear();
    return posted;
  }

  /** Remainders carried, and prices where they changed, for the store. */
  takeChanges(): readonly StateRow[] {
    const rows = [{ key: remaindersKey, value: JSON.stringify(this.#remainders.state()) }];
    rows.push(...this.#ofTenants.takeChanges());
    const book = this.#book.takeChange();
    return book === undefined ? rows : [...rows, { key: bookKey, value: book }];
  }

  /** Continues from rows of an earlier run; those of others are passed over. */
  restore(row: StateRow): void {
    const { key, value } = row;
    this.#ofTenants.restore(row);
    if (key === remaindersKey) this.#remainders.restore(JSON.parse(value));
    if (key === bookKey) this.#book.restore(value);
  }

  /** Once per bucket and model: the miss is a fact about the catalogue, not about the number of requests. */
  #miss(model: string | undefined, at: UnixNanos): void {
    const bucket = at / BUCKET_NANOS;
    if (bucket > this.#bucket) this.#missed.clear();
    if (bucket > this.#bucket) this.#bucket = bucket;
    const name = attributeOf(model);
    if (this.#missed.has(name)) return;
    this.#missed.add(name);
    const dimensions = { "gen_ai.request.model": name, "tokenwatt.reason": "token_price" };
    this.#misses.push({ metric: "tokenwatt.catalog_misses", dimensions, amount: 1 });
  }
}
