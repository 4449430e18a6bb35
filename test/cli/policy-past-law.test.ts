// The law of simulations: over windows that ran, the policy in force makes of the ledger's rows what the agent's own counters
// made of the bookings as they came: the same used, the same states, limits reached in the same quarter of an hour; and what
// came when its window was over is told apart. Over edges of months and days of 23 and 25 hours, through a real ledger.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readPast } from "../../agent/cli/policy/past.ts";
import { Books } from "../../agent/meter/books.ts";
import type { Booking } from "../../agent/meter/ledger/ledger.ts";
import type { Posting } from "../../agent/model.ts";
import { PolicyBook } from "../../agent/policy/book.ts";
import type { Policy } from "../../agent/policy/config.ts";
import type { PastWindow } from "../../agent/policy/past.ts";
import type { QuotaReading } from "../../agent/policy/states.ts";
import { countedMetrics } from "../../agent/policy/usage.ts";
import { windowAt } from "../../agent/policy/windows.ts";
import { LedgerReader } from "../../agent/store/ledger/reader.ts";
import { ledgerPath } from "../../agent/store/state-folder.ts";
import { fed, gatewaySeries, policyWith } from "../policy/fixtures.ts";
import { temporaryFolder } from "../store/ledger/fixture.ts";
import { LedgerAtOnce } from "../store/ledger/ledger-at-once.ts";

const HOUR = 3_600_000;
const BUCKET = 900_000;
/** Instants around which windows end. */
const edges = [
  ["Europe/Berlin", "2026-03-29T01:00:00Z"],
  ["Europe/Berlin", "2026-10-25T01:00:00Z"],
  ["Europe/Berlin", "2026-10-31T23:00:00Z"],
  ["Asia/Kathmandu", "2026-11-30T18:15:00Z"],
  ["Australia/Lord_Howe", "2026-04-04T15:00:00Z"],
  ["UTC", "2026-11-29T24:00:00Z"],
] as const;

const quotas = (per: string) => [
  { name: "each", match: { tenant: "*" }, count: "tokens", limit: 400, per, warnAt: [0.5, 0.9] },
  { name: "all", count: "weighted", weights: { output: 0.3, input_cached: 0.007 }, limit: 200, per },
  { name: "calls", match: { tenant: "a" }, count: "requests", limit: 9, per, warnAt: [] },
];

interface Used {
  readonly tenant: "a" | "b";
  readonly kind: "output" | "input_cached";
  readonly outcome: "ok" | "error";
  readonly amount: number;
  /** Usage with a time of its own, so long ago; undefined = with its interval. */
  readonly agoMs: number | undefined;
}

const step = fc.record({
  ms: fc.oneof(fc.integer({ min: 1, max: 40_000 }), fc.integer({ min: 1, max: 9 * HOUR })),
  used: fc.array(
    fc.record<Used>({
      tenant: fc.constantFrom("a", "b"),
      kind: fc.constantFrom("output", "input_cached"),
      outcome: fc.constantFrom("ok", "ok", "ok", "error"),
      amount: fc.integer({ min: 1, max: 150 }),
      agoMs: fc.option(fc.integer({ min: 0, max: 3 * HOUR }), { nil: undefined, freq: 2 }),
    }),
    { maxLength: 4 },
  ),
});

describe("readPast()", () => {
  test("makes of the ledger what the agent's counters made of the bookings as they came", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...edges),
        fc.constantFrom("hour", "day", "week", "month"),
        fc.integer({ min: -12 * 60, max: 0 }),
        fc.array(step, { minLength: 1, maxLength: 12 }),
        ([zone, edge], per, minutes, steps) => {
          const law = new Law(
            policyWith(quotas(per), { timeZone: zone }),
            Date.parse(edge) + minutes * 60_000,
          );
          try {
            for (const one of steps) law.take(one);
            law.check();
          } finally {
            law.close();
          }
        },
      ),
      { numRuns: 12 },
    );
  });
});

/** An agent's books and counters side by side, and what the counters said last of every window. */
class Law {
  readonly #start: number;
  readonly #policy: Policy;
  readonly #book: PolicyBook;
  readonly #books: Books;
  readonly #database: LedgerAtOnce;
  readonly #temporary = temporaryFolder();
  readonly #live = new Map<string, QuotaReading>();
  /** The quarter in which a counter was first seen in a state. */
  readonly #seen = new Map<string, number>();
  readonly #recorded = new Set<string>();
  #at: number;
  #hasOwn = false;

  constructor(policy: Policy, at: number) {
    this.#policy = policy;
    this.#at = at;
    this.#start = at;
    this.#book = new PolicyBook(policy, at);
    this.#at += 1;
    this.#database = new LedgerAtOnce({ folder: this.#temporary.folder, pid: 1, freeBytesMin: 0 });
    const start = BigInt(at) * 1_000_000n;
    const onBooked = (booking: Booking): void => this.#count(booking);
    this.#books = new Books({ start, unixNanos: (nanos) => start + BigInt(nanos), onBooked });
    this.#books.noteAudit("start", 0, {});
    this.#beat();
  }

