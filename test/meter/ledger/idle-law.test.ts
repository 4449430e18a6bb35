// Series that rest leave the page and OTLP, and come back right: a consumer that compares samples a few minutes apart, as
// increase() does, sees every token that was booked, by OTLP and by scraping alike.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createOtlpEncoder } from "../../../agent/export/otlp/encoder.ts";
import { createPrometheusWriter } from "../../../agent/export/prometheus.ts";
import type { LedgerOptions, LedgerState } from "../../../agent/meter/ledger/ledger.ts";
import { Ledger } from "../../../agent/meter/ledger/ledger.ts";
import type { LedgerSnapshot } from "../../../agent/model.ts";
import { decodeAll } from "../../export/otlp-decode.ts";

const START = 1_700_000_000_000_000_000n;
const SECOND = 1_000_000_000n;
const BEAT = 10;
const IDLE = 600;
/** As far apart samples may be for a consumer that compares them. */
const LOOKBACK = 300;
const unixNanos = (at: number): bigint => START + BigInt(at);
const at = (seconds: number): bigint => START + BigInt(seconds) * SECOND;
const tenants = ["acme", "bolt"] as const;
const metric = "tokenwatt.gateway.tokens";
const latency = "tokenwatt.gateway.time_to_first_token";

interface Sample {
  readonly at: number;
  readonly value: number;
}

/** What increase() over adjoining windows adds up to: first samples count nothing, a fall is a reset. */
function increase(samples: readonly Sample[]): number {
  let [sum, last] = [0, undefined as Sample | undefined];
  for (const sample of samples) {
    if (last !== undefined && sample.at - last.at <= LOOKBACK)
      sum += sample.value < last.value ? sample.value : sample.value - last.value;
    last = sample;
  }
  return sum;
}

/** A ledger with its exporters, run beat by beat, and what consumers of both saw. */
class Host {
  #ledger: Ledger;
  readonly #encoder = createOtlpEncoder({ resource: {}, version: "1" });
  readonly #writer = createPrometheusWriter({});
  readonly #scrapeEvery: number;
  readonly #idle: number;
  readonly booked = new Map<string, number>();
  readonly sent = new Map<string, Sample[]>();
  readonly scraped = new Map<string, Sample[]>();
  readonly lines: number[] = [];
  #now = 0;

  constructor(scrapeEvery: number, idle = IDLE) {
    this.#scrapeEvery = scrapeEvery;
    this.#idle = idle;
    this.#ledger = this.#open();
  }

