// How much execution a second of busy GPU stands for: learned from the gauge, with an error that covers how far off it is.
import fc from "fast-check";
import { expect, test } from "vitest";
import type { BesideShare } from "../../../agent/correlate/activity/beside.ts";
import {
  besideShare,
  keepsBusy,
  observePresence,
  withoutThin,
} from "../../../agent/correlate/activity/beside.ts";
import type { ActivityWindow, PollInterval } from "../../../agent/correlate/activity/evidence.ts";
import { pollInterval } from "../../../agent/correlate/activity/intervals.ts";
import type { Level } from "../../../agent/correlate/activity/learned.ts";
import {
  areBrief,
  longestOf,
  observeEnded,
  observeLasted,
  observeStay,
  requestsStay,
} from "../../../agent/correlate/activity/lengths.ts";
import {
  createLevel,
  executionError,
  executionPerBusy,
  hasShortRequests,
  observeGauge,
  observePeak,
  observeRoughness,
  observeSteps,
} from "../../../agent/correlate/activity/level.ts";
import { Random } from "../../simulator/random.ts";

const second = 1_000_000_000;

/** A level after `polls` polls, each in a window of 10 s, of an engine that keeps the GPU busy for `busyRatio` of execution. */
function levelAfter(polls: number, busyRatio: number, chances: readonly number[], steps = 0) {
  const level = createLevel();
  for (let index = 0; index < polls; index++) {
    const from = index * 10 * second;
    const executed = 0.2 + 0.4 * (chances[2 * index] as number);
    const window = { from, to: from + 10 * second, busyRatio: executed * busyRatio };
    const inFlight = (chances[2 * index + 1] as number) < executed ? 1 : 0;
    const poll = {
      at: from + 5 * second,
      inputTokens: index,
      outputTokens: index,
      progress: "step",
    } as const;
    observeGauge(level, { ...poll, inFlight }, [window]);
    observeSteps(level, steps, window.busyRatio * 10 * second);
  }
  return level;
}

const drawn = (seed: number): number[] => {
  const random = new Random(seed);
  return Array.from({ length: 400 }, () => random.next());
};

test("executionError() covers how far off executionPerBusy() is, and shrinks as polls come in", () => {
  let [covered, before, after] = [0, 0, 0];
  for (let seed = 1; seed <= 90; seed++) {
    const busyRatio = [0.5, 0.7, 0.9][seed % 3] as number;
    const [few, many] = [20, 200].map((polls) => levelAfter(polls, busyRatio, drawn(seed)));
    if (few === undefined || many === undefined) throw new Error("two levels were learned");
    const off = Math.abs(Math.log(executionPerBusy(many) * busyRatio));
    if (off <= 2 * executionError(many)) covered++;
    before += executionError(few);
    after += executionError(many);
  }
  expect(after).toBeLessThan(0.8 * before);
  expect(covered).toBeGreaterThanOrEqual(0.9 * 90);
});

test("prompts that fill windows do not hide that decode steps leave pauses", () => {
  fc.assert(
    fc.property(
      fc.double({ min: 0.6, max: 0.86, noNaN: true }),
      fc.double({ min: 0.1, max: 0.5, noNaN: true }),
      fc.integer(),
      (decodeBusy, fullShare, seed) => {
        const random = new Random(seed);
        const level = createLevel();
        const windows: ActivityWindow[] = [];
        for (let at = 0; at < 300; at++) {
          // Requests of half a second, one after the other with pauses: a window that is not full is executed for a part of it.
          const executed = random.next() < 0.5 ? 1 : random.next();
          const isPrompt = executed === 1 && random.next() < fullShare;
          const busyRatio = isPrompt ? 1 : executed * decodeBusy;
          windows.push({ from: at * second, to: (at + 0.2) * second, busyRatio });
          observePeak(level, windows.at(-1) as ActivityWindow);
          const poll = {
            at: (at + 0.1) * second,
            inputTokens: at,
            outputTokens: at,
            progress: "step",
          } as const;
          observeGauge(level, { ...poll, inFlight: random.next() < executed ? 1 : 0 }, windows);
        }
        expect(Math.abs(Math.log(executionPerBusy(level) * decodeBusy))).toBeLessThan(
          3.5 * executionError(level),
        );
        expect(executionError(level)).toBeLessThan(0.1);
      },
    ),
  );
});

