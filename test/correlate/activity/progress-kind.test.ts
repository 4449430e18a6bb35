// Counters that move as requests end: of requests that are hardly longer than a window they say what counters of steps say, whoever
// else works; of longer ones they are no steps.
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  createActivity,
  observePoll,
  observeWindow,
  settle,
} from "../../../agent/correlate/activity/activity.ts";
import type { ActivitySegment } from "../../../agent/correlate/activity/evidence.ts";
import { observePeer } from "../../../agent/correlate/activity/others.ts";
import { progressOf } from "../../../agent/correlate/activity/progress-kind.ts";
import type { ProgressKind } from "../../../agent/model.ts";
import { Random } from "../../simulator/random.ts";
import { second } from "../trace-replay.ts";

const seconds = 40;

/** What is made of requests of `ms` each that come by chance, beside a job or not, by counters that move as they end. */
function measured(
  { hasPeer, ms, seed }: { readonly hasPeer: boolean; readonly ms: number; readonly seed: number },
  progress: ProgressKind,
): { readonly segments: readonly ActivitySegment[]; readonly kind: ProgressKind } {
  const random = new Random(seed);
  const segments: ActivitySegment[] = [];
  const activity = createActivity({ from: 0, pollNanos: second });
  if (hasPeer) observePeer(activity, 0, seconds * second, true);
  const there = new Uint8Array(seconds * 1000);
  const ends = new Uint8Array(seconds * 1000);
  for (let at = random.wait(300); at + ms < seconds * 1000; at += random.wait(300)) {
    there.fill(1, Math.floor(at), Math.floor(at) + ms);
    ends[Math.floor(at) + ms - 1] = (ends[Math.floor(at) + ms - 1] as number) + 1;
  }
  const sum = (all: Uint8Array, from: number, to: number): number =>
    all.subarray(from, to).reduce((total, one) => total + one, 0);
  for (let at = 0; at < seconds * 5; at++) {
    const busyRatio = hasPeer ? 0.9 : sum(there, at * 200, (at + 1) * 200) / 200;
    observeWindow(activity, { from: (at * second) / 5, to: ((at + 1) * second) / 5, busyRatio });
  }
  for (let at = 0, tokens = 0; at <= seconds; at++) {
    const requests = at === 0 ? 0 : sum(ends, (at - 1) * 1000, at * 1000);
    tokens += requests;
    const counted = { inputTokens: 300 * tokens, outputTokens: 2 * tokens, requests };
    observePoll(activity, { at: at * second, ...counted, inFlight: there[at * 1000] ?? 0, progress });
    if (at > 10) segments.push(...settle(activity, (at - 2) * second));
  }
  segments.push(...settle(activity, seconds * second));
  return { segments, kind: progressOf(activity) };
}

const some = fc.record({ hasPeer: fc.boolean(), ms: fc.integer({ min: 8, max: 40 }), seed: fc.nat(1e6) });

test("a server whose counters move as its short requests end is measured as one that counts steps", () => {
  fc.assert(
    fc.property(some, (given) => {
      const [byEnds, bySteps] = [measured(given, "finish"), measured(given, "step")];
      expect(byEnds.kind).toBe("step");
      expect(byEnds.segments).toEqual(bySteps.segments);
    }),
    { numRuns: 20 },
  );
});

test("counters that move as long requests end are no steps, nor are those of a gateway that estimates", () => {
  fc.assert(
    fc.property(some, (given) => {
      expect(measured({ ...given, ms: 3000 }, "finish").kind).toBe("finish");
      expect(measured(given, "estimate").kind).toBe("estimate");
    }),
    { numRuns: 10 },
  );
});
