// increments.ts by property: whatever a server does to its counters, what is counted is what it produced since the
// agent first looked, and never a token more.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Increments, increment } from "../../../agent/meter/counters/increments.ts";
import { keyRowStates } from "../../../agent/meter/counters/key-row-text.ts";
import type { Histogram, PhaseTimes, StateRow, TokenReading, TokenSample } from "../../../agent/model.ts";

const SECOND = 1e9;

function reading(output: number, more: Partial<TokenReading> = {}): TokenReading {
  return { role: "combined", model: "m", tokens: { output }, requests: {}, volume: "step", ...more };
}

function sample(
  seconds: number,
  readings: readonly TokenReading[],
  more: Partial<TokenSample> = {},
): TokenSample {
  const at = seconds * SECOND;
  return {
    server: "s",
    family: "engine",
    sent: at,
    received: at,
    at,
    readings,
    ignoredSamples: 0,
    errors: [],
    ...more,
  };
}

function outputOf(increments: Increments, ...samples: TokenSample[]): number {
  let sum = 0;
  for (const one of samples) {
    for (const moved of increments.countSample(one).increments) sum += moved.tokens.output ?? 0;
  }
  return sum;
}

const fresh = (): Increments => new Increments({ agentStarted: 0 });

describe("increment()", () => {
  it("counts nothing at first sight", () => {
    expect(increment(undefined, 500)).toEqual({ kind: "first", amount: 0 });
  });
  it("counts the difference while the counter rises", () => {
    expect(increment(500, 620)).toEqual({ kind: "difference", amount: 120 });
  });
  it("counts everything since a restart", () => {
    expect(increment(500, 20)).toEqual({ kind: "reset", amount: 20 });
  });
});

describe("Increments.countSample()", () => {
  it("counts the same in whatever order a sample names its label sets, twice named ones once", () => {
    const tenants = ["a", "b", "c", undefined];
    const one = fc.record({ tenant: fc.nat(3), output: fc.nat(1000), decode: fc.boolean() });
    const orders = fc.array(fc.tuple(fc.array(one, { maxLength: 6 }), fc.array(fc.nat(), { maxLength: 6 })), {
      maxLength: 8,
    });
    fc.assert(
      fc.property(orders, (samples) => {
        const [ordered, shuffled] = [fresh(), fresh()];
        for (const [index, [all, order]] of samples.entries()) {
          const readings = all.map(({ decode, output, tenant }) =>
            reading(output, {
              role: decode ? "decode" : "combined",
              ...(tenants[tenant] === undefined ? {} : { tenant: tenants[tenant] as string }),
            }),
          );
          // Of a label set named twice the first counts, so those keep their order.
          const setOf = ({ role, tenant }: TokenReading): string => `${role} ${tenant}`;
          const placed = [...readings].sort((left, right) => setOf(left).localeCompare(setOf(right)));
          const sets = [...new Set(placed.map(setOf))];
          for (const [place, swap] of order.entries()) {
            if (sets.length === 0) break;
            const [from, to] = [place % sets.length, swap % sets.length];
            [sets[from], sets[to]] = [sets[to] as string, sets[from] as string];
          }
          const mixed = sets.flatMap((set) => readings.filter((each) => setOf(each) === set));
          const [wanted, found] = [
            ordered.countSample(sample(index + 1, placed)),
            shuffled.countSample(sample(index + 1, mixed)),
          ];
          const byName = (moved: typeof wanted.increments): string[] =>
            moved.map((each) => JSON.stringify(each)).sort();
          expect(byName(found.increments)).toEqual(byName(wanted.increments));
          expect([found.dropped, found.resets]).toEqual([wanted.dropped, wanted.resets]);
        }
      }),
    );
  });
});