test("short decode steps say that the host takes longer than the GPU", () => {
  const of = (nanos: number, seed: number): number =>
    executionPerBusy(levelAfter(6, 0.2, drawn(seed), (0.8 * second) / nanos));
  for (let seed = 1; seed <= 20; seed++) expect(of(1_000_000, seed)).toBeGreaterThan(of(10_000_000, seed));
});

test.each([
  [0.01, true],
  [0.045, true],
  [0.4, false],
  [5, false],
])(
  "areBrief() tells requests of %d s by Little's law, at any distance of polls: %s",
  (lengthSeconds, isBrief) => {
    for (const pollSeconds of [1, 5])
      for (let seed = 1; seed <= 20; seed++) {
        const random = new Random(seed);
        const level = createLevel();
        for (let at = 0; at < 300; at += pollSeconds) {
          const inFlight = Math.floor(4 * lengthSeconds + random.next());
          const requests = 4 * pollSeconds;
          const [from, to] = [(at - pollSeconds) * second, at * second];
          observeEnded(level, { inFlightTo: inFlight, requests, to }, [{ from, to, seen: true }]);
        }
        expect(areBrief(level)).toBe(isBrief);
      }
  },
);

test("areBrief() is false of requests that come together and take a while, wherever polls fall", () => {
  const burst = fc.record({
    rest: fc.integer({ min: 300, max: 6000 }),
    length: fc.integer({ min: 150, max: 2000 }),
  });
  const world = fc.record({
    bursts: fc.array(burst, { minLength: 1, maxLength: 40 }),
    requests: fc.integer({ min: 1, max: 200 }),
    distance: fc.integer({ min: 500, max: 10_000 }),
    phase: fc.nat(10_000),
  });
  fc.assert(
    fc.property(world, ({ bursts, distance, phase, requests }) => {
      const all: { from: number; to: number }[] = [];
      let end = 0;
      for (const { length, rest } of bursts) {
        all.push({ from: end + rest, to: end + rest + length });
        end += rest + length;
      }
      const level = createLevel();
      for (let from = -(phase % distance); from < end; from += distance) {
        const to = from + distance;
        const flying = all.filter((piece) => piece.from < to && piece.to >= to);
        const ended = all.filter((piece) => piece.to >= from && piece.to < to);
        const work = all
          .filter((piece) => piece.from < to && piece.to > from)
          .map((piece) => ({
            from: Math.max(piece.from, from) * 1e6,
            to: Math.min(piece.to, to) * 1e6,
            seen: true,
          }));
        const sight = { inFlightTo: requests * flying.length, requests: requests * ended.length };
        observeEnded(level, { ...sight, to: to * 1e6 }, work);
        expect(areBrief(level)).toBe(false);
      }
    }),
  );
});

test("withoutThin() leaves out what is much emptier than the GPU is while a request is in flight", () => {
  const level = createLevel();
  const fifth = second / 5;
  const busy = (index: number): number => (index % 10 < 5 ? 0.9 : 0.05);
  const windows = Array.from({ length: 100 }, (_, index) => ({
    from: index * fifth,
    to: (index + 1) * fifth,
    busyRatio: busy(index),
  }));
  const work = [{ from: 0, to: 20 * second, seen: true }];
  expect(withoutThin(level, work, windows, false)).toBe(work);
  for (let index = 0; index < 100; index += 10) {
    const poll = {
      at: index * fifth + fifth / 2,
      inputTokens: 0,
      outputTokens: index,
      progress: "step",
    } as const;
    observePresence(level, { ...poll, inFlight: 1 }, windows);
  }
  expect(keepsBusy(level)).toBe(true);
  const thick = withoutThin(level, work, windows, false);
  expect(thick.reduce((sum, { from, to }) => sum + to - from, 0)).toBe(10 * second);
  expect(thick.every(({ from, to }) => windows.some((window) => window.from === from && to > from))).toBe(
    true,
  );
});