  #open(state?: LedgerState): Ledger {
    const options: LedgerOptions = { unixNanos };
    return new Ledger(START, options, state);
  }

  /** A restart after a beat: what was not committed is sent again by its source. */
  restart(): void {
    this.pass(BEAT);
    this.#ledger = this.#open(JSON.parse(JSON.stringify(this.#ledger.state())));
  }

  book(tenant: string, amount: number): void {
    const dimensions = { "tokenwatt.tenant": tenant };
    const histogram = { bounds: [1], counts: [amount, 0], sum: amount * 0.5, count: amount };
    const to = (this.#now + 1) * 1e9;
    this.#ledger.bookPostings(
      [
        { metric, dimensions, amount },
        { metric: latency, dimensions, histogram },
      ],
      to,
    );
    for (const name of [metric, latency]) {
      const key = `${name} ${tenant}`;
      this.booked.set(key, (this.booked.get(key) ?? 0) + amount);
    }
  }

  /** Lets `seconds` pass: a beat every ten of them, and what consumers do meanwhile. */
  pass(seconds: number): void {
    for (const until = this.#now + seconds; this.#now < until; ) {
      this.#now += BEAT;
      this.#ledger.endIdle(at(this.#now - this.#idle), () => false);
      const snapshot = this.#ledger.commit(at(this.#now), this.#now * 1e9);
      this.#ledger.takeChanges();
      this.#send(snapshot);
      if (this.#now % this.#scrapeEvery < BEAT) this.#scrape(snapshot);
    }
  }

  #send(snapshot: LedgerSnapshot): void {
    for (const one of decodeAll(this.#encoder.encode(snapshot).map(({ bytes }) => bytes))) {
      const key = `${one.metric} ${one.attributes["tokenwatt.tenant"]}`;
      const seconds = Number(one.time - START) / 1e9;
      const known = this.sent.get(key) ?? [];
      const last = known.at(-1);
      // Stores refuse what is older than the last, such as the zero that is announced again after a restart.
      if (one.flags === 0 && (last === undefined || seconds > last.at))
        known.push({ at: seconds, value: Number(one.histogram?.count ?? one.value) });
      this.sent.set(key, known);
    }
  }

  #scrape(snapshot: LedgerSnapshot): void {
    const page = this.#writer.write(snapshot, "prometheus");
    const found = page.matchAll(/^(\w+?)(?:_count|_total)\{tokenwatt_tenant="(\w+)"\} (\d+)$/gm);
    let lines = 0;
    for (const [, name = "", tenant = "", value = ""] of found) {
      const key = `${name.includes("tokens") ? metric : latency} ${tenant}`;
      this.scraped.set(key, [...(this.scraped.get(key) ?? []), { at: this.#now, value: Number(value) }]);
      lines++;
    }
    this.lines.push(lines);
  }
}

const step = fc.oneof(
  fc.record({ tenant: fc.constantFrom(...tenants), amount: fc.integer({ min: 1, max: 1000 }) }),
  fc.record({ wait: fc.constantFrom(10, 60, 120, 300, 590, 600, 610, 1500) }),
);

const idles = fc.constantFrom(120, IDLE);

describe("a series that rests", () => {
  it("is seen in full by whoever compares samples, whatever it is used and however it rests", () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(step, fc.constant({ restart: true as const })), { maxLength: 25 }),
        idles,
        (steps, idle) => {
          const host = new Host(30, idle);
          for (const one of steps) {
            if ("wait" in one) host.pass(one.wait);
            else if ("restart" in one) host.restart();
            else host.book(one.tenant, one.amount);
          }
          host.pass(60);
          for (const [key, amount] of host.booked) expect(increase(host.sent.get(key) ?? [])).toBe(amount);
        },
      ),
      { numRuns: 60 },
    );
  });
  it("is seen in full by scrapers every 10 to 60 s too, but for what a new series has at first", () => {
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 25 }),
        fc.constantFrom(10, 20, 30, 60),
        idles,
        (steps, every, idle) => {
          const host = new Host(every, idle);
          for (const one of steps) {
            if ("wait" in one) host.pass(one.wait);
            else host.book(one.tenant, one.amount);
          }
          host.pass(240);
          for (const [key, amount] of host.booked) {
            const samples = host.scraped.get(key) ?? [];
            expect(samples.length).toBeGreaterThan(0);
            expect(increase(samples)).toBe(amount - (samples[0]?.value ?? 0));
          }
        },
      ),
      { numRuns: 60 },
    );
  });
  it("leaves the page, and comes back under its old total", () => {
    const host = new Host(10);
    for (const tenant of tenants) host.book(tenant, 5);
    host.pass(IDLE);
    expect(host.lines.at(-1)).toBe(4);
    host.pass(2 * BEAT);
    expect(host.lines.at(-1)).toBe(0);
    host.book("acme", 2);
    host.pass(BEAT);
    expect(host.lines.at(-1)).toBe(2);
    host.pass(180);
    const values = (host.scraped.get(`${metric} acme`) ?? []).map(({ value }) => value);
    expect([values[0], values.at(-1)]).toEqual([5, 7]);
    expect((host.sent.get(`${metric} acme`) ?? []).map(({ value }) => value).slice(-20)).toContain(5);
  });
});
