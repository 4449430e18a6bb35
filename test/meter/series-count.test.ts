// How many series a host exports, as the sizing page says it: customers cost tokens and requests by kind and outcome, and one
// for each model they pay for; latencies cost by endpoint and model, whatever the number of tenants. Counted on the page a
// Prometheus would scrape.
import { readFileSync } from "node:fs";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createPrometheusWriter } from "../../agent/export/prometheus.ts";
import type { Booking } from "../../agent/meter/ledger/ledger.ts";
import { Ledger } from "../../agent/meter/ledger/ledger.ts";
import { Meter } from "../../agent/meter/meter.ts";
import { Billing } from "../../agent/meter/money/billing.ts";
import type { Latencies, LatencyName, Outcome, TokenIncrement, TokenKind } from "../../agent/model.ts";
import { catalogueOf } from "../fakes/catalogue.ts";

const START = 1_700_000_000_000_000_000n;
const latencyNames: readonly LatencyName[] = [
  "time_to_first_token",
  "time_per_output_token",
  "inter_token_latency",
  "request_duration",
  "queue_time",
];
const kinds: readonly TokenKind[] = ["input_uncached", "input_cached", "output"];
const outcomes: readonly Outcome[] = ["ok", "error", "aborted", "rejected"];

/** Every model and kind at the same price. */
const prices = catalogueOf({
  ...{ version: "v", currency: "EUR" },
  tokens: ["model0", "model1", "model2"].flatMap((model) =>
    ["input", "output"].map((kind) => ({ model, kind, pricePerMillionTokens: 2 })),
  ),
});

interface Shape {
  readonly tenants: number;
  readonly models: number;
  readonly endpoints: number;
  readonly kinds: number;
  readonly outcomes: number;
  readonly latencies: number;
  readonly bounds: number;
  /** Whether the gateway says of its latencies how the requests ended. */
  readonly tells: boolean;
}

/** What a gateway's page adds in one poll: every tenant used every model at every endpoint. */
function increments(shape: Shape): TokenIncrement[] {
  const bounds = Array.from({ length: shape.bounds }, (_, at) => at + 1);
  const histogram = { bounds, counts: bounds.map(() => 1).concat(1), sum: 1, count: bounds.length + 1 };
  const some = Object.fromEntries(kinds.slice(0, shape.kinds).map((kind) => [kind, 7]));
  const used = outcomes.slice(0, shape.outcomes);
  const latencies: Latencies = Object.fromEntries(
    latencyNames
      .slice(0, shape.latencies)
      .flatMap((name) => (shape.tells ? used.map((one) => `${name} ${one}`) : [name]))
      .map((key) => [key, histogram]),
  );
  const names = (prefix: string, count: number): string[] =>
    Array.from({ length: count }, (_, at) => `${prefix}${at}`);
  return names("tenant", shape.tenants).flatMap((tenant) =>
    names("model", shape.models).flatMap((model) =>
      names("endpoint", shape.endpoints).map((endpoint) => ({
        ...{ server: "gate", family: "gateway", role: "combined", tenant, model, endpoint, latencies },
        tokens: Object.fromEntries(Object.entries(some).map(([kind, count]) => [kind, count * used.length])),
        tokensByOutcome: Object.fromEntries(used.filter((one) => one !== "ok").map((one) => [one, some])),
        requests: Object.fromEntries(used.map((one) => [one, 1])),
        ...{ reasoningTokens: 0, resets: 0, late: false, at: 1e9 },
      })),
    ),
  );
}

interface Counted {
  readonly series: number;
  readonly revenue: number;
  readonly booked: readonly Booking[];
}

