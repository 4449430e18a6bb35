// The laws of quotas, against oracles: whatever is booked, killed and booked again over the edges of months and of days
// with a change of the clock, used is the sum of what lies in the window, never falls inside of it, and starts over once.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Dimensions, StateRow } from "../../agent/model.ts";
import { PolicyBook } from "../../agent/policy/book.ts";
import type { Policy } from "../../agent/policy/config.ts";
import { policyFile, policyOf } from "../../agent/policy/config.ts";
import type { WindowUnit } from "../../agent/policy/windows.ts";
import { windowAt, windowUnits } from "../../agent/policy/windows.ts";
import { fed } from "./fixtures.ts";

const HOUR = 3_600_000;
/** Instants around which windows end: months, and days of 23 and 25 hours. */
const edges = [
  ["Europe/Berlin", "2026-03-29T01:00:00Z"],
  ["Europe/Berlin", "2026-10-25T01:00:00Z"],
  ["Europe/Berlin", "2026-10-31T23:00:00Z"],
  ["Europe/Berlin", "2026-12-31T23:00:00Z"],
  ["Asia/Kathmandu", "2026-11-30T18:15:00Z"],
  ["Asia/Kathmandu", "2026-11-29T18:15:00Z"],
  ["America/Sao_Paulo", "2018-11-04T03:00:00Z"],
  // Clocks change on the last day of a month, so that a meter that adds offsets has a month of one hour.
  ["Europe/Berlin", "2024-03-31T22:00:00Z"],
  // A midnight that comes twice, and a day that never was.
  ["America/Havana", "2026-11-01T05:00:00Z"],
  ["Pacific/Apia", "2011-12-30T10:00:00Z"],
  ["Australia/Lord_Howe", "2026-04-04T15:00:00Z"],
  ["UTC", "2026-12-07T00:00:00Z"],
] as const;

function policy(zone: string, per: WindowUnit, match: Readonly<Record<string, string>>, more = {}): Policy {
  const quota = { name: "q", match, count: "tokens", limit: 1000, per, ...more };
  return policyOf(policyFile.parse({ version: "1", timeZone: zone, quotas: [quota] }), "text");
}

function series(tenant: string, kind = "output", outcome = "ok"): Dimensions {
  return {
    "tokenwatt.gateway.id": "g",
    "tokenwatt.tenant": tenant,
    "tokenwatt.endpoint": "unknown",
    "gen_ai.request.model": "m",
    "tokenwatt.token.kind": kind,
    "tokenwatt.outcome": outcome,
  };
}

/** The name of the window an instant lies in, by the zone's calendar alone. */
function nameOf(at: number, per: WindowUnit, zone: string): string {
  if (per === "minute" || per === "hour")
    return new Date(at).toISOString().slice(0, per === "hour" ? 13 : 16);
  const day = new Intl.DateTimeFormat("en-CA", { timeZone: zone, dateStyle: "short" }).format(at);
  if (per === "day") return day;
  if (per === "month") return day.slice(0, 7);
  const date = new Date(`${day}T00:00:00Z`);
  return new Date(date.getTime() - ((date.getUTCDay() + 6) % 7) * 24 * HOUR).toISOString().slice(0, 10);
}

const step = fc.record({
  /** Time goes on by so much; a long one crosses whole windows. */
  ms: fc.oneof(fc.integer({ min: 0, max: 5000 }), fc.integer({ min: 0, max: 40 * HOUR })),
  amount: fc.integer({ min: 0, max: 500 }),
  tenant: fc.constantFrom("a", "b", "c"),
  /** Usage with a time of its own, so far before or after now; undefined = with its interval. */
  ownMs: fc.option(fc.integer({ min: -3 * HOUR, max: 30_000 }), { nil: undefined }),
  act: fc.constantFrom("book", "book", "beat", "kill"),
});

