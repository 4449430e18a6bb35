// What a quota counts, how full it says it is, and what it continues from after a restart or another policy.
import { describe, expect, test } from "vitest";
import type { Dimensions, StateRow } from "../../agent/model.ts";
import { auditBodies, PolicyBook } from "../../agent/policy/book.ts";
import type { QuotaReading } from "../../agent/policy/states.ts";
import { fed, gatewaySeries, policyWith, unfed } from "./fixtures.ts";

const NOON = Date.parse("2026-12-01T12:00:00Z");
const MINUTE = 60_000;

function book(quotas: Parameters<typeof policyWith>[0], more = {}): PolicyBook {
  return new PolicyBook(policyWith(quotas, more), NOON);
}

function use(
  to: PolicyBook,
  dimensions: Dimensions,
  amount: number,
  atMillis = NOON,
  metric = "tokenwatt.gateway.tokens",
): void {
  to.book({ metric, dimensions, amount, atMillis, own: false });
}

function readings(of: PolicyBook, at = NOON, isFed = true): readonly QuotaReading[] {
  return of.commit(at, () => (isFed ? fed : unfed)).readings;
}

function usedOf(of: PolicyBook, at = NOON): readonly (number | undefined)[] {
  return readings(of, at).map(({ quota, used }) =>
    used === undefined ? undefined : Number(used) / quota.scale,
  );
}

describe("PolicyBook.book()", () => {
  test("counts kinds, weights, requests and money each in its own unit, exactly", () => {
    const priced = { "tokenwatt.price.per_million": "0.15", "tokenwatt.currency": "EUR" };
    const one = book([
      { count: "tokens" },
      { count: "input" },
      { count: "output" },
      { count: "weighted", weights: { output: 4, input_cached: 0.1 } },
      { count: "cost", currency: "EUR", limit: 5 },
      { count: "requests" },
      { count: "tokens", outcomes: "all" },
    ]);
    use(one, gatewaySeries("a", { kind: "input_cached", ...priced }), 7);
    use(one, gatewaySeries("a", { kind: "output", ...priced }), 3);
    use(one, gatewaySeries("a", { outcome: "error", "tokenwatt.billed": "no", ...priced }), 100);
    use(one, { "tokenwatt.tenant": "a", "tokenwatt.outcome": "ok" }, 2, NOON, "tokenwatt.gateway.requests");
    use(one, { "gen_ai.request.model": "m" }, 50, NOON, "tokenwatt.tokens");
    expect(usedOf(one)).toEqual([10, 7, 3, 12.7, 10 * 0.15e-6, 2, 110]);
  });

  test("counts a quota of engines from their series alone", () => {
    const one = book([{ source: "engine", match: { model: "m" } }]);
    use(one, gatewaySeries("a"), 7);
    use(
      one,
      { "tokenwatt.server.id": "s", "gen_ai.request.model": "m", "tokenwatt.token.kind": "output" },
      5,
      NOON,
      "tokenwatt.tokens",
    );
    use(
      one,
      { "tokenwatt.server.id": "s", "gen_ai.request.model": "n", "tokenwatt.token.kind": "output" },
      9,
      NOON,
      "tokenwatt.tokens",
    );
    expect(usedOf(one)).toEqual([5]);
  });

  test("keeps every key of a wild quota apart, and folds those over keysMax into one that conserves their tokens", () => {
    const one = book([{ match: { tenant: "*" } }], { keysMax: 2 });
    for (const tenant of ["a", "b", "c", "d", "c"]) use(one, gatewaySeries(tenant), 10);
    const found = readings(one).map(({ used, values }) => [values.tenant, used]);
    expect(found).toEqual([
      ["a", 10n],
      ["b", 10n],
      ["other", 30n],
    ]);
    expect(one.takeFolded()).toBe(3);
  });

  test("gives the place of a key back that used nothing for a whole window", () => {
    const one = book([{ match: { tenant: "*" }, per: "minute" }], { keysMax: 1 });
    use(one, gatewaySeries("a"), 10);
    use(one, gatewaySeries("b"), 10, NOON + MINUTE);
    const beat = one.commit(NOON + 2 * MINUTE, () => fed);
    expect(beat.dropped).toEqual([{ quota: "q0", values: { tenant: "a" } }]);
    use(one, gatewaySeries("c"), 4, NOON + 2 * MINUTE);
    expect(readings(one, NOON + 2 * MINUTE).map(({ values }) => values.tenant)).toContain("c");
  });

  test("takes back what is voided, and never below nothing", () => {
    const one = book([{}]);
    use(one, gatewaySeries("a"), 10);
    use(one, gatewaySeries("a"), -4);
    expect(usedOf(one)).toEqual([6]);
    use(one, gatewaySeries("a"), -40);
    expect(usedOf(one)).toEqual([0]);
  });
});

