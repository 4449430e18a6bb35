// prices.ts: every second with a known price costs exactly once, in integers; what has no price is counted, not 0.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Meter } from "../../../agent/meter/meter.ts";
import { Billing } from "../../../agent/meter/money/billing.ts";
import { Prices } from "../../../agent/meter/money/prices.ts";
import { split } from "../../../agent/meter/money/split.ts";
import type { Posting, SettledInterval } from "../../../agent/model.ts";
import { catalogueOf } from "../../fakes/catalogue.ts";
import { factsOf, intervalOf, moved, START, unixNanos } from "../fixtures.ts";

const file = {
  version: "v",
  currency: "USD",
  gpus: [{ gpu: "H100", pricePerGpuHour: 3 }],
  tokens: [
    { model: "m", kind: "output", pricePerMillionTokens: 1 },
    { model: "m", kind: "input", pricePerMillionTokens: 0.5 },
  ],
};
function pricesOf(more: object = {}): Prices {
  return new Prices(catalogueOf({ ...file, ...more }));
}
function post(prices: Prices, interval: SettledInterval, facts = factsOf()): readonly Posting[] {
  return prices.priceInterval(interval, facts, unixNanos(interval.to));
}
function sum(posted: readonly Posting[], metric: string, where: Record<string, string> = {}): number {
  return posted
    .filter(
      (one) =>
        one.metric === metric && Object.entries(where).every(([key, value]) => one.dimensions[key] === value),
    )
    .reduce((total, one) => total + one.amount, 0);
}

describe("Prices.post() of GPU time", () => {
  it("charges a rented hour in full, whatever the GPU did, unobserved included", () => {
    const seconds = {
      token_active: 1000,
      stalled: 100,
      parked: 500,
      other: 400,
      free: 600,
      unobserved: 1000,
    };
    const posted = post(pricesOf(), intervalOf({ from: 0, to: 3600, seconds }));
    // Each of the six series carries less than a billionth on to its next booking.
    expect(3_000_000_000 - sum(posted, "tokenwatt.cost")).toBeLessThan(6);
    expect(sum(posted, "tokenwatt.cost", { "tokenwatt.gpu.state": "unobserved" })).toBe(833_333_333);
    expect(sum(posted, "tokenwatt.cost", { "tokenwatt.server.id": "s" })).toBe(1_333_333_332);
    expect(posted[0]?.dimensions).toMatchObject({
      "tokenwatt.currency": "USD",
      "tokenwatt.price.version": "v",
      "tokenwatt.cost.component": "gpu",
    });
  });
  it("loses no billionth over any number of intervals of any length", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 10_000 }), { minLength: 1, maxLength: 200 }),
        (lengths) => {
          const prices = pricesOf({ gpus: [{ gpu: "H100", pricePerGpuHour: "2.999999999" }] });
          let [at, cost] = [0, 0n];
          for (const length of lengths) {
            const to = at + length / 1000;
            const interval = intervalOf({ from: at, to, seconds: { token_active: length / 1000 } });
            cost += BigInt(sum(post(prices, interval), "tokenwatt.cost"));
            at = to;
          }
          const nanos = lengths.reduce((total, length) => total + BigInt(length) * 1_000_000n, 0n);
          expect(cost).toBe((nanos * 2_999_999_999n) / 3_600_000_000_000n);
        },
      ),
    );
  });
  it("starts a new price version at the instant of the change", () => {
    const prices = pricesOf({
      gpus: [
        { gpu: "H100", pricePerGpuHour: 3, to: "2026-11-01T00:30:00Z" },
        { gpu: "H100", pricePerGpuHour: 2, from: "2026-11-01T00:30:00Z" },
      ],
    });
    const half = (from: number): readonly Posting[] =>
      post(prices, intervalOf({ from, to: from + 1800, seconds: { parked: 1800 } }));
    expect(half(0)[0]).toMatchObject({
      amount: 1_500_000_000,
      dimensions: { "tokenwatt.price.version": "v" },
    });
    expect(half(1800)[0]).toMatchObject({
      amount: 1_000_000_000,
      dimensions: { "tokenwatt.price.version": "v/2026-11-01" },
    });
  });
  it("gives a GPU without a price no cost, and counts the miss once a bucket", () => {
    const prices = pricesOf();
    const hour = (from: number): readonly Posting[] =>
      post(
        prices,
        intervalOf({ from, to: from + 60, seconds: { parked: 60 } }),
        factsOf({ product: "NVIDIA B200" }),
      );
    expect([hour(0), hour(60), hour(900)].map((posted) => sum(posted, "tokenwatt.catalog_misses"))).toEqual([
      1, 0, 1,
    ]);
    expect(sum(hour(960), "tokenwatt.cost")).toBe(0);
  });
  it("charges energy on top only where the price says it is not included, times the usage effectiveness", () => {
    const energy = [{ pricePerKilowattHour: 0.2, powerUsageEffectiveness: 1.5 }];
    const joules = { token_active: 1_800_000, unattributed: 1_800_000 };
    const interval = intervalOf({ from: 0, to: 3600, seconds: { token_active: 3600 }, joules });
    expect(
      sum(post(pricesOf({ energy }), interval), "tokenwatt.cost", { "tokenwatt.cost.component": "energy" }),
    ).toBe(0);
    const apart = pricesOf({ energy, gpus: [{ gpu: "H100", pricePerGpuHour: 3, energyIncluded: false }] });
    expect(sum(post(apart, interval), "tokenwatt.cost", { "tokenwatt.cost.component": "energy" })).toBe(
      300_000_000,
    );
  });
  it("charges each second once when several servers share the GPU", () => {
    const share = (
      server: string,
      seconds: number,
    ): SettledInterval["gpus"][number]["residents"][number] => ({
      server,
      nanos: { token_active: 0, stalled: 0, parked: seconds * 1e9 },
      millijoules: { token_active: 0, stalled: 0, parked: 0 },
      method: "equal",
    });
    const seconds = { token_active: 3000, free: 600 };
    const interval = intervalOf({
      from: 0,
      to: 3600,
      seconds,
      residents: [share("s", 1500), share("unmetered", 1500)],
    });
    expect(sum(post(pricesOf(), interval), "tokenwatt.cost")).toBe(3_000_000_000);
    const broken = intervalOf({ from: 0, to: 3600, seconds, residents: [] });
    expect(sum(post(pricesOf(), broken), "tokenwatt.cost")).toBe(3_000_000_000);
  });
});

