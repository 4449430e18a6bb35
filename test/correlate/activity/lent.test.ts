// A data-parallel rank whose GPU works while it has nothing to do: the server as a whole speaks for that time, and for no more.
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
