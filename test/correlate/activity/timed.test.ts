// Laws of servers that publish their own busy time: it is booked once however late the GPU readings come, never on a GPU at
// rest, and what may have been elsewhere says so.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  createActivity,
  decidableUntil,
  observePlace,
  observePoll,
  observeWindow,
  settle,
} from "../../../agent/correlate/activity/activity.ts";
import type {
  Activity,
  ActivitySegment,
  ActivityWindow,
} from "../../../agent/correlate/activity/evidence.ts";
import { observePeer } from "../../../agent/correlate/activity/others.ts";
import type { ServerPoll } from "../../../agent/model.ts";
import { second } from "../trace-replay.ts";

const slot = second / 5;
/** Stretches of work and of rest in turn, in slots of a driver's window. */
const turns = fc.array(fc.integer({ min: 10, max: 60 }), { minLength: 2, maxLength: 8 });
const pollEach = fc.constantFrom(1, 2, 5);

/** True for each slot in which a GPU works. */
function slotsOf(lengths: readonly number[], isFirst: boolean, count: number): boolean[] {
  const slots = lengths.flatMap((length, index) =>
    Array.from({ length }, () => (index % 2 === 0) === isFirst),
  );
  return Array.from({ length: count }, (_, index) => slots[index] ?? false);
}

function windowsOf(slots: readonly boolean[], busy = 1): ActivityWindow[] {
  return slots.map((works, index) => ({
    ...{ from: index * slot, to: (index + 1) * slot },
    busyRatio: works ? busy : 0,
  }));
}

/** Polls of a server that was busy in the slots. */
function pollsOf(slots: readonly boolean[], seconds: number): ServerPoll[] {
  const polls: ServerPoll[] = [];
  for (let at = 0; at <= slots.length; at += 5 * seconds) {
    const busy = slots.slice(0, at).filter(Boolean).length;
    const inFlight = at > 0 && slots[at - 1] === true && slots[at] === true ? 1 : 0;
    const counted = { inputTokens: 0, outputTokens: 10 * busy, activeNanos: busy * slot };
    polls.push({ at: at * slot, progress: "step", inFlight, ...counted });
  }
  return polls;
}

/** Takes readings in as they arrive, the GPU's once in `everySeconds`, and settles each second. */
function settled(
  state: Activity,
  windows: readonly ActivityWindow[],
  polls: readonly ServerPoll[],
  everySeconds: number,
): ActivitySegment[] {
  const segments: ActivitySegment[] = [];
  const last = windows.at(-1)?.to ?? 0;
  let [nextWindow, nextPoll] = [0, 0];
  observeWindow(state, { from: -second, to: 0, busyRatio: 0 });
  for (let now = second; now <= last + 30 * second; now += second) {
    const read = Math.floor(now / second / everySeconds) * everySeconds * second;
    while ((windows[nextWindow]?.to ?? Infinity) <= read)
      observeWindow(state, windows[nextWindow++] as ActivityWindow);
    while ((polls[nextPoll]?.at ?? Infinity) <= now) observePoll(state, polls[nextPoll++] as ServerPoll);
    segments.push(...settle(state, decidableUntil(state, now, 20 * second)));
  }
  return segments;
}

function activeNanos(segments: readonly ActivitySegment[], from = -Infinity, to = Infinity): number {
  return segments
    .filter(({ state }) => state === "active")
    .reduce((sum, part) => sum + Math.max(0, Math.min(part.to, to) - Math.max(part.from, from)), 0);
}

