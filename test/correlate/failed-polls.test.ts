// A server two polls of which fail is waited for: the third one, be it a little late, says what was done in the time between. Where that
// one fails as well nothing does, and all of it is in doubt.
import fc from "fast-check";
import { expect, test } from "vitest";
import { Correlator } from "../../agent/correlate/correlator.ts";
import type { SettledInterval } from "../../agent/model.ts";
import type { Second } from "./scene.ts";
import { gpuInfo, readings, rowsOf, second, serverInfo, totals } from "./scene.ts";

const [length, pollSeconds] = [120, 5];

/** A GPU that works for its server throughout, polled each 5 s; some polls in a row fail, and the one after them is late. */
function metered(first: number, lateNanos: number, failing = 2): readonly SettledInterval[] {
  const seconds: Second[] = Array.from({ length }, () => ({ pids: [1], busy: 1 }));
  const samples = readings("g", seconds);
  const correlator = new Correlator({ origin: 0, intervalNanos: second, gpuPollMs: 1000, strict: true });
  correlator.setGpus([gpuInfo("g")], 0);
  correlator.setServers([serverInfo("a", { pids: [1], pollMs: 1000 * pollSeconds })], 0);
  const intervals: SettledInterval[] = [];
  for (let at = 0; at <= length; at++) {
    correlator.acceptGpu(samples[at] as (typeof samples)[number]);
    const poll = at / pollSeconds;
    if (Number.isInteger(poll) && poll >= first && poll < first + failing)
      correlator.acceptGap({ source: "server:a", at: at * second, reason: "x" });
    else if (Number.isInteger(poll)) {
      const read = at * second + (poll === first + failing ? lateNanos : 0);
      intervals.push(...correlator.settle(read - 1));
      const counts = { inputTokens: 0, outputTokens: 100 * at, inFlight: 1, progress: "step" } as const;
      correlator.acceptTokens("a", { at: read, ...counts }, []);
    }
    intervals.push(...correlator.settle(at * second));
  }
  intervals.push(...correlator.finish(length * second));
  return intervals;
}

test("no work is in doubt, or left out, because two polls in a row failed", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 4, max: 18 }),
      fc.integer({ min: 0, max: 0.9 * second }),
      (first, lateNanos) => {
        const rows = rowsOf(metered(first, lateNanos), "g");
        const unread = rows.flatMap(({ uncertain = [] }) =>
          uncertain.filter(({ reason }) => reason === "unread_page"),
        );
        expect(unread).toEqual([]);
        const active = (totals(rows, "nanos")["token_active"] ?? 0) / second;
        expect(active).toBeGreaterThan(length - pollSeconds - 1);
      },
    ),
    { numRuns: 40 },
  );
});

test("all work between the last poll and the third one that failed is in doubt, and no other", () => {
  fc.assert(
    fc.property(fc.integer({ min: 4, max: 18 }), (first) => {
      const last = (first - 1) * pollSeconds * second;
      for (const { from, gpus, to } of metered(first, 0, 3)) {
        const unread = gpus.flatMap(({ uncertain = [] }) =>
          uncertain.filter(({ reason }) => reason === "unread_page").map(({ nanos }) => nanos),
        );
        if (from >= last && to <= last + 3 * pollSeconds * second) expect(unread).toEqual([second]);
        else if (to <= last || from >= last + 4 * pollSeconds * second) expect(unread).toEqual([]);
      }
    }),
    { numRuns: 15 },
  );
});
