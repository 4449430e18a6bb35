// Whose the work of a shared GPU was: by windows that the driver credits to one process each, and by what progress makes of them.
import fc from "fast-check";
import { expect, test } from "vitest";
import { sharesWindow } from "../../../agent/correlate/activity/beside.ts";
import type { Credit } from "../../../agent/correlate/activity/evidence.ts";
import type { Beside } from "../../../agent/correlate/activity/learned.ts";
import { residenceOf } from "../../../agent/correlate/activity/lengths.ts";
import { createLevel } from "../../../agent/correlate/activity/level.ts";
import { paceOfShort, presumedPace } from "../../../agent/correlate/activity/presumed.ts";
import {
  aloneWith,
  besidePace,
  besideWith,
  nothingBeside,
  ownedIn,
} from "../../../agent/correlate/activity/split.ts";
import { toldWith } from "../../../agent/correlate/activity/told.ts";
import { Random } from "../../simulator/random.ts";
import { second } from "../trace-replay.ts";

const window = second / 5;
const perReading = 5;

interface Drawn {
  readonly busy: readonly number[];
  /** Busy share of each process in each window. */
  readonly by: readonly (readonly number[])[];
  /** The driver's newest sample of each process, per reading. */
  readonly readings: readonly {
    readonly from: number;
    readonly to: number;
    readonly samples: readonly { readonly at: number; readonly pid: number; readonly smRatio: number }[];
  }[];
}

/** Processes that come and go by themselves, each by its own load, and windows credited to one of them by chance. */
function drawn(random: Random, loads: readonly number[], seconds: number): Drawn {
  const by: number[][] = [];
  const readings: Drawn["readings"][number][] = [];
  for (let at = 0; at < seconds; at++) {
    const newest = new Map<number, { at: number; pid: number; smRatio: number }>();
    for (let index = 0; index < perReading; index++) {
      const wanted = loads.map((load) => (random.next() < load ? 0.2 + 0.3 * random.next() : 0));
      const all = wanted.reduce((sum, part) => sum + part, 0);
      const parts = wanted.map((part) => part / Math.max(1, all));
      by.push(parts);
      let left = random.next() * parts.reduce((sum, part) => sum + part, 0);
      const pid = parts.findIndex((part) => {
        left -= part;
        return part > 0 && left <= 0;
      });
      if (pid < 0) continue;
      newest.set(pid, { at: (at * perReading + index + 1) * window, pid, smRatio: parts[pid] as number });
    }
    readings.push({ from: at * second, to: (at + 1) * second, samples: [...newest.values()] });
  }
  return { by, busy: by.map((parts) => parts.reduce((sum, part) => sum + part, 0)), readings };
}

function windowsOf(busy: readonly number[]): { from: number; to: number; busyRatio: number }[] {
  return busy.map((busyRatio, index) => ({ from: index * window, to: (index + 1) * window, busyRatio }));
}

/** What is learned of process 0 over all readings; its progress is as much as it was busy. */
function learned({ busy, by, readings }: Drawn, isCredited: boolean): Beside {
  const windows = windowsOf(busy);
  let beside = nothingBeside;
  for (const [index, reading] of readings.entries()) {
    const first = index * perReading;
    const sum = (amounts: readonly number[]): number => amounts.reduce((all, amount) => all + amount, 0);
    const own = sum(by.slice(first, first + perReading).map((parts) => parts[0] as number));
    const all = sum(busy.slice(first, first + perReading));
    const owned = ownedIn(reading, windows, [0]);
    const credit = { from: reading.from, to: reading.to, credited: true, ...(owned && { owned }) };
    const interval = { from: reading.from, to: reading.to, besideThin: true, lone: 100 * own };
    beside = besideWith(beside, interval, isCredited ? [credit] : [], all * window);
  }
  return beside;
}

test("what a reading tells is divided among the processes, wholly", () => {
  const loads = fc.array(
    fc.nat(10).map((tenths) => tenths / 10),
    { minLength: 1, maxLength: 4 },
  );
  fc.assert(
    fc.property(fc.nat(1e6), loads, (seed, by) => {
      const { busy, readings } = drawn(new Random(seed), by, 6);
      const windows = windowsOf(busy);
      for (const reading of readings) {
        const parts = by.map((_, pid) => ownedIn(reading, windows, [pid]));
        const [first] = parts;
        if (first === undefined) expect(reading.samples).toEqual([]);
        else expect(parts.reduce((sum, part) => sum + (part?.own ?? 0), 0)).toBeCloseTo(first.seen, 3);
      }
    }),
  );
});