describe("a server's own busy time", () => {
  test("is booked once, and without doubt, on the GPU of one server however late its readings come", () => {
    fc.assert(
      fc.property(
        turns,
        fc.boolean(),
        pollEach,
        fc.integer({ min: 1, max: 9 }),
        (lengths, first, poll, every) => {
          const slots = slotsOf(lengths, first, 450);
          const polls = pollsOf(slots, poll);
          const state = createActivity({ from: 0, pollNanos: poll * second });
          const segments = settled(state, windowsOf(slots), polls, every);
          for (const [index, { activeNanos: busy = 0, at }] of polls.slice(1).entries()) {
            const before = polls[index] as ServerPoll;
            const found = activeNanos(segments, before.at, at);
            expect(Math.abs(found - (busy - (before.activeNanos ?? 0)))).toBeLessThanOrEqual(slot);
          }
          // What follows the last poll is another matter.
          const last = polls.at(-1)?.at ?? 0;
          expect(segments.some(({ doubt, from }) => doubt !== undefined && from < last)).toBe(false);
        },
      ),
      { numRuns: 40 },
    );
  });

  test("is booked where it was when it is counted at the end of a step that is longer than polls are apart", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 12 }),
        pollEach,
        fc.integer({ min: 1, max: 4 }),
        (length, poll, every) => {
          const [begins, ends] = [20 * second, (20 + length) * second];
          const windows = windowsOf(slotsOf([100, 5 * length], false, 300));
          const polls = Array.from({ length: 60 / poll }, (_, index): ServerPoll => {
            const at = index * poll * second;
            const isOver = at >= ends;
            const counted = {
              inputTokens: 0,
              outputTokens: isOver ? 9 : 0,
              activeNanos: isOver ? ends - begins : 0,
            };
            return { at, progress: "step", inFlight: at > begins && at < ends ? 1 : 0, ...counted };
          });
          const state = createActivity({ from: 0, pollNanos: poll * second });
          const segments = settled(state, windows, polls, every);
          expect(Math.abs(activeNanos(segments) - (ends - begins))).toBeLessThanOrEqual(slot);
          // A step ends somewhere between two polls.
          const outside = activeNanos(segments) - activeNanos(segments, begins, ends);
          expect(outside).toBeLessThan(poll * second);
        },
      ),
      { numRuns: 40 },
    );
  });

  test("is not booked on a GPU at rest while another one of the server works", () => {
    fc.assert(
      fc.property(turns, turns, pollEach, fc.integer({ min: 1, max: 4 }), (here, there, poll, every) => {
        const own = slotsOf(here, false, 450);
        const others = slotsOf(there, true, 450);
        const either = own.map((works, index) => works || others[index] === true);
        const state = createActivity({ from: 0, pollNanos: poll * second });
        observePlace(state, poll * second, true);
        const segments = settled(state, windowsOf(own), pollsOf(either, poll), every);
        own.forEach((works, index) => {
          const isRest = !works && own[index - 1] !== true && own[index + 1] !== true;
          if (isRest) expect(activeNanos(segments, index * slot, (index + 1) * slot)).toBe(0);
        });
        const worked = own.filter(Boolean).length * slot;
        expect(Math.abs(activeNanos(segments) - worked)).toBeLessThanOrEqual(0.1 * worked + 2 * second);
      }),
      { numRuns: 40 },
    );
  });

  test("says how much of it may have been elsewhere where others worked in the same long windows", () => {
    const doubtsOf = (
      windows: readonly ActivityWindow[],
      share: number,
      isBeside: boolean,
    ): (number | undefined)[] => {
      const state = createActivity({ from: 0, pollNanos: 5 * second });
      if (isBeside) observePeer(state, 0, 60 * second);
      const polls = Array.from({ length: 13 }, (_, index): ServerPoll => {
        const at = index * 5 * second;
        return {
          at,
          progress: "step",
          inputTokens: 0,
          outputTokens: index,
          inFlight: 0,
          activeNanos: share * at,
        };
      });
      const segments = settled(state, windows, polls, 1);
      const ratios = segments.filter(({ state: is }) => is === "active").map(({ doubt }) => doubt?.ratio);
      return [...new Set(ratios)];
    };
    const fine = windowsOf(Array.from({ length: 300 }, () => true));
    const coarse = Array.from({ length: 6 }, (_, index) => ({
      ...{ from: index * 10 * second, to: (index + 1) * 10 * second },
      busyRatio: 0.9,
    }));
    expect(doubtsOf(fine, 1, true)).toEqual([undefined]);
    expect(doubtsOf(fine, 0.5, true)).toEqual([undefined]);
    expect(doubtsOf(coarse, 0.8, true)).toEqual([expect.closeTo(0.25, 6)]);
    expect(doubtsOf(coarse, 0.8, false)).toEqual([undefined]);
    expect(doubtsOf(coarse, 1, true)).toEqual([undefined]);
  });

  test("of several GPUs is a guess where others work on one of them", () => {
    const segments = [true, false].map((isBeside) => {
      const slots = slotsOf([20, 40, 20, 40, 20], true, 450);
      const state = createActivity({ from: 0, pollNanos: second });
      observePlace(state, second, true);
      if (isBeside) observePeer(state, 0, 30 * second);
      return settled(state, windowsOf(slots), pollsOf(slots, 1), 1).filter(
        ({ state: is }) => is === "active",
      );
    });
    const [beside, alone] = segments.map((parts) => new Set(parts.map(({ doubt }) => doubt?.ratio)));
    expect([beside, alone]).toEqual([new Set([1]), new Set([undefined])]);
  });

  test("of several GPUs is a guess where their windows are long, and none of it is at rest", () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(0, 0.3, 1), { minLength: 2, maxLength: 6 }), (shares) => {
        const windows = shares.map((busyRatio, index) => ({
          ...{ from: index * 10 * second, to: (index + 1) * 10 * second },
          busyRatio,
        }));
        const state = createActivity({ from: 0, pollNanos: 5 * second });
        observePlace(state, 5 * second, true);
        const polls = pollsOf(
          Array.from({ length: 50 * shares.length }, () => true),
          5,
        );
        const segments = settled(state, windows, polls, 1).filter(({ state: is }) => is === "active");
        for (const { busyRatio, from, to } of windows)
          expect(activeNanos(segments, from, to) > 0).toBe(busyRatio > 0);
        expect(segments.every(({ doubt }) => doubt?.ratio === 1)).toBe(true);
      }),
      { numRuns: 40 },
    );
  });
});
