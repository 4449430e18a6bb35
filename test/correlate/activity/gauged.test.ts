// The pace of a server that is seldom read in flight, against a world in which its true pace is known.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { PollInterval } from "../../../agent/correlate/activity/evidence.ts";
import { gaugedWith, notGauged, paceByGauges } from "../../../agent/correlate/activity/gauged.ts";
import type { Gauged, Rates } from "../../../agent/correlate/activity/learned.ts";

const second = 1_000_000_000;
const ratesOf = (gauged: Gauged, alone?: number): Rates => ({
  ...{ alone, contended: undefined, flying: undefined, fastest: { rate: 0, intervals: 0 }, gauged },
});

/** What polls `pollNanos` apart see of `steps` decode steps every `everyNanos`, each of `stepNanos`, from a chance instant on. */
function seen(world: {
  readonly stepNanos: number;
  readonly steps: number;
  readonly everyNanos: number;
  readonly pollNanos: number;
  readonly polls: number;
  readonly phase: number;
}): Gauged {
  const { everyNanos, phase, pollNanos, polls, stepNanos, steps } = world;
  const length = stepNanos * steps;
  const into = (at: number): number => (at + phase * everyNanos) % everyNanos;
  const flies = (at: number): number => (into(at) < length ? 1 : 0);
  // Steps up to an instant.
  const made = (at: number): number =>
    Math.floor((at + phase * everyNanos) / everyNanos) * steps + Math.min(steps, into(at) / stepNanos);
  let gauged = notGauged;
  for (let index = 0; index < polls; index++) {
    const [from, to] = [index * pollNanos, (index + 1) * pollNanos];
    const interval = {
      ...{ from, to, open: false, contended: true, spared: [], workNanos: pollNanos },
      ...{ inFlightFrom: flies(from), inFlightTo: flies(to), progress: made(to) - made(from) },
    } as unknown as PollInterval;
    gauged = gaugedWith(gauged, interval);
  }
  return gauged;
}

describe("paceByGauges()", () => {
  const world = fc.record({
    stepNanos: fc.integer({ min: 12_000_000, max: 40_000_000 }),
    steps: fc.integer({ min: 8, max: 60 }),
    // No divisor of the distance of polls, so that they fall everywhere.
    everyNanos: fc.constantFrom(7.3 * second, 11.7 * second, 19.9 * second),
    pollNanos: fc.constantFrom(second, 5 * second),
    polls: fc.integer({ min: 1, max: 400 }),
    phase: fc.double({ min: 0, max: 1, noNaN: true }),
  });

  test("is within two and a half of its standard errors of the truth, whatever the polls saw", () => {
    fc.assert(
      fc.property(world, (given) => {
        const { error, rate } = paceByGauges(ratesOf(seen(given)));
        const off = Math.abs(1 / rate / given.stepNanos - 1);
        expect(error).toBeDefined();
        // Of what it says itself or of the truth, whichever is larger: a share of too little is a large one of the truth.
        expect(off / Math.max(1, 1 / rate / given.stepNanos)).toBeLessThanOrEqual(2.5 * (error ?? 0));
      }),
    );
  });

  test("is surer the more polls read a request, and comes near the truth", () => {
    const given = {
      stepNanos: 40_000_000,
      steps: 40,
      everyNanos: 7.3 * second,
      pollNanos: second,
      phase: 0.3,
    };
    const [few, many] = [20, 2000].map((polls) => paceByGauges(ratesOf(seen({ ...given, polls }))));
    expect(many?.error ?? 1).toBeLessThan(0.25 * (few?.error ?? 0));
    expect(1 / (many?.rate ?? 1) / given.stepNanos).toBeGreaterThan(0.93);
    expect(1 / (many?.rate ?? 1) / given.stepNanos).toBeLessThan(1.07);
  });

  test("knows the pace from a few requests whose durations are told", () => {
    fc.assert(
      fc.property(world, (given) => {
        const gauged = seen({ ...given, polls: 40 });
        const requests = gauged.progress / given.steps;
        const timed = { ...gauged, requests, endedNanos: gauged.progress * given.stepNanos };
        fc.pre(requests >= 4 && timed.endedNanos < 0.2 * gauged.wallNanos);
        const { error, rate } = paceByGauges(ratesOf(timed));
        expect(Math.abs(1 / rate / given.stepNanos - 1)).toBeLessThanOrEqual(0.25);
        expect(error).toBeLessThanOrEqual(0.27);
      }),
    );
  });

  test("is no faster beside others than alone", () => {
    fc.assert(
      fc.property(world, fc.double({ min: 1e-9, max: 1e-6, noNaN: true }), (given, alone) => {
        expect(paceByGauges(ratesOf(seen(given), alone)).rate).toBeLessThanOrEqual(alone);
      }),
    );
  });
});
