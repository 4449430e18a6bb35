// What customers used, as postings: by the pages of gateways interval by interval, or request by request at times of their own.
// Tokens are booked at the price of the instant they were used, under the server that bills for their model. What may be
// taken back is booked by what was known when it was counted, so that a take-back lands on the row it corrects.

import type {
  Dimensions,
  LatencyKey,
  Outcome,
  ServerInfo,
  TokenIncrement,
  TokenKind,
  UnixNanos,
  UsagePiece,
} from "../model.ts";
import { AttributeSets } from "./attribute-sets.ts";
import { BookedThen } from "./booked-then.ts";
import { outcomes, tokenKinds } from "./counters/key-counters.ts";
import { latencyOf, outcomeAttributes, outcomeOf } from "./counters/latency-keys.ts";
import type { CustomerSets } from "./customer-sets.ts";
import { Customers } from "./customer-sets.ts";
import type { Billing } from "./money/billing.ts";
import { attributeOf, attributes } from "./names.ts";
import type { OwnTime } from "./posting-list.ts";
import { PostingList } from "./posting-list.ts";

/** Place of "ok" in `outcomes`. */
const OK = 0;
/** Used when the interval was booked, which is all that a counter can say. */
const inInterval: OwnTime = {};
const payersMax = 10_000;

/** Which servers there are, and what they serve. */
export interface ServingFacts {
  readonly servers: ReadonlyMap<string, ServerInfo>;
  /** The model a server serves while it serves exactly one (`Increments.soleModel`). */
  readonly soleModel?: (server: string) => string | undefined;
  /** Whether a server's pages name this model; absent = known of sole models only. */
  readonly serves?: (server: string, model: string) => boolean;
}

/** Who bills for a model's tokens, and whether an engine of this host serves it. */
interface Payer {
  readonly payer: Dimensions;
  readonly isHere: boolean;
}

/** What some tokens of a customer are booked with. */
interface Use {
  readonly sets: CustomerSets;
  readonly model: string | undefined;
  readonly payer: Payer;
  /** Whose price counts. */
  readonly instant: UnixNanos;
  /** What was known at this instant counts; undefined = what is known now. */
  readonly knownAt: UnixNanos | undefined;
  readonly own: OwnTime;
}

/** Books what customers used. */
export class CustomerMeter {
  readonly #billing: Billing;
  readonly #gpuModel: (server: string) => string | undefined;
  readonly #customers = new Customers();
  /** What records that may be taken back were booked under. */
  readonly bookedThen = new BookedThen();
  /** Who bills for a model's tokens here, in the interval that is booked. */
  readonly #payers = new Map<string, Payer>();
  readonly #sets = new AttributeSets(payersMax);
  readonly #latencyTenants: ReadonlySet<string>;
  #facts: ServingFacts = { servers: new Map() };
  #posted = new PostingList();

  /**
   * `gpuModel`: the product name of a server's GPUs while they are all alike. `latencyTenants`: whose latencies are
   * exported under their name, `*` for all.
   */
  constructor(
    billing: Billing,
    gpuModel: (server: string) => string | undefined,
    latencyTenants: readonly string[] = [],
  ) {
    this.#latencyTenants = new Set(latencyTenants.map((name) => (name === "*" ? name : attributeOf(name))));
    this.#billing = billing;
    this.#gpuModel = gpuModel;
  }

  /** Posts into `posted` from now on, by these facts. */
  begin(facts: ServingFacts, posted: PostingList): void {
    this.#facts = facts;
    this.#posted = posted;
    this.#payers.clear();
  }

