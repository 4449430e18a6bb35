// The same reading object again: what a source hands over for a page that did not change. The law: it counts what an equal
// reading counts that is another object, whatever was refused, held or began before.
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Increments } from "../../../agent/meter/counters/increments.ts";
import type { TokenReading, TokenSample } from "../../../agent/model.ts";

const SECOND = 1e9;
const wild = fc.oneof(
  { weight: 12, arbitrary: fc.nat(100) },
  ...[fc.integer(), fc.double(), fc.constant(Number.NaN), fc.constant(1e15)],
);
const histogram = fc.array(fc.nat(20), { minLength: 2, maxLength: 2 }).map((counts) => ({
  bounds: [1],
  counts,
  sum: counts.reduce((sum, count) => sum + count, 0),
  count: counts.reduce((sum, count) => sum + count, 0),
}));
const optional = <Value>(value: fc.Arbitrary<Value>) => fc.option(value, { nil: undefined });

const reading: fc.Arbitrary<TokenReading> = fc
  .record({
    output: wild,
    input: optional(wild),
    unsplit: optional(wild),
    ok: wild,
    epoch: fc.option(fc.constantFrom("a", "b"), { nil: undefined, freq: 1 }),
    latency: optional(histogram),
    model: fc.constantFrom("m", "n"),
  })
  .map(({ epoch, input, latency, model, ok, output, unsplit }) => ({
    role: "combined",
    model,
    tokens: {
      output,
      ...(input === undefined ? {} : { input_uncached: input }),
      ...(unsplit === undefined ? {} : { input_unsplit: unsplit }),
    },
    requests: { ok },
    volume: "step",
    ...(epoch === undefined ? {} : { epoch }),
    ...(latency === undefined ? {} : { latencies: { request_duration: latency } }),
  }));

/** Readings that come again, one after the other or later, as the very same objects. */
const pool = fc.array(reading, { minLength: 3, maxLength: 3 });

const poll = fc.record({
  /** Places in the pool; undefined: the readings of the poll before. */
  readings: optional(fc.array(fc.nat(2), { maxLength: 2 })),
  failed: fc.boolean(),
  complete: fc.option(fc.constantFrom("a", "b"), { nil: undefined, freq: 1 }),
  scale: fc.constantFrom("x.1", "x.2"),
  restarts: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.constant(1) }),
});

/** What is stored of the counters but for the instant, which may be an hour old. */
function store(rows: Map<string, string> | undefined, increments: Increments): void {
  for (const { key, value } of increments.takeChanges(BigInt))
    rows?.set(key, value.replace(/"at":"\d+"/g, '"at":""'));
}

test("Increments.countSample() counts of the same reading what it counts of an equal one", () => {
  fc.assert(
    fc.property(pool, fc.array(poll, { maxLength: 20 }), fc.boolean(), (all, polls, isScaled) => {
      const [one, other] = [new Increments({ agentStarted: 0 }), new Increments({ agentStarted: 0 })];
      const stored = [new Map<string, string>(), new Map<string, string>()] as const;
      let readings: readonly TokenReading[] = [];
      for (const [index, { complete, failed, readings: now, restarts, scale }] of polls.entries()) {
        if (now !== undefined) readings = now.map((place) => all[place] as TokenReading);
        const at = (index + 1) * SECOND;
        const sample: TokenSample = {
          ...{ server: "s", family: "engine", sent: at, received: at, at, readings, restarts },
          ...{ ignoredSamples: 0, errors: [] },
          ...(complete === undefined ? {} : { completeEpoch: complete }),
          // On scales, on none, or, now and then, with none in between.
          ...(isScaled !== restarts > 0 ? { scale } : {}),
        };
        if (failed) for (const increments of [one, other]) increments.interrupt("s");
        const counted = one.countSample(sample);
        expect(counted).toEqual(other.countSample({ ...sample, readings: structuredClone(readings) }));
        for (const [place, increments] of [one, other].entries()) store(stored[place], increments);
        expect(stored[0]).toEqual(stored[1]);
      }
    }),
    { numRuns: 500 },
  );
});