test("keepsBusy() goes by what most polls see: windows that are seldom empty, and not those that mostly are", () => {
  const seenIn = (emptyOf10: number): boolean => {
    const level = createLevel();
    const random = new Random(5);
    for (let index = 0; index < 400; index++) {
      const window = { from: index * second, to: index * second + second / 5 };
      const busyRatio = 10 * random.next() < emptyOf10 ? 0.1 : 0.9;
      const counted = { inputTokens: 0, outputTokens: index, progress: "step" } as const;
      const poll = { ...counted, at: index * second + second / 10, inFlight: 1 };
      observePresence(level, poll, [{ ...window, busyRatio }]);
    }
    return keepsBusy(level);
  };
  expect([0.5, 5, 9].map(seenIn)).toEqual([true, false, false]);
});

test("besideShare() doubts a pace by its error, and all of what it has no pace for", () => {
  const windows = [{ from: 0, to: 10 * second, busyRatio: 0.3 }];
  const interval = {
    ...({ from: 0, to: 10 * second, open: false, kind: "moved", progress: 20, steps: 20 } as const),
    ...{
      ownSteps: 20,
      lone: 20,
      activeNanos: undefined,
      inFlightFrom: 0,
      inFlightTo: 0,
      all: [],
      work: [],
      workNanos: 0,
    },
    ...{ spared: [], contended: true, besideThin: false, beside: false },
    ...{ ended: undefined, doubt: undefined },
  } as const;
  const shareOf = (level: Level, perProgress: number | undefined, steps: Partial<PollInterval> = {}) => {
    const error = executionError(level);
    const learned = { perDuration: undefined, pace: undefined, paceError: 0, stay: false, learned: true };
    const perStep = { nanosPerStep: second / 100, error: 1 };
    const beside = { beside: undefined, seat: 0, perStep, short: true };
    const more = {
      error,
      perHit: 0,
      hits: { share: 0.5, error: 0.5 },
      samples: 0,
      siblings: [],
      isAlone: true,
      ...beside,
      ...learned,
    };
    const perBusy = executionPerBusy(level);
    const evidence = { windows, intervals: [], perBusy, level, perProgress, ...more };
    return besideShare(evidence, { ...interval, ...steps });
  };
  const [few, many] = [20, 200].map((polls) => levelAfter(polls, 0.7, drawn(3))) as [Level, Level];
  const total = ({ own }: BesideShare): number => own.reduce((sum, { from, to }) => sum + to - from, 0);
  // A second of its own, and what it waits for others that execute at the same time: they had two.
  expect(total(shareOf(many, second / 20)) / second).toBeGreaterThan(1);
  expect(total(shareOf(many, second / 20)) / second).toBeLessThan(1.25);
  // Without a pace, what GPUs make of twenty steps.
  expect(total(shareOf(many, undefined)) / second).toBeGreaterThan(0.14);
  expect(total(shareOf(many, undefined)) / second).toBeLessThan(0.28);
  expect(shareOf(many, undefined).ratio).toBe(1);
  // Those in flight at once are executed together: their tokens are no steps of their own.
  const asOne = shareOf(many, undefined);
  expect(shareOf(many, undefined, { lone: 640 })).toEqual(asOne);
  expect(shareOf(many, undefined, { lone: 20, progress: 640 })).toEqual(asOne);
  expect(total(shareOf(many, undefined, { lone: 640, steps: 0 }))).toBeGreaterThan(10 * total(asOne));
  for (const level of [few, many])
    expect(shareOf(level, second / 20).ratio).toBeGreaterThanOrEqual(Math.min(1, 2 * executionError(level)));
});