describe("the state of a quota", () => {
  test("is a lower bound where the count began inside the window: over and warn, never ok", () => {
    const one = book([{ warnAt: [0.5] }]);
    expect(readings(one)[0]?.state).toBe("unknown");
    use(one, gatewaySeries("a"), 500);
    expect(readings(one)[0]?.state).toBe("warn");
    use(one, gatewaySeries("a"), 500);
    expect(readings(one)[0]?.state).toBe("over");
    expect(readings(one, NOON + 3_600_000)[0]?.state).toBe("ok");
  });

  test("is unknown, with no value, where no feed and no call says anything: never 0", () => {
    const [reading] = readings(book([{}]), NOON, false);
    expect(reading).toMatchObject({ used: undefined, method: "none", state: "unknown" });
    expect(readings(book([{ match: { tenant: "*" } }]), NOON, false)).toHaveLength(1);
  });

  test("is set from the larger of ledger and calls, never from their sum, and the drift is told", () => {
    const one = book([{}]);
    use(one, gatewaySeries("a"), 100);
    const counter = [...(one.usages[0]?.counters ?? [])][0];
    counter?.addRls(NOON, 60n);
    expect(readings(one)[0]).toMatchObject({ used: 100n, drift: -40n, method: "ledger" });
    counter?.addRls(NOON, 60n);
    expect(readings(one)[0]).toMatchObject({ used: 120n, drift: 20n, method: "rls" });
  });

  test("is on record once a window and state, and not for every return to ok", () => {
    const one = book([{ per: "minute", limit: 10 }]);
    const bodies = (at: number): readonly unknown[] =>
      auditBodies(one.commit(at, () => fed).transitions).map(({ from, to, window }) => [from, to, window]);
    use(one, gatewaySeries("a"), 10);
    expect(bodies(NOON)).toEqual([["unknown", "over", "2026-12-01T12:00:00.000Z"]]);
    expect(bodies(NOON + 1)).toEqual([]);
    expect(bodies(NOON + MINUTE)).toEqual([]);
    use(one, gatewaySeries("a"), 10, NOON + MINUTE);
    expect(bodies(NOON + MINUTE)).toEqual([["ok", "over", "2026-12-01T12:01:00.000Z"]]);
    // The next window is over in its first beat: no beat between the two saw it empty.
    use(one, gatewaySeries("a"), 10, NOON + 2 * MINUTE);
    expect(bodies(NOON + 2 * MINUTE)).toEqual([["ok", "over", "2026-12-01T12:02:00.000Z"]]);
    expect(bodies(NOON + 2 * MINUTE + 1)).toEqual([]);
  });
});

describe("PolicyBook over restarts and other policies", () => {
  function rowsOf(one: PolicyBook, at = NOON): readonly StateRow[] {
    one.commit(at, () => fed);
    return one.takeRows(true);
  }

  test("continues every counter, and repeats no transition", () => {
    const policy = policyWith([{ match: { tenant: "*" }, per: "minute" }]);
    const one = new PolicyBook(policy, NOON - MINUTE);
    use(one, gatewaySeries("a"), 1200);
    const again = new PolicyBook(policy, NOON + 1000, rowsOf(one));
    const beat = again.commit(NOON + 1000, () => fed);
    expect(beat.transitions).toEqual([]);
    expect(beat.readings[0]).toMatchObject({ used: 1200n, state: "over", isComplete: true });
  });

  test("goes on counting under another limit, and begins from the ledger where another thing is counted", () => {
    const one = book([{}]);
    use(one, gatewaySeries("a"), 10);
    const rows = rowsOf(one);
    const wider = new PolicyBook(policyWith([{ limit: 5 }]), NOON, rows);
    expect(readings(wider)[0]).toMatchObject({ used: 10n, state: "over" });
    const other = new PolicyBook(policyWith([{ outcomes: "all" }]), NOON, rows);
    expect(readings(other)[0]?.used).toBe(0n);
    expect(other.seeds().map(({ fromMillis }) => fromMillis)).toEqual([NOON]);
  });

  test("reads a window that began before its count from the ledger, and counts on what is booked meanwhile", () => {
    const one = book([{ match: { tenant: "*" } }]);
    use(one, gatewaySeries("a"), 10);
    one.commit(NOON, () => fed);
    use(one, gatewaySeries("a"), 5);
    use(one, gatewaySeries("b"), 3);
    const [seed] = one.seeds();
    if (seed === undefined) throw new Error("no seed");
    const rows = [
      ["tokenwatt.gateway.tokens", gatewaySeries("a"), 700n],
      ["tokenwatt.gateway.tokens", gatewaySeries("a", { outcome: "error" }), 9000n],
      ["tokenwatt.gateway.tokens", gatewaySeries("c"), 1n],
    ] as const;
    one.seed(seed, rows, true);
    const found = readings(one).map(({ state, used, values }) => [values.tenant, used, state]);
    expect(found).toEqual([
      ["a", 705n, "ok"],
      ["b", 3n, "ok"],
      ["c", 1n, "ok"],
    ]);
    expect(one.seeds()).toEqual([]);
  });

  test("knows nothing for certain of a ledger that is a copy until the window ends", () => {
    const rows = rowsOf(book([{}]));
    const one = new PolicyBook(policyWith([{}]), NOON, rows, false);
    expect(readings(one)[0]?.state).toBe("unknown");
    expect(readings(one, NOON + 3_600_000)[0]?.state).toBe("ok");
  });
});
