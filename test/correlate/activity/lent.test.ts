// A data-parallel rank whose GPU works while it has nothing to do: the server as a whole speaks for that time, and for no more.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  createActivity,
  decidableUntil,
  observePoll,
  observeWindow,
  settle,
} from "../../../agent/correlate/activity/activity.ts";
import type { ActivitySegment, SeenPoll } from "../../../agent/correlate/activity/evidence.ts";
import { second } from "../trace-replay.ts";

const slot = second / 5;

/** What a rank and the GPU did in a second: busy time of the rank and of all ranks, and slots in which the GPU worked. */
interface Done {
  readonly own: number;
  readonly all: number;
  readonly slots: number;
}

/** Seconds of a rank by its own busy time, as they are settled. */
function settled(seconds: readonly Done[]): ActivitySegment[] {
  const state = createActivity({ from: 0, pollNanos: second });
  const segments: ActivitySegment[] = [];
  let [own, all] = [0, 0];
  const poll = (at: number): SeenPoll => {
    const counted = { inputTokens: 0, progress: "step", inFlight: 0 } as const;
    const whole: SeenPoll = {
      at,
      ...counted,
      outputTokens: Math.round(100 * all),
      activeNanos: all * second,
    };
    return { ...whole, outputTokens: Math.round(100 * own), activeNanos: own * second, whole };
  };
  observeWindow(state, { from: -second, to: 0, busyRatio: 0 });
  observePoll(state, poll(0));
  for (const [index, done] of [...seconds, ...seconds.map(() => ({ own: 0, all: 0, slots: 0 }))].entries()) {
    for (let part = 0; part < 5; part++) {
      const from = index * second + part * slot;
      observeWindow(state, { from, to: from + slot, busyRatio: part < done.slots ? 1 : 0 });
    }
    own += done.own;
    all += done.all;
    const now = (index + 1) * second;
    observePoll(state, poll(now));
    segments.push(...settle(state, decidableUntil(state, now, 20 * second)));
  }
  return segments;
}

function activeIn(segments: readonly ActivitySegment[], index: number): number {
  const [from, to] = [index * second, (index + 1) * second];
  return segments
    .filter(({ state }) => state === "active")
    .reduce((sum, part) => sum + Math.max(0, Math.min(part.to, to) - Math.max(part.from, from)), 0);
}

/** Active seconds in the first three seconds, and how much of the second one may be otherwise. */
function found(middle: Done, after: Done): { readonly active: readonly number[]; readonly doubt: number } {
  const segments = settled([rest, middle, after, rest]);
  const active = [0, 1, 2].map((index) => activeIn(segments, index) / second);
  const own = segments.filter(({ from, state }) => state === "active" && from < 2 * second);
  return { active, doubt: own[0]?.doubt?.ratio ?? 0 };
}

const rest: Done = { own: 0, all: 0, slots: 0 };

describe("the busy time of a rank and of all ranks together", () => {
  const lent: Done = { own: 0, all: 2.4, slots: 3 };

  test("that of all speaks for work while the rank rests, and for no time before", () => {
    const { active, doubt } = found({ own: 0.2, all: 0.2, slots: 3 }, lent);
    expect(active).toEqual([0, 0.2, 0.6]);
    expect(doubt).toBe(1);
  });

  test("work beyond the rank's is the others', as far as they were busy, and in doubt", () => {
    const { active, doubt } = found({ own: 0.2, all: 2.4, slots: 3 }, lent);
    expect(active).toEqual([0, 0.6, 0.6]);
    expect(doubt).toBeCloseTo(2 / 3, 6);
    expect(found({ own: 0.2, all: 0.3, slots: 3 }, lent).active[1]).toBeCloseTo(0.3, 6);
  });

  test("that of the rank is without doubt where its GPU works as long", () => {
    expect(found({ own: 0.6, all: 2.4, slots: 3 }, rest)).toEqual({ active: [0, 0.6, 0], doubt: 0 });
  });

  test("that of the rank is in doubt where its GPU rests", () => {
    const { active, doubt } = found({ own: 0.6, all: 0.6, slots: 1 }, rest);
    expect(active).toEqual([0, 0.6, 0]);
    expect(doubt).toBeCloseTo(2 / 3, 6);
  });
});