  /** Posts what requests `server` saw used; one without a time was used at `now`. */
  meterUsage(server: string, usage: readonly UsagePiece[], now: UnixNanos): void {
    const gateway = this.#gatewayOf(server);
    for (const piece of usage) {
      const { countedAt, model } = piece;
      const then = <T>(name: string, value: T): T =>
        countedAt === undefined ? value : this.bookedThen.valueAt(name, value, now, countedAt);
      const sets = this.#customers.of(then(`gateway ${server}`, gateway), piece, now);
      const outcome = outcomes.indexOf(piece.outcome);
      const own = {
        at: piece.at ?? now,
        ...(piece.takesBack === true ? ({ takesBack: true } as const) : {}),
      };
      const { isHere, payer } = then(`payer ${attributeOf(model)}`, this.#payer(model));
      const use: Use = {
        ...{ sets, model, own, instant: own.at, knownAt: countedAt },
        payer: { isHere, payer: this.#sets.same(payer) },
      };
      for (let kind = 0; kind < tokenKinds.length; kind++) {
        const amount = piece.tokens[tokenKinds[kind] as TokenKind] ?? 0;
        if (amount !== 0) this.#customerTokens(use, kind, outcome, amount);
      }
      if (piece.requests === 0) continue;
      const dimensions = sets.requests(outcome);
      this.#posted.addAmount("tokenwatt.gateway.requests", dimensions, piece.requests, dimensions, own);
    }
  }

  /** Posts what a gateway's page counted for one customer, used at `instant`. */
  meterIncrement(increment: TokenIncrement, instant: UnixNanos): void {
    const { model, server } = increment;
    const sets = this.#customers.of(this.#gatewayOf(server), increment, instant);
    const use: Use = { sets, model, instant, own: inInterval, payer: this.#payer(model), knownAt: undefined };
    // Counted, not iterated with entries(): this runs for every customer, and V8 makes a pair for each step.
    for (let kind = 0; kind < tokenKinds.length; kind++) {
      const name = tokenKinds[kind] as TokenKind;
      let rest = increment.tokens[name] ?? 0;
      if (rest === 0) continue;
      for (let outcome = OK + 1; outcome < outcomes.length; outcome++) {
        const amount = Math.min(rest, increment.tokensByOutcome?.[outcomes[outcome] as Outcome]?.[name] ?? 0);
        rest -= amount;
        if (amount !== 0) this.#customerTokens(use, kind, outcome, amount);
      }
      if (rest !== 0) this.#customerTokens(use, kind, OK, rest);
    }
    for (let outcome = 0; outcome < outcomes.length; outcome++) {
      const amount = increment.requests[outcomes[outcome] as Outcome] ?? 0;
      if (amount === 0) continue;
      const dimensions = sets.requests(outcome);
      this.#posted.addAmount("tokenwatt.gateway.requests", dimensions, amount, dimensions);
    }
    const isNamed = this.#namesLatencies(sets.customer["tokenwatt.tenant"] ?? "");
    for (const key of Object.keys(increment.latencies) as LatencyKey[]) {
      const histogram = increment.latencies[key];
      if (histogram === undefined) continue;
      const outcome = outcomeOf(key);
      const kept = outcome === undefined ? sets.customer : sets.requests(outcomes.indexOf(outcome));
      const product = { ...sets.product, ...outcomeAttributes(outcome) };
      const dimensions = isNamed ? kept : this.#sets.same(product);
      this.#posted.addHistogram(`tokenwatt.gateway.${latencyOf(key)}`, dimensions, histogram, kept);
    }
  }

  /** Books a customer's tokens of one kind and outcome, at the price of the instant they were used. */
  #customerTokens(use: Use, kind: number, outcome: number, amount: number): void {
    const [name, how] = [tokenKinds[kind] as TokenKind, outcomes[outcome] as Outcome];
    const { instant, knownAt, model, own, sets } = use;
    const { isHere, payer } = use.payer;
    const price = this.#billing.price(model, name, how, instant, knownAt);
    const [dimensions, kept] = [sets.tokens(kind, outcome), sets.priced(kind, outcome, price, payer, isHere)];
    this.#posted.addAmount("tokenwatt.gateway.tokens", dimensions, amount, kept, own);
    if (price !== undefined) this.#billing.earn(price, payer, name, amount, own, sets.customer);
  }

  /** Whether a tenant's latencies are exported under its name. */
  #namesLatencies(tenant: string): boolean {
    return this.#latencyTenants.has("*") || this.#latencyTenants.has(tenant);
  }

  #gatewayOf(server: string): string {
    return this.#facts.servers.get(server)?.gateway?.id ?? server;
  }

  /** Who bills for a model's tokens: the one engine here that serves it, if it is one. */
  #payer(model: string | undefined): Payer {
    const name = attributeOf(model);
    const known = this.#payers.get(name);
    if (known !== undefined) return known;
    const { servers, serves, soleModel } = this.#facts;
    const engines: string[] = [];
    for (const { family, id } of servers.values()) {
      if (family !== "engine" || model === undefined) continue;
      if (serves?.(id, model) ?? soleModel?.(id) === model) engines.push(id);
    }
    const [server] = engines.length === 1 ? engines : [];
    const payer = this.#sets.same({
      ...attributes("tokenwatt.server.id", server),
      "gen_ai.request.model": name,
      ...attributes("hw.model", server === undefined ? undefined : this.#gpuModel(server)),
    });
    const found = { payer, isHere: engines.length > 0 };
    this.#payers.set(name, found);
    return found;
  }
}