test("where in a window readings fall changes nothing", () => {
  fc.assert(
    fc.property(fc.nat(1e6), fc.double({ min: 0, max: 0.99, noNaN: true }), (seed, part) => {
      const { busy, readings } = drawn(new Random(seed), [0.4, 0.6], 6);
      const later = Math.floor(part * window);
      for (const reading of readings) {
        const { from, samples, to } = reading;
        const moved = { from: from + later, to: to + later, samples };
        for (const pid of [0, 1])
          expect(ownedIn(moved, windowsOf(busy), [pid])).toEqual(ownedIn(reading, windowsOf(busy), [pid]));
      }
    }),
  );
});

test("means since the last reading divide it by their ratios", () => {
  const samples = [0.1, 0.3].map((smRatio, pid) => ({ at: second, pid, smRatio }));
  const found = ownedIn({ from: 0, to: second, samples }, [], [1]);
  expect(found?.own).toBeCloseTo(0.3 * second, 0);
  expect(found?.seen).toBeCloseTo(0.4 * second, 0);
});

test.each([
  ["credits", true],
  ["progress alone", false],
] as const)(
  "by %s a server's busy time is found as nearly as is said, whoever is beside it",
  (_, isCredited) => {
    let [off, within, all] = [0, 0, 0];
    for (let seed = 1; seed <= 60; seed++) {
      const random = new Random(seed);
      const loads = Array.from({ length: 2 + (seed % 3) }, () => 0.1 + 0.5 * random.next());
      const found = besidePace(learned(drawn(random, loads, 240), isCredited));
      if (found === undefined) throw new Error(`seed ${seed} made no progress`);
      const error = found.perProgress / (window / 100) - 1;
      off += error;
      all++;
      if (Math.abs(error) <= 2 * found.error) within++;
    }
    expect(Math.abs(off / all)).toBeLessThan(0.05);
    expect(within / all).toBeGreaterThanOrEqual(0.9);
  },
);

/** Short requests beside one that fills the GPU: what a few of its windows, credited by chance, say of them. */
function besideFull(random: Random, seconds: number, perSecond: number, part: number): Beside {
  let beside = nothingBeside;
  for (let at = 0; at < seconds; at++) {
    const own = random.next() < part ? second / 5 : 0;
    const seen = second / 5;
    const owned = { own, seen, ownOwn: own * own, ownSeen: own * seen, seenSeen: seen * seen };
    const credit = { from: at * second, to: (at + 1) * second, credited: own > 0, owned };
    const interval = { from: at * second, to: (at + 1) * second, besideThin: false, lone: perSecond };
    beside = besideWith(beside, interval, [credit], second);
  }
  return beside;
}

test("what was seen without others outweighs credits that few windows gave, and says how well it is known", () => {
  let [off, within, sharper] = [0, 0, 0];
  const seeds = 80;
  for (let seed = 1; seed <= seeds; seed++) {
    const random = new Random(seed);
    const [perSecond, part] = [5 + 15 * random.next(), 0.04 + 0.06 * random.next()];
    const pace = (part * second) / perSecond;
    const shared = besideFull(random, 30, perSecond, part);
    let both = shared;
    for (let count = 0; count < 20; count++) {
      const progress = perSecond * (0.5 + random.next());
      both = aloneWith(both, progress, progress * pace * (0.8 + 0.4 * random.next()));
    }
    const found = besidePace(both);
    const byCredits = besidePace(shared);
    if (found === undefined || byCredits === undefined) throw new Error(`seed ${seed} made no progress`);
    const error = found.perProgress / pace - 1;
    off += error / seeds;
    if (Math.abs(error) <= 2 * found.error) within++;
    if (Math.abs(error) < Math.abs(byCredits.perProgress / pace - 1)) sharper++;
  }
  expect(Math.abs(off)).toBeLessThan(0.03);
  expect(within / seeds).toBeGreaterThanOrEqual(0.95);
  expect(sharper / seeds).toBeGreaterThanOrEqual(0.85);
});