describe("Increments.takeChanges()", () => {
  it("hands out again nothing that stood still, but within an hour when it was last seen", () => {
    const increments = fresh();
    const stored = (): number =>
      increments.takeChanges(BigInt).filter(({ key }) => key.includes('"rows"')).length;
    const more = Array.from({ length: 12 }, (_, tenant) => reading(1, { tenant: String(tenant) }));
    increments.countSample(sample(1, [reading(5), ...more, reading(7, { model: "n" })]));
    expect(stored()).toBe(2);
    increments.countSample(sample(2, [reading(5), ...more, reading(8, { model: "n" })]));
    expect(stored()).toBe(1);
    increments.countSample(sample(3601, [reading(5), ...more, reading(8, { model: "n" })]));
    expect(stored()).toBe(0);
    increments.countSample(sample(3603, [reading(5), ...more, reading(8, { model: "n" })]));
    expect(stored()).toBe(2);
  });
});

describe("Increments.countSample() of a server that shows no counter before its first request", () => {
  // Triton's statistics: a model that answered nothing yet has no count of responses at all.
  const silent = (model: string): TokenReading => reading(0, { model, tokens: {} });

  it("counts whole what it makes after it began again, whichever model answers first", () => {
    const amount = fc.integer({ min: 1, max: 9 });
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 4 }),
        fc.array(fc.tuple(amount, fc.boolean()), { maxLength: 6 }),
        (looks, made) => {
          const increments = fresh();
          const bases = [reading(90, { model: "a" }), reading(70, { model: "b" })];
          outputOf(increments, sample(1, bases));
          increments.interrupt("s");
          let at = 2;
          for (let look = 0; look < looks; look++)
            outputOf(increments, sample(at++, [silent("a"), silent("b")]));
          const totals = { a: 0, b: 0 };
          let counted = 0;
          for (const [tokens, isA] of made) {
            totals[isA ? "a" : "b"] += tokens;
            const shown = (["a", "b"] as const).map((model) =>
              totals[model] === 0 ? silent(model) : reading(totals[model], { model }),
            );
            counted += outputOf(increments, sample(at++, shown));
          }
          expect(counted).toBe(totals.a + totals.b);
        },
      ),
    );
  });

  it("goes on after a failed look where the counters do", () => {
    const increments = fresh();
    outputOf(increments, sample(1, [reading(90)]));
    increments.interrupt("s");
    expect(outputOf(increments, sample(2, [reading(90)]))).toBe(0);
    // The server was seen to go on: a lower value without another failed look is no restart.
    expect(outputOf(increments, sample(3, [reading(89)]), sample(4, [reading(95)]))).toBe(5);
  });
});

describe("Increments.countSample() after a restart", () => {
  const histogram = (count: number): Histogram => ({
    bounds: [1],
    counts: [count, 0],
    sum: count / 2,
    count,
  });
  const page = (seconds: number, epoch: string, requests: number | undefined): TokenSample => {
    const more = {
      epoch,
      requests: requests === undefined ? {} : { ok: requests },
      ...(requests === undefined ? {} : { latencies: { request_duration: histogram(requests) } }),
    };
    return sample(seconds, [reading(requests ?? 0, more)]);
  };

  it("counts whole what the first page of the new run did not have yet", () => {
    const increments = fresh();
    const moved = [
      page(1, "a", 10),
      page(2, "a", 12),
      page(3, "b", undefined),
      page(4, "b", 1),
      page(5, "b", 4),
    ]
      .flatMap((each) => increments.countSample(each).increments)
      .map(({ requests, latencies }) => [requests.ok ?? 0, latencies?.request_duration?.count ?? 0]);
    const sums = moved.reduce(([a = 0, b = 0], [ok = 0, count = 0]) => [a + ok, b + count], [0, 0]);
    expect(sums).toEqual([2 + 4, 2 + 4]);
  });

  it("counts no input twice when the new run begins to split it", () => {
    const increments = fresh();
    const page = (seconds: number, epoch: string, tokens: TokenReading["tokens"]): TokenSample =>
      sample(seconds, [{ ...reading(0, { epoch }), tokens }]);
    const moved = [
      page(1, "a", { input_uncached: 50, input_cached: 5 }),
      page(2, "a", { input_uncached: 60, input_cached: 5 }),
      page(3, "b", { input_unsplit: 1000 }),
      page(4, "b", { input_uncached: 990, input_cached: 10 }),
      page(5, "b", { input_uncached: 992, input_cached: 11 }),
    ]
      .flatMap((each) => increments.countSample(each).increments)
      .map(({ tokens }) => [tokens.input_uncached, tokens.input_cached, tokens.input_unsplit]);
    const sum = moved.flat().reduce<number>((total, amount) => total + (amount ?? 0), 0);
    expect(sum).toBe(10 + 1000 + 3);
  });

  it("counts latencies that a complete page did not have before", () => {
    const increments = fresh();
    const complete = { completeEpoch: "a" };
    increments.countSample(sample(1, [reading(5, { epoch: "a" })], complete));
    increments.countSample(sample(2, [reading(6, { epoch: "a" })], complete));
    const last = reading(7, { epoch: "a", latencies: { request_duration: histogram(3) } });
    const [moved] = increments.countSample(sample(3, [last], complete)).increments;
    expect(moved?.latencies?.request_duration?.count).toBe(3);
  });
});

