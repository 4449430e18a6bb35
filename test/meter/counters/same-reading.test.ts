// The same reading object again: what a source hands over for a page that did not change. The law: it counts what an equal
// reading counts that is another object, whatever was refused, held or began before.
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Increments } from "../../../agent/meter/counters/increments.ts";
import type { TokenReading, TokenSample } from "../../../agent/model.ts";

const SECOND = 1e9;
const wild = fc.oneof(
  ...[fc.nat(1000), fc.nat(100), fc.integer(), fc.double(), fc.constant(Number.NaN)],
  fc.constant(1e15),
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
    epoch: optional(fc.constantFrom("a", "b")),
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

const poll = fc.record({
  /** Undefined: the readings of the poll before, the very same. */
  readings: optional(fc.array(reading, { maxLength: 2 })),
  failed: fc.boolean(),
  complete: optional(fc.constantFrom("a", "b")),
  scale: optional(fc.constantFrom("x.1", "x.2")),
  restarts: fc.nat(1),
});

test("Increments.countSample() counts of the same reading what it counts of an equal one", () => {
  fc.assert(
    fc.property(fc.array(poll, { maxLength: 20 }), (polls) => {
      const [one, other] = [new Increments({ agentStarted: 0 }), new Increments({ agentStarted: 0 })];
      let readings: readonly TokenReading[] = [];
      for (const [index, { complete, failed, readings: now, restarts, scale }] of polls.entries()) {
        if (now !== undefined) readings = now;
        const at = (index + 1) * SECOND;
        const sample: TokenSample = {
          ...{ server: "s", family: "engine", sent: at, received: at, at, readings, restarts },
          ...{ ignoredSamples: 0, errors: [] },
          ...(complete === undefined ? {} : { completeEpoch: complete }),
          ...(scale === undefined ? {} : { scale }),
        };
        if (failed) for (const increments of [one, other]) increments.interrupt("s");
        const counted = one.countSample(sample);
        expect(counted).toEqual(other.countSample({ ...sample, readings: structuredClone(readings) }));
        expect(one.takeChanges(BigInt)).toEqual(other.takeChanges(BigInt));
      }
    }),
    { numRuns: 300 },
  );
});
