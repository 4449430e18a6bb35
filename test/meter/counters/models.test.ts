// Which models a server serves, as it is asked at every interval. The law: those that the label sets remembered of it name,
// whatever comes, goes for long, is stored and read back, or is forgotten.
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Increments } from "../../../agent/meter/counters/increments.ts";
import { keyRowStates } from "../../../agent/meter/counters/key-row-text.ts";
import type { TokenReading, TokenSample } from "../../../agent/model.ts";

const DAY = 86_400e9;
const MODELS = ["m", "n", undefined] as const;

const reading: fc.Arbitrary<TokenReading> = fc
  .record({
    model: fc.constantFrom(...MODELS),
    tenant: fc.constantFrom("ann", "bob"),
    isOfRun: fc.boolean(),
    output: fc.nat(9),
  })
  .map(({ isOfRun, model, output, tenant }) => ({
    ...{ role: "combined", tenant, tokens: { output }, requests: {}, volume: "step" },
    ...(model === undefined ? {} : { model }),
    ...(isOfRun ? { epoch: "a" } : {}),
  }));

const happening = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("sample" as const),
      readings: fc.array(reading, { maxLength: 4 }),
      days: fc.constantFrom(0, 0, 0, 3, 40),
    }),
  },
  { weight: 1, arbitrary: fc.constantFrom({ kind: "restart" as const }, { kind: "forget" as const }) },
);

test("Increments.soleModel() and serves() name the models of the label sets that are remembered", () => {
  fc.assert(
    fc.property(fc.array(happening, { maxLength: 15 }), (happenings) => {
      let increments = new Increments({ agentStarted: 0 });
      const stored = new Map<string, string>();
      let at = 0;
      for (const one of happenings) {
        if (one.kind === "sample") {
          at += one.days * DAY + 1e9;
          const { readings } = one;
          const sample: TokenSample = {
            ...{ server: "s", family: "engine", sent: at, received: at, at, readings },
            ...{ ignoredSamples: 0, errors: [] },
          };
          increments.countSample(sample);
        } else if (one.kind === "forget") increments.forget("s");
        for (const { key, value } of increments.takeChanges(BigInt))
          if (value === "") stored.delete(key);
          else stored.set(key, value);
        if (one.kind === "restart") {
          increments = new Increments({ agentStarted: at });
          increments.restore(
            [...stored].map(([key, value]) => ({ key, value })),
            Number,
          );
        }
        const models = new Set(
          [...stored].flatMap(([key, value]) =>
            key.includes('"rows"') ? keyRowStates(value).flatMap(({ identity }) => identity.model ?? []) : [],
          ),
        );
        for (const model of ["m", "n"]) expect(increments.serves("s", model)).toBe(models.has(model));
        expect(increments.soleModel("s")).toBe(models.size === 1 ? [...models][0] : undefined);
      }
    }),
    { numRuns: 300 },
  );
});