describe("Increments.countSample() at first sight", () => {
  it("takes the history of a server older than the agent as its base", () => {
    const begun = { epoch: "a", epochBegan: -100 * SECOND };
    expect(outputOf(fresh(), sample(1, [reading(900, begun)]), sample(2, [reading(950, begun)]))).toBe(50);
  });
  it("takes the first value of a source without an epoch as its base", () => {
    expect(outputOf(fresh(), sample(1, [reading(900)]), sample(2, [reading(950)]))).toBe(50);
  });
  it("counts the whole value of an epoch that began after the agent", () => {
    expect(outputOf(fresh(), sample(5, [reading(900, { epoch: "a", epochBegan: 2 * SECOND })]))).toBe(900);
  });
  it("counts a label set of a watched server only if its epoch began after the last look", () => {
    const late = (model: string, began: number): TokenReading =>
      reading(70, { model, epoch: model, epochBegan: began * SECOND });
    const start = sample(10, [reading(5)]);
    expect(outputOf(fresh(), start, sample(15, [reading(5), late("new", 12)]))).toBe(70);
    expect(outputOf(fresh(), start, sample(15, [reading(5), late("old", 8)]))).toBe(0);
  });
  it("counts a new label set of a complete source whose epoch goes on, even after an empty page", () => {
    const more = { completeEpoch: "e" };
    const increments = fresh();
    expect(outputOf(increments, sample(1, [], more))).toBe(0);
    expect(outputOf(increments, sample(2, [reading(30, { epoch: "e" })], more))).toBe(30);
  });
});