/** Polls that are `distance` apart, of requests that come by chance and take `length`, as they were seen in flight. */
function stayingAfter(
  polls: number,
  distance: number,
  length: number,
  perSecond: number,
  random: Random,
): boolean {
  const level = createLevel();
  let before = 0;
  for (let index = 1; index <= polls; index++) {
    const inFlight = Math.floor(perSecond * length + random.next());
    const requests = Math.floor(perSecond * distance + random.next());
    const [from, to] = [(index - 1) * distance * second, index * distance * second];
    observeEnded(level, { inFlightTo: inFlight, requests, to }, [{ from, to, seen: true }]);
    observeStay(level, before, inFlight);
    before = inFlight;
  }
  return requestsStay(level);
}

test("requestsStay() presumes nothing of requests that end far more often than polls read one", () => {
  for (let seed = 1; seed <= 30; seed++) {
    const random = new Random(seed);
    expect(stayingAfter(3, 5, 0.02, 4, random)).toBe(false);
    expect(stayingAfter(3, 5, 8, 0.5, random)).toBe(true);
    expect(stayingAfter(40, 1, 20, 2, random)).toBe(true);
  }
});

/** A level after windows of a second whose busy shares these are, and what polls then read and saw end. */
function levelOf(shares: readonly number[], inFlight: number, requests: number) {
  const level = createLevel();
  const windows: ActivityWindow[] = [];
  for (const busyRatio of shares) {
    const from = windows.length * 200_000_000;
    const window = { from, to: from + 200_000_000, busyRatio };
    windows.push(window);
    observePeak(level, window);
    observeRoughness(level, windows);
  }
  observeEnded(level, { inFlightTo: inFlight, requests, to: second }, [{ from: 0, to: second, seen: true }]);
  return level;
}

test("hasShortRequests() knows from the first polls on where many requests end and none is read", () => {
  const random = new Random(3);
  for (let seed = 1; seed <= 30; seed++) {
    const shares = Array.from({ length: 10 }, () => random.pick([0, random.between(0.02, 0.35)]));
    expect(hasShortRequests(levelOf(shares, 0, 6))).toBe(true);
    // Some are read, or none ended: then they may be long, of an engine that keeps the GPU idle for the most part.
    expect(hasShortRequests(levelOf([0.15, 0.15, 0.16, 0.15], 2, 6))).toBe(false);
    expect(hasShortRequests(levelOf([0.15, 0.15, 0.16, 0.15], 0, 0))).toBe(false);
    // Windows this even are no chance, whatever the gauge says.
    const even = Array.from({ length: 60 }, () => random.between(0.14, 0.16));
    expect(hasShortRequests(levelOf(even, 0, 6))).toBe(false);
  }
});

test("the first token of a request is no decode step", () => {
  const poll = { inputTokens: 0, progress: "step", inFlight: 0 } as const;
  const [before, after] = [
    { ...poll, at: 0, outputTokens: 0 },
    { ...poll, at: second, outputTokens: 30, requests: 10 },
  ];
  const stepsOf = (requests: number): number =>
    pollInterval(before, { ...after, requests }, second, "step", [], [], [], 1).steps;
  expect(stepsOf(10)).toBe(20);
  expect(stepsOf(30)).toBe(0);
  expect(stepsOf(40)).toBe(0);
});

/** What polls each second and the driver's last window, read right after each, say of requests that execute in `spans`. */
function levelBySamples(
  spans: readonly (readonly [from: number, to: number])[],
  seconds: number,
  readAfter: number,
  gaugeLag: number,
  busyAt: () => number,
): Level {
  const level = createLevel();
  const windows: ActivityWindow[] = [];
  for (let at = 0; at < seconds; at++) {
    const to = at + readAfter;
    let busy = 0;
    for (const [start, end] of spans) busy += Math.max(0, Math.min(end, to) - Math.max(start, to - 0.2));
    const busyRatio = Math.min(1, (busy / 0.2) * busyAt());
    windows.push({ from: (to - 1) * second, to: to * second, busyRatio, sampled: true });
    const polled = at - 1;
    const inFlight = spans.filter(([start, end]) => polled >= start + gaugeLag && polled < end).length;
    const poll = { at: polled * second, inputTokens: at, outputTokens: at, progress: "step" } as const;
    if (polled > 0) observeGauge(level, { ...poll, inFlight }, windows);
  }
  return level;
}

