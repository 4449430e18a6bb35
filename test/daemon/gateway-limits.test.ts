// Gateways' own limits beside our quotas: what is compared and what is not, what is on record, and what a page that is no
// longer read says.
import fc from "fast-check";
import { expect, test } from "vitest";
import { GatewayLimits } from "../../agent/daemon/gateway-limits.ts";
import type { GatewayLimit, ServerInfo, TokenSample } from "../../agent/model.ts";
import { virtualClock } from "../../agent/platform/clock.ts";
import { PolicyBook } from "../../agent/policy/book.ts";
import { compareLimits, limitsPage } from "../../agent/policy/gateway-limits.ts";
import { fed, gatewaySeries, policyWith } from "../policy/fixtures.ts";

const NOON = Date.parse("2026-12-01T12:00:00Z");
const MIDNIGHT = Date.parse("2026-12-02T00:00:00Z");
const budget = { count: "cost", currency: "USD", match: { tenant: "a" }, per: "day", limit: 10 };

/** Readings at noon of quotas whose day is whole; `spent` dollars are booked of tenant a. */
function readings(quotas: readonly object[], spent = 4) {
  const book = new PolicyBook(policyWith(quotas as never), NOON - 86_400_000);
  const dimensions = gatewaySeries("a", {
    "tokenwatt.price.per_million": "1000000",
    "tokenwatt.currency": "USD",
  });
  const movement = { metric: "tokenwatt.gateway.tokens", dimensions, own: false };
  book.book({ ...movement, amount: spent, atMillis: NOON });
  return book.commit(NOON, () => fed).readings;
}

function said(more: Partial<GatewayLimit> = {}, hours = 12) {
  const limit = { tenant: "a", currency: "USD", limit: 10, remaining: 6, resetsAt: hours * 3600e9, ...more };
  const sample = { server: "gw", family: "gateway", received: 0, limits: [limit] } as unknown as TokenSample;
  const info = {
    id: "gw",
    pollMs: 5000,
    gateway: { id: "litellm@x", scope: "all" },
  } as unknown as ServerInfo;
  return { servers: new Map([["gw", info]]), lastTokenSamples: new Map([["gw", sample]]) };
}

function limitsAt() {
  const clock = virtualClock(BigInt(NOON) * 1_000_000n);
  return { clock, limits: new GatewayLimits({ clock }) };
}

test("a gateway that counts as we do differs in nothing, one of another limit or usage is told and on record once", () => {
  const { limits } = limitsAt();
  const ours = readings([budget]);
  expect(limits.look(said(), ours)).toEqual([]);
  expect(limits.shown).toMatchObject([{ quota: "q0", differs: [], drift: 0 }]);
  const body = {
    quota: "q0",
    tenant: "a",
    gateway: "litellm@x",
    differs: ["limit", "used"],
    limit: 50,
    drift: 40,
  };
  expect(limits.look(said({ limit: 50 }), ours)).toEqual([body]);
  expect(limits.look(said({ limit: 50 }), ours)).toEqual([]);
  expect(limits.look(said(), ours)).toMatchObject([{ differs: [], drift: 0 }]);
  // One that says now this and now that is on record once a window.
  for (let flap = 0; flap < 5; flap++)
    for (const limit of [50, 10]) expect(limits.look(said({ limit }), ours)).toEqual([]);
  expect(limits.look(undefined, ours)).toEqual([]);
  expect(limits.look(said({ limit: 50 }), ours)).toEqual([]);
});

test("nothing is compared that may mean something else, and it is shown all the same", () => {
  const quotas: readonly (readonly [object, object, string | null])[] = [
    [{}, {}, "q0"],
    [{ match: { tenant: "*" } }, {}, "q0"],
    [{ match: { tenant: "a", model: "m" } }, {}, null],
    [{ match: {} }, {}, null],
    [{ currency: "EUR" }, {}, null],
    [{ count: "tokens", currency: undefined }, {}, null],
    [{ per: "month" }, {}, null],
    [{}, { tenant: "b" }, null],
    [{}, { resetsAt: undefined }, null],
    [{}, { resetsAt: 10 * 3600e9 }, null],
  ];
  for (const [quota, limit, name] of quotas) {
    const { limits } = limitsAt();
    limits.look(said(limit), readings([{ ...budget, ...quota }]));
    const [page] = limitsPage(limits.shown);
    expect([page?.["quota"], page?.["differs"] === null]).toEqual([name, name === null]);
    expect(page?.["limit"]).toBe(10);
  }
});

test("usage is compared where this host counts all of it; a lower bound and a part of a fleet are no disagreement", () => {
  const drift = (quota: object, spent = 1): unknown => {
    const { limits } = limitsAt();
    limits.look(said(), readings([{ ...budget, ...quota }], spent));
    return limits.shown[0]?.drift;
  };
  expect(drift({})).toBe(3);
  expect(drift({ hostShare: 0.5 })).toBeUndefined();
  const { limits } = limitsAt();
  limits.look(said({ remaining: undefined } as never), readings([budget], 1));
  expect(limits.shown[0]).toMatchObject({ differs: [], drift: undefined });
});

test("drift is theirs less ours, whatever both say", () => {
  fc.assert(
    fc.property(fc.integer({ min: -20, max: 20 }), fc.integer({ min: 0, max: 20 }), (remaining, spent) => {
      const seen = {
        gateway: "g",
        tenant: "a",
        currency: "USD",
        limit: 10,
        remaining,
        resetsMillis: MIDNIGHT,
      };
      const [one] = compareLimits([seen], readings([budget], spent));
      expect(one?.drift).toBeCloseTo(10 - remaining - spent, 9);
      expect(one?.differs?.includes("used")).toBe(Math.abs(10 - remaining - spent) > 0.2);
    }),
    { numRuns: 40 },
  );
});

test("a page that is no longer read says nothing; gauges are those of tenants with series of their own", async () => {
  const { clock, limits } = limitsAt();
  limits.look(said(), readings([budget]));
  const of = { "tokenwatt.gateway.id": "litellm@x", "tokenwatt.tenant": "a", "tokenwatt.currency": "USD" };
  const shown = limits
    .gauges(0, 10_000, () => true)
    .map(({ dimensions, metric, value }) => [metric, dimensions, value]);
  expect(shown).toEqual([
    ["tokenwatt.gateway.quota.limit_cost", of, 10],
    ["tokenwatt.gateway.quota.remaining_cost", of, 6],
    ["tokenwatt.gateway.quota.reset_time", of, MIDNIGHT / 1000],
    ["tokenwatt.gateway.quota.drift_cost", { ...of, "tokenwatt.quota.name": "q0" }, 0],
  ]);
  expect(limits.gauges(0, 10_000, () => false)).toEqual([]);
  expect(limits.takeRow()).toHaveLength(1);
  // Hours are told from the moment of a page: the same end is not another one with each.
  limits.look(said({}, 12 - 0.002), readings([budget]));
  expect(limits.takeRow()).toEqual([]);
  await clock.advance(16e9);
  limits.look(said(), readings([budget]));
  expect(limits.shown).toEqual([]);
  expect(limits.takeRow()).toEqual([{ key: '["gateway-limits"]', value: "" }]);
});