describe("Increments.countSample() afterwards", () => {
  it("takes the first look at a complete source as its base, however old", () => {
    const more = { completeEpoch: "e" };
    const values = [500, 520].map((value, at) => sample(at + 1, [reading(value, { epoch: "e" })], more));
    expect(outputOf(fresh(), ...values)).toBe(20);
  });
  it("counts a counter that is new in a known label set only if the source promises it began at 0", () => {
    const requests = (more: Partial<TokenSample>): unknown => {
      const increments = fresh();
      increments.countSample(sample(1, [reading(5, { epoch: "e" })], more));
      const later = reading(5, { epoch: "e", requests: { error: 4 } });
      return increments.countSample(sample(2, [later], more)).increments[0]?.requests;
    };
    expect(requests({ completeEpoch: "e" })).toEqual({ error: 4 });
    expect(requests({})).toBeUndefined();
  });
  it("counts the whole new value after a new epoch even when it is larger", () => {
    const increments = fresh();
    outputOf(increments, sample(1, [reading(100, { epoch: "a" })]));
    const accepted = increments.countSample(sample(2, [reading(150, { epoch: "b" })]));
    expect(accepted.increments[0]?.tokens.output).toBe(150);
    expect(accepted.resets).toBe(1);
  });
  it("holds a fall inside one epoch and goes on from the old value", () => {
    const epoch = { epoch: "a" };
    const values = [1000, 10, 1005].map((value, at) => sample(at + 1, [reading(value, epoch)]));
    expect(outputOf(fresh(), ...values)).toBe(5);
  });
  it("believes a fall inside one epoch after three more readings and counts nothing of it", () => {
    const values = [1000, 10, 11, 12, 13, 20].map((value, at) =>
      sample(at + 1, [reading(value, { epoch: "a" })]),
    );
    expect(outputOf(fresh(), ...values)).toBe(7);
  });
  it("does not take a vanished label set for a reset", () => {
    const two = sample(2, [reading(5, { model: "other" })]);
    expect(outputOf(fresh(), sample(1, [reading(100)]), two, sample(3, [reading(130)]))).toBe(30);
  });
  it.each([Number.NaN, -1, Number.POSITIVE_INFINITY, 1e300, 9e15])(
    "drops and counts %d, the rest of the page goes on",
    (bad) => {
      const increments = fresh();
      increments.countSample(sample(1, [reading(10), reading(10, { model: "n" })]));
      const accepted = increments.countSample(sample(2, [reading(bad), reading(14, { model: "n" })]));
      expect(accepted.increments.map((one) => one.tokens)).toEqual([{ output: 4 }]);
      expect(accepted.dropped).toBe(1);
      expect(outputOf(increments, sample(3, [reading(12), reading(14, { model: "n" })]))).toBe(2);
    },
  );
  it("drops a sample older than the last one instead of taking it for a reset", () => {
    const increments = fresh();
    outputOf(increments, sample(1, [reading(10)]), sample(3, [reading(30)]));
    const accepted = increments.countSample(sample(2, [reading(20)]));
    expect(accepted).toMatchObject({ increments: [], poll: undefined, dropped: 1 });
    expect(outputOf(increments, sample(4, [reading(35)]))).toBe(5);
  });
  it("drops a label set named twice on one page", () => {
    const accepted = fresh().countSample(sample(1, [reading(10), reading(20)]));
    expect(accepted.dropped).toBe(1);
  });
  it("keeps at most keysMax label sets and counts what it drops", () => {
    const increments = new Increments({ agentStarted: 0, keysMax: 10 });
    const flood = Array.from({ length: 25 }, (_, at) => reading(1, { tenant: `t${at}` }));
    expect(increments.countSample(sample(1, flood)).dropped).toBe(15);
  });
  it("forgets a label set that vanished two days ago, and says so to the store; one without an epoch is kept", () => {
    const increments = fresh();
    const day = 86_400;
    const tenant = (name: string, epoch?: string): TokenReading =>
      reading(5, { tenant: name, ...(epoch === undefined ? {} : { epoch }) });
    increments.countSample(sample(1, [tenant("a", "e"), tenant("b")]));
    const stored = (): readonly (string | undefined)[] =>
      increments
        .takeChanges(BigInt)
        .flatMap(({ key, value }) => (key.includes('"rows"') ? keyRowStates(value) : []))
        .map(({ identity }) => identity.tenant);
    expect(stored()).toEqual(["a", "b"]);
    increments.countSample(sample(day, [reading(1)]));
    expect(stored()).toEqual(["a", "b", undefined]);
    increments.countSample(sample(3 * day, [reading(1)]));
    expect(stored()).toEqual(["b", undefined]);
    expect(outputOf(increments, sample(3 * day + 1, [tenant("b"), reading(1)]))).toBe(0);
    expect(outputOf(increments, sample(3 * day + 2, [reading(9, { tenant: "b" })]))).toBe(4);
  });
  it("carries fractions of an estimated counter", () => {
    const values = [0.4, 0.8, 1.2, 1.6, 2.4].map((value, at) => sample(at + 1, [reading(value)]));
    expect(outputOf(fresh(), ...values)).toBe(2);
  });
});

