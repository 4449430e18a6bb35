// books.ts with ledger/buckets.ts and money/tenants.ts: buckets sum to totals, shares to what is shared, residuals are told.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { BookFacts, BooksOptions } from "../../agent/meter/books.ts";
import { Books } from "../../agent/meter/books.ts";
import type { BucketRow, LedgerBatch, LedgerSnapshot, TokenIncrement } from "../../agent/model.ts";
import { rowsOf } from "../../agent/store/ledger/batch-columns.ts";
import { catalogueOf } from "../fakes/catalogue.ts";
import { factsOf, intervalOf, moved, SECOND, START, unixNanos } from "./fixtures.ts";

const catalogue = catalogueOf({
  version: "v",
  currency: "USD",
  gpus: [{ gpu: "H100", pricePerGpuHour: 3 }],
});
const gatewayFacts = factsOf({ gateway: true });

function booksOf(more: Partial<BooksOptions> = {}): Books {
  return new Books({ start: START, unixNanos, ...more });
}
function postBucket(
  books: Books,
  from: number,
  increments: readonly TokenIncrement[],
  facts: BookFacts = gatewayFacts,
): void {
  const seconds = { token_active: 600, parked: 300 };
  books.bookInterval(
    intervalOf({ from, to: from + 900, seconds, joules: { token_active: 3001, parked: 300 }, increments }),
    facts,
  );
}
function commit(books: Books, seconds: number): { snapshot: LedgerSnapshot; batch: LedgerBatch } {
  return books.commit(unixNanos(seconds * SECOND), seconds * SECOND);
}
function totals(snapshot: LedgerSnapshot, metric: string, key?: string): Record<string, bigint> {
  const sums: Record<string, bigint> = {};
  for (const point of snapshot.points) {
    if (point.metric !== metric) continue;
    const name = key === undefined ? "all" : (point.dimensions[key] ?? "");
    sums[name] = (sums[name] ?? 0n) + (point.value as bigint);
  }
  return sums;
}
const fromGateway = (
  tenant: string,
  tokens: TokenIncrement["tokens"],
  more: Partial<TokenIncrement> = {},
): TokenIncrement => moved({ server: "g", family: "gateway", tenant, tokens, ...more });

describe("Books.noteAudit()", () => {
  it("keeps room for others beside what callers bring about, and says how many entries it left out", () => {
    const books = booksOf();
    for (let n = 0; n < 5000; n++) books.noteAudit(n % 2 === 0 ? "conflict" : "correction", n, { record: n });
    books.noteAudit("config", 5000, { changed: ["prices"] });
    const { audit } = commit(books, 10).batch;
    expect(audit).toHaveLength(752);
    expect(audit.slice(-2).map(({ body, kind }) => [kind, body])).toEqual([
      ["config", { changed: ["prices"] }],
      [
        "loss",
        { why: "too many audit entries in one beat", unwritten: { conflict: 2125, correction: 2125 } },
      ],
    ]);
    expect(commit(books, 20).batch.audit).toEqual([]);
  });
});

