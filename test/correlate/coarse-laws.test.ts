// Laws of GPUs that are read each 10 to 30 s: what a long window shows is executed once, whenever its intervals are
// settled, and where the tokens moved.
import fc from "fast-check";
import { expect, test } from "vitest";
import type { GpuSample, ServerPoll } from "../../agent/model.ts";
import { gpuInfo, rowsOf, run, second, serverInfo, sum } from "./scene.ts";

const load = fc.record({
  windowSeconds: fc.integer({ min: 10, max: 30 }),
  pollSeconds: fc.integer({ min: 1, max: 5 }),
  busyRatio: fc.double({ min: 0.03, max: 0.3, noNaN: true }),
  tokens: fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 20, maxLength: 20 }),
});

test("what a long window shows of short requests is executed once", () => {
  fc.assert(
    fc.property(load, ({ busyRatio, pollSeconds, tokens, windowSeconds }) => {
      const windows = 4;
      const seconds = windows * windowSeconds;
      const samples = Array.from(
        { length: windows + 1 },
        (_, index): GpuSample => ({
          gpu: "g",
          at: index * windowSeconds * second,
          graphicsActiveRatio: index === 0 ? 0 : busyRatio,
          powerWatts: 100,
        }),
      );
      let outputTokens = 0;
      const polls: ServerPoll[] = [];
      for (let at = 0; at <= seconds; at += pollSeconds) {
        outputTokens += tokens[polls.length % tokens.length] as number;
        const base = { at: at * second, inputTokens: 0, outputTokens, progress: "step" } as const;
        polls.push({ ...base, inFlight: 0 });
      }
      const { intervals } = run({
        gpus: [gpuInfo("g")],
        gpuPollMs: windowSeconds * 1000,
        servers: [serverInfo("a", { gpus: ["g"], pollMs: pollSeconds * 1000 })],
        samples,
        polls: { a: polls },
        seconds,
      });
      for (let index = 0; index < windows; index++) {
        const from = index * windowSeconds * second;
        const inside = intervals.filter(
          (interval) => interval.from >= from && interval.to <= from + windowSeconds * second,
        );
        const found = sum(rowsOf(inside, "g").map(({ nanos }) => nanos.token_active)) / second;
        const busy = busyRatio * windowSeconds;
        expect(found).toBeGreaterThan(0.95 * busy);
        // Busy seconds stand for no more execution than an engine with pauses between its steps needs for them.
        expect(found).toBeLessThan(1.3 * busy);
      }
    }),
    { numRuns: 40 },
  );
});
