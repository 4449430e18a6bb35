// tenant-revenue.ts with billing.ts: what tenants earn is exact to the last unit, another view of the same revenue, whatever
// comes late, is taken back or begun again by a restart.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Books } from "../../../agent/meter/books.ts";
import { Meter } from "../../../agent/meter/meter.ts";
import { Billing } from "../../../agent/meter/money/billing.ts";
import { TenantRevenue } from "../../../agent/meter/money/tenant-revenue.ts";
import type { AnyPosting, Outcome, StateRow, TokenIncrement, TokenKind } from "../../../agent/model.ts";
import { catalogueOf } from "../../fakes/catalogue.ts";
import { factsOf, intervalOf, moved, SECOND, START, unixNanos } from "../fixtures.ts";

const MILLION = 1_000_000n;
const STEP_SECONDS = 10;
const facts = factsOf({ gateway: true });

/** Prices in 1e-9 of the currency a million tokens, by model and kind. */
type PriceList = Readonly<Record<string, Readonly<Record<string, number>>>>;

/** Of odd prices, so that nearly every booking leaves a rest; the second list is in force from the fourth step on. */
const oddLists: readonly PriceList[] = [
  { m: { output: 1_234_567_891, input: 72_500_001 }, n: { output: 333_333_333, input: 7 } },
  { m: { output: 999_999_999, input: 3 }, n: { output: 123_456_789, input: 1_000_001 } },
];
const evenLists: readonly PriceList[] = [
  { m: { output: 15_000_000, input: 2_000_000 }, n: { output: 75_000_000, input: 1_000_000 } },
  { m: { output: 14_000_000, input: 2_000_000 }, n: { output: 70_000_000, input: 1_000_000 } },
];
const SECOND_LIST_STEP = 3;

function catalogue(list: PriceList, version: string) {
  const tokens = Object.entries(list).flatMap(([model, kinds]) =>
    Object.entries(kinds).map(([kind, price]) => ({ model, kind, pricePerMillionTokens: price / 1e9 })),
  );
  return catalogueOf({ version, currency: "EUR", tokens });
}

interface Used {
  readonly tenant: string;
  readonly model: "m" | "n";
  readonly kind: "output" | "input_uncached";
  readonly outcome: Outcome;
  readonly tokens: number;
}
interface Step {
  readonly used: readonly Used[];
  readonly how: "page" | "late" | "takesBack";
  readonly restarts: boolean;
}

const useds: fc.Arbitrary<Used> = fc.record({
  tenant: fc.constantFrom("a", "b", "c", "other", "d e"),
  model: fc.constantFrom("m", "n"),
  kind: fc.constantFrom("output", "input_uncached"),
  outcome: fc.constantFrom<Outcome>("ok", "ok", "aborted"),
  tokens: fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 3_000_000 })),
});
const steps: fc.Arbitrary<Step> = fc.record({
  used: fc.array(useds, { minLength: 1, maxLength: 6 }),
  how: fc.constantFrom("page", "page", "late", "takesBack"),
  restarts: fc.boolean(),
});

/** A host's billing with a store behind it. */
class Host {
  readonly #lists: readonly PriceList[];
  readonly stored = new Map<string, string>();
  readonly posted: AnyPosting[] = [];
  #billing = new Billing();
  #meter = new Meter(this.#billing);

  constructor(lists: readonly PriceList[]) {
    this.#lists = lists;
    this.#billing.take(catalogue(lists[0] ?? {}, "v0"), START);
  }

