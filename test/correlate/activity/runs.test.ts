// Runs of GPU work: how much of their windows they take, against requests whose length is known.
import fc from "fast-check";
import { expect, test } from "vitest";
import type { ActivityWindow } from "../../../agent/correlate/activity/evidence.ts";
import {
  observePlateau,
  preparationPause,
  workingBusyRatio,
  workRuns,
} from "../../../agent/correlate/activity/runs.ts";
import { total } from "../../../agent/correlate/activity/stretches.ts";

const millisecond = 1_000_000;
const windowMs = 200;

/** Windows of a driver over pieces of work, given as [pause before it, length] in ms, that keep the GPU wholly busy. */
function windowsOf(pieces: readonly (readonly [number, number])[]): ActivityWindow[] {
  const busy: boolean[] = Array.from({ length: 1000 }, () => false);
  for (const [pause, length] of pieces)
    busy.push(...Array.from({ length: pause + length }, (_, ms) => ms >= pause));
  busy.push(...Array.from({ length: 1000 + windowMs - (busy.length % windowMs) }, () => false));
  return Array.from({ length: busy.length / windowMs }, (_, index) => ({
    from: index * windowMs * millisecond,
    to: (index + 1) * windowMs * millisecond,
    busyRatio: busy.slice(index * windowMs, (index + 1) * windowMs).filter(Boolean).length / windowMs,
  }));
}

const requests = fc.array(fc.tuple(fc.integer({ min: 0, max: 900 }), fc.integer({ min: 60, max: 900 })), {
  minLength: 1,
  maxLength: 12,
});

test("workRuns() of one of several GPUs of a server takes what kept it busy, pauses of any length left out", () => {
  fc.assert(
    fc.property(requests, (pieces) => {
      const windows = windowsOf(pieces);
      const end = windows.at(-1)?.to ?? 0;
      const runs = workRuns(windows, [], 0, end, 1, 0);
      const truth = pieces.reduce((sum, [, length]) => sum + length, 0);
      // A window works from 1 % up: a piece over the edge of two may leave less in one of them.
      const unseen = windows.reduce(
        (sum, { busyRatio }) => sum + (busyRatio < workingBusyRatio ? busyRatio * windowMs : 0),
        0,
      );
      // A window counts as full from 85 % up.
      const slack = windows.length * windowMs * 0.15;
      const found = total(runs) / millisecond;
      expect(found).toBeGreaterThanOrEqual(truth - unseen - 1);
      expect(found).toBeLessThanOrEqual(truth + slack);
      runs.forEach((run, index) => {
        expect(run.to).toBeGreaterThan(run.from);
        expect(run.from).toBeGreaterThanOrEqual(runs[index - 1]?.to ?? 0);
      });
    }),
  );
});

test("workRuns() counts two windows that one short piece of work lies in by how busy a full one is", () => {
  const windows = windowsOf([[930, 140]]);
  expect(windows.filter(({ busyRatio }) => busyRatio > 0)).toHaveLength(2);
  expect(total(workRuns(windows, [], 0, windows.at(-1)?.to ?? 0, 1)) / millisecond).toBeCloseTo(140, 0);
});

test("a pause after a first piece of work is its preparation where a poll in it shows that no token was made", () => {
  const poll = (atMs: number, outputTokens: number) =>
    ({ at: atMs * millisecond, inputTokens: 0, outputTokens, inFlight: 0, progress: "step" }) as const;
  const milliseconds = fc.record({
    /** Before the work, and the polls from it; the work itself. */
    before: fc.integer({ min: 100, max: 9000 }),
    length: fc.integer({ min: 20, max: 300 }),
    after: fc.integer({ min: 0, max: 3000 }),
  });
  fc.assert(
    fc.property(milliseconds, fc.nat(50), fc.nat(50), ({ after, before, length }, tokens, more) => {
      const run = { from: 10_000 * millisecond, to: (10_000 + length) * millisecond, seen: true };
      const at = 10_000 + length + after;
      const polls = [poll(10_000 - before, 100 + tokens), poll(at, 100 + tokens + more)];
      const pauseOf = (untilMs: number): number =>
        preparationPause(polls, run, untilMs * millisecond) / millisecond;
      // Nothing was read yet, or too near to the work to be of after it.
      expect(pauseOf(at - 1)).toBe(300);
      expect(pauseOf(at)).toBe(more === 0 && after >= 200 ? 1000 : 300);
    }),
  );
});

test("observePlateau() finds how busy an engine keeps the GPU, however many short requests are cut by windows", () => {
  const world = fc.record({
    level: fc.integer({ min: 50, max: 100 }),
    short: fc.array(fc.tuple(fc.integer({ min: 600, max: 1500 }), fc.integer({ min: 210, max: 390 })), {
      minLength: 5,
      maxLength: 30,
      size: "max",
    }),
    long: fc.integer({ min: 800, max: 3000 }),
  });
  fc.assert(
    fc.property(world, ({ level, long, short }) => {
      const activity = {
        ...{ windows: [] as ActivityWindow[], plateau: undefined as number | undefined },
        plateauOfThree: false,
      };
      for (const window of windowsOf([[700, long], ...short])) {
        activity.windows.push({ ...window, busyRatio: (window.busyRatio * level) / 100 });
        observePlateau(activity);
      }
      expect(activity.plateau).toBeCloseTo(level / 100, 6);
      // Of the short ones alone no more is known than the busiest of their windows.
      const alone = { windows: [] as ActivityWindow[], plateau: undefined as number | undefined };
      const cut = { ...alone, plateauOfThree: false };
      for (const window of windowsOf(short.map(([pause, length]) => [pause, length >> 1] as const))) {
        cut.windows.push(window);
        observePlateau(cut);
      }
      expect(cut.plateau).toBe(Math.max(...cut.windows.map(({ busyRatio }) => busyRatio)));
    }),
  );
});