describe("Increments by property", () => {
  /** Runs of a server: tokens made per poll, and whether it restarts before the poll. */
  const history = fc.array(fc.record({ made: fc.nat(5000), restart: fc.boolean(), polled: fc.boolean() }), {
    minLength: 1,
    maxLength: 60,
  });
  const run = (
    steps: readonly { made: number; restart: boolean; polled: boolean }[],
    onPoll: (increments: Increments, at: number) => Increments,
  ): { counted: number; seen: number } => {
    let increments = onPoll(fresh(), 0);
    let [counter, epoch, unseen, counted, seen] = [0, 0, 0, 0, 0];
    let began = 1;
    for (const [index, step] of steps.entries()) {
      const at = index + 2;
      if (step.restart) {
        // What was made since the last look dies with the process.
        [counter, unseen, began, epoch] = [0, 0, at - 0.5, epoch + 1];
      }
      counter += step.made;
      unseen += step.made;
      if (!step.polled) continue;
      seen += unseen;
      unseen = 0;
      const one = reading(counter, { epoch: String(epoch), epochBegan: began * SECOND });
      counted += outputOf(increments, sample(at, [one]));
      increments = onPoll(increments, at);
    }
    return { counted, seen };
  };

  it("counts exactly what was seen made over any pattern of restarts and missed polls", () => {
    fc.assert(
      fc.property(history, (steps) => {
        const { counted, seen } = run(steps, (increments) => increments);
        expect(counted).toBe(seen);
      }),
    );
  });
  it("goes on exactly where it was after its state went through a file, at any poll", () => {
    fc.assert(
      fc.property(history, fc.nat(60), (steps, cut) => {
        const rows = new Map<string, string>();
        const { counted, seen } = run(steps, (increments, at) => {
          for (const row of increments.takeChanges(BigInt)) rows.set(row.key, row.value);
          if (at !== cut) return increments;
          const next = new Increments({ agentStarted: at * SECOND });
          expect(
            next.restore(
              [...rows].map(([key, value]) => ({ key, value })),
              Number,
            ),
          ).toBe(0);
          return next;
        });
        expect(counted).toBe(seen);
      }),
    );
  });
  it("lets cumulative progress and every amount never fall, whatever the numbers", () => {
    const wild = fc.oneof(fc.double(), fc.nat(1_000_000), fc.constant(Number.NaN), fc.integer());
    const page = fc.record({
      output: wild,
      input: wild,
      ok: wild,
      epoch: fc.option(fc.constantFrom("a", "b"), { nil: undefined }),
    });
    fc.assert(
      fc.property(fc.array(page, { maxLength: 40 }), (pages) => {
        const increments = fresh();
        let [input, output] = [0, 0];
        for (const [index, one] of pages.entries()) {
          const accepted = increments.countSample(
            sample(index + 1, [
              {
                role: "combined",
                tokens: { output: one.output, input_unsplit: one.input },
                requests: { ok: one.ok },
                volume: "step",
                ...(one.epoch === undefined ? {} : { epoch: one.epoch }),
              },
            ]),
          );
          expect(accepted.poll?.inputTokens).toBeGreaterThanOrEqual(input);
          expect(accepted.poll?.outputTokens).toBeGreaterThanOrEqual(output);
          [input, output] = [accepted.poll?.inputTokens ?? 0, accepted.poll?.outputTokens ?? 0];
          for (const moved of accepted.increments) {
            for (const amount of [...Object.values(moved.tokens), ...Object.values(moved.requests)]) {
              expect(Number.isSafeInteger(amount) && amount >= 0).toBe(true);
            }
          }
        }
      }),
    );
  });
});

