// The law of two feeds: requests are charged by calls and booked by a feed that falls silent and comes back, over the edges
// of windows and restarts of the agent. Used never falls inside a window and counts no request twice, nor in two windows
// where calls had counted it; what is exported as charged, by either, is each request once.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { PolicyBook } from "../../agent/policy/book.ts";
import { SILENT_MS } from "../../agent/policy/bridge.ts";
import { windowAt } from "../../agent/policy/windows.ts";
import { fed, gatewaySeries, policyWith } from "./fixtures.ts";

const EDGE = Date.parse("2026-12-01T12:00:00Z");
const [POLL_MS, BEATS] = [5000, 2];
const series = gatewaySeries("a");

const step = fc.record({
  act: fc.constantFrom("request", "request", "request", "down", "up", "restart", "restart"),
  amount: fc.integer({ min: 1, max: 500 }),
  ms: fc.oneof(
    fc.integer({ min: 0, max: 20_000 }),
    fc.integer({ min: 0, max: 200_000 }),
    fc.integer({ min: 0, max: 900_000 }),
  ),
});

interface Request {
  readonly amount: number;
  readonly window: number;
  /** Calls count for it: the feed was silent when it was not there yet. */
  bridged: boolean;
}

/** A gateway, its feed and its calls, and what should be said of them. */
class World {
  #book = new PolicyBook(policyWith([{ match: { tenant: "a" } }]), EDGE - 3_700_000);
  /** `failing`: a page that cannot be read; otherwise one that nothing is pushed to. */
  readonly #isFailing: boolean;
  #at: number;
  #downSince: number | undefined;
  #missing: Request[] = [];
  #truth = new Map<number, number>();
  #called = new Map<number, number>();
  /** What the ledger books in a window of usage before it, while calls did not count for it. */
  #tails = new Map<number, number>();
  #seen = new Map<number, bigint>();
  #total = 0;
  #booked = 0;
  #charged = 0;

  constructor(isFailing: boolean, beforeEdgeMs: number) {
    this.#isFailing = isFailing;
    this.#at = EDGE - beforeEdgeMs;
    this.#beat();
  }

  take({ act, amount, ms }: { act: string; amount: number; ms: number }): void {
    for (let left = ms; left > 0; left -= POLL_MS) this.#pass(Math.min(left, POLL_MS));
    if (act === "down") this.#downSince ??= this.#at;
    else if (act === "up") this.#downSince = undefined;
    else if (act === "restart") this.#restart();
    else this.#request(amount);
  }

