// ledger.ts: totals never fall, start times are those of METERING.md 5, snapshots never change, folding loses nothing.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { LedgerOptions, LedgerState } from "../../../agent/meter/ledger/ledger.ts";
import { Ledger } from "../../../agent/meter/ledger/ledger.ts";
import type { Gauge, LedgerPoint, LedgerSnapshot, Posting } from "../../../agent/model.ts";

const START = 1_700_000_000_000_000_000n;
const SECOND = 1e9;
const clock = { unixNanos: (at: number): bigint => START + BigInt(at) };
const at = (seconds: number): bigint => clock.unixNanos(seconds * SECOND);

function ledgerOf(options: Partial<LedgerOptions> = {}, state?: LedgerState): Ledger {
  return new Ledger(START, { unixNanos: clock.unixNanos, ...options }, state);
}
function commit(ledger: Ledger, seconds: number): LedgerSnapshot {
  return ledger.commit(at(seconds), seconds * SECOND);
}
function tokens(server: string, amount: number): Posting {
  return { metric: "tokenwatt.tokens", dimensions: { "tokenwatt.server.id": server }, amount };
}
function find(snapshot: LedgerSnapshot, server: string): LedgerPoint | undefined {
  return snapshot.points.find((point) => point.dimensions["tokenwatt.server.id"] === server);
}
const gauge = (seconds: number, value: number): Gauge => ({
  metric: "hw.power",
  dimensions: { "hw.id": "g" },
  value,
  at: seconds * SECOND,
  everyMs: 1000,
});

describe("Ledger.commit()", () => {
  it("starts the first series at the agent's start and later ones at the end of the last committed interval", () => {
    const ledger = ledgerOf();
    ledger.bookPostings([tokens("a", 5)], 1 * SECOND);
    const first = commit(ledger, 10);
    ledger.bookPostings([tokens("b", 7)], 15 * SECOND);
    const second = commit(ledger, 20);
    expect(find(first, "a")).toMatchObject({ start: START, time: at(10), value: 5n, isNew: true });
    expect(find(second, "a")).toMatchObject({ start: START, time: at(20), value: 5n, isNew: false });
    expect(find(second, "b")).toMatchObject({ start: at(10), time: at(20), value: 7n, isNew: true });
  });
  it("finds a series whatever the order of its attributes", () => {
    const ledger = ledgerOf();
    ledger.bookPostings([{ metric: "m", dimensions: { a: "1", b: "2" }, amount: 1 }], SECOND);
    ledger.bookPostings([{ metric: "m", dimensions: { b: "2", a: "1" }, amount: 2 }], SECOND);
    expect(commit(ledger, 10).points).toMatchObject([{ value: 3n }]);
  });
  it("keeps totals exact beyond 2^53", () => {
    const ledger = ledgerOf();
    const most = Number.MAX_SAFE_INTEGER;
    for (let i = 0; i < 5; i++) ledger.bookPostings([tokens("a", most), tokens("a", 1)], SECOND);
    ledger.bookPostings([tokens("b", 2 ** 52), tokens("b", most)], SECOND);
    const snapshot = commit(ledger, 10);
    expect(find(snapshot, "a")?.value).toBe(5n * (BigInt(most) + 1n));
    expect(find(snapshot, "b")?.value).toBe(2n ** 52n + BigInt(most));
  });
  it.each([-1, 0.5, Number.NaN, 2 ** 53])("refuses to book %d", (amount) => {
    expect(() => ledgerOf().bookPostings([tokens("a", amount)], SECOND)).toThrow(
      /tokenwatt\.tokens.*integer/,
    );
  });
  it("never lets a snapshot change afterwards", () => {
    const ledger = ledgerOf();
    const histogram = { bounds: [1], counts: [1, 0], sum: 0.5, count: 1 };
    const latency = { metric: "l", dimensions: {}, histogram };
    ledger.bookPostings([tokens("a", 5), latency], SECOND);
    const before = commit(ledger, 10);
    const copy = structuredClone(before.points);
    ledger.bookPostings([tokens("a", 5), tokens("b", 1), latency], 11 * SECOND);
    ledger.endWhere(() => true);
    commit(ledger, 20);
    expect(before.points).toEqual(copy);
  });
  it("never lets the time of a series go back, or its start reach its time", () => {
    const ledger = ledgerOf();
    commit(ledger, 20);
    ledger.bookPostings([tokens("a", 5)], 12 * SECOND);
    const point = find(commit(ledger, 12), "a");
    expect(point?.time).toBeGreaterThan(at(20));
    expect((point?.start ?? 0n) + 1_000_000n).toBeLessThan(point?.time ?? 0n);
  });
});