describe("Increments.countSample() of everything but tokens", () => {
  const histogram = (counts: number[], bounds = [0.1, 1]): Histogram => ({
    bounds,
    counts,
    sum: counts.reduce((sum, count) => sum + count, 0) / 10,
    count: counts.reduce((sum, count) => sum + count, 0),
  });
  const withLatency = (value: Histogram): TokenReading => reading(0, { latencies: { queue_time: value } });

  it("takes histograms bucket by bucket", () => {
    const increments = fresh();
    increments.countSample(sample(1, [withLatency(histogram([1, 2, 3]))]));
    const moved = increments.countSample(sample(2, [withLatency(histogram([1, 4, 3]))])).increments[0];
    expect(moved?.latencies.queue_time).toMatchObject({ counts: [0, 2, 0], count: 2 });
  });
  it("takes changed bounds as a new base", () => {
    const increments = fresh();
    increments.countSample(sample(1, [withLatency(histogram([1, 2, 3]))]));
    expect(
      increments.countSample(sample(2, [withLatency(histogram([9, 9, 9], [0.2, 2]))])).increments,
    ).toEqual([]);
    const moved = increments.countSample(sample(3, [withLatency(histogram([9, 9, 10], [0.2, 2]))]))
      .increments[0];
    expect(moved?.latencies.queue_time?.counts).toEqual([0, 0, 1]);
  });
  it("reads requests in flight and own busy time, corrected for restarts", () => {
    const increments = fresh();
    const at = (seconds: number, epoch: string, activeNanos: number): number | undefined =>
      increments.countSample(sample(seconds, [reading(0, { epoch, running: 3 })], { activeNanos })).poll
        ?.activeNanos;
    expect([at(1, "a", 500), at(2, "a", 800), at(3, "b", 900)]).toEqual([0, 300, 1200]);
    expect(
      increments.countSample(sample(4, [reading(0, { running: 3 }), reading(0, { model: "n", running: 1 })]))
        .poll,
    ).toMatchObject({ inFlight: 4 });
  });
  it("adds up what phases took between readings of one run, whatever falls", () => {
    const times = fc.record({
      requests: fc.nat(9),
      prefillNanos: fc.nat(9),
      decodeNanos: fc.nat(9),
      isNewRun: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(times, { minLength: 2, maxLength: 20 }), (steps) => {
        const increments = fresh();
        let [run, shown, wanted] = [0, { requests: 0, prefillNanos: 0, decodeNanos: 0 }, 0];
        for (const [index, { isNewRun, ...step }] of steps.entries()) {
          if (isNewRun) [run, shown] = [run + 1, { requests: 0, prefillNanos: 0, decodeNanos: 0 }];
          const before = shown.prefillNanos + shown.decodeNanos;
          shown = {
            requests: shown.requests + step.requests + 1,
            prefillNanos: shown.prefillNanos + step.prefillNanos,
            decodeNanos: shown.decodeNanos + step.decodeNanos,
          };
          if (index > 0 && !isNewRun) wanted += shown.prefillNanos + shown.decodeNanos - before;
          const given = { phaseTimes: shown };
          const taken = sample(index + 1, [reading(0, { epoch: `run ${run}` })], given);
          const { prefillNanos = -1, decodeNanos = -1 } =
            increments.countSample(taken).poll?.phaseTimes ?? {};
          // A new run may have passed where the last one stood: no more than that is counted of it.
          expect(prefillNanos + decodeNanos).toBeGreaterThanOrEqual(wanted);
          wanted = prefillNanos + decodeNanos;
        }
      }),
      { numRuns: 50 },
    );
    const increments = fresh();
    const at = (seconds: number, phaseTimes: PhaseTimes): PhaseTimes | undefined =>
      increments.countSample(sample(seconds, [reading(0)], { phaseTimes })).poll?.phaseTimes;
    at(1, { requests: 7, prefillNanos: 500, decodeNanos: 900 });
    const next = { requests: 9, prefillNanos: 600, decodeNanos: 1900 };
    expect(at(2, next)).toEqual({ requests: 2, prefillNanos: 100, decodeNanos: 1000 });
    expect(at(3, { requests: 1, prefillNanos: 1, decodeNanos: 1 })?.decodeNanos).toBe(1000);
  });
  it("separates progress from volume", () => {
    const increments = fresh();
    increments.countSample(
      sample(1, [reading(0, { progress: { input: 5, output: 10 }, volume: "finish", progressKind: "step" })]),
    );
    const accepted = increments.countSample(
      sample(2, [reading(0, { progress: { input: 6, output: 30 }, volume: "finish", progressKind: "step" })]),
    );
    expect(accepted).toMatchObject({
      increments: [],
      poll: { inputTokens: 1, outputTokens: 20, progress: "step" },
    });
  });
  it("marks what is read after a restart of the agent as late", () => {
    const before = fresh();
    before.countSample(sample(1, [reading(10)]));
    const after = new Increments({ agentStarted: 60 * SECOND });
    after.restore(before.takeChanges(BigInt), Number);
    expect(after.countSample(sample(61, [reading(25)])).increments).toMatchObject([
      { late: true, tokens: { output: 15 } },
    ]);
    expect(after.countSample(sample(62, [reading(26)])).increments).toMatchObject([{ late: false }]);
  });
  it("tells the one model a server serves, and none when there are two", () => {
    const increments = fresh();
    increments.countSample(sample(1, [reading(1)]));
    expect(increments.soleModel("s")).toBe("m");
    increments.countSample(sample(2, [reading(1), reading(1, { model: "n" })]));
    expect(increments.soleModel("s")).toBeUndefined();
  });
});

