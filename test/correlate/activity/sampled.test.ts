// A driver whose last window alone is read: short requests are where their tokens moved, whatever the window caught; of long
// ones gauges and windows are signs, between which they went on.
import fc from "fast-check";
import { expect, test } from "vitest";
import type { PollInterval } from "../../../agent/correlate/activity/evidence.ts";
import { createLevel } from "../../../agent/correlate/activity/level.ts";
import { sampledStretches } from "../../../agent/correlate/activity/sampled.ts";
import type { ShareEvidence } from "../../../agent/correlate/activity/shares.ts";
import { shareDoubt, sharedPieces } from "../../../agent/correlate/activity/shares.ts";
import { total } from "../../../agent/correlate/activity/stretches.ts";

const second = 1_000_000_000;

function intervalsOf(progress: readonly number[]): PollInterval[] {
  return progress.map((amount, index) => ({
    ...{
      from: index * 5 * second,
      to: (index + 1) * 5 * second,
      open: false,
      steps: 0,
      lone: 0,
      ownSteps: 0,
    },
    ...({ kind: amount > 0 ? "moved" : "quiet", progress: amount, activeNanos: undefined } as const),
    ...{ inFlightFrom: 0, inFlightTo: 0, all: [], work: [], workNanos: 0, spared: [] },
    ...{ contended: false, beside: false, besideThin: false, ended: undefined, doubt: undefined },
  }));
}

function evidenceOf(intervals: readonly PollInterval[], ratios: readonly number[]): ShareEvidence {
  const windows = intervals.map(({ from, to }, index) => ({
    ...{ from, to, busyRatio: ratios[index % ratios.length] as number },
    sampled: true,
  }));
  return {
    ...{
      windows,
      intervals,
      siblings: [],
      isAlone: true,
      perBusy: 1.1,
      perHit: 0,
      hits: { share: 0.5, error: 0.5 },
      error: 0.1,
      samples: 9,
      level: createLevel(),
    },
    ...{
      perProgress: second / 100,
      beside: undefined,
      seat: 0,
      stay: false,
      perDuration: undefined,
      pace: undefined,
      paceError: 0,
      learned: true,
      perStep: { nanosPerStep: second / 100, error: 0.1 },
      short: true,
    },
  };
}

const progress = fc.array(fc.nat(90), { minLength: 4, maxLength: 12 });
const ratios = fc.array(
  fc.nat(1000).map((part) => part / 1000),
  { minLength: 4, maxLength: 12 },
);

test("sharedPieces() gives short requests what their tokens stand for, whatever single windows caught", () => {
  fc.assert(
    fc.property(progress, ratios, (moved, caught) => {
      const intervals = intervalsOf(moved);
      const evidence = evidenceOf(intervals, caught);
      for (const interval of intervals)
        expect(total(sharedPieces(evidence, interval)) / second).toBeCloseTo(interval.progress / 100, 6);
    }),
  );
});

test("sharedPieces() gives the first tokens what steps take, and doubts all of it, although no window caught work", () => {
  fc.assert(
    fc.property(progress, (moved) => {
      const intervals = intervalsOf(moved).map((interval) => ({ ...interval, ownSteps: interval.progress }));
      const evidence = { ...evidenceOf(intervals, [0]), perProgress: undefined, samples: 0 };
      for (const interval of intervals) {
        expect(total(sharedPieces(evidence, interval)) / second).toBeCloseTo(interval.ownSteps / 100, 6);
        expect(shareDoubt(evidence, interval)).toBe(1);
      }
    }),
  );
});

test("without a pace single windows say it, as often as they are right: on average", () => {
  const intervals = intervalsOf(Array.from({ length: 12 }, () => 10));
  const caught = [0, 0, 0.4];
  const evidence = { ...evidenceOf(intervals, caught), perProgress: undefined };
  const found = intervals.reduce((sum, interval) => sum + total(sharedPieces(evidence, interval)), 0);
  expect(found / second).toBeCloseTo((60 * 0.4 * 1.1) / 3, 6);
});

test("sharedPieces() takes windows between copies for execution where they caught work, however busy, as far as requests fill one", () => {
  const ratio = fc.nat(1000).map((part) => part / 1000);
  fc.assert(
    fc.property(ratio, fc.double({ min: 0, max: 1, noNaN: true }), (busy, perHit) => {
      const intervals = intervalsOf([10, 10, 10, 10]).map((interval, index) => ({
        ...interval,
        ...{ from: index * second, to: (index + 1) * second, isOfCopy: true as const },
      }));
      const evidence = { ...evidenceOf(intervals, [busy]), stay: true, short: false, perHit };
      const wanted = perHit * (busy >= 0.01 ? 1 : 0) + (1 - perHit) * Math.min(1, 1.1 * busy);
      for (const interval of intervals)
        expect(total(sharedPieces(evidence, interval)) / second).toBeCloseTo(wanted, 6);
    }),
  );
});

test("shareDoubt() shrinks with the number of windows that caught work", () => {
  const [interval] = intervalsOf([10]);
  if (interval === undefined) throw new Error("an interval was made");
  const doubtOf = (samples: number) => shareDoubt({ ...evidenceOf([interval], [0.3]), samples }, interval);
  expect(doubtOf(0)).toBe(1);
  expect(doubtOf(4)).toBeGreaterThan(0.5);
  expect(doubtOf(100)).toBeLessThan(0.5);
});