describe("PolicyBook", () => {
  test("counts what lies in the window, whatever is killed: the sum of an oracle that knows the calendar alone", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...edges),
        fc.constantFrom(...windowUnits),
        fc.integer({ min: -40 * HOUR, max: 0 }),
        fc.array(step, { minLength: 1, maxLength: 40 }),
        ([zone, edge], per, before, steps) => {
          const law = new Law(policy(zone, per, { tenant: "*" }), per, zone, Date.parse(edge) + before);
          for (const one of steps) law.take(one);
        },
      ),
      { numRuns: 300 },
    );
  });

  test("begins each window once: a clock that is stepped back neither resets nor repeats one", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...edges),
        fc.constantFrom(...windowUnits),
        fc.array(fc.integer({ min: -2 * HOUR, max: 3 * HOUR }), { minLength: 1, maxLength: 40 }),
        ([zone, edge], per, steps) => {
          const book = new PolicyBook(policy(zone, per, { tenant: "a" }), Date.parse(edge) - HOUR);
          let at = Date.parse(edge) - HOUR;
          let [window, used] = [0, 0n];
          for (const ms of steps) {
            at += ms;
            book.book({
              metric: "tokenwatt.gateway.tokens",
              dimensions: series("a"),
              amount: 7,
              atMillis: at,
              own: false,
            });
            const reading = book.commit(at, () => fed).readings[0];
            expect(reading?.window.from).toBeGreaterThanOrEqual(window);
            const wanted = reading?.window.from === window ? used + 7n : 7n;
            expect(reading?.used).toBe(wanted);
            [window, used] = [reading?.window.from ?? 0, reading?.used ?? 0n];
          }
        },
      ),
      { numRuns: 200 },
    );
  });

  test("begins each window once over steps of the clock, sleep and kills together, at every edge", () => {
    const event = fc.record({
      /** Back by a step, on as time goes, and over the edge in one: a host that slept. */
      ms: fc.oneof(
        fc.integer({ min: -2 * HOUR, max: -1 }),
        fc.integer({ min: 0, max: 10_000 }),
        fc.integer({ min: 0, max: 30 * HOUR }),
      ),
      amount: fc.integer({ min: 1, max: 500 }),
      act: fc.constantFrom("book", "book", "beat", "kill"),
    });
    fc.assert(
      fc.property(
        fc.constantFrom(...edges),
        fc.constantFrom(...windowUnits),
        fc.integer({ min: -3 * HOUR, max: 0 }),
        fc.array(event, { minLength: 1, maxLength: 40 }),
        ([zone, edge], per, before, events) => {
          const law = new StepLaw(policy(zone, per, { tenant: "a" }), per, zone, Date.parse(edge) + before);
          for (const one of events) law.take(one);
          law.take({ ms: 1, amount: 1, act: "beat" });
        },
      ),
      { numRuns: 300 },
    );
  });

  test("windows meet: none overlaps, none is missing, and each is as long as its calendar says", () => {
    for (const [zone, edge] of edges) {
      for (const per of windowUnits) {
        let at = Date.parse(edge) - 26 * HOUR;
        for (let count = 0; count < 12; count++) {
          const window = windowAt(at, per, zone);
          expect(windowAt(window.to, per, zone).from).toBe(window.to);
          expect(windowAt(window.to - 1, per, zone)).toEqual(window);
          expect(nameOf(window.from, per, zone)).not.toBe(nameOf(window.from - 1, per, zone));
          at = window.to;
        }
      }
    }
  });
});

/** One quota under a clock that goes as it likes: the window of now, unless a later one was begun before. */
class StepLaw {
  readonly #policy: Policy;
  readonly #windowOf: (at: number) => number;
  #book: PolicyBook;
  #at: number;
  #now: { from: number; used: number };
  #stored: { from: number; used: number };
  #unstored: number[] = [];
  #rows = new Map<string, string>();

  constructor(policy: Policy, per: WindowUnit, zone: string, at: number) {
    this.#policy = policy;
    this.#windowOf = (instant) => windowAt(instant, per, zone).from;
    this.#at = at;
    this.#now = { from: this.#windowOf(at), used: 0 };
    this.#stored = this.#now;
    this.#book = new PolicyBook(policy, at);
    this.#beat();
  }

  take({ act, amount, ms }: { act: string; amount: number; ms: number }): void {
    this.#at += ms;
    if (act === "book") this.#deliver(amount);
    else if (act === "beat") this.#beat();
    else this.#kill();
  }

