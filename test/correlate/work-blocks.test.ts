// Costs of work are learned from what windows of energy say, whatever was made of the inside of these.
import fc from "fast-check";
import { expect, test } from "vitest";
import { WindowFit } from "../../agent/correlate/energy/window-fit.ts";
import type { Work } from "../../agent/correlate/energy/work-columns.ts";
import type { Piece } from "../../agent/correlate/pieces.ts";
import type { TokenStep } from "../../agent/correlate/token-step.ts";
import { WorkBlocks } from "../../agent/correlate/work-blocks.ts";

const second = 1_000_000_000;
const servers = new Set(["one", "two"]);

/** A second in which both work. */
function bothWork(from: number): Piece {
  const residents = [...servers].map((server) => ({ server, state: "token_active" }) as const);
  return { from, to: from + second, state: "token_active", works: true, residents };
}

/** Steps of a second each, which made so many tokens of one request. */
function stepsOf(tokens: readonly number[]): TokenStep[] {
  return tokens.map((outputTokens, index) => ({
    ...{ from: index * second, to: (index + 1) * second, inputTokens: 0, outputTokens, requests: 0 },
    ...{ inFlightFrom: 1, inFlightTo: 1, progress: "step", isDoubted: false },
  }));
}

test("learn() finds the costs of work by whole windows, wherever inside of them their joules were placed", () => {
  const cost = fc.integer({ min: 1, max: 10 });
  fc.assert(
    fc.property(fc.nat(1000), cost, cost, fc.integer({ min: 2, max: 7 }), (from, one, two, windowSeconds) => {
      const all = Array.from({ length: 24 }, (_, index): [number, number] => [
        (from + 37 * index) % 91,
        (from + 53 * index) % 89,
      ]);
      const tokens = [0, 1].map((at) =>
        all.flatMap((load) => Array.from({ length: windowSeconds }, () => load[at] as number)),
      );
      const length = windowSeconds * all.length;
      const drawn = (seconds: number): number => {
        const window = Math.floor(seconds / windowSeconds);
        const whole = all
          .slice(0, window)
          .reduce((sum, load) => sum + windowSeconds * (load[0] * one + load[1] * two), 0);
        const [first, second] = all[window] ?? [0, 0];
        // All of a window's joules are held to be in its first second.
        return seconds > window * windowSeconds
          ? whole + windowSeconds * (first * one + second * two)
          : whole;
      };
      const [fit, blocks] = [new WindowFit(), new WorkBlocks()];
      const steps = tokens.map(stepsOf);
      for (let at = 0; at < length; at++)
        blocks.learn(
          fit,
          [bothWork(at * second)],
          {
            ...{ from: at * second, to: (at + 1) * second, servers },
            steps: (server) => steps[server === "one" ? 0 : 1] as TokenStep[],
          },
          {
            before: (nanos) => 1000 * drawn(nanos / second),
            toldUntil: (to) => to - (to % (windowSeconds * second)),
            isCoarse: () => true,
            floorWatts: 0,
          },
        );
      const asked = new Map<string, Work>([
        ["one", [0, 1]],
        ["two", [0, 1]],
      ]);
      const { error = 1, joules } = fit.shares(asked) ?? {};
      const given = (joules?.get("one") ?? 0) + (joules?.get("two") ?? 0);
      const off = Math.abs((joules?.get("one") ?? 0) / given - one / (one + two));
      expect(off).toBeLessThan(0.02 + 2 * error);
    }),
    { numRuns: 40 },
  );
});
