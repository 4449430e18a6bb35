// The short way for servers that nothing moves, against the long way, whatever was learned of their requests.
import fc from "fast-check";
import { expect, test } from "vitest";
import { claimsNothing } from "../../../agent/correlate/activity/at-rest.ts";
import { claimedWork } from "../../../agent/correlate/activity/claims.ts";
import type { ActivityWindow, SeenPoll } from "../../../agent/correlate/activity/evidence.ts";
import { notGauged } from "../../../agent/correlate/activity/gauged.ts";
import { pollIntervals } from "../../../agent/correlate/activity/intervals.ts";
import type { Level } from "../../../agent/correlate/activity/learned.ts";
import { createLevel } from "../../../agent/correlate/activity/level.ts";
import { stepPauseNanos, workRuns } from "../../../agent/correlate/activity/runs.ts";
import { second } from "../scene.ts";

/** What moves between two polls: often nothing. */
const step = fc.record({
  tokens: fc.constantFrom(0, 40),
  inFlight: fc.constantFrom(0, 2, undefined),
  requests: fc.constantFrom(0, 3),
  isRepeated: fc.boolean(),
  isDoubted: fc.boolean(),
  ownNanos: fc.constantFrom(0, 0.3 * second),
});
const nothing = { tokens: 0, inFlight: 0, requests: 0, isRepeated: false, isDoubted: false, ownNanos: 0 };
const steps = fc
  .record({ step, places: fc.uniqueArray(fc.nat(11), { maxLength: 1 }) })
  .map((given) => Array.from({ length: 12 }, (_, at) => (given.places.includes(at) ? given.step : nothing)));

/** Windows of one length up to about the last poll, or for half of the time; one of them may be at work. */
const windows = fc
  .record({
    length: fc.constantFrom(0.2, 0.2, 1, 5),
    busy: fc.uniqueArray(fc.nat(30), { maxLength: 1 }),
    isSilent: fc.constantFrom(false, false, false, true),
  })
  .map(({ busy, isSilent, length }): ActivityWindow[] =>
    Array.from({ length: Math.floor((isSilent ? 6 : 12) / length) }, (_, index) => ({
      from: Math.round(index * length * second),
      to: Math.round((index + 1) * length * second),
      busyRatio: busy.includes(index) ? 0.5 : 0,
    })),
  );

const learned = fc.record({
  long: fc.double({ min: -20, max: 20, noNaN: true }),
  roughness: fc.double({ min: 0, max: 1, noNaN: true }),
  ended: fc.constantFrom(0, 5, 50, 500),
  inside: fc.constantFrom(0, 1, 20),
  polls: fc.constantFrom(1, 20, 100),
  sightNanos: fc.constantFrom(0, second, 60 * second),
  bursts: fc.constantFrom(0, 5, 100),
  stayed: fc.constantFrom(0, 5),
  flying: fc.constantFrom(0, 10),
  presence: fc.constantFrom(0, 0.9),
  present: fc.constantFrom(0, 20),
});

const scene = fc.record({
  steps,
  windows,
  learned,
  progress: fc.constantFrom("step" as const, "step" as const, "finish" as const),
  peer: fc.option(fc.constantFrom(0, 3, 8), { nil: undefined }),
  short: fc.boolean(),
  perDuration: fc.constantFrom(undefined, 1, 3),
  pace: fc.constantFrom(undefined, 1e-7),
  decidedUntil: fc.constantFrom(0, 7 * second, 11 * second),
  hasOthers: fc.boolean(),
  timesItself: fc.constantFrom(false, false, true),
});

test("claimsNothing() is true only where the long way claims, leaves and accounts for nothing", () => {
  let [short, long] = [0, 0];
  fc.assert(
    fc.property(scene, (given) => {
      const { decidedUntil, hasOthers, peer, progress } = given;
      let [activeNanos, outputTokens] = [0, 0];
      const polls = given.steps.map((next, index): SeenPoll => {
        outputTokens += next.tokens;
        activeNanos += next.ownNanos;
        const own = given.timesItself ? { activeNanos } : {};
        const gauge = next.inFlight === undefined ? {} : { inFlight: next.inFlight };
        const doubt = next.isDoubted ? { doubt: "cached_page" as const } : {};
        const { isRepeated, requests } = next;
        return {
          at: index * second,
          inputTokens: 0,
          outputTokens,
          progress,
          isRepeated,
          requests,
          ...gauge,
          ...doubt,
          ...own,
        };
      });
      const reached = given.windows.at(-1)?.to ?? 0;
      const runs = workRuns(given.windows, polls, 0, reached, undefined, hasOthers ? 0 : stepPauseNanos);
      const peers =
        peer === undefined
          ? []
          : [{ from: peer * second, to: (peer + 2) * second, stranger: false, thin: false }];
      const intervals = pollIntervals(polls, progress, runs, peers, 11.5 * second);
      const activity = { decidedUntil, polls, windows: given.windows };
      if (!claimsNothing(activity, progress, intervals, runs) || progress !== "step") {
        long++;
        return;
      }
      short++;
      const level: Level = { ...createLevel(), ...given.learned };
      const shares = {
        ...{
          windows: given.windows,
          siblings: [],
          intervals,
          perBusy: 1.5,
          error: 0.2,
          perHit: 0,
          hits: { share: 0.5, error: 0.5 },
          samples: 0,
          level,
        },
        ...{
          perProgress: 2e6,
          beside: undefined,
          seat: 0.5,
          perStep: { nanosPerStep: 1e7, error: 0.5 },
          isAlone: peer === undefined,
        },
        ...{
          short: given.short,
          stay: true,
          perDuration: given.perDuration,
          pace: given.pace,
          paceError: 0.1,
        },
        learned: true,
      };
      const rates = {
        alone: 1e-6,
        contended: 1e-6,
        flying: undefined,
        fastest: { rate: 0, intervals: 0 },
        gauged: notGauged,
      };
      const claims = claimedWork({
        ...{
          from: decidedUntil,
          intervals,
          runs,
          peers,
          credits: [],
          progress,
          rates,
          pollNanos: second,
          hasOthers,
        },
        ...{ shares, short: given.short, isRanked: false },
      });
      expect(claims).toEqual({ claims: [], contested: [], accounted: [] });
    }),
    { numRuns: 3000 },
  );
  // Neither way is the only one that is taken.
  expect(short).toBeGreaterThan(100);
  expect(long).toBeGreaterThan(100);
});