describe("Increments.countSample() of a source that keeps the bases of its series", () => {
  const scale = "s1";
  const restored = (rows: readonly StateRow[]): Increments => {
    const increments = new Increments({ agentStarted: 100 * SECOND });
    expect(increments.restore(rows, Number)).toBe(0);
    return increments;
  };

  it("goes on from state of before there were scales: the difference, and no history", () => {
    const before = fresh();
    outputOf(before, sample(1, [reading(1000, { epoch: "start:5" }), reading(70, { model: "n" })]));
    const rows = before.takeChanges(BigInt);
    expect(rows.every(({ value }) => !value.includes("scale"))).toBe(true);
    const same = reading(1040, { epoch: "start:5" });
    // The other model's series had vanished and were held in its sum: its base is what is there now.
    const lower = reading(20, { model: "n" });
    const after = restored(rows);
    expect(outputOf(after, sample(101, [same, lower], { scale }))).toBe(40);
    expect(outputOf(after, sample(102, [reading(1050), reading(25, { model: "n" })], { scale }))).toBe(15);
  });

  it("counts nothing of another process it meets first after that, and all of one that began since", () => {
    const before = fresh();
    outputOf(before, sample(1, [reading(1000, { epoch: "start:5" })]));
    const rows = before.takeChanges(BigInt);
    const other = (epochBegan: number): TokenSample =>
      sample(101, [reading(5000, { epoch: "start:6", epochBegan })], { scale });
    expect(outputOf(restored(rows), other(0))).toBe(0);
    expect(outputOf(restored(rows), other(50 * SECOND))).toBe(5000);
  });

  it("takes a fall for a figure of two counters, and a label set that is new for one that began at zero", () => {
    const increments = fresh();
    const at = (seconds: number, uncached: number, cached: number, more: TokenReading[] = []): number =>
      increments
        .countSample(
          sample(
            seconds,
            [{ ...reading(0), tokens: { input_uncached: uncached, input_cached: cached } }, ...more],
            {
              scale,
            },
          ),
        )
        .increments.reduce((sum, { tokens }) => sum + Object.values(tokens).reduce((a, b) => a + b, 0), 0);
    at(1, 90, 10);
    expect([at(2, 85, 15), at(3, 85, 15), at(4, 85, 15), at(5, 85, 15), at(6, 125, 15)]).toEqual([
      5, 0, 0, 0, 35,
    ]);
    expect(at(7, 125, 15, [reading(33, { model: "new" })])).toBe(33);
  });

  it("counts a restart that the source found once, and marks what came before it as unseen", () => {
    const before = fresh();
    outputOf(before, sample(1, [reading(10)], { scale }));
    const after = restored(before.takeChanges(BigInt));
    const accepted = after.countSample(
      sample(101, [reading(15), reading(0, { model: "n" })], { scale, restarts: 1 }),
    );
    expect(accepted).toMatchObject({ resets: 1, unmetered: true });
    expect(accepted.increments.reduce((sum, { resets }) => sum + resets, 0)).toBe(1);
  });

  it("loses no input when it is split from some page on, or no longer", () => {
    const increments = fresh();
    const at = (seconds: number, tokens: TokenReading["tokens"]): number =>
      increments
        .countSample(sample(seconds, [{ ...reading(0), tokens }], { scale }))
        .increments.reduce((sum, one) => sum + Object.values(one.tokens).reduce((a, b) => a + b, 0), 0);
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(500), fc.nat(500), fc.boolean())), (steps) => {
        let [input, cached, made, booked, seconds] = [1000, 0, 0, 0, 10];
        at(seconds, { input_unsplit: input });
        for (const [more, hits, split] of steps) {
          input += more;
          made += more;
          cached = Math.min(input, cached + Math.min(hits, more));
          booked += at(
            ++seconds,
            split ? { input_uncached: input - cached, input_cached: cached } : { input_unsplit: input },
          );
        }
        expect(booked).toBe(made);
        increments.forget("s");
      }),
    );
  });
});