  /** The feed comes back, and everything is there. */
  end(): void {
    this.#downSince = undefined;
    for (let round = 0; round < 6; round++) this.#pass(POLL_MS);
    expect(this.#booked).toBe(this.#total);
    expect(this.#charged).toBe(this.#total);
  }

  #request(amount: number): void {
    const window = windowAt(this.#at, "hour", "UTC").from;
    const [usage] = this.#book.usages;
    usage?.counterOf({}).counter.addRls(window, BigInt(amount), this.#at);
    this.#missing.push({ amount, window, bridged: this.#isSilent() });
    add(this.#truth, window, amount);
    add(this.#called, window, amount);
    this.#total += amount;
  }

  #pass(ms: number): void {
    this.#at += ms;
    if (this.#downSince === undefined) this.#poll();
    if (Math.floor(this.#at / POLL_MS) % BEATS === 0) this.#beat();
  }

  #poll(): void {
    const window = windowAt(this.#at, "hour", "UTC").from;
    const amount = this.#missing.reduce((sum, one) => sum + one.amount, 0);
    for (const one of this.#missing) {
      if (!one.bridged && one.window !== window) add(this.#tails, window, one.amount);
    }
    this.#missing = [];
    if (amount === 0) return;
    this.#booked += amount;
    const movement = { metric: "tokenwatt.gateway.tokens", dimensions: series, atMillis: this.#at };
    this.#book.book({ ...movement, amount, own: false });
  }

  #isSilent(): boolean {
    return this.#missing.some(({ bridged }) => bridged);
  }

  #beat(): void {
    const failingSince = this.#isFailing ? this.#downSince : undefined;
    const [reading] = this.#book.commit(this.#at, () => ({ ...fed, failingSince })).readings;
    if (reading === undefined) throw new Error("no reading");
    const { isComplete, method, silentSince, state, used = 0n, window } = reading;
    if (silentSince !== undefined) for (const one of this.#missing) one.bridged = true;
    if (failingSince !== undefined && this.#at - failingSince >= SILENT_MS) {
      expect(silentSince).toBe(failingSince);
      if (!this.#called.has(window.from)) expect([isComplete, state === "ok"]).toEqual([false, false]);
      else expect(method).toBe("rls");
    }
    expect(used).toBeGreaterThanOrEqual(this.#seen.get(window.from) ?? 0n);
    this.#seen.set(window.from, used);
    const truth = this.#truth.get(window.from) ?? 0;
    expect(Number(used)).toBeGreaterThanOrEqual(truth);
    expect(Number(used)).toBeLessThanOrEqual(truth + (this.#tails.get(window.from) ?? 0));
    for (const counter of this.#book.usages[0]?.counters ?? []) {
      for (const by of ["ledger", "rls"] as const) this.#charged += counter.takeCharged(1n, by);
    }
    expect(this.#charged).toBeLessThanOrEqual(this.#total);
    expect(this.#charged).toBeGreaterThanOrEqual(this.#booked);
  }

  /** Stopped and started again: what was known at its last beat goes on. */
  #restart(): void {
    this.#beat();
    this.#book = new PolicyBook(this.#book.policy, this.#at, this.#book.takeRows(true));
  }
}

function add(to: Map<number, number>, key: number, amount: number): void {
  to.set(key, (to.get(key) ?? 0) + amount);
}

describe("a counter that calls charge and a feed books", () => {
  test("never falls in its window, and counts no request twice while the feed is silent and once it is back", () => {
    fc.assert(
      fc.property(
        fc.boolean(),
        fc.integer({ min: 0, max: 400_000 }),
        fc.array(step, { minLength: 1, maxLength: 30 }),
        (isFailing, beforeEdgeMs, steps) => {
          const world = new World(isFailing, beforeEdgeMs);
          for (const one of steps) world.take(one);
          world.end();
        },
      ),
      { numRuns: 250 },
    );
  });

  test("is known by calls once a call waits for the feed for five minutes, and by the ledger when that is back", () => {
    const book = new PolicyBook(policyWith([{ match: { tenant: "a" } }]), EDGE - 3_600_000);
    const movement = { metric: "tokenwatt.gateway.tokens", dimensions: series, own: false };
    const read = (at: number) => book.commit(at, () => fed).readings[0];
    book.book({ ...movement, amount: 100, atMillis: EDGE });
    read(EDGE);
    const [counter] = [...(book.usages[0]?.counters ?? [])];
    counter?.addRls(EDGE, 30n, EDGE + 1000);
    expect(read(EDGE + 60_000)).toMatchObject({ method: "ledger", state: "ok", silentSince: undefined });
    const silent = { method: "rls", used: 100n, state: "unknown", silentSince: EDGE + 1000, drift: -70n };
    expect(read(EDGE + 1000 + SILENT_MS)).toMatchObject(silent);
    counter?.addRls(EDGE, 90n, EDGE + 400_000);
    expect(read(EDGE + 400_000)).toMatchObject({ method: "rls", used: 120n, state: "ok" });
    book.book({ ...movement, amount: 130, atMillis: EDGE + 410_000 });
    expect(read(EDGE + 410_000)).toMatchObject({ method: "ledger", used: 230n, silentSince: undefined });
    expect([counter?.takeCharged(1n, "ledger"), counter?.takeCharged(1n, "rls")]).toEqual([110, 120]);
  });
});
