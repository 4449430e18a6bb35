// What is remembered of a gateway's last sample. The law: what is asked of it between two polls (models, runs, roles, what is
// in flight) has the answer that the whole sample gives, and no customer or count of one is in it.
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { lastSampleOf } from "../../agent/daemon/last-sample.ts";
import type { TokenReading, TokenSample } from "../../agent/model.ts";

const some = <Value>(value: fc.Arbitrary<Value>) => fc.option(value, { nil: undefined });

const reading: fc.Arbitrary<TokenReading> = fc
  .record({
    model: some(fc.constantFrom("m", "n")),
    epoch: some(fc.constantFrom("a", "b")),
    role: fc.constantFrom<TokenReading["role"]>("combined", "decode"),
    tenant: some(fc.constantFrom("ann", "bob")),
    running: some(fc.nat(9)),
    waiting: some(fc.nat(9)),
    kvCacheUtilization: some(fc.constantFrom(0, 0.5, 1)),
    output: fc.nat(1000),
  })
  .map(({ output, role, ...rest }) => ({
    ...(Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined)) as object),
    ...{ role, tokens: { output }, requests: { ok: output }, volume: "finish" },
  }));

/** What is asked of the last sample of a server. */
function asked({ readings }: TokenSample): unknown {
  const numbers = (key: "running" | "waiting" | "kvCacheUtilization"): number[] =>
    readings.flatMap((one) => one[key] ?? []);
  return {
    models: new Set(readings.map(({ model }) => model)),
    runs: new Set(readings.map(({ epoch }) => epoch)),
    roles: new Set(readings.map(({ role }) => role)),
    ...{ running: numbers("running"), waiting: numbers("waiting"), cache: numbers("kvCacheUtilization") },
  };
}

function sampleOf(family: TokenSample["family"], readings: readonly TokenReading[]): TokenSample {
  return { server: "s", family, sent: 0, received: 2, at: 1, readings, ignoredSamples: 0, errors: ["e"] };
}

test("lastSampleOf() answers for a gateway what the whole sample would, without its customers", () => {
  fc.assert(
    fc.property(fc.array(reading, { maxLength: 30 }), (readings) => {
      const whole = sampleOf("gateway", readings);
      const kept = lastSampleOf(whole);
      expect(asked(kept)).toEqual(asked(whole));
      expect({ ...kept, readings: [] }).toEqual({ ...whole, readings: [] });
      expect(JSON.stringify(kept)).not.toMatch(/ann|bob|output/);
    }),
  );
});

test("lastSampleOf() is bounded by models and runs, not by customers", () => {
  const readings = Array.from({ length: 1000 }, (_, tenant): TokenReading => {
    const model = `m${tenant % 3}`;
    return { role: "combined", model, tenant: `t${tenant}`, tokens: {}, requests: {}, volume: "finish" };
  });
  expect(lastSampleOf(sampleOf("gateway", readings)).readings).toHaveLength(3);
});

test("lastSampleOf() is the sample itself for an engine", () => {
  const sample = sampleOf("engine", [{ role: "combined", tokens: {}, requests: {}, volume: "step" }]);
  expect(lastSampleOf(sample)).toBe(sample);
});