  #deliver(amount: number): void {
    const movement = { metric: "tokenwatt.gateway.tokens", dimensions: series("a"), own: false };
    this.#book.book({ ...movement, amount, atMillis: this.#at });
    this.#roll();
    this.#now = { ...this.#now, used: this.#now.used + amount };
    this.#unstored.push(amount);
  }

  #roll(): void {
    const from = this.#windowOf(this.#at);
    if (from > this.#now.from) this.#now = { from, used: 0 };
  }

  #beat(): void {
    const beat = this.#book.commit(this.#at, () => fed);
    for (const { key, value } of [...beat.rows, ...this.#book.takeRows()]) this.#rows.set(key, value);
    this.#roll();
    const [reading] = beat.readings;
    expect([reading?.window.from, Number(reading?.used)]).toEqual([this.#now.from, this.#now.used]);
    this.#stored = this.#now;
    this.#unstored = [];
  }

  /** Nothing is left but what was stored; a source delivers the rest again. */
  #kill(): void {
    const again = this.#unstored.splice(0);
    this.#book = new PolicyBook(
      this.#policy,
      this.#at,
      [...this.#rows].map(([key, value]) => ({ key, value })),
    );
    this.#now = this.#stored;
    this.#roll();
    for (const amount of again) this.#deliver(amount);
  }
}

interface Booked {
  readonly tenant: string;
  readonly amount: number;
  readonly own: boolean;
  /** The instant it counts at. */
  at: number;
}

/** One policy over many lives, and what it should say. */
class Law {
  readonly #policy: Policy;
  readonly #per: WindowUnit;
  readonly #zone: string;
  #book: PolicyBook;
  #at: number;
  #booked: Booked[] = [];
  /** Booked since the last beat: a source delivers it again after a kill, in the interval that is open then. */
  #unstored: Booked[] = [];
  #rows = new Map<string, string>();
  #seen = new Map<string, bigint>();

  constructor(policy: Policy, per: WindowUnit, zone: string, at: number) {
    this.#policy = policy;
    this.#per = per;
    this.#zone = zone;
    this.#at = at;
    this.#book = new PolicyBook(policy, at);
    this.#beat();
  }

  take({
    act,
    amount,
    ms,
    ownMs,
    tenant,
  }: {
    act: string;
    amount: number;
    ms: number;
    ownMs: number | undefined;
    tenant: string;
  }): void {
    this.#at += ms;
    if (act === "beat") this.#beat();
    else if (act === "kill") this.#kill();
    else {
      const booked = { tenant, amount, own: ownMs !== undefined, at: this.#at + (ownMs ?? 0) };
      this.#booked.push(booked);
      this.#unstored.push(booked);
      this.#deliver(booked);
    }
  }

  #deliver({ amount, at, own, tenant }: Booked): void {
    const movement = { metric: "tokenwatt.gateway.tokens", amount, atMillis: at, own };
    this.#book.book({ ...movement, dimensions: series(tenant) });
    // A request that failed counts nothing.
    this.#book.book({ ...movement, dimensions: series(tenant, "input_cached", "error") });
  }

  #kill(): void {
    const rows: StateRow[] = [...this.#rows].map(([key, value]) => ({ key, value }));
    this.#book = new PolicyBook(this.#policy, this.#at, rows);
    for (const booked of this.#unstored) {
      if (!booked.own) booked.at = this.#at;
      this.#deliver(booked);
    }
    this.#beat();
  }

  #beat(): void {
    const beat = this.#book.commit(this.#at, () => fed);
    for (const { key, value } of [...beat.rows, ...this.#book.takeRows()]) {
      if (value === "") this.#rows.delete(key);
      else this.#rows.set(key, value);
    }
    this.#unstored = [];
    const name = nameOf(this.#at, this.#per, this.#zone);
    for (const { used, values, window } of beat.readings) {
      expect(nameOf(window.from, this.#per, this.#zone)).toBe(name);
      expect(used).toBe(this.#oracle(values.tenant ?? "", name));
      const key = `${values.tenant} ${window.from}`;
      expect(used).toBeGreaterThanOrEqual(this.#seen.get(key) ?? 0n);
      this.#seen.set(key, used ?? 0n);
    }
    const known = beat.readings.map(({ values }) => values.tenant);
    for (const { tenant } of this.#booked) {
      if (!known.includes(tenant)) expect(this.#oracle(tenant, name)).toBe(0n);
    }
  }

  /** What was used in this window: usage that came after its own window was over counts nowhere. */
  #oracle(tenant: string, name: string): bigint {
    const inside = this.#booked.filter(
      (one) => one.tenant === tenant && nameOf(one.at, this.#per, this.#zone) === name,
    );
    return BigInt(inside.reduce((sum, { amount }) => sum + amount, 0));
  }
}
