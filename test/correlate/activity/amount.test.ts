// How much of doubtful work was a server's own, where several sources say it more or less well.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Doubted } from "../../../agent/correlate/activity/amount.ts";
import { amountOf } from "../../../agent/correlate/activity/amount.ts";
import type { Credit, Ended } from "../../../agent/correlate/activity/evidence.ts";
import { creditedIn, pollInterval } from "../../../agent/correlate/activity/intervals.ts";
import type { Pace } from "../../../agent/correlate/activity/learned.ts";
import { Random } from "../../simulator/random.ts";

const second = 1_000_000_000;
/** As near as a weighing comes to what its own weights say. */
const close = 1e-3 * second;

/** Five seconds beside another server, in which `tokens` were made of requests that began and ended in it. */
function doubted(
  tokens: number,
  pace: Pace | undefined,
  more: {
    readonly credits?: string;
    readonly ended?: Ended;
    readonly inFlight?: readonly [number, number];
  } = {},
): Doubted {
  const to = 5 * second;
  const [before, after] = more.inFlight ?? [0, 0];
  const poll = { at: 0, inputTokens: 0, outputTokens: 0, inFlight: before, progress: "step" as const };
  const next = { ...poll, at: to, outputTokens: tokens, inFlight: after };
  const seen = more.ended === undefined ? next : { ...next, ended: more.ended };
  const run = { from: 0, to, seen: true };
  const peers = [{ from: 0, to, stranger: false }];
  const credits: Credit[] = [...(more.credits ?? "")].map((mark, index) => ({
    ...{ from: index * second, to: (index + 1) * second, credited: mark === "x" },
  }));
  const interval = pollInterval(poll, seen, to, "step", [run], peers, credits, 1);
  return {
    interval,
    credits,
    pace,
    likely: undefined,
    busyBefore: false,
    busyAfter: false,
    late: false,
    apart: true,
    longest: undefined,
  };
}

const paces = fc.record({
  rate: fc.double({ min: 10 / second, max: 200 / second, noNaN: true }),
  error: fc.double({ min: 0.1, max: 0.8, noNaN: true }),
});
const marks = fc.array(fc.constantFrom("x", "."), { minLength: 5, maxLength: 5 }).map((all) => all.join(""));
const some = fc.integer({ min: 1, max: 400 });

