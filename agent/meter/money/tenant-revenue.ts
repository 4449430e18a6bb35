// Revenue seen by tenant: what each tenant's tokens of a model earn, in 1e-9 of the currency (METERING.md 5).
// A second view of what billing.ts books as tokenwatt.revenue by server and model: never a part of it, never added to it.
// Each series is its exact amount rounded down; what is left over is carried, over restarts too.
import type { Dimensions, Posting, StateRow } from "../../model.ts";
import type { UnitPrice } from "./price-book.ts";

const rowKind = "tenant-revenue";
const million = 1_000_000n;
const seriesMax = 20_000;

interface Earning {
  readonly dimensions: Dimensions;
  /** Not posted yet, in millionths of a ledger unit. */
  earned: bigint;
  /** Less than a ledger unit, in millionths of it. */
  rest: bigint;
}

/** Sums up what tenants' tokens earn. */
export class TenantRevenue {
  readonly #earnings = new Map<string, Earning>();
  readonly #pending = new Set<string>();
  readonly #changed = new Set<string>();
  readonly #max: number;

  /** At most so many series carry a rest; what is forgotten beyond is less than one unit each. */
  constructor(max = seriesMax) {
    this.#max = max;
  }

  /** Notes that `customer` used tokens at a price. */
  earn(price: UnitPrice, customer: Dimensions, tokens: number): void {
    const amount = BigInt(tokens) * price.perMillion;
    if (amount === 0n) return;
    const { "gen_ai.request.model": model = "", "tokenwatt.tenant": tenant = "" } = customer;
    const key = JSON.stringify([tenant, model, price.currency, price.version]);
    const earning = this.#of(key);
    earning.earned += amount;
    this.#pending.add(key);
  }

  /** What was earned since the last call, in whole ledger units. */
  postings(): readonly Posting[] {
    const posted: Posting[] = [];
    for (const key of this.#pending) {
      const earning = this.#of(key);
      const sum = earning.earned + earning.rest;
      const [amount, rest] = [sum / million, sum % million];
      if (rest !== earning.rest) this.#changed.add(key);
      earning.rest = rest;
      earning.earned = 0n;
      if (amount === 0n) continue;
      const { dimensions } = earning;
      posted.push({ metric: "tokenwatt.tenant.revenue", dimensions, kept: false, amount: Number(amount) });
    }
    this.#pending.clear();
    this.#forget();
    return posted;
  }

  /** Rests that changed since the last call, for the store. */
  takeChanges(): readonly StateRow[] {
    const rows = [...this.#changed].map((key) => {
      const rest = this.#earnings.get(key)?.rest ?? 0n;
      return { key: `["${rowKind}",${key}]`, value: rest === 0n ? "" : `"${rest}"` };
    });
    this.#changed.clear();
    return rows;
  }

  /** Continues from a row of an earlier run; those of others are passed over. */
  restore({ key, value }: StateRow): void {
    if (!key.startsWith(`["${rowKind}",`) || value === "") return;
    const [, series] = JSON.parse(key) as [string, readonly string[]];
    this.#of(JSON.stringify(series)).rest = BigInt(JSON.parse(value) as string);
  }

  #of(key: string): Earning {
    const known = this.#earnings.get(key);
    if (known !== undefined) return known;
    const [tenant = "", model = "", currency = "", version = ""] = JSON.parse(key) as readonly string[];
    const dimensions = {
      "tokenwatt.tenant": tenant,
      "gen_ai.request.model": model,
      "tokenwatt.currency": currency,
      "tokenwatt.price.version": version,
    };
    const earning = { dimensions, earned: 0n, rest: 0n };
    this.#earnings.set(key, earning);
    return earning;
  }

  #forget(): void {
    for (const [key, { rest }] of this.#earnings) {
      if (this.#earnings.size <= this.#max) return;
      this.#earnings.delete(key);
      if (rest !== 0n) this.#changed.add(key);
    }
  }
}