/** Lines of series on the page, and what the ledger booked. */
function count(shape: Shape, latencyTenants: readonly string[] = [], billing = new Billing()): Counted {
  const booked: Booking[] = [];
  const unixNanos = (at: number): bigint => START + BigInt(at);
  const onBooked = (one: Booking): void => void booked.push({ ...one });
  const ledger = new Ledger(START, { unixNanos, onBooked, seriesMax: 1_000_000, tenantsMax: 1000 });
  const meter = new Meter(billing, latencyTenants);
  const gate = { id: "gate", type: "litellm", family: "gateway", address: "b", pollMs: 1000 } as const;
  const servers = [
    {
      server: "gate",
      nanos: { token_active: 0, stalled: 0, parked: 0, unknown: 0 },
      increments: increments(shape),
    },
  ];
  const interval = { from: 0, to: 1e9, gpus: [], servers, lateSamples: 0, violations: [] };
  const facts = { gpus: new Map(), servers: new Map([["gate", gate]]) };
  const end = START + 1_000_000_000n;
  ledger.bookPostings(meter.meterInterval(interval as never, facts, end), 1e9);
  const page = createPrometheusWriter({}).write(ledger.commit(end, 1e9), "prometheus");
  const lines = (of: RegExp): number => page.split("\n").filter((line) => of.test(line)).length;
  return {
    series: lines(/^tokenwatt_gateway_\w+\{/),
    revenue: lines(/^tokenwatt_tenant_revenue\w*\{/),
    booked,
  };
}

const upTo = (max: number) => fc.integer({ min: 1, max });
const shapes: fc.Arbitrary<Shape> = fc.record({
  ...{ tenants: upTo(4), models: upTo(3), endpoints: upTo(3), kinds: upTo(3), outcomes: upTo(4) },
  ...{ latencies: fc.integer({ min: 0, max: 5 }), bounds: upTo(12) },
  tells: fc.boolean(),
});

describe("series of customers", () => {
  it("are tenants x models x endpoints x outcomes x (kinds + 1), and latencies by model and endpoint alone", () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        const products = shape.models * shape.endpoints;
        const counted = shape.tenants * products * shape.outcomes * (shape.kinds + 1);
        const ways = shape.tells ? shape.outcomes : 1;
        const histograms = ways * shape.latencies * (shape.bounds + 3);
        expect(count(shape).series).toBe(counted + products * histograms);
        const named = count(shape, ["tenant0"]);
        // One named tenant has its own; the others, where there are any, share theirs.
        const groups = shape.tenants === 1 ? 1 : 2;
        expect(named.series).toBe(counted + groups * products * histograms);
        expect(count(shape, ["*"]).series).toBe(counted + shape.tenants * products * histograms);
      }),
      { numRuns: 30 },
    );
  });

  it("are one more for each tenant and model that earn a currency, whatever the endpoints, kinds and outcomes", () => {
    const billing = (): Billing => {
      const made = new Billing();
      made.take(prices, START);
      return made;
    };
    fc.assert(
      fc.property(shapes, (shape) => {
        expect(count(shape, [], billing()).revenue).toBe(shape.tenants * shape.models);
        expect(count(shape).revenue).toBe(0);
      }),
      { numRuns: 30 },
    );
  });

  it("lose no tenant's latencies in the ledger, whoever is named in what is exported", () => {
    const shape = {
      tenants: 3,
      models: 1,
      endpoints: 2,
      kinds: 1,
      outcomes: 1,
      latencies: 2,
      bounds: 3,
      tells: false,
    };
    for (const named of [[], ["tenant1"], ["*"]]) {
      const rows = count(shape, named).booked.filter(({ moved }) => typeof moved === "object");
      expect(rows).toHaveLength(3 * 2 * 2);
      expect(new Set(rows.map(({ dimensions }) => dimensions["tokenwatt.tenant"])).size).toBe(3);
    }
  });

  it("cost as the sizing page says: 4 for a tenant, model and endpoint that all went well", () => {
    const one = { tenants: 1, models: 1, endpoints: 1, outcomes: 1 };
    const usual = { ...one, kinds: 3, latencies: 0, bounds: 1, tells: true };
    expect(count(usual).series).toBe(4);
    const text = readFileSync(new URL("../../deploy/docs/sizing.md", import.meta.url), "utf8").replaceAll(
      /\s+/g,
      " ",
    );
    expect(text).toContain("tenants x models x endpoints x outcomes x (kinds + 1)");
    expect(text).toContain("models x endpoints x latencies x outcomes x (bounds + 3)");
    expect(text).toContain("tenants x models x currencies");
  });
});