describe("Books.commit() when a bucket closes", () => {
  it("shares GPU time, energy and cost by weighted tokens; what no gateway record explains is unattributed", () => {
    const books = booksOf({ catalogue });
    postBucket(books, 0, [
      moved({ tokens: { output: 1000, input_unsplit: 1000 } }),
      fromGateway("a", { output: 400, input_unsplit: 400 }),
      fromGateway("b", { output: 200 }),
    ]);
    const { snapshot } = commit(books, 900);
    // Weights: engine 3500, tenant a 1400, tenant b 500.
    expect(totals(snapshot, "tokenwatt.tenant.gpu_time", "tokenwatt.tenant")).toEqual({
      a: 360_000_000_000n,
      b: 128_571_428_571n,
      unattributed: 411_428_571_429n,
    });
    expect(totals(snapshot, "tokenwatt.tenant.gpu_time")).toEqual(
      totals(snapshot, "tokenwatt.server.gpu_time"),
    );
    expect(totals(snapshot, "tokenwatt.tenant.energy")).toEqual(totals(snapshot, "tokenwatt.server.energy"));
    expect(totals(snapshot, "tokenwatt.tenant.cost")).toEqual({ all: 750_000_000n });
    expect(totals(snapshot, "tokenwatt.model.gpu_time", "gen_ai.request.model")).toEqual({
      m: 900_000_000_000n,
    });
  });
  it("conserves seconds and joules for any mix of models and tenants", () => {
    const one = fc.record({
      model: fc.constantFrom("m", "n"),
      tenant: fc.option(fc.constantFrom("a", "b", "c"), { nil: undefined }),
      output: fc.nat(10_000),
      cached: fc.nat(10_000),
    });
    fc.assert(
      fc.property(fc.array(one, { maxLength: 12 }), (mix) => {
        const books = booksOf();
        postBucket(
          books,
          0,
          mix.map(({ cached, model, output, tenant }) =>
            tenant === undefined
              ? moved({ model, tokens: { output, input_cached: cached } })
              : fromGateway(tenant, { output, input_cached: cached }, { model }),
          ),
        );
        const { snapshot } = commit(books, 900);
        const seconds = totals(snapshot, "tokenwatt.server.gpu_time");
        expect(totals(snapshot, "tokenwatt.model.gpu_time")).toEqual(seconds);
        expect(totals(snapshot, "tokenwatt.model.energy")).toEqual(
          totals(snapshot, "tokenwatt.server.energy"),
        );
        const tenants = totals(snapshot, "tokenwatt.tenant.gpu_time");
        if (tenants["all"] !== undefined) expect(tenants).toEqual(seconds);
      }),
    );
  });
  it("keeps engine minus gateway by model, with what explains it", () => {
    const books = booksOf();
    postBucket(books, 0, [
      moved({ tokens: { output: 1000, input_unsplit: 3010 }, requests: { ok: 10, aborted: 5 } }),
      fromGateway(
        "a",
        { output: 900, input_unsplit: 0 },
        { requests: { ok: 9, rejected: 3 }, tokensByOutcome: { error: { output: 40 } } },
      ),
    ]);
    expect(commit(books, 900).batch.closed[0]?.figures).toEqual({
      reconciliation: [
        {
          model: "m",
          engineInput: "3010",
          engineOutput: "1000",
          gatewayInput: "0",
          gatewayOutput: "900",
          residualInput: "3010",
          residualOutput: "100",
          failedTokens: "40",
          surplusRequests: "6",
          abortedRequests: "5",
        },
      ],
    });
  });
  it("has nothing to reconcile, and no tenants, without a gateway", () => {
    const books = booksOf();
    postBucket(books, 0, [moved({ tokens: { output: 5 } })], factsOf());
    const { batch, snapshot } = commit(books, 900);
    expect(batch.closed[0]?.figures).toEqual({});
    expect(totals(snapshot, "tokenwatt.tenant.gpu_time")).toEqual({});
    expect(totals(snapshot, "tokenwatt.model.energy")).toEqual({ all: 3_301_000n });
  });
  it("says how good a bucket is", () => {
    const books = booksOf();
    books.bookInterval(
      intervalOf({ from: 0, to: 900, seconds: { unobserved: 300, free: 600 }, joules: { free: 10 } }),
      factsOf(),
    );
    expect(commit(books, 900).batch.closed).toMatchObject([
      {
        bucket: Number(START / 900_000_000_000n),
        quality: {
          observedNanos: 600_000_000_000n,
          expectedNanos: 900_000_000_000n,
          millijoules: 10_000n,
          estimatedMillijoules: 0n,
          resets: 0,
        },
      },
    ]);
  });
  it("bounds the requests that met an objective", () => {
    const books = booksOf({ objectives: [{ name: "fast", seconds: { time_to_first_token: 0.2 } }] });
    const time_to_first_token = { bounds: [0.1, 0.3], counts: [7, 2, 1], sum: 2, count: 10 };
    postBucket(books, 0, [moved({ latencies: { time_to_first_token } })], factsOf());
    const { snapshot } = commit(books, 900);
    expect(totals(snapshot, "tokenwatt.slo.met_requests_min")).toEqual({ all: 7n });
    expect(totals(snapshot, "tokenwatt.slo.met_requests_max")).toEqual({ all: 9n });
  });
});