describe("Ledger.endWhere()", () => {
  it("ends a series once, leaves it out, and resumes it under its old start and total", () => {
    const ledger = ledgerOf();
    ledger.bookPostings([tokens("a", 5), tokens("b", 1)], SECOND);
    commit(ledger, 10);
    ledger.endWhere((dimensions) => dimensions["tokenwatt.server.id"] === "a");
    expect(find(commit(ledger, 20), "a")).toMatchObject({ ended: true, value: 5n });
    expect(find(commit(ledger, 30), "a")).toBeUndefined();
    ledger.bookPostings([tokens("a", 2)], 35 * SECOND);
    expect(find(commit(ledger, 40), "a")).toMatchObject({
      ended: false,
      isNew: false,
      start: START,
      value: 7n,
    });
  });
  it("forgets an ended series after 35 days and gives a later one a new start", () => {
    const ledger = ledgerOf();
    const day = 86_400;
    ledger.bookPostings([tokens("a", 5)], SECOND);
    commit(ledger, 10);
    ledger.endWhere(() => true);
    commit(ledger, 20);
    ledger.takeChanges();
    commit(ledger, 34 * day);
    expect(ledger.size).toBe(1);
    commit(ledger, 36 * day);
    expect(ledger.size).toBe(0);
    expect(ledger.takeChanges().removed).toHaveLength(1);
    ledger.bookPostings([tokens("a", 1)], (36 * day + 5) * SECOND);
    expect(find(commit(ledger, 36 * day + 10), "a")).toMatchObject({
      isNew: true,
      start: at(36 * day),
      value: 1n,
    });
  });
});

describe("Ledger.observe()", () => {
  it("shows the last value, and ends a gauge that is older than three of its periods", () => {
    const ledger = ledgerOf();
    ledger.observe(gauge(1, 100));
    ledger.observe(gauge(2, 200));
    ledger.observe(gauge(1.5, 150));
    expect(commit(ledger, 5).points).toMatchObject([{ value: 200, start: 0n, isNew: false, ended: false }]);
    expect(commit(ledger, 6).points).toMatchObject([{ ended: true }]);
    expect(commit(ledger, 7).points).toEqual([]);
    ledger.observe(gauge(8, 1));
    expect(commit(ledger, 8).points).toMatchObject([{ value: 1, ended: false }]);
  });
});

describe("Ledger with histograms", () => {
  const posting = (bounds: number[], counts: number[]) => ({
    metric: "l",
    dimensions: {},
    histogram: { bounds, counts, sum: 1, count: counts.reduce((sum, count) => sum + count, 0) },
  });
  it("adds them bucket by bucket and begins anew when the bounds changed for good", () => {
    const ledger = ledgerOf();
    ledger.bookPostings([posting([1], [1, 2]), posting([1], [3, 0])], SECOND);
    expect(commit(ledger, 10).points[0]?.value).toMatchObject({ counts: [4, 2], sum: 2, count: 6 });
    commit(ledger, 20);
    ledger.bookPostings([posting([5], [1, 0])], 25 * SECOND);
    expect(commit(ledger, 30).points[0]).toMatchObject({
      isNew: true,
      start: at(20),
      value: { counts: [1, 0] },
    });
  });
  it("drops and counts what a second source of other bounds posts to a live series", () => {
    const ledger = ledgerOf();
    ledger.bookPostings([posting([1], [1, 2])], SECOND);
    commit(ledger, 10);
    ledger.bookPostings([posting([1], [1, 0]), posting([5], [4, 0])], 15 * SECOND);
    const points = commit(ledger, 20).points;
    expect(points.find((point) => point.metric === "l")?.value).toMatchObject({ counts: [2, 2] });
    expect(points.find((point) => point.metric === "tokenwatt.dropped")?.value).toBe(4n);
  });
});