test("a driver that credits each of those in a window alike misleads no pace that the time without others shows", () => {
  let within = 0;
  const seeds = 60;
  for (let seed = 1; seed <= seeds; seed++) {
    const random = new Random(seed);
    const [perSecond, part] = [5 + 15 * random.next(), 0.03 + 0.04 * random.next()];
    const pace = (part * second) / perSecond;
    // It ran in so many windows for a part of each, and is credited with half of them.
    let beside = besideFull(random, 300, perSecond, part * (2 + 2 * random.next()));
    for (let count = 0; count < 20; count++) {
      const progress = perSecond * (0.5 + random.next());
      beside = aloneWith(beside, progress, progress * pace * (0.8 + 0.4 * random.next()));
    }
    const found = besidePace(beside);
    if (found !== undefined && Math.abs(found.perProgress / pace - 1) <= 2 * found.error) within++;
  }
  expect(within / seeds).toBeGreaterThanOrEqual(0.95);
});

test("before anything was seen short requests are as long as GPUs make them, never all that was done and more", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1e6 }), (thousandths) => {
      const most = thousandths * 1e3;
      const { error, perProgress } = paceOfShort(most);
      expect(perProgress).toBeLessThanOrEqual(most);
      const [least, greatest] = [most / 2, presumedPace.perProgress].sort((one, other) => one - other);
      expect(perProgress).toBeGreaterThanOrEqual(Math.min(most, least as number) * 0.999);
      expect(perProgress).toBeLessThanOrEqual((greatest as number) * 1.001);
      expect(error).toBeLessThan(presumedPace.error);
    }),
  );
});

test("a long window is shared where it reaches over an interval and over others' time, a near one never", () => {
  const spans = fc.tuple(fc.nat(60), fc.integer({ min: 1, max: 12 }));
  fc.assert(
    fc.property(spans, spans, fc.constantFrom(0.2, 5, 10), ([from, length], [at, busy], seconds) => {
      const windows = Array.from({ length: Math.ceil(80 / seconds) }, (_, index) => ({
        ...{ from: index * seconds * second, to: (index + 1) * seconds * second, busyRatio: 0.5 },
      }));
      const interval = { from: from * second, to: (from + length) * second };
      const peer = { from: at * second, to: (at + busy) * second, stranger: false };
      const both = windows.some(
        (one) => one.from < interval.to && one.to > interval.from && one.from < peer.to && one.to > peer.from,
      );
      expect(sharesWindow(windows, [peer], interval)).toBe(seconds >= 1 && both);
    }),
  );
});

test("how long requests are there is told by those that polls read, as nearly as is said", () => {
  let within = 0;
  for (let seed = 1; seed <= 40; seed++) {
    const random = new Random(seed);
    const [perSecond, length] = [2 + 4 * random.next(), 0.03 + 0.1 * random.next()];
    const level = createLevel();
    for (let index = 0; index < 200; index++) {
      const inFlight = random.next() < perSecond * length ? 1 : 0;
      level.inside += inFlight;
      level.polls++;
      level.ended += perSecond;
      level.sightNanos += second;
    }
    const found = residenceOf(level);
    if (found === undefined) throw new Error(`seed ${seed} read too few`);
    if (Math.abs(found.nanos / (length * second) - 1) <= 2 * found.error) within++;
  }
  expect(within).toBeGreaterThanOrEqual(36);
  expect(residenceOf(createLevel())).toBeUndefined();
});

test("a server of which little was counted has no pace", () => {
  expect(besidePace(nothingBeside)).toBeUndefined();
});

