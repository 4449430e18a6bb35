// What data-parallel ranks of one server counted: of each what its own counters say, however its label sets come and go.
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Increments } from "../../../agent/meter/counters/increments.ts";
import type { KeyCounters } from "../../../agent/meter/counters/key-counters.ts";
import { RankCounters } from "../../../agent/meter/counters/rank-counters.ts";
import type { RankPoll, RankReading, TokenReading, TokenSample } from "../../../agent/model.ts";

const SECOND = 1e9;
const HOUR = 3600 * SECOND;

function reading(model: string, ranks: readonly RankReading[]): TokenReading {
  const output = ranks.reduce((sum, { tokens }) => sum + (tokens.output ?? 0), 0);
  return { role: "combined", model, tokens: { output }, requests: {}, volume: "step", ranks };
}

function sample(
  seconds: number,
  readings: readonly TokenReading[],
  more: Partial<TokenSample> = {},
): TokenSample {
  const at = seconds * SECOND;
  const base = { server: "s", family: "engine", ignoredSamples: 0, errors: [] } as const;
  return { ...base, sent: at, received: at, at, readings, ...more };
}

const rank = (name: string, output: number, activeNanos?: number): RankReading => ({
  rank: name,
  tokens: { output },
  ...(activeNanos === undefined ? {} : { activeNanos }),
});

/** Where rank 0 stands after the last of the samples. */
function rankAfter(...samples: TokenSample[]): RankPoll | undefined {
  const increments = new Increments({ agentStarted: 0 });
  return samples
    .map((one) => increments.countSample(one).poll?.ranks?.find(({ rank: name }) => name === "0"))
    .at(-1);
}

describe("RankCounters", () => {
  test("counts a rank's busy time once, whichever label set carries it, new ones among them", () => {
    const step = fc.record({
      models: fc.uniqueArray(fc.constantFrom("a", "b", "c"), { minLength: 1 }),
      busy: fc.nat(9),
    });
    fc.assert(
      fc.property(fc.array(step, { minLength: 2, maxLength: 12 }), fc.boolean(), (steps, isWhole) => {
        let active = HOUR;
        const more = isWhole ? { completeEpoch: "e" } : {};
        const samples = steps.map(({ busy, models }, index) => {
          active += index === 0 ? 0 : busy;
          const readings = models.map((model, place) => ({
            ...reading(model, [rank("0", 5, place === 0 ? active : undefined), rank("1", 5)]),
            ...(isWhole ? { epoch: "e" } : {}),
          }));
          return sample(index + 1, readings, more);
        });
        expect(rankAfter(...samples)?.activeNanos).toBe(active - HOUR);
      }),
    );
  });

  test("counts nothing of what a rank had done before it is seen for the first time in a known label set", () => {
    const seen = [reading("m", [rank("1", 10, HOUR), rank("2", 10, HOUR)])];
    const all = [reading("m", [rank("0", 900, HOUR), rank("1", 10, HOUR), rank("2", 10, HOUR)])];
    expect(rankAfter(sample(1, seen), sample(2, all))).toMatchObject({ activeNanos: 0, outputTokens: 0 });
  });

  test("counts the first requests that end on a rank", () => {
    const increments = new Increments({ agentStarted: 0 });
    increments.countSample(sample(1, [reading("m", [rank("0", 5), rank("1", 5)])]));
    const ended = [{ ...rank("0", 9), requests: 3 }, rank("1", 5)];
    const { increments: moved } = increments.countSample(sample(2, [reading("m", ended)]));
    expect(moved[0]?.ranks?.map(({ requests }) => requests)).toEqual([3, 0]);
  });

  test("counts what a rank did since its server began again, which only fallen counters show", () => {
    const before = sample(1, [reading("m", [rank("0", 900, HOUR), rank("1", 900, HOUR)])]);
    const after = sample(9, [reading("m", [rank("0", 30, SECOND), rank("1", 20, SECOND)])]);
    const increments = new Increments({ agentStarted: 0 });
    increments.countSample(before);
    increments.interrupt("s");
    const { increments: moved, poll } = increments.countSample(after);
    expect(moved.map(({ ranks, tokens }) => [tokens.output, ranks?.map((one) => one.tokens.output)])).toEqual(
      [[50, [30, 20]]],
    );
    expect(poll?.ranks?.[0]).toMatchObject({ outputTokens: 30, activeNanos: SECOND });
  });
});

function readingOf(...ranks: RankReading[]): TokenReading {
  return { role: "combined", tokens: {}, requests: {}, volume: "step", ranks };
}

/** Stands for a label set, of which only the identity counts. */
const setOf = (): KeyCounters => ({}) as KeyCounters;

test("a rank that a page leaves out stands where it stood, and nothing is known to be in flight", () => {
  const [counters, set] = [new RankCounters(), setOf()];
  const look = (...ranks: RankReading[]) => {
    counters.take(readingOf(...ranks), set, "same");
    return counters.finish().find((poll) => poll.rank === "1");
  };
  look({ ...rank("0", 5), running: 1 }, { ...rank("1", 5), running: 4 });
  look({ ...rank("0", 9), running: 1 }, { ...rank("1", 8), running: 4 });
  expect(look({ ...rank("0", 9), running: 1 })).toEqual({ rank: "1", inputTokens: 0, outputTokens: 3 });
  const back = look(rank("0", 9), { ...rank("1", 10), running: 2 });
  expect(back).toEqual({ rank: "1", inputTokens: 0, outputTokens: 5, inFlight: 2 });
});

test("a fall is no movement, and a new run counts from its beginning", () => {
  const [counters, set] = [new RankCounters(), setOf()];
  const outputs = (["base", "same", "same", "restart"] as const).map((relation, index) => {
    counters.take(readingOf(rank("0", [50, 70, 20, 25][index] as number)), set, relation);
    return counters.finish()[0]?.outputTokens;
  });
  expect(outputs).toEqual([0, 20, 20, 45]);
});

test("a rank that is new where the source keeps the bases counts whole, its latencies too", () => {
  const [counters, set] = [new RankCounters(), setOf()];
  counters.take(readingOf(rank("0", 5)), set, "base");
  const seen = { bounds: [1], counts: [2, 1], sum: 4, count: 3 };
  const fresh = { ...rank("1", 7), requests: 3, latencies: { time_to_first_token: seen } };
  const moved = counters.take(readingOf(rank("0", 6), fresh), set, "scale");
  expect(moved).toMatchObject([
    { rank: "0", tokens: { output: 1 } },
    { rank: "1", tokens: { output: 7 }, requests: 3, latencies: { time_to_first_token: seen } },
  ]);
});