describe("Ledger over a cap", () => {
  const gateway = (tenant: string, amount: number): Posting => ({
    metric: "tokenwatt.gateway.tokens",
    dimensions: { "tokenwatt.tenant": tenant, "tokenwatt.token.kind": "output" },
    amount,
  });
  const total = (snapshot: LedgerSnapshot, metric: string): bigint =>
    snapshot.points
      .filter((point) => point.metric === metric)
      .reduce((sum, point) => sum + (point.value as bigint), 0n);

  it("folds a flood of 100,000 tenants into other, conserves the tokens and counts what it folded", () => {
    const ledger = ledgerOf({ tenantsMax: 100, tenants: ["vip"] });
    ledger.bookPostings(
      Array.from({ length: 100_000 }, (_, index) => gateway(`t${index}`, 3)),
      SECOND,
    );
    ledger.bookPostings([gateway("vip", 5)], SECOND);
    const snapshot = commit(ledger, 10);
    expect(snapshot.points).toHaveLength(103);
    expect(total(snapshot, "tokenwatt.gateway.tokens")).toBe(300_005n);
    expect(total(snapshot, "tokenwatt.series.folded")).toBe(99_900n);
    expect(snapshot.points.find((point) => point.dimensions["tokenwatt.tenant"] === "vip")?.value).toBe(5n);
    expect(snapshot.points.find((point) => point.dimensions["tokenwatt.tenant"] === "other")?.value).toBe(
      299_700n,
    );
  });
  it("gives a tenant's place to another once its series rest, when the bucket ends", () => {
    const ledger = ledgerOf({ tenantsMax: 1 });
    ledger.bookPostings([gateway("a", 1)], SECOND);
    commit(ledger, 10);
    ledger.endIdle(at(11), () => false);
    ledger.bookPostings([gateway("b", 2)], 15 * SECOND);
    commit(ledger, 20);
    commit(ledger, 910);
    ledger.bookPostings([gateway("c", 4)], 915 * SECOND);
    ledger.bookPostings([gateway("a", 8)], 916 * SECOND);
    const { points } = commit(ledger, 920);
    const shown = points.map(({ dimensions, value }) => [dimensions["tokenwatt.tenant"], value]);
    expect(shown).toContainEqual(["c", 4n]);
    expect(shown).toContainEqual(["other", 10n]);
  });
  it("gives up series that ended before it folds live ones", () => {
    const ledger = ledgerOf({ seriesMax: 10 });
    const servers = (from: number): Posting[] =>
      Array.from({ length: 10 }, (_, n) => tokens(`s${from + n}`, 1));
    ledger.bookPostings(servers(0), SECOND);
    commit(ledger, 10);
    ledger.endWhere(() => true);
    commit(ledger, 20);
    ledger.takeChanges();
    commit(ledger, 1900);
    ledger.bookPostings(servers(100).slice(0, 1), 1905 * SECOND);
    const snapshot = commit(ledger, 1910);
    expect(snapshot.points).toMatchObject([{ dimensions: { "tokenwatt.server.id": "s100" }, isNew: true }]);
    expect(ledger.takeChanges().removed).toHaveLength(1);
    expect(ledger.size).toBe(10);
  });
  it("counts a folded point each time, also when the same attribute object comes again", () => {
    const ledger = ledgerOf({ tenantsMax: 1 });
    const [first, second] = [gateway("a", 1), gateway("b", 1)];
    ledger.bookPostings([first, second, second], SECOND);
    ledger.bookPostings([second], SECOND);
    expect(total(commit(ledger, 10), "tokenwatt.series.folded")).toBe(3n);
  });
  it("conserves every metric under any cap", () => {
    const posting = fc.record({
      metric: fc.constantFrom("a", "b"),
      server: fc.nat(30),
      state: fc.constantFrom("x", "y"),
      amount: fc.nat(1000),
    });
    fc.assert(
      fc.property(
        fc.array(posting, { maxLength: 200 }),
        fc.integer({ min: 1, max: 20 }),
        (postings, seriesMax) => {
          const ledger = ledgerOf({ seriesMax });
          ledger.bookPostings(
            postings.map((one) => ({
              metric: one.metric,
              dimensions: { "tokenwatt.server.id": `s${one.server}`, "tokenwatt.gpu.state": one.state },
              amount: one.amount,
            })),
            SECOND,
          );
          const snapshot = commit(ledger, 10);
          for (const metric of ["a", "b"]) {
            const truth = postings
              .filter((one) => one.metric === metric)
              .reduce((sum, one) => sum + one.amount, 0);
            expect(total(snapshot, metric)).toBe(BigInt(truth));
          }
          // Over the cap only the folded forms of what is posted appear: 2 metrics x 2 states, and the counter of folds.
          expect(ledger.size).toBeLessThanOrEqual(seriesMax + 5);
        },
      ),
    );
  });
});

