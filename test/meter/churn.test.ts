// What the books hold in memory of tenants that come once: counted as objects, after a collection of garbage.
// It follows the tenants of the last minutes, not those of the bucket or of the day.
import { queryObjects } from "node:v8";
import { describe, expect, it } from "vitest";
import { Books } from "../../agent/meter/books.ts";
import { CustomerSets } from "../../agent/meter/customer-sets.ts";
import { Series } from "../../agent/meter/ledger/series.ts";
import { factsOf, intervalOf, moved, SECOND, START, unixNanos } from "./fixtures.ts";

const BEAT = 10;
const PER_BEAT = 20;
/** Names rest after two minutes and are looked for twice a minute; sets leave after one to two minutes. */
const MINUTES_AWAKE = 3;
const facts = factsOf({ gateway: true });

/** Books after `minutes` in which every beat had tenants of its own; each used something `once`. */
function churned(minutes: number, once: (books: Books, tenant: string, seconds: number) => void): Books {
  const books = new Books({ start: START, unixNanos });
  for (let seconds = 0; seconds < minutes * 60; seconds += BEAT) {
    const end = seconds + BEAT;
    for (let n = 0; n < PER_BEAT; n++) once(books, `tenant ${seconds} ${n}`, end);
    books.bookInterval(intervalOf({ from: seconds, to: end, seconds: { parked: BEAT } }), facts);
    books.commit(unixNanos(end * SECOND), end * SECOND);
  }
  return books;
}

const tenantsAwake = (MINUTES_AWAKE * 60 * PER_BEAT) / BEAT;

describe("Books, of tenants that come once", () => {
  it("hold as objects those of the last minutes, whose usage came request by request", () => {
    const books = churned(14, (all, tenant, seconds) => {
      const piece = { model: "m", tenant, outcome: "ok", tokens: { output: 7 }, requests: 1 } as const;
      all.postUsage("g", [piece], facts, seconds * SECOND);
    });
    const tenants = (14 * 60 * PER_BEAT) / BEAT;
    expect(books.ledger.state().series.filter(({ role }) => role === "kept").length).toBeGreaterThan(tenants);
    expect(queryObjects(CustomerSets, { format: "count" })).toBeLessThan(tenantsAwake);
    expect(queryObjects(Series, { format: "count" })).toBeLessThan(3 * tenantsAwake);
  });
  it("hold as objects those of the last minutes, latencies included, that a gateway's page named", () => {
    const latencies = { request_duration: { bounds: [1, 2], counts: [1, 2, 0], sum: 3.5, count: 3 } };
    const books = churned(14, (all, tenant, seconds) => {
      const one = { server: "g", family: "gateway", tenant, tokens: { output: 7 }, latencies } as const;
      const increments = [moved({ ...one, requests: { ok: 1 } })];
      all.bookInterval(intervalOf({ from: seconds, to: seconds, increments }), facts);
    });
    const tenants = (14 * 60 * PER_BEAT) / BEAT;
    const kept = books.ledger.state().series.filter(({ role }) => role === "kept");
    expect(kept.filter(({ total }) => typeof total !== "string").length).toBe(tenants);
    expect(queryObjects(CustomerSets, { format: "count" })).toBeLessThan(tenantsAwake);
    expect(queryObjects(Series, { format: "count" })).toBeLessThan(4 * tenantsAwake);
  });
});