describe("a rank that steps along with the others", () => {
  /** How many seconds in a row a rank has a request of its own, and then none, while others always have some. */
  const turns = fc.array(
    fc.record({ own: fc.integer({ min: 2, max: 9 }), others: fc.integer({ min: 3, max: 9 }) }),
    {
      minLength: 6,
      maxLength: 12,
    },
  );

  test("is in execution all along, however full its windows are", () => {
    fc.assert(
      fc.property(
        turns,
        fc.constantFrom(0.3, 0.6, 0.85),
        fc.integer({ min: 1, max: 9 }),
        (pattern, busyRatio, phase) => {
          const flies = pattern.flatMap(({ others, own }) => [
            ...Array.from({ length: own }, () => true),
            ...Array.from({ length: others }, () => false),
          ]);
          const state = createActivity({ from: 0, pollNanos: second });
          let [own, all, active] = [0, 0, 0];
          const pollAt = (at: number, inFlight: number): SeenPoll => {
            const counted = { at, inputTokens: 0, progress: "step" } as const;
            const whole = { ...counted, outputTokens: all, inFlight: 2 + inFlight };
            return { ...counted, outputTokens: own, inFlight, whole };
          };
          observePoll(state, pollAt(0, 1));
          const end = flies.length * second;
          for (const [index, isOwn] of flies.entries()) {
            for (let part = 0; part < 5; part++) {
              const from = index * second + part * slot;
              observeWindow(state, { from, to: from + slot, busyRatio });
            }
            // A request ends, or comes, somewhere between two polls.
            all += 300;
            own += isOwn ? 100 : flies[index - 1] === true ? phase * 10 : 0;
            observePoll(state, pollAt((index + 1) * second, isOwn ? 1 : 0));
            const until = decidableUntil(state, (index + 1) * second, 20 * second);
            for (const { from, state: found, to } of settle(state, until))
              if (found === "active") active += to - from;
          }
          for (const { from, state: found, to } of settle(state, end - second))
            if (found === "active") active += to - from;
          const decided = Math.max(state.decidedUntil, end - second);
          expect(active / decided).toBeGreaterThan(0.96);
        },
      ),
      { numRuns: 40 },
    );
  });

  test.each([
    [true, 1],
    [false, 0],
  ])(
    "goes on to work for them when a stranger comes (%s), which may have done it; one whose GPU rested does not",
    (isInLockstep, wanted) => {
      const state = createActivity({ from: 0, pollNanos: second });
      const idle = { inputTokens: 0, outputTokens: 0, inFlight: 0, progress: "step" } as const;
      const at = (index: number): SeenPoll => {
        const now = { ...idle, at: index * second };
        return { ...now, whole: { ...now, outputTokens: 100 * index, inFlight: 2 } };
      };
      const [comes, end] = [12, 30];
      state.guests = [{ from: comes * second, to: undefined }];
      observePoll(state, at(0));
      const segments: ActivitySegment[] = [];
      for (let index = 1; index <= end; index++) {
        const busyRatio = isInLockstep || index > comes ? 0.9 : 0;
        for (let part = 5; part > 0; part--)
          observeWindow(state, {
            from: index * second - part * slot,
            to: index * second - (part - 1) * slot,
            busyRatio,
          });
        observePoll(state, at(index));
        segments.push(...settle(state, decidableUntil(state, index * second, 20 * second)));
      }
      segments.push(...settle(state, end * second));
      for (let index = 3; index < end - 2; index++)
        expect(activeIn(segments, index) / second).toBeCloseTo(
          index < comes ? Number(isInLockstep) : wanted,
          6,
        );
      const beside = segments.filter(({ from, state: is }) => is === "active" && from >= comes * second);
      expect(beside.every(({ doubt }) => doubt?.reason === "shared_work" && doubt.ratio === 1)).toBe(true);
      expect(beside.length > 0).toBe(isInLockstep);
    },
  );

  test("may work for them beside a stranger who was there from the beginning: that is in doubt", () => {
    const state = createActivity({ from: 0, pollNanos: second });
    const idle = { inputTokens: 0, outputTokens: 0, inFlight: 0, progress: "step" } as const;
    state.guests = [{ from: 0, to: undefined }];
    for (let index = 0; index <= 12; index++) {
      const now = { ...idle, at: index * second };
      observePoll(state, { ...now, whole: { ...now, outputTokens: 100 * index, inFlight: 2 } });
      for (let part = 0; part < 5; part++) {
        const from = index * second + part * slot;
        observeWindow(state, { from, to: from + slot, busyRatio: 0.9 });
      }
    }
    const segments = settle(state, 10 * second);
    expect(segments.map(({ state: is }) => is)).not.toContain("active");
    const doubted = segments.filter(({ doubt }) => doubt?.reason === "shared_work");
    expect(doubted.reduce((all, { from, to }) => all + to - from, 0)).toBe(10 * second);
  });

  /** Active seconds of each second of a rank whose GPU is read every 5 s; in lockstep the GPU works all along. */
  const readSeldom = (flies: readonly boolean[], isInLockstep: boolean): readonly number[] => {
    const state = createActivity({ from: 0, pollNanos: second });
    const segments: ActivitySegment[] = [];
    let own = 0;
    const pollAt = (index: number): SeenPoll => {
      const counted = { at: index * second, inputTokens: 0, progress: "step" } as const;
      const inFlight = flies[index - 1] && flies[index] ? 1 : 0;
      const whole = { ...counted, outputTokens: 300 * index + own, inFlight: 2 + inFlight };
      return { ...counted, outputTokens: own, inFlight, whole };
    };
    observePoll(state, pollAt(0));
    for (let index = 1; index <= flies.length; index++) {
      own += flies[index - 1] ? 100 : 0;
      observePoll(state, pollAt(index));
      if (index % 5 > 0) continue;
      const worked = flies.slice(index - 5, index).filter((is) => is || isInLockstep).length;
      observeWindow(state, {
        from: (index - 5) * second,
        to: index * second,
        busyRatio: (0.95 * worked) / 5,
      });
      segments.push(...settle(state, decidableUntil(state, index * second, 20 * second)));
    }
    segments.push(...settle(state, flies.length * second));
    return flies.map((_, index) => activeIn(segments, index) / second);
  };
  const fliesOf = (
    pattern: readonly { readonly own: number; readonly others: number }[],
  ): readonly boolean[] =>
    pattern.flatMap(({ others, own }) => [
      ...Array.from({ length: own }, () => true),
      ...Array.from({ length: others }, () => false),
    ]);

  test("is in execution where its own requests leave work of long windows unexplained", () => {
    fc.assert(
      fc.property(turns, (pattern) => {
        const active = readSeldom(fliesOf(pattern), true);
        // Before the first window says how busy the GPU is, and in the second at each end of its own requests, half is a guess.
        const sum = active.slice(5).reduce((all, one) => all + one, 0);
        expect(sum).toBeGreaterThanOrEqual(0.7 * (active.length - 5));
      }),
      { numRuns: 40 },
    );
  });

  test("which does not is never in execution in long windows that its own requests explain", () => {
    fc.assert(
      fc.property(turns, (pattern) => {
        const flies = fliesOf(pattern);
        readSeldom(flies, false).forEach((active, index) => {
          if (!flies[index]) expect(active).toBe(0);
        });
      }),
      { numRuns: 40 },
    );
  });
});
