// What pages say of the work on a board: all of what was counted, where requests were in flight, and nothing where a page is missing.
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Part } from "../../agent/correlate/member.ts";
import type { TokenStep } from "../../agent/correlate/token-step.ts";
import { executedOn, workRates } from "../../agent/correlate/work-rates.ts";
import { second } from "./scene.ts";

/** A board on which these servers are. */
const partsOf = (...servers: string[]): readonly Part[] => [
  {
    member: { timeline: { info: { uuid: "GPU-0" } } },
    residents: { servers: new Set(servers) },
  } as unknown as Part,
];

/** Steps of a second each, by the tokens made and the requests in flight at their ends. */
function stepsOf(tokens: readonly number[], flying: readonly number[]): TokenStep[] {
  return tokens.map((outputTokens, at) => ({
    ...{ from: at * second, to: (at + 1) * second, inputTokens: 0, outputTokens, requests: 0 },
    ...{ inFlightFrom: flying[at], inFlightTo: flying[at + 1], progress: "step", isDoubted: false },
  }));
}

const page = fc.integer({ min: 3, max: 30 }).chain((length) =>
  fc.record({
    tokens: fc.array(fc.nat(200), { minLength: length, maxLength: length }),
    flying: fc.array(fc.nat(3), { minLength: length + 1, maxLength: length + 1 }),
  }),
);

test("workRates() places all tokens of a page within its own steps, and executes where requests were in flight", () => {
  fc.assert(
    fc.property(page, ({ flying, tokens }) => {
      const steps = stepsOf(tokens, flying);
      const workIn = workRates(partsOf("a"), () => steps);
      for (const [at, { from, outputTokens, to }] of steps.entries()) {
        const [executed, rate] = workIn(from, to) ?? [-1, -1];
        const both = (flying[at] ?? 0) > 0 && (flying[at + 1] ?? 0) > 0;
        const none = flying[at] === 0 && flying[at + 1] === 0 && outputTokens === 0;
        if (both) expect(executed).toBeCloseTo(1, 9);
        if (none) expect(executed).toBe(0);
        expect(executed).toBeLessThanOrEqual(1 + 1e-9);
        if (executed > 0) expect(rate).toBeCloseTo(outputTokens, 6);
        const halves = [from, from + second / 2].map((start) => workIn(start, start + second / 2));
        const sum = halves.reduce((all, half) => all + (half?.[0] ?? 0) / 2, 0);
        expect(sum).toBeCloseTo(executed, 6);
      }
    }),
  );
});

test("workRates() adds up servers, and knows nothing where one of their pages does not cover the time", () => {
  const steps = stepsOf([50, 50, 50, 50], [1, 1, 1, 1, 1]);
  const pages: Record<string, readonly TokenStep[]> = {
    a: steps,
    b: steps,
    late: steps.slice(2),
    gap: steps.filter(({ from }) => from !== second),
  };
  const workIn = (...servers: string[]) => workRates(partsOf(...servers), (server) => pages[server] ?? []);
  expect(workIn("a")(0, 4 * second)).toEqual([1, 50]);
  expect(workIn("a", "b")(0, 4 * second)).toEqual([2, 100]);
  expect(workIn("a", "late")(2 * second, 4 * second)).toEqual([2, 100]);
  expect(workIn("a", "late")(second, 3 * second)).toBeUndefined();
  expect(workIn("gap")(0, 4 * second)).toBeUndefined();
  expect(workIn("a")(3 * second, 5 * second)).toBeUndefined();
  expect(workIn("a", "unread")(0, second)).toBeUndefined();
  expect(workIn()(0, second)).toEqual([0, 0]);
});

test("workRates() ends work at the poll that read it, begins it at the one that did last, for as long as its tokens take", () => {
  // 100 tokens a second by one request: 50 of them take half a second, the first of a request beside.
  const steps = stepsOf([100, 100, 50, 0, 51], [1, 1, 1, 0, 0, 1]);
  const workIn = workRates(partsOf("a"), () => steps);
  const executed = (from: number, to: number) => workIn(from * second, to * second)?.[0];
  expect(executed(2, 2.5)).toBeCloseTo(1, 6);
  expect(executed(2.5, 4.5)).toBeCloseTo(0, 6);
  expect(executed(4.5, 5)).toBeCloseTo(1, 6);
});

test("executedOn() says how busy near windows show a board to be that others hold too, and nothing where one is missing or far", () => {
  const near = second / 5;
  const windows = [0.5, 0, 1, 0.25].map((busyRatio, at) => ({
    ...{ from: at * near, to: (at + 1) * near, busyRatio },
  }));
  const beside = (shown: readonly object[]): readonly Part[] => [
    {
      member: { timeline: { info: { uuid: "GPU-0" }, windows: shown } },
      residents: { servers: new Set(["a", "unmetered"]) },
    } as unknown as Part,
  ];
  const settling = { ahead: () => [], from: 0, to: second };
  const all = executedOn(beside(windows), settling)?.(near / 2, 4 * near);
  expect(all).toEqual([
    { from: near / 2, to: near, ratio: 0.5 },
    { from: 2 * near, to: 3 * near, ratio: 1 },
    { from: 3 * near, to: 4 * near, ratio: 0.25 },
  ]);
  const without = windows.filter((_, at) => at !== 1);
  expect(executedOn(beside(without), settling)?.(0, 4 * near)).toBeUndefined();
  const stood = windows.map((window, at) => ({ ...window, sampled: at === 2 }));
  expect(executedOn(beside(stood), settling)?.(0, 4 * near)).toBeUndefined();
  const far = [{ from: 0, to: 4 * near, busyRatio: 0.5 }];
  expect(executedOn(beside(far), settling)?.(0, 4 * near)).toBeUndefined();
});