describe("Ledger by property", () => {
  const step = fc.oneof(
    fc.record({
      post: fc.array(fc.tuple(fc.constantFrom("a", "b", "c"), fc.nat(1_000_000)), { maxLength: 5 }),
    }),
    fc.record({ end: fc.constantFrom("a", "b", "c") }),
    fc.record({ restart: fc.constant(true) }),
  );
  it("continues totals and starts over any number of restarts; totals never fall and nothing is lost", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 50 }), (steps) => {
        let ledger = ledgerOf();
        const truth = new Map<string, bigint>();
        const seen = new Map<string, LedgerPoint>();
        for (const [index, one] of steps.entries()) {
          const seconds = (index + 1) * 10;
          if ("post" in one) {
            ledger.bookPostings(
              one.post.map(([server, amount]) => tokens(server, amount)),
              (seconds - 1) * SECOND,
            );
            for (const [server, amount] of one.post)
              truth.set(server, (truth.get(server) ?? 0n) + BigInt(amount));
          } else if ("end" in one) {
            ledger.endWhere((dimensions) => dimensions["tokenwatt.server.id"] === one.end);
          } else {
            ledger = ledgerOf({}, JSON.parse(JSON.stringify(ledger.state())));
          }
          for (const point of commit(ledger, seconds).points) {
            const server = point.dimensions["tokenwatt.server.id"] ?? "";
            const last = seen.get(server);
            expect(point.value).toBe(truth.get(server));
            if (last !== undefined) {
              expect(point.start).toBe(last.start);
              expect(point.time).toBeGreaterThanOrEqual(last.time);
              expect(point.series).toBe(last.series);
            }
            seen.set(server, point);
          }
        }
      }),
    );
  });
  it("hands the store exactly the series that changed", () => {
    const ledger = ledgerOf();
    ledger.bookPostings([tokens("a", 1), tokens("b", 1)], SECOND);
    expect(ledger.takeChanges().series).toEqual([]);
    commit(ledger, 10);
    expect(ledger.takeChanges().series).toHaveLength(2);
    ledger.bookPostings([tokens("b", 1)], 11 * SECOND);
    commit(ledger, 20);
    const changes = ledger.takeChanges();
    const b = ledger.state().series.find(({ dimensions }) => dimensions["tokenwatt.server.id"] === "b");
    expect(changes).toMatchObject({ series: [], totals: { series: Float64Array.of(b?.series ?? 0) } });
    expect(changes.totals).toMatchObject({ high: Int32Array.of(0), low: Uint32Array.of(2) });
  });
  it("announces again what began in the last commit before a restart, in case nobody saw it", () => {
    const ledger = ledgerOf();
    ledger.bookPostings([tokens("a", 1)], SECOND);
    commit(ledger, 10);
    const next = ledgerOf({}, ledger.state());
    expect(find(commit(next, 20), "a")).toMatchObject({ isNew: true, start: START, value: 1n });
  });
  it("begins every series anew from zero after a step of the clock", () => {
    const ledger = ledgerOf();
    ledger.bookPostings([tokens("a", 9)], SECOND);
    commit(ledger, 10);
    ledger.startAnew(at(-3600));
    ledger.bookPostings([tokens("a", 2)], 12 * SECOND);
    expect(find(ledger.commit(at(-3590), 20 * SECOND), "a")).toMatchObject({
      isNew: true,
      start: at(-3600),
      time: at(-3590),
      value: 2n,
    });
  });
});