describe("amountOf()", () => {
  test("takes work that goes on beside others for its own, and says so where no gauge and no credit tells it", () => {
    fc.assert(
      fc.property(
        some,
        fc.boolean(),
        marks,
        fc.integer({ min: 1, max: 30 }),
        (tokens, hasGauges, credits, long) => {
          const known = doubted(tokens, undefined, { credits });
          const { inFlightFrom, inFlightTo, ...rest } = known.interval;
          const gauges = hasGauges
            ? { inFlightFrom: 1, inFlightTo: 1 }
            : { inFlightFrom: undefined, inFlightTo: undefined };
          const interval = { ...rest, ...gauges, to: long * second };
          const continued = { ...known, interval, busyBefore: true, busyAfter: true, apart: false };
          const credited = creditedIn(interval, known.credits)?.nanos ?? 0;
          const isTold = hasGauges || long <= 2 || credited >= (long * second) / 2;
          expect(amountOf(continued, long * second)).toEqual({
            nanos: long * second,
            doubt: isTold ? undefined : { reason: "shared_work", ratio: 0.5 },
          });
        },
      ),
    );
  });

  test("is never more than the work, and its doubt is a share of it, however long the requests took that ended", () => {
    const ended = fc.record({
      requests: fc.integer({ min: 1, max: 5 }),
      nanos: fc.integer({ min: 1e7, max: 20 * second }),
      ...{ firstTokens: fc.constant(0), firstTokenNanos: fc.constant(0), isExecution: fc.boolean() },
    });
    const said = fc.record({ credits: marks, ended }, { requiredKeys: [] });
    fc.assert(
      fc.property(some, fc.option(paces, { nil: undefined }), said, (tokens, pace, more) => {
        const { doubt, nanos } = amountOf(doubted(tokens, pace, more), 5 * second);
        expect(nanos).toBeGreaterThanOrEqual(0);
        expect(nanos).toBeLessThanOrEqual(5 * second);
        expect(doubt?.ratio).toBeGreaterThan(0);
        expect(doubt?.ratio).toBeLessThanOrEqual(1);
      }),
    );
  });

  test("is no more than the requests took that ended, and no less than one of them", () => {
    const ended = fc.record({
      requests: fc.integer({ min: 1, max: 5 }),
      nanos: fc.integer({ min: 1e7, max: 4e9 }),
    });
    fc.assert(
      fc.property(some, paces, ended, marks, (tokens, pace, { nanos: all, requests }, credits) => {
        const lasted = { requests, nanos: all, firstTokens: 0, firstTokenNanos: 0, isExecution: true };
        const { nanos } = amountOf(doubted(tokens, pace, { credits, ended: lasted }), 5 * second);
        expect(nanos).toBeLessThanOrEqual(all);
        expect(nanos).toBeGreaterThanOrEqual(Math.floor(all / requests));
      }),
    );
  });

  test("lies between what its sources say, and is surer than the surest of them", () => {
    fc.assert(
      fc.property(some, paces, (tokens, pace) => {
        const given = doubted(tokens, pace, { credits: ".xxx." });
        const byPace = Math.min(5 * second, given.interval.progress / pace.rate);
        const credited = creditedIn(given.interval, given.credits)?.nanos ?? Number.NaN;
        const { doubt, nanos } = amountOf(given, 5 * second);
        expect(nanos).toBeGreaterThanOrEqual(Math.min(byPace, credited) - 1);
        expect(nanos).toBeLessThanOrEqual(Math.max(byPace, credited) + 1);
        expect((doubt?.ratio ?? 1) * nanos).toBeLessThanOrEqual(2 * 0.4 * second + 1);
      }),
    );
  });

  test("grows with the readings that credit the server, whatever its pace", () => {
    fc.assert(
      fc.property(some, paces, fc.nat(4), (tokens, pace, first) => {
        const found = [0, 1, 2, 3, 4, 5].map((count) => {
          const from = Math.min(first, 5 - count);
          const credits = ".".repeat(from) + "x".repeat(count) + ".".repeat(5 - count - from);
          return amountOf(doubted(tokens, pace, { credits }), 5 * second).nanos;
        });
        // What reaches over a poll counts whole there, so that the place of a stretch says something as well.
        const inside = found.slice(0, first > 0 ? 6 - first : 6);
        for (let count = 1; count < inside.length; count++)
          expect(inside[count]).toBeGreaterThanOrEqual((inside[count - 1] ?? 0) - close);
      }),
    );
  });

  test("grows with the tokens, whatever the credits", () => {
    fc.assert(
      fc.property(some, fc.integer({ min: 1, max: 40 }), paces, marks, (tokens, more, pace, credits) => {
        const [few, many] = [tokens, tokens + more].map(
          (all) => amountOf(doubted(all, pace, { credits }), 5 * second).nanos,
        );
        expect(many).toBeGreaterThanOrEqual((few ?? 0) - close);
      }),
    );
  });

  test("is less than a reading where none credits the server and its pace says no more, less than its pace where that does", () => {
    fc.assert(
      fc.property(some, paces, (tokens, pace) => {
        const given = doubted(tokens, pace, { credits: "....." });
        const byPace = given.interval.progress / pace.rate;
        const { nanos } = amountOf(given, 5 * second);
        expect(nanos).toBeLessThanOrEqual(Math.max(byPace, second / 2));
        if (byPace > second && byPace < 5 * second) expect(nanos).toBeLessThan(byPace);
      }),
    );
  });

  test("is what its sources say by the weights that it gives them itself, where its pace says more", () => {
    fc.assert(
      fc.property(some, paces, (tokens, pace) => {
        const given = doubted(tokens, pace, { credits: ".xxx." });
        const byPace = given.interval.progress / pace.rate;
        const credited = creditedIn(given.interval, given.credits)?.nanos ?? Number.NaN;
        fc.pre(byPace > credited);
        const { nanos } = amountOf(given, 5 * second);
        // A pace is known by its error, and its steps to a quarter, of the truth; a stretch of readings to 0.4 of one.
        const [own, others] = [(Math.hypot(pace.error, 0.25) * nanos) ** -2, (0.4 * second) ** -2];
        const said = Math.min(5 * second, (byPace * own + credited * others) / (own + others));
        // As near as its steps come to that.
        expect(Math.abs(nanos / said - 1)).toBeLessThanOrEqual(0.04);
      }),
    );
  });

  test("is as uncertain as its pace and its steps together where nothing else says it", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.double({ min: 0.1, max: 0.3, noNaN: true }),
        (tokens, error) => {
          const { doubt } = amountOf(doubted(tokens, { rate: 100 / second, error }), 5 * second);
          expect(doubt?.ratio).toBeGreaterThan(2.2 * error);
        },
      ),
    );
  });

  test("lies between its pace and half of the work where a request was in flight at one end", () => {
    const ends = fc.constantFrom<readonly [number, number]>([0, 1], [1, 0]);
    fc.assert(
      fc.property(some, paces, ends, (tokens, pace, inFlight) => {
        const given = doubted(tokens, pace, { inFlight });
        const byPace = Math.min(5 * second, given.interval.progress / pace.rate);
        const { doubt, nanos } = amountOf(given, 5 * second);
        const [least, most] = [Math.min(byPace, 2.5 * second), Math.max(byPace, 2.5 * second)];
        // No nearer to either than a part in a thousand.
        if (least > 0.25 * second && most < 4.5 * second)
          expect(Math.abs(nanos - byPace)).toBeGreaterThanOrEqual(1e-3 * (most - least) - 1);
        expect(nanos).toBeGreaterThanOrEqual(least - 1);
        expect(nanos).toBeLessThanOrEqual(most + 1);
        expect((doubt?.ratio ?? 1) * nanos).toBeLessThanOrEqual((2 * 5 * second) / Math.sqrt(12) + 1);
      }),
    );
  });

  test("of one request is what that took, to a tenth; where it was in flight before, that much at the most", () => {
    fc.assert(
      fc.property(some, paces, fc.integer({ min: 1e8, max: 4e9 }), (tokens, pace, took) => {
        const ended = { requests: 1, nanos: took, firstTokens: 0, firstTokenNanos: 0, isExecution: true };
        const inside = amountOf(doubted(tokens, pace, { ended }), 5 * second);
        expect(inside.nanos).toBe(took);
        expect(inside.doubt?.ratio).toBeGreaterThan(0);
        expect(inside.doubt?.ratio).toBeLessThanOrEqual(0.1 + 1e-9);
        const given = doubted(1, { rate: 100 / second, error: 0.1 }, { ended, inFlight: [1, 0] });
        const before = amountOf(given, 5 * second);
        expect(before.nanos).toBeLessThan(took);
      }),
    );
  });

  test("of several requests is somewhere between one of them and all, whatever its pace", () => {
    fc.assert(
      fc.property(
        some,
        paces,
        fc.integer({ min: 2, max: 5 }),
        fc.integer({ min: 1e8, max: 4e9 }),
        (tokens, pace, requests, all) => {
          const ended = { requests, nanos: all, firstTokens: 0, firstTokenNanos: 0, isExecution: true };
          const { doubt, nanos } = amountOf(doubted(tokens, pace, { ended }), 5 * second);
          const least = all / requests;
          const most = 2 * ((all - least) / Math.sqrt(12) + 0.05 * least);
          expect((doubt?.ratio ?? 1) * nanos).toBeLessThanOrEqual(most + 1);
        },
      ),
    );
  });

  test("goes by no credits where the server was not read in between", () => {
    fc.assert(
      fc.property(some, paces, marks, (tokens, pace, credits) => {
        const given = { ...doubted(tokens, pace, { credits }), late: true };
        expect(amountOf(given, 5 * second)).toEqual(amountOf({ ...given, credits: [] }, 5 * second));
      }),
    );
  });

  test("is in doubt by a half where no gauge says how many requests made the tokens", () => {
    fc.assert(
      fc.property(
        some,
        fc.double({ min: 10 / second, max: 200 / second, noNaN: true }),
        marks,
        (tokens, rate, credits) => {
          const given = doubted(tokens, { rate, error: undefined }, { credits });
          const bare = { ...given.interval, inFlightFrom: undefined, inFlightTo: undefined };
          const { doubt, nanos } = amountOf({ ...given, interval: bare }, 5 * second);
          expect(nanos).toBeLessThanOrEqual(5 * second);
          expect(nanos).toBeGreaterThanOrEqual(0);
          expect(doubt).toEqual({ reason: "shared_work", ratio: 0.5 });
        },
      ),
    );
  });

  test("is what the driver credits where no pace is known, in doubt as far as that may be otherwise", () => {
    fc.assert(
      fc.property(some, marks, (tokens, credits) => {
        const given = doubted(tokens, undefined, { credits });
        const { doubt, nanos } = amountOf(given, 5 * second);
        expect(nanos).toBe(creditedIn(given.interval, given.credits)?.nanos);
        expect(doubt).toEqual({ reason: "shared_work", ratio: 0.5 });
      }),
    );
  });

  test("is half of the work where nothing says how much, and says so", () => {
    const { doubt, nanos } = amountOf(doubted(20, undefined), 5 * second);
    expect(nanos).toBe(2.5 * second);
    expect(doubt).toEqual({ reason: "half_of_work", ratio: 1 });
  });

  test("of short requests that only their ends count is what chance makes of how long they took, whoever else works", () => {
    let [found, truth, covered, runs] = [0, 0, 0, 0];
    for (let seed = 1; seed <= 400; seed++) {
      const { ended, executed, inFlight, longest } = shortRequests(new Random(seed));
      if (ended.requests === 0 && inFlight === 0) continue;
      const given = doubted(0, undefined, { ended, inFlight: [0, inFlight] });
      for (const isContinued of [false, true]) {
        const sides = { busyBefore: isContinued, busyAfter: isContinued, apart: false };
        const { doubt, nanos } = amountOf({ ...given, ...sides, longest }, 5 * second);
        runs++;
        found += nanos;
        truth += executed;
        if (Math.abs(nanos - executed) <= nanos * (doubt?.ratio ?? 0) + 0.01 * second) covered++;
      }
    }
    expect(found / truth).toBeGreaterThan(0.95);
    expect(found / truth).toBeLessThan(1.1);
    expect(covered / runs).toBeGreaterThan(0.95);
  });
});

/** Requests of some 50 ms that come by chance in 5 s: how long any was there, how long those took that ended, and how many did not. */
function shortRequests(random: Random): {
  readonly ended: Ended;
  readonly executed: number;
  readonly inFlight: number;
  readonly longest: number;
} {
  const [length, mean, perSecond] = [5000, random.between(10, 100), random.between(0.5, 8)];
  const there = new Uint8Array(length);
  let [requests, took, inFlight] = [0, 0, 0];
  for (let at = random.wait(1000 / perSecond); at < length; at += random.wait(1000 / perSecond)) {
    const each = Math.round(mean * random.between(0.5, 1.5));
    there.fill(1, Math.floor(at), Math.min(length, Math.floor(at) + each));
    if (Math.floor(at) + each > length) inFlight++;
    else {
      requests++;
      took += each;
    }
  }
  const executed = there.reduce((sum, one) => sum + one, 0) * 1e6;
  const ended = { requests, nanos: took * 1e6, firstTokens: 0, firstTokenNanos: 0, isExecution: true };
  return { ended, executed, inFlight, longest: mean * 1e6 };
}