describe("Meter.post() of tokens with a price", () => {
  /** Postings of an interval by a meter with the file's prices. */
  const post = (interval: SettledInterval, facts = factsOf()): readonly Posting[] => {
    const billing = new Billing();
    billing.take(catalogueOf(file), START);
    const posted = new Meter(billing).meterInterval(interval, facts, unixNanos(interval.to));
    return posted.filter((one) => "amount" in one);
  };
  const made = (more: object): SettledInterval => intervalOf({ from: 0, to: 1, increments: [moved(more)] });

  it("earns the price of each kind and counts billable tokens", () => {
    const posted = post(made({ tokens: { output: 18_000_000, input_unsplit: 1_000_000 } }));
    expect(sum(posted, "tokenwatt.revenue")).toBe(18_500_000_000);
    expect(sum(posted, "tokenwatt.billable_tokens")).toBe(19_000_000);
  });
  it("earns nothing for a kind without a price, counts the miss and does not call it billable", () => {
    const posted = post(made({ tokens: { input_cached: 10 } }));
    expect(sum(posted, "tokenwatt.revenue") + sum(posted, "tokenwatt.billable_tokens")).toBe(0);
    expect(sum(posted, "tokenwatt.catalog_misses")).toBe(1);
  });
  it("bills from the gateway where there is one, and only requests that ended well", () => {
    const increments = [
      moved({ tokens: { output: 100 } }),
      moved({
        server: "g",
        family: "gateway",
        tenant: "t",
        tokens: { output: 80 },
        tokensByOutcome: { aborted: { output: 30 } },
      }),
    ];
    const posted = post(intervalOf({ from: 0, to: 1, increments }), factsOf({ gateway: true }));
    expect(sum(posted, "tokenwatt.billable_tokens")).toBe(50);
    expect(sum(posted, "tokenwatt.billable_tokens", { "tokenwatt.server.id": "s" })).toBe(50);
    expect(sum(posted, "tokenwatt.revenue")).toBe(50_000);
  });
});

describe("split()", () => {
  it("shares any total over any weights without losing or making a unit", () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: 0n, max: 10n ** 30n }),
        fc.array(fc.bigInt({ min: 0n, max: 10n ** 12n }), { minLength: 1, maxLength: 20 }),
        (total, weights) => {
          const parts = split(total, weights);
          const all = weights.reduce((sum, weight) => sum + weight, 0n);
          if (all === 0n) {
            expect(parts).toBeUndefined();
            return;
          }
          expect(parts?.reduce((sum, part) => sum + part, 0n)).toBe(total);
          for (const [index, part] of (parts ?? []).entries()) {
            const exact = (total * (weights[index] ?? 0n)) / all;
            expect(part === exact || part === exact + 1n).toBe(true);
          }
        },
      ),
    );
  });
});
