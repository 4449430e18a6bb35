// The attribute sets of gateway series, each made once: a gateway of many tenants moves thousands of them at every poll, and
// building a set, or a key to find it by, would cost more than booking it.
import type { Dimensions, TokenIncrement } from "../model.ts";
import { outcomes, tokenKinds } from "./counters/key-counters.ts";

/** What a gateway's missing tenant, endpoint or model reads as. */
export const unknownValue = "unknown";
const customersMax = 10_000;

/** The sets of one tenant, endpoint and model, made as they are needed. */
export class CustomerSets {
  readonly customer: Dimensions;
  readonly #tokens: (Dimensions | undefined)[] = [];
  readonly #requests: (Dimensions | undefined)[] = [];

  constructor({ endpoint, model, tenant }: TokenIncrement) {
    this.customer = {
      "tokenwatt.tenant": tenant || unknownValue,
      "tokenwatt.endpoint": endpoint || unknownValue,
      "gen_ai.request.model": model || unknownValue,
    };
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

  /** Of requests of an outcome. */
  requests(outcome: number): Dimensions {
    this.#requests[outcome] ??= { ...this.customer, "tokenwatt.outcome": outcomes[outcome] ?? "" };
    return this.#requests[outcome];
  }
}

/** The sets of every customer met lately. */
export class Customers {
  readonly #sets = new Map<string, CustomerSets>();

  /** The sets an increment of a gateway is booked under. */
  of(increment: TokenIncrement): CustomerSets {
    const { endpoint = "", model = "", tenant = "" } = increment;
    const key = [tenant, endpoint, model].join("\u0000");
    const known = this.#sets.get(key);
    if (known !== undefined) return known;
    if (this.#sets.size >= customersMax) this.#sets.clear();
    const sets = new CustomerSets(increment);
    this.#sets.set(key, sets);
    return sets;
  }
}
