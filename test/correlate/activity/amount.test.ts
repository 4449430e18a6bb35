// How much of doubtful work was a server's own, where several sources say it more or less well.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Doubted } from "../../../agent/correlate/activity/amount.ts";
import { amountOf } from "../../../agent/correlate/activity/amount.ts";
import type { Credit, Ended, Pace } from "../../../agent/correlate/activity/evidence.ts";
import { creditedIn, pollInterval } from "../../../agent/correlate/activity/intervals.ts";

const second = 1_000_000_000;

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
  };
}

const paces = fc.record({
  rate: fc.double({ min: 10 / second, max: 200 / second, noNaN: true }),
  error: fc.double({ min: 0.1, max: 0.8, noNaN: true }),
});
const marks = fc.array(fc.constantFrom("x", "."), { minLength: 5, maxLength: 5 }).map((all) => all.join(""));
const some = fc.integer({ min: 1, max: 400 });

describe("amountOf()", () => {
  test("is never more than the work, and its doubt is a share of it", () => {
    fc.assert(
      fc.property(
        some,
        fc.option(paces, { nil: undefined }),
        fc.option(marks, { nil: undefined }),
        (tokens, pace, credits) => {
          const { doubt, nanos } = amountOf(
            doubted(tokens, pace, credits === undefined ? {} : { credits }),
            5 * second,
          );
          expect(nanos).toBeGreaterThanOrEqual(0);
          expect(nanos).toBeLessThanOrEqual(5 * second);
          expect(doubt?.ratio).toBeGreaterThan(0);
          expect(doubt?.ratio).toBeLessThanOrEqual(1);
        },
      ),
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

  test("is half of the work where nothing says how much, and says so", () => {
    const { doubt, nanos } = amountOf(doubted(20, undefined), 5 * second);
    expect(nanos).toBe(2.5 * second);
    expect(doubt).toEqual({ reason: "half_of_work", ratio: 1 });
  });
});
