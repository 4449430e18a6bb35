// The attribute sets of gateway series, each made once: a gateway of many tenants moves thousands of them at every poll, and
// building a set, or a key to find it by, would cost more than booking it. Tokens have two: the exported one, and the
// one the ledger keeps them under, with the price they were used at and the server that billed for them.
import type { Dimensions, UnixNanos } from "../model.ts";
import { outcomes, tokenKinds } from "./counters/key-counters.ts";
import type { UnitPrice } from "./money/price-book.ts";
import { decimalOf } from "./money/split.ts";
import { attributeOf } from "./names.ts";

const customersMax = 10_000;
/** The sets of who used nothing for one to two of these are made again when they come back. */
const generationNanos = 60_000_000_000n;

/** Who used something, under the names a gateway gives. */
export interface Customer {
  readonly model?: string | undefined;
  readonly tenant?: string | undefined;
  readonly endpoint?: string | undefined;
}

interface PricedSet {
  readonly price: UnitPrice | undefined;
  readonly payer: Dimensions;
  readonly isHere: boolean;
  readonly dimensions: Dimensions;
}

/** The sets of one tenant, endpoint and model, made as they are needed. */
export class CustomerSets {
  readonly customer: Dimensions;
  readonly #tokens: (Dimensions | undefined)[] = [];
  readonly #requests: (Dimensions | undefined)[] = [];
  readonly #priced: (PricedSet | undefined)[] = [];

  /** `gateway`: its `tokenwatt.gateway.id`. */
  constructor(gateway: string, { endpoint, model, tenant }: Customer) {
    this.customer = {
      "tokenwatt.gateway.id": gateway,
      "tokenwatt.tenant": attributeOf(tenant),
      "tokenwatt.endpoint": attributeOf(endpoint),
      "gen_ai.request.model": attributeOf(model),
    };
  }

  /** Without the tenant: what latencies are exported under, which are many series each. */
  get product(): Dimensions {
    const { "tokenwatt.tenant": _, ...product } = this.customer;
    return product;
  }

  /** Of tokens of a kind and an outcome, by their places in `tokenKinds` and `outcomes`. */
  tokens(kind: number, outcome: number): Dimensions {
    const slot = kind * outcomes.length + outcome;
    this.#tokens[slot] ??= {
      ...this.customer,
      "tokenwatt.token.kind": tokenKinds[kind] ?? "",
      "tokenwatt.outcome": outcomes[outcome] ?? "",
    };
    return this.#tokens[slot];
  }

  /** The same as the ledger keeps it: at a price, billed by a server of this host where one is known, served here or not. */
  priced(
    kind: number,
    outcome: number,
    price: UnitPrice | undefined,
    payer: Dimensions,
    isHere: boolean,
  ): Dimensions {
    const slot = kind * outcomes.length + outcome;
    const known = this.#priced[slot];
    if (known?.price === price && known?.payer === payer && known.isHere === isHere) return known.dimensions;
    const dimensions = {
      ...payer,
      ...this.tokens(kind, outcome),
      ...(isHere ? { "tokenwatt.upstream": "here" } : {}),
      ...priceDimensions(price),
    };
    this.#priced[slot] = { price, payer, isHere, dimensions };
    return dimensions;
  }

  /** Of requests of an outcome, and of their latencies. */
  requests(outcome: number): Dimensions {
    this.#requests[outcome] ??= { ...this.customer, "tokenwatt.outcome": outcomes[outcome] ?? "" };
    return this.#requests[outcome];
  }
}

/**
 * The sets of every customer of the last minute or two: of those who come once, only these are held.
 * Exported for its test: how many it holds.
 */
export class Customers {
  #young = new SetsByNames();
  /** Those not met since the young began. */
  #old = new SetsByNames();
  #turnsAt: UnixNanos = 0n;

  /** How many are held. */
  get size(): number {
    return this.#young.size + this.#old.size;
  }

  /** The sets what a customer of a gateway used is booked under, at `now`. */
  of(gateway: string, used: Customer, now: UnixNanos): CustomerSets {
    if (now >= this.#turnsAt) this.#turn(now);
    const young = this.#young.get(gateway, used);
    if (young !== undefined) return young;
    const old = this.#old.take(gateway, used);
    if (old === undefined && this.size >= customersMax) {
      if (this.#old.size === 0) this.#young = new SetsByNames();
      this.#old = new SetsByNames();
    }
    const sets = old ?? new CustomerSets(gateway, used);
    this.#young.put(gateway, used, sets);
    return sets;
  }

  #turn(now: UnixNanos): void {
    this.#old = this.#young;
    this.#young = new SetsByNames();
    this.#turnsAt = now + generationNanos;
  }
}

/**
 * Sets by who they are of, one map within the other, the most names in the last: a key made of four names would be a text, and its hash, for each customer
 * at each poll.
 */
class SetsByNames {
  readonly #gateways = new Map<string, Map<string, Map<string, Map<string, CustomerSets>>>>();
  size = 0;

  get(gateway: string, { endpoint = "", model = "", tenant = "" }: Customer): CustomerSets | undefined {
    return this.#gateways.get(gateway)?.get(endpoint)?.get(model)?.get(tenant);
  }

  put(gateway: string, { endpoint = "", model = "", tenant = "" }: Customer, sets: CustomerSets): void {
    const byTenant = within(within(within(this.#gateways, gateway), endpoint), model);
    if (!byTenant.has(tenant)) this.size++;
    byTenant.set(tenant, sets);
  }

  /** The sets, which are here no longer. */
  take(gateway: string, { endpoint = "", model = "", tenant = "" }: Customer): CustomerSets | undefined {
    const byTenant = this.#gateways.get(gateway)?.get(endpoint)?.get(model);
    const sets = byTenant?.get(tenant);
    if (sets === undefined) return undefined;
    byTenant?.delete(tenant);
    this.size--;
    return sets;
  }
}

/** The map at a name, made where there is none. */
function within<Inner>(maps: Map<string, Map<string, Inner>>, name: string): Map<string, Inner> {
  let inner = maps.get(name);
  if (inner === undefined) {
    inner = new Map();
    maps.set(name, inner);
  }
  return inner;
}

/** A price as attributes of a ledger row: with the tokens in it, what they cost follows exactly. */
export function priceDimensions(price: UnitPrice | undefined): Dimensions {
  if (price === undefined) return {};
  return {
    "tokenwatt.currency": price.currency,
    "tokenwatt.price.version": price.version,
    "tokenwatt.price.per_million": decimalOf(price.perMillion, 9),
    ...(price.isBilled ? {} : { "tokenwatt.billed": "no" }),
  };
}
