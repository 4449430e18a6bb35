// A GPU of a server that has others, read every few seconds: requests in flight say what the busiest of them did, the busy shares
// how much less the others did. Tensor-parallel GPUs are alike, those of prefill and decode are not.
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  createActivity,
  observePlace,
  observePoll,
  observeWindow,
  settle,
} from "../../../agent/correlate/activity/activity.ts";
import type { ActivityWindow } from "../../../agent/correlate/activity/evidence.ts";
import { second } from "../trace-replay.ts";

const [seconds, each] = [150, 5];

/** Seconds in which the server has requests in flight: stretches of some length, with pauses. */
const served = fc
  .array(fc.record({ work: fc.integer({ min: 8, max: 30 }), rest: fc.integer({ min: 6, max: 20 }) }), {
    minLength: 4,
    maxLength: 8,
  })
  .map((stretches) => {
    const all = stretches.flatMap(({ rest, work }) => [
      ...Array.from({ length: rest }, () => false),
      ...Array.from({ length: work }, () => true),
    ]);
    return Array.from({ length: seconds }, (_, at) => all[at % all.length] as boolean);
  });

/** Windows of a GPU that executes for a share of each second in which the server is served. */
function windowsOf(own: readonly boolean[], share: number, busyRatio: number): ActivityWindow[] {
  return Array.from({ length: seconds / each }, (_, place): ActivityWindow => {
    const executed = own.slice(place * each, (place + 1) * each).filter(Boolean).length * share;
    const [from, to] = [place * each * second, (place + 1) * each * second];
    return { from, to, busyRatio: (busyRatio * executed) / each };
  });
}

/** Active seconds of a GPU that does a share of what the others do, and how many of them may be otherwise. */
function found(own: readonly boolean[], share: number, busyRatio: number, hasSibling = true) {
  const state = createActivity({ from: 0, pollNanos: second });
  if (hasSibling) observePlace(state, second, true, [windowsOf(own, 1, busyRatio)]);
  else observePlace(state, second, true);
  let outputTokens = 0;
  for (let at = 0; at <= seconds; at++) {
    if (own[at - 1]) outputTokens += 50;
    const inFlight = own[at - 1] === true && own[at] === true ? 1 : 0;
    observePoll(state, { at: at * second, inputTokens: 0, outputTokens, inFlight, progress: "step" });
  }
  for (const window of windowsOf(own, share, busyRatio)) observeWindow(state, window);
  let [active, doubted] = [0, 0];
  for (const { doubt, from, state: is, to } of settle(state, seconds * second)) {
    if (is !== "active") continue;
    active += (to - from) / second;
    doubted += ((doubt?.ratio ?? 0) * (to - from)) / second;
  }
  return { active, doubted };
}

test("one that does less than the busiest is active for as much less, and all of it may be otherwise", () => {
  const shares = fc.constantFrom(0, 0.1, 0.3, 0.6);
  fc.assert(
    fc.property(served, shares, fc.constantFrom(0.3, 0.95), (own, share, busyRatio) => {
      const whole = found(own, 1, busyRatio);
      const { active, doubted } = found(own, share, busyRatio);
      expect(Math.abs(active - share * whole.active)).toBeLessThanOrEqual(0.01 * seconds);
      expect(doubted).toBeGreaterThanOrEqual(0.9 * active);
    }),
    { numRuns: 60 },
  );
});

test("one as busy as the others is found as if it were alone with the requests", () => {
  fc.assert(
    fc.property(served, fc.constantFrom(0.2, 0.6, 0.95), (own, busyRatio) => {
      expect(found(own, 1, busyRatio)).toEqual(found(own, 1, busyRatio, false));
    }),
    { numRuns: 40 },
  );
});

test("how many tokens a server of several GPUs makes says nothing of how busy one of them is meanwhile", () => {
  const shares = fc.array(fc.constantFrom(0, 0.1, 0.2, 0.4), { minLength: 60, maxLength: 60 });
  const activeBy = (busyRatios: readonly number[], tokens: number): readonly number[] => {
    const state = createActivity({ from: 0, pollNanos: second });
    observePlace(state, second, true);
    for (let at = 0; at <= 12; at++) {
      observePoll(state, { ...counted, at: at * second, outputTokens: at * tokens });
      for (let part = 0; part < 5 && at < 12; part++) {
        const from = at * second + (part * second) / 5;
        observeWindow(state, { from, to: from + second / 5, busyRatio: busyRatios[5 * at + part] ?? 0 });
      }
    }
    return settle(state, 12 * second)
      .filter(({ state: is }) => is === "active")
      .flatMap(({ doubt, from, to }) => [from, to, doubt?.ratio ?? 0]);
  };
  const counted = { inputTokens: 0, inFlight: 1, progress: "step" } as const;
  fc.assert(
    fc.property(shares, fc.integer({ min: 20, max: 900 }), (busyRatios, tokens) => {
      expect(activeBy(busyRatios, tokens)).toEqual(activeBy(busyRatios, 5));
    }),
  );
});
