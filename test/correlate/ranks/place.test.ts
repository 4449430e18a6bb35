// A GPU whose rank turns out to be another one: what is not decided yet is as if it had been that rank's from the beginning.
import fc from "fast-check";
import { expect, test } from "vitest";
import { createActivity } from "../../../agent/correlate/activity/activity.ts";
import { Place } from "../../../agent/correlate/place.ts";
import { noFacts } from "../../../agent/correlate/token-step.ts";
import type { ServerPoll } from "../../../agent/model.ts";
import { second } from "../trace-replay.ts";

const done = fc.record({ tokens: fc.nat(500), inFlight: fc.nat(3), busy: fc.nat(900) });
const polls = fc.array(fc.tuple(done, done), { minLength: 1, maxLength: 12 }).map((list): ServerPoll[] => {
  const counted = [0, 0];
  const active = [0, 0];
  return list.map((both, index) => {
    const ranks = both.map(({ busy, inFlight, tokens }, rank) => {
      counted[rank] = (counted[rank] ?? 0) + tokens;
      active[rank] = (active[rank] ?? 0) + busy * 1_000_000;
      const progress = { inputTokens: 0, outputTokens: counted[rank] ?? 0, activeNanos: active[rank] ?? 0 };
      return { rank: String(rank), ...progress, inFlight };
    });
    const outputTokens = (counted[0] ?? 0) + (counted[1] ?? 0);
    return { at: index * second, inputTokens: 0, outputTokens, progress: "step", ranks };
  });
});

/** What a place makes of polls, seated for rank 1 before one of them; each poll by what moved since the one before. */
function seen(list: readonly ServerPoll[], seatedBefore: number): object[] {
  const place = new Place(createActivity({ from: 0, pollNanos: second }));
  place.seatRanks({ ranks: [seatedBefore === 0 ? "1" : "0"], isAssumed: true });
  list.forEach((poll, index) => {
    if (index === seatedBefore) place.seatRanks({ ranks: ["1"], isAssumed: true });
    place.observe(poll, list[index - 1], noFacts);
  });
  const own = place.activity.polls;
  return own.map(({ activeNanos = 0, at, inFlight, outputTokens }, index) => {
    const before = own[index - 1];
    const moved = index === 0 ? 0 : outputTokens - (before?.outputTokens ?? 0);
    return { at, inFlight, moved, busy: index === 0 ? 0 : activeNanos - (before?.activeNanos ?? 0) };
  });
}

test("seatRanks() gives the polls that wait to the rank that has the GPU now, its counters never falling", () => {
  fc.assert(
    fc.property(polls, fc.nat(12), (list, seatedBefore) => {
      expect(seen(list, Math.min(seatedBefore, list.length - 1))).toEqual(seen(list, 0));
    }),
  );
});

test("seatRanks() forgets what was learned of another rank, and of the same one nothing", () => {
  const place = new Place(createActivity({ from: 0, pollNanos: second }));
  place.seatRanks({ ranks: ["0"], isAssumed: true });
  const { level } = place.activity;
  place.seatRanks({ ranks: ["0"], isAssumed: true, isLearned: true });
  expect(place.activity.level).toBe(level);
  place.seatRanks({ ranks: ["1"], isAssumed: true });
  expect(place.activity.level).not.toBe(level);
});

test("seatRanks() leaves counters that never fall, where pages told no ranks for a time", () => {
  fc.assert(
    fc.property(polls, fc.nat(6), fc.nat(6), (list, told, untold) => {
      const place = new Place(createActivity({ from: 0, pollNanos: second }));
      list.forEach((poll, index) => {
        const isTold = index < told || index >= told + untold;
        place.seatRanks(isTold ? { ranks: ["0"], isAssumed: true } : undefined);
        place.observe(poll, list[index - 1], noFacts);
      });
      place.seatRanks({ ranks: ["1"], isAssumed: true });
      const own = place.activity.polls;
      for (let index = 1; index < own.length; index++)
        expect(own[index]?.outputTokens).toBeGreaterThanOrEqual(own[index - 1]?.outputTokens ?? 0);
    }),
  );
});
