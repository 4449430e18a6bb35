// The label sets of a row as text: whatever they are, they come back as they were, and take a few dozen bytes each.
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Storable } from "../../../agent/meter/counters/key-row-text.ts";
import { keyRowStates, keyRowText } from "../../../agent/meter/counters/key-row-text.ts";
import type { KeyState } from "../../../agent/meter/counters/key-state.ts";
import type { Histogram, Latencies } from "../../../agent/model.ts";

const name = fc.constantFrom("", "0", "null", "team a", "\u0000", '"');
const value = fc.oneof(fc.nat(), fc.constantFrom(0, Number.MAX_SAFE_INTEGER), fc.constant(Number.NaN));
const bounds = fc.constantFrom<readonly number[]>([], [0.1, 1], [0.1, 1], [0.5]);
const histogram: fc.Arbitrary<Histogram> = bounds.chain((own) =>
  fc.record({
    bounds: fc.constantFrom(own, [...own]),
    counts: fc.array(fc.nat(9), { minLength: own.length + 1, maxLength: own.length + 1 }),
    sum: fc.nat(9),
    count: fc.nat(99),
  }),
);
const latencies: fc.Arbitrary<Latencies> = fc.record(
  { time_to_first_token: histogram, "request_duration ok": histogram },
  { requiredKeys: [] },
);
const identity = fc.record(
  {
    role: fc.constantFrom("combined" as const, "decode" as const),
    model: name,
    tenant: name,
    endpoint: name,
  },
  { requiredKeys: ["role"] },
);
const state = fc.record(
  {
    ...{ identity, epoch: name, scale: name, at: fc.constantFrom("1", "1800000000000000000") },
    ...{ values: fc.array(value, { maxLength: 27 }), histograms: latencies },
  },
  { requiredKeys: ["identity", "at", "values", "histograms"] },
) as fc.Arbitrary<KeyState>;

/** What was never seen is null, and nothing where only such follow. */
function asStored(one: KeyState): KeyState {
  const values = one.values.map((each) => (each === null || Number.isNaN(each) ? null : each));
  return { ...one, values: values.slice(0, values.findLastIndex((each) => each !== null) + 1) };
}

/** As counters hold it. */
function asHeld({ epoch, scale, values, ...rest }: KeyState): Storable {
  return { ...rest, epoch, scale, values: values.map((each) => each ?? Number.NaN) };
}

test("what is stored comes back as it was, in this form and in the one before", () => {
  fc.assert(
    fc.property(fc.array(state, { maxLength: 8 }), (states) => {
      expect(keyRowStates(keyRowText(states.map(asHeld)))).toEqual(states.map(asStored));
      const before = JSON.stringify(states);
      expect(keyRowStates(before).map(asStored)).toEqual(states.map(asStored));
    }),
  );
});

test("a row of a later form is refused and not read as another", () => {
  expect(() => keyRowStates('{"form":3,"looks":[],"sets":[],"bounds":[]}')).toThrow("form 3, 2 wanted");
});

test("eight customers of a gateway take a few dozen bytes each", () => {
  const states = Array.from({ length: 8 }, (_, place): Storable => {
    const [blank, model, tenant] = [Number.NaN, "org/model", `team-${place}`];
    const values = [blank, blank, 1e6, 2e5, 4000, blank, blank, blank, blank, blank, blank];
    const look = { at: "1800000000000000000", epoch: "1800000000", scale: "a.b" };
    return { identity: { role: "combined", model, tenant }, ...look, values, histograms: {} };
  });
  expect(keyRowText(states).length / 8).toBeLessThan(80);
});