  step(one: Step, at: number): void {
    if (at === SECOND_LIST_STEP)
      this.#billing.take(catalogue(this.#lists[1] ?? {}, "v1"), unixNanos(at * STEP_SECONDS * SECOND));
    const now = unixNanos((at + 1) * STEP_SECONDS * SECOND);
    if (one.how === "page") {
      const increments = one.used.map((used) => onPage(used));
      const interval = intervalOf({ from: at * STEP_SECONDS, to: (at + 1) * STEP_SECONDS, increments });
      this.posted.push(...this.#meter.meterInterval(interval, facts, now));
    } else {
      const pieces = one.used.map(({ kind, model, outcome, tenant, tokens }) => ({
        ...{ model, tenant, outcome, tokens: { [kind]: tokens }, requests: 1, at: START + 1n },
        ...(one.how === "takesBack" ? { takesBack: true } : {}),
      }));
      this.posted.push(...this.#meter.postUsage("g", pieces, facts, now));
    }
    this.store();
    if (one.restarts) this.#restart();
  }

  store(): void {
    for (const { key, value } of this.#billing.takeChanges()) {
      if (value === "") this.stored.delete(key);
      else this.stored.set(key, value);
    }
  }

  #restart(): void {
    this.#billing = new Billing();
    this.#meter = new Meter(this.#billing);
    for (const [key, value] of this.stored) this.#billing.restore({ key, value });
  }
}

function onPage({ kind, model, outcome, tenant, tokens }: Used): TokenIncrement {
  const some = { [kind]: tokens };
  const more = outcome === "ok" ? {} : { tokensByOutcome: { [outcome]: some } };
  return moved({ server: "g", family: "gateway", model, tenant, tokens: some, ...more });
}

/** What was posted of a metric by what names a series of a tenant. */
function sums(posted: readonly AnyPosting[], metric: string): Map<string, bigint> {
  const all = new Map<string, bigint>();
  for (const one of posted) {
    if (one.metric !== metric || !("amount" in one)) continue;
    const { "gen_ai.request.model": model, "tokenwatt.price.version": version } = one.dimensions;
    const key = [one.dimensions["tokenwatt.tenant"], model, version].join(" ");
    all.set(key, (all.get(key) ?? 0n) + BigInt(one.amount));
  }
  return all;
}

/** The same in millionths of a unit, from what was used alone. */
function oracle(given: readonly Step[], lists: readonly PriceList[]): Map<string, bigint> {
  const all = new Map<string, bigint>();
  for (const [at, { how, used }] of given.entries()) {
    if (how === "takesBack") continue;
    const list = how === "page" && at >= SECOND_LIST_STEP ? 1 : 0;
    for (const { kind, model, outcome, tenant, tokens } of used) {
      if (outcome !== "ok") continue;
      const price = lists[list]?.[model]?.[kind === "output" ? "output" : "input"] ?? 0;
      const key = [tenant === "other" ? "~other" : tenant, model, `v${list}`].join(" ");
      all.set(key, (all.get(key) ?? 0n) + BigInt(tokens) * BigInt(price));
    }
  }
  return all;
}

const total = (amounts: Iterable<bigint>): bigint => [...amounts].reduce((sum, one) => sum + one, 0n);

/** Rests that wait in the store: of tenants, and of servers and models. */
function rests(stored: ReadonlyMap<string, string>): { tenants: bigint; revenue: bigint } {
  const of = Object.values(JSON.parse(stored.get('["revenue"]') ?? "{}") as Record<string, string>);
  const tenants = [...stored].filter(([key]) => key.startsWith('["tenant-revenue",'));
  return {
    tenants: total(tenants.map(([, value]) => BigInt(JSON.parse(value) as string))),
    revenue: total(of.map(BigInt)),
  };
}

function run(given: readonly Step[], lists: readonly PriceList[]): Host {
  const host = new Host(lists);
  for (const [at, step] of given.entries()) host.step(step, at);
  return host;
}

const histories = fc.array(steps, { minLength: 1, maxLength: 8 });

describe("revenue by tenant", () => {
  it("is what the tokens of each tenant, model and price earn, rounded down, whatever happens in between", () => {
    fc.assert(
      fc.property(histories, (given) => {
        const host = run(given, oddLists);
        const exact = [...oracle(given, oddLists)].map(([key, sum]) => [key, sum / MILLION] as const);
        const known = exact.filter(([, amount]) => amount > 0n);
        expect(sums(host.posted, "tokenwatt.tenant.revenue")).toEqual(new Map(known));
      }),
      { numRuns: 60 },
    );
  });

  it("sums to the revenue of the gateways, to the millionth of a unit with what is carried", () => {
    fc.assert(
      fc.property(histories, (given) => {
        const { posted, stored } = run(given, oddLists);
        const carried = rests(stored);
        const exact = total(oracle(given, oddLists).values());
        const view = (metric: string): bigint => total(sums(posted, metric).values()) * MILLION;
        expect(view("tokenwatt.tenant.revenue") + carried.tenants).toBe(exact);
        expect(view("tokenwatt.revenue") + carried.revenue).toBe(exact);
      }),
      { numRuns: 60 },
    );
  });

  it("equals it where a token's price is a whole unit, and then nothing is carried", () => {
    fc.assert(
      fc.property(histories, (given) => {
        const { posted, stored } = run(given, evenLists);
        expect(total(sums(posted, "tokenwatt.tenant.revenue").values())).toBe(
          total(sums(posted, "tokenwatt.revenue").values()),
        );
        expect([...stored.keys()].filter((key) => key.includes("tenant-revenue"))).toEqual([]);
      }),
      { numRuns: 30 },
    );
  });
});

const price = {
  ...{ currency: "EUR", version: "v", perMillion: 1_500_000n, isBilled: true },
} as Parameters<TenantRevenue["earn"]>[0];
const customer = (tenant: string) => ({ "tokenwatt.tenant": tenant, "gen_ai.request.model": "m" });

describe("TenantRevenue", () => {
  it("forgets less than a unit of each series over its bound, in the store too", () => {
    const revenue = new TenantRevenue(2);
    const stored = new Map<string, string>();
    const store = (rows: readonly StateRow[]): void => {
      for (const { key, value } of rows) value === "" ? stored.delete(key) : stored.set(key, value);
    };
    for (let n = 0; n < 10; n++) {
      revenue.earn(price, customer(`t${n}`), 1);
      expect(revenue.postings()).toMatchObject([{ amount: 1, dimensions: { "tokenwatt.tenant": `t${n}` } }]);
      store(revenue.takeChanges());
      expect(stored.size).toBe(Math.min(n + 1, 2));
    }
  });
  it("posts nothing twice, and nothing of a price of 0", () => {
    const revenue = new TenantRevenue();
    revenue.earn({ ...price, perMillion: 0n }, customer("a"), 5);
    revenue.earn(price, customer("a"), 2);
    expect(revenue.postings()).toMatchObject([{ amount: 3, kept: false }]);
    expect(revenue.postings()).toEqual([]);
  });
});

describe("Books with revenue by tenant", () => {
  const points = (increments: readonly TokenIncrement[], tenantsMax: number, given = facts) => {
    const books = new Books({
      ...{ start: START, unixNanos, tenantsMax },
      catalogue: catalogue(evenLists[0] ?? {}, "v"),
    });
    books.bookInterval(intervalOf({ from: 0, to: 10, increments }), given);
    const { batch, snapshot } = books.commit(unixNanos(10 * SECOND), 10 * SECOND);
    const of = (metric: string) =>
      snapshot.points.filter((point) => point.metric === metric).map((point) => point);
    return { of, batch };
  };

  it("folds tenants over the bound into other, with their revenue", () => {
    const tenants = ["a", "b", "c"];
    const tokens: Partial<Record<TokenKind, number>> = { output: 1000 };
    const increments = tenants.map((tenant) => moved({ server: "g", family: "gateway", tenant, tokens }));
    const { of } = points(increments, 1);
    const shown = of("tokenwatt.tenant.revenue").map(({ dimensions, value }) => [
      dimensions["tokenwatt.tenant"],
      value,
    ]);
    expect(shown).toEqual([
      ["a", 15_000n],
      ["other", 30_000n],
    ]);
    expect(of("tokenwatt.revenue").map(({ value }) => value)).toEqual([45_000n]);
  });

  it("has none where engines bill and name no tenant", () => {
    const { of } = points([moved({ tokens: { output: 1000 } })], 10, factsOf());
    expect(of("tokenwatt.revenue").map(({ value }) => value)).toEqual([15_000n]);
    expect(of("tokenwatt.tenant.revenue")).toEqual([]);
  });
});