/** Seconds of execution that begins and ends at the given seconds, as signs show it, and where it was. */
function longRequest(begin: number, end: number, pollSeconds: number, readSeconds: number, phase: number) {
  const isOn = (at: number): boolean => at >= begin && at < end;
  const windows = Array.from({ length: Math.ceil(100 / readSeconds) }, (_, index) => {
    const to = (index + 1) * readSeconds;
    const busy = Math.max(0, Math.min(end, to) - Math.max(begin, to - 0.2)) / 0.2;
    return { from: (to - readSeconds) * second, to: to * second, busyRatio: busy, sampled: true };
  });
  let found = 0;
  for (let from = phase; from + pollSeconds < 100; from += pollSeconds) {
    const to = from + pollSeconds;
    const executed = Math.max(0, Math.min(end, to) - Math.max(begin, from));
    const [interval] = intervalsOf([100 * executed]) as [PollInterval];
    const ends = { inFlightFrom: isOn(from) ? 1 : 0, inFlightTo: isOn(to) ? 1 : 0 };
    const kind = executed > 0 ? ("moved" as const) : ("quiet" as const);
    const pieces = sampledStretches(
      windows,
      { ...interval, ...ends, kind, from: from * second, to: to * second, ownSteps: 100 * executed },
      { nanosPerStep: second / 100, error: 0.2 },
    );
    for (const piece of pieces ?? []) {
      expect(piece.from).toBeGreaterThanOrEqual(from * second);
      expect(piece.to).toBeLessThanOrEqual(to * second + 1);
      found += (piece.to - piece.from) / second;
    }
  }
  return found;
}

test("sampledStretches() finds a long request to the distance of two signs at each end, and all of it on average", () => {
  let [errors, state] = [0, 7];
  const between = (least: number, most: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return least + ((most - least) * state) / 2 ** 32;
  };
  const cases = [1, 2, 5].flatMap((poll) =>
    [1, 2, 5].flatMap((read) => Array.from({ length: 40 }, () => [poll, read])),
  );
  for (const [poll, read] of cases as [number, number][]) {
    const [begin, length] = [between(10, 40), between(7, 40)];
    const found = longRequest(begin, begin + length, poll, read, between(0, 1));
    expect(Math.abs(found - length)).toBeLessThanOrEqual(2 * Math.min(poll, read));
    errors += found - length;
  }
  expect(Math.abs(errors / cases.length)).toBeLessThan(0.1);
});

test("sampledStretches() believes tokens where two signs caught different short requests", () => {
  const windows = [{ from: 0, to: 2 * second, busyRatio: 0.9, sampled: true }];
  const [interval] = intervalsOf([1]) as [PollInterval];
  const caught = { ...interval, from: second, to: 2 * second, inFlightFrom: 1, inFlightTo: 1, ownSteps: 10 };
  const foundOf = (requests: number): number => {
    const pace = { nanosPerStep: second / 100, error: 0.2 };
    return total(sampledStretches(windows, { ...caught, requests }, pace) ?? []) / second;
  };
  expect(foundOf(2)).toBeLessThan(0.2);
  // A long prompt makes no tokens either.
  expect(foundOf(0)).toBeCloseTo(1, 6);
});

test("sampledStretches() gives all the time to one request that signs show throughout, whatever its steps took before", () => {
  const pace = fc.double({ min: 0.05, max: 20, noNaN: true });
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 10 }),
      fc.integer({ min: 1, max: 5 }),
      pace,
      (length, read, off) => {
        const [interval] = intervalsOf([1]) as [PollInterval];
        const to = length * second;
        const windows = Array.from({ length: Math.ceil(length / read) + 1 }, (_, index) => ({
          ...{ from: index * read * second, to: (index + 1) * read * second, busyRatio: 0.06, sampled: true },
        }));
        const one = { ...interval, to, inFlightFrom: 2, inFlightTo: 3, requests: 0, ownSteps: 100 * length };
        const found = sampledStretches(windows, one, { nanosPerStep: (off * second) / 100, error: 0.1 });
        expect(total(found ?? [])).toBe(to);
      },
    ),
  );
});

test("sampledStretches() lets tokens say where between two signs far apart a request ended, as far as they know", () => {
  const windows = [{ from: 0, to: 10 * second, busyRatio: 0, sampled: true }];
  const [interval] = intervalsOf([1]) as [PollInterval];
  const ended = { ...interval, from: 0, to: 10 * second, inFlightFrom: 1, inFlightTo: 0 };
  const foundOf = (ownSteps: number): number => {
    const pace = { nanosPerStep: second / 100, error: 0.2 };
    const pieces = sampledStretches(windows, { ...ended, ownSteps }, pace) ?? [];
    expect(pieces[0]?.from).toBe(0);
    return total(pieces) / second;
  };
  expect(foundOf(0)).toBeCloseTo(4.95, 6);
  expect(foundOf(200)).toBeGreaterThan(2);
  expect(foundOf(200)).toBeLessThan(2.5);
  expect(foundOf(800)).toBeGreaterThan(5.5);
  expect(foundOf(800)).toBeLessThan(8);
});