  take({ ms, used }: { readonly ms: number; readonly used: readonly Used[] }): void {
    // What an interval that ends on an edge brings is seen by no beat of its window: none does here.
    const last = this.#at + ms;
    const isEdge = this.#policy.quotas.some(({ per, zone }) => windowAt(last, per, zone).from === last);
    const end = isEdge ? last + 1 : last;
    // A beat comes every few seconds: one lies on every edge.
    for (;;) {
      const next = Math.min(...this.#policy.quotas.map(({ per, zone }) => windowAt(this.#at, per, zone).to));
      if (next >= end) break;
      this.#at = next;
      this.#beat();
    }
    this.#at = end;
    this.#books.ledger.postUntil(
      used.flatMap((one) => this.#postings(one)),
      BigInt(end) * 1_000_000n,
    );
    this.#beat();
  }

  /** Every window that ran, as the ledger has it, against what was seen. */
  check(): void {
    this.#look();
    const reader = new LedgerReader(ledgerPath(this.#temporary.folder));
    const found: PastWindow[] = [];
    const cut = readPast(reader, {
      quotas: this.#policy.quotas,
      families: new Set(["gateway"]),
      from: this.#start,
      to: this.#at + BUCKET,
      onWindow: (one) => found.push(one),
    });
    reader.close();
    expect(cut).toEqual([]);
    for (const past of found) {
      const live = this.#live.get(keyOf(past));
      // Of a window a wild key had nothing in before it was over, the counters know nothing at all.
      const counted = (past.used ?? 0n) - past.late;
      expect([keyOf(past), counted]).toEqual([keyOf(past), live?.used ?? 0n]);
      if (live === undefined) continue;
      expect([keyOf(past), past.isComplete]).toEqual([keyOf(past), live.isComplete]);
      expect([keyOf(past), past.state]).toEqual([keyOf(past), live.state]);
      for (const [state, share] of [
        ["over", 1],
        ["warn", past.quota.warnAt[0]],
      ] as const) {
        const reached = past.reached.find((one) => one.share === share);
        const seen = this.#seen.get(`${keyOf(past)} ${state}`);
        if (seen !== undefined) expect(reached).toBeDefined();
        // Each window has its own record, however full the one before was.
        if (seen !== undefined) expect(this.#recorded).toContain(`${keyOf(past)} ${state}`);
        if (state === "over") expect(reached === undefined).toBe(seen === undefined);
        if (seen !== undefined && !this.#hasOwn) expect(reached?.from).toBe(seen);
        if (seen !== undefined) expect(reached?.from).toBeLessThanOrEqual(seen);
      }
    }
    for (const [key, { used }] of this.#live) {
      if ((used ?? 0n) > 0n) expect(found.map(keyOf)).toContain(key);
    }
  }

  close(): void {
    this.#database.close();
    this.#temporary.remove();
  }

  #postings({ agoMs, amount, kind, outcome, tenant }: Used): readonly Posting[] {
    this.#hasOwn ||= agoMs !== undefined;
    // Nobody used anything before the agent's first day.
    const at = agoMs === undefined ? undefined : Math.max(this.#start, this.#at - 1 - agoMs);
    const own = at === undefined ? {} : { at: BigInt(at) * 1_000_000n };
    const series = gatewaySeries(tenant, { kind, outcome });
    const { "tokenwatt.token.kind": _, ...calls } = series;
    return [
      { metric: "tokenwatt.gateway.tokens", dimensions: series, amount, ...own },
      { metric: "tokenwatt.gateway.requests", dimensions: calls, amount: 1, ...own },
    ];
  }

  #count({ at, dimensions, metric, moved, to }: Booking): void {
    if (typeof moved !== "number") return;
    const atMillis = Number((at ?? to - 1n) / 1_000_000n);
    this.#book.book({ metric, dimensions, amount: moved, atMillis, own: at !== undefined });
  }

  #beat(): void {
    this.#look();
    const elapsed = (this.#at - this.#start) * 1e6;
    // An agent books the time it was there: so the ledger holds the quarters in which nothing was used.
    const covered = { metric: "tokenwatt.covered_time", dimensions: {}, amount: 1 };
    this.#books.ledger.postUntil([covered], BigInt(this.#at) * 1_000_000n);
    this.#database.commit(this.#books.commit(BigInt(this.#at) * 1_000_000n, elapsed).batch);
    for (const seed of this.#book.seeds()) {
      const bucket = Math.floor(seed.fromMillis / BUCKET);
      const { heldSince, rows } = this.#database.sumsSince([...countedMetrics], bucket);
      this.#book.seed(seed, rows, heldSince !== undefined && heldSince <= seed.fromMillis);
      this.#look();
    }
  }

  #look(): void {
    const { readings, transitions } = this.#book.commit(this.#at, () => fed);
    for (const { isFirst, reading } of transitions)
      if (isFirst) this.#recorded.add(`${keyOf(reading)} ${reading.state}`);
    for (const reading of readings) {
      this.#live.set(keyOf(reading), reading);
      const place = `${keyOf(reading)} ${reading.state}`;
      const bucket = Math.floor((this.#at - 1) / BUCKET) * BUCKET;
      if (!this.#seen.has(place)) this.#seen.set(place, bucket);
    }
  }
}

function keyOf({ quota, values, window }: Pick<QuotaReading, "quota" | "values" | "window">): string {
  return `${quota.name} ${values.tenant ?? ""} ${new Date(window.from).toISOString()}`;
}