test("beside one that fills the GPU progress says nothing of a pace, however readings are that credit nobody", () => {
  const interval = fc.record({ lone: fc.integer({ min: 1, max: 40_000 }), thousandths: fc.nat(1000) });
  const seen = fc.array(interval, { minLength: 1, maxLength: 30, size: "max" });
  fc.assert(
    fc.property(seen, seen, (thin, full) => {
      const learn = (before: Beside, besideThin: boolean, intervals: typeof thin): Beside =>
        intervals.reduce((beside, { lone, thousandths }, at) => {
          const [from, to] = [at * second, (at + 1) * second];
          const owned = { own: 0, seen: 0, ownOwn: 0, ownSeen: 0, seenSeen: 0 };
          const credits = [{ from, to, credited: false, owned }];
          return besideWith(beside, { from, to, besideThin, lone }, credits, (thousandths * second) / 1000);
        }, before);
      expect(besidePace(learn(nothingBeside, false, full))).toBeUndefined();
      const known = learn(nothingBeside, true, [{ lone: 5, thousandths: 100 }, ...thin]);
      expect(besidePace(learn(known, false, full))).toEqual(besidePace(known));
    }),
  );
});

test("durations that were summed beside others move the pace towards what they tell, and make it surer", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 500 }), fc.integer({ min: 1, max: 9 }), (seed, milliseconds) => {
      const seen = besideFull(new Random(seed), 120, 40, 0.5);
      const before = besidePace(seen);
      // Forty steps of one request at a time that takes so long for each, in a second that nobody else fills.
      const nanos = 40 * milliseconds * 1e6;
      const ended = {
        requests: 10,
        nanos,
        firstTokens: 0,
        firstTokenNanos: 0,
        isExecution: true,
        isPhased: true,
      };
      let told = seen.told;
      for (let at = 0; at < 60; at++)
        told = toldWith(told, { from: 0, to: second, inFlightTo: 1, lone: 40, ended }, 1, 0);
      const [after, alone] = [besidePace({ ...seen, told }), besidePace({ ...nothingBeside, told })];
      if (before === undefined || after === undefined || alone === undefined) throw new Error("no pace");
      const sorted = [before.perProgress, alone.perProgress].sort((one, other) => one - other);
      expect(after.perProgress).toBeGreaterThanOrEqual((sorted[0] as number) * 0.999);
      expect(after.perProgress).toBeLessThanOrEqual((sorted[1] as number) * 1.001);
      expect(after.error).toBeLessThan(Math.min(before.error, alone.error));
    }),
  );
});

test("the pace is a positive time with a known error, or none, whatever was seen", () => {
  const nanos = fc.constantFrom(0, 0, second / 100, second / 2, second);
  const amount = fc.constantFrom(0, 1, 40, 5000);
  const seen = fc.record({
    busy: nanos,
    progress: amount,
    isAlone: fc.boolean(),
    isThin: fc.boolean(),
    credited: fc.option(fc.record({ own: nanos, rest: nanos }), { nil: undefined }),
    ended: fc.option(fc.record({ requests: amount, took: nanos, isPhased: fc.boolean() }), {
      nil: undefined,
    }),
    slow: fc.constantFrom(0, 1, 3),
    inFlight: fc.nat(3),
  });
  fc.assert(
    fc.property(fc.array(seen, { maxLength: 20 }), (all) => {
      let beside: Beside = nothingBeside;
      all.forEach(({ busy, credited, ended, inFlight, isAlone, isThin, progress, slow }, index) => {
        const [from, to] = [index * second, (index + 1) * second];
        if (isAlone && progress > 0) beside = aloneWith(beside, progress, busy);
        if (isAlone) return;
        const credits: Credit[] = [];
        if (credited !== undefined) {
          const { own, rest } = credited;
          const windowSeen = own + rest;
          const squares = { ownOwn: own * own, ownSeen: own * windowSeen, seenSeen: windowSeen * windowSeen };
          credits.push({ from, to, credited: own > 0, owned: { own, seen: windowSeen, ...squares } });
        }
        const told = ended && {
          ...{ requests: ended.requests, nanos: ended.took * ended.requests, isPhased: ended.isPhased },
          ...{ firstTokens: 0, firstTokenNanos: 0, isExecution: ended.isPhased },
        };
        const interval = { from, to, besideThin: isThin, lone: progress, inFlightTo: inFlight, ended: told };
        beside = besideWith(beside, interval, credits, busy);
        beside = { ...beside, told: toldWith(beside.told, interval, slow, 0) };
      });
      const { error = 1, perProgress = 1 } = besidePace(beside) ?? {};
      expect([Number.isFinite(perProgress) && perProgress > 0, Number.isFinite(error) && error > 0]).toEqual([
        true,
        true,
      ]);
    }),
    { numRuns: 1000 },
  );
});