describe("Books over time", () => {
  it("has rows whose latest form sums to the totals, for any beats and restarts, in buckets half-open at their end", () => {
    const step = fc.record({
      seconds: fc.integer({ min: 1, max: 1200 }),
      tokens: fc.nat(1000),
      restart: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 20 }), (steps) => {
        const rows = new Map<string, BucketRow>();
        let [books, now, truth] = [booksOf(), 0, 0n];
        for (const one of steps) {
          const increments = [moved({ tokens: { output: one.tokens } })];
          books.bookInterval(intervalOf({ from: now, to: now + one.seconds, increments }), factsOf());
          now += one.seconds;
          truth += BigInt(one.tokens);
          const { batch } = commit(books, now);
          for (const row of rowsOf(batch)) rows.set(`${row.bucket} ${row.series}`, row);
          for (const row of rowsOf(batch))
            expect(unixNanos(now * SECOND) > BigInt(row.bucket) * 900_000_000_000n).toBe(true);
          if (!one.restart) continue;
          const open = [...rows.values()].filter(
            (row) => !batch.closed.some((closed) => closed.bucket >= row.bucket),
          );
          const newest = BigInt(batch.time) / 900_000_000_000n;
          const restored = {
            ...books.ledger.state(),
            state: batch.state,
            rows: open.filter((row) => BigInt(row.bucket) >= newest),
          };
          books = new Books({ start: unixNanos(now * SECOND), unixNanos }, restored);
        }
        let sum = 0n;
        const all = books.ledger.state().series.filter((one) => one.metric === "tokenwatt.tokens");
        // Exported under one name, kept by the ledger under another that may hold a price.
        const [exported, state] = ["exported", "kept"].map((role) => all.find((one) => one.role === role));
        expect(exported?.total).toBe(state?.total);
        for (const row of rows.values()) if (row.series === state?.series) sum += row.amount as bigint;
        expect(sum).toBe(truth);
        expect(BigInt((state?.total as string | undefined) ?? "0")).toBe(truth);
      }),
    );
  });
  it("books what ends before a closed bucket's end in the bucket after it: a sealed one takes nothing", () => {
    const books = booksOf();
    postBucket(books, 0, [moved({ tokens: { output: 5 } })]);
    commit(books, 900);
    postBucket(books, 0, [moved({ tokens: { output: 7 } })]);
    const rows = [...rowsOf(commit(books, 900).batch)].filter((row) => row.amount === 7n);
    expect(rows.map((row) => row.bucket)).toEqual([Number(START / 900_000_000_000n) + 1]);
  });
  it("keeps restarts it saw in the record, once", () => {
    const books = booksOf();
    postBucket(books, 0, [moved({ resets: 1 }), fromGateway("a", {}, { resets: 2, late: true })]);
    expect(commit(books, 10).batch.audit).toMatchObject([
      { kind: "reset", body: { server: "s", models: ["m"] } },
    ]);
    expect(commit(books, 20).batch.audit).toEqual([]);
  });
  it("prices from the instant a new catalogue is set, and says so", () => {
    const books = booksOf({ catalogue });
    postBucket(books, 0, []);
    const dearer = catalogueOf({
      version: "w",
      currency: "USD",
      gpus: [{ gpu: "H100", pricePerGpuHour: 6 }],
    });
    books.setCatalogue(dearer, 900 * SECOND);
    postBucket(books, 900, []);
    const { batch, snapshot } = commit(books, 1800);
    expect(totals(snapshot, "tokenwatt.cost", "tokenwatt.price.version")).toEqual({
      v: 750_000_000n,
      w: 1_500_000_000n,
    });
    expect(batch.audit).toMatchObject([{ kind: "price", body: { before: "v", after: "w" } }]);
  });
  it("begins every series anew, and says so, when the stored time is over ten minutes ahead of the clock", () => {
    const books = booksOf();
    postBucket(books, 0, [moved({ tokens: { output: 5 } })]);
    const { batch } = commit(books, 900);
    const restored = { ...books.ledger.state(), state: batch.state, rows: [] };
    const back = new Books(
      { start: START - 3_600_000_000_000n, unixNanos: (at) => START - 3_600_000_000_000n + BigInt(at) },
      restored,
    );
    back.bookInterval(
      intervalOf({ from: 0, to: 1, increments: [moved({ tokens: { output: 2 } })] }),
      factsOf(),
    );
    const beat = back.commit(START - 3_599_000_000_000n, SECOND);
    expect(totals(beat.snapshot, "tokenwatt.tokens")).toEqual({ all: 2n });
    expect(beat.snapshot.points[0]).toMatchObject({ isNew: true, start: START - 3_600_000_000_000n });
    expect(beat.batch.audit).toMatchObject([{ kind: "clock_step" }]);
  });
});