test("hasShortRequests() is false of long requests by single windows, full or not, that gauges show late", () => {
  let wrong = 0;
  for (let seed = 1; seed <= 60; seed++) {
    const random = new Random(seed);
    const spans: [number, number][] = [];
    for (let at = 0; at < 300; ) {
      const start = at + 0.8 + 1.5 * random.next();
      at = start + 1 + 2 * random.next();
      spans.push([start, at]);
    }
    const usual = [0.1, 0.3, 0.95][seed % 3] as number;
    const busyAt = () => usual * (0.7 + 0.35 * random.next());
    const level = levelBySamples(spans, 300, 0.02 + 0.17 * random.next(), 0.3 * random.next(), busyAt);
    if (hasShortRequests(level)) wrong++;
  }
  expect(wrong).toBeLessThanOrEqual(0.1 * 60);
});

test("hasShortRequests() is true of requests shorter than single windows", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const random = new Random(seed);
    const spans: [number, number][] = [];
    for (let at = 0; at < 300; ) {
      const start = at + 0.15 * random.next();
      at = start + 0.02 + 0.04 * random.next();
      spans.push([start, at]);
    }
    expect(hasShortRequests(levelBySamples(spans, 300, 0.02 + 0.17 * random.next(), 0, () => 0.9))).toBe(
      true,
    );
  }
});

test("hasShortRequests() is false of long requests on a page that shows any instant around its poll", () => {
  fc.assert(
    fc.property(
      fc.double({ min: 0.7, max: 0.89, noNaN: true }),
      fc.integer({ min: 1500, max: 3000 }),
      fc.integer(),
      (busyRatio, blurMs, seed) => {
        const random = new Random(seed);
        const level = createLevel();
        // Bursts of a few seconds, each one request after the other, in windows of 200 ms.
        const windows: ActivityWindow[] = [];
        while (windows.length < 1000) {
          const works = random.whole(15, 60);
          const rests = random.whole(5, 40);
          for (let index = 0; index < works + rests; index++) {
            const from = windows.length * 0.2 * second;
            windows.push({ from, to: from + 0.2 * second, busyRatio: index < works ? busyRatio : 0 });
            observePeak(level, windows.at(-1) as ActivityWindow);
            observeRoughness(level, windows);
          }
        }
        const blur = blurMs * 1e6;
        for (let at = 5 * second; at + blur < windows.length * 0.2 * second; at += 2 * blur) {
          const shown = Math.floor((at + (2 * random.next() - 1) * blur) / (0.2 * second));
          const inFlight = (windows[shown]?.busyRatio ?? 0) > 0 ? 1 : 0;
          const poll = { at, inputTokens: at, outputTokens: at, progress: "step", inFlight } as const;
          observeGauge(level, poll, windows, false, at, blur);
        }
        expect(hasShortRequests(level)).toBe(false);
      },
    ),
  );
});

test("longestOf() is no less than those of the last minute took on average, and unknown while few ended", () => {
  const some = fc.record({ requests: fc.nat(9), each: fc.integer({ min: 1e6, max: 1e10 }) });
  fc.assert(
    fc.property(fc.array(some, { minLength: 1, maxLength: 60 }), (polls) => {
      const level = createLevel();
      let most = 0;
      for (const { each, requests } of polls) {
        const seen = { requests, nanos: requests * each, firstTokens: 0, firstTokenNanos: 0 };
        observeLasted(level, { ended: { ...seen, isExecution: true } });
        if (requests > 0) most = Math.max(most, each);
      }
      const count = polls.reduce((sum, { requests }) => sum + requests, 0);
      if (count < 20) expect(longestOf(level)).toBeUndefined();
      if (count < 30) return;
      expect(longestOf(level)).toBeGreaterThan(0.7 * most);
      expect(longestOf(level)).toBeLessThanOrEqual(most * (1 + 1e-9));
    }),
  );
});
