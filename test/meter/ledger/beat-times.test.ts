// Beats that come faster than anything is settled: no series is shown with two values at one instant, whatever ends, begins
// or comes back meanwhile.
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { createOtlpEncoder } from "../../../agent/export/otlp/encoder.ts";
import { Ledger } from "../../../agent/meter/ledger/ledger.ts";
import { decodeAll } from "../../export/otlp-decode.ts";

const START = 1_700_000_000_000_000_000n;
const unixNanos = (at: number): bigint => START + BigInt(at);

type Step =
  | { readonly kind: "beat"; readonly settles: number; readonly after: number }
  | { readonly kind: "gauge"; readonly gpu: string; readonly value: number }
  | { readonly kind: "tokens"; readonly server: string; readonly amount: number }
  | { readonly kind: "end"; readonly name: string }
  | { readonly kind: "restart" };

const name = fc.constantFrom("a", "b");
const steps = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant("beat" as const),
        settles: fc.constantFrom(0, 0, 0, 1, 10, 40),
        after: fc.integer({ min: 1, max: 30 }),
      }),
    },
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant("gauge" as const),
        gpu: name,
        value: fc.integer({ min: 0, max: 5 }),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({ kind: fc.constant("tokens" as const), server: name, amount: fc.nat(9) }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("end" as const), name }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("restart" as const) }) },
  ),
  { maxLength: 60 },
);

/** Plays the steps; every point that left the host, in order. */
function shown(plan: readonly Step[]) {
  const encoder = createOtlpEncoder({ resource: {}, version: "1" });
  let ledger = new Ledger(START, { unixNanos });
  let [now, settled] = [0, 0];
  const points: { readonly series: string; readonly time: bigint; readonly value: string }[] = [];
  for (const step of plan) {
    if (step.kind === "gauge") {
      const dimensions = { "hw.id": step.gpu };
      ledger.observe({ metric: "hw.power", dimensions, value: step.value, at: now * 1e9, everyMs: 10_000 });
    } else if (step.kind === "tokens") {
      const dimensions = { "tokenwatt.server.id": step.server, "tokenwatt.token.kind": "output" };
      ledger.postUntil(
        [{ metric: "tokenwatt.tokens", dimensions, amount: step.amount }],
        unixNanos(settled * 1e9),
      );
    } else if (step.kind === "end") {
      ledger.endWhere((dimensions) => Object.values(dimensions).includes(step.name));
    } else if (step.kind === "restart") {
      // A start takes time, and what was shown last is not later than it.
      now += 5;
      settled = now;
      ledger = new Ledger(unixNanos(settled * 1e9), { unixNanos }, ledger.state());
    } else {
      now += step.after;
      settled = Math.min(now, settled + step.settles);
      const snapshot = ledger.commit(unixNanos(settled * 1e9), now * 1e9);
      const requests = [...encoder.encode(snapshot)].map(({ bytes }) => bytes);
      for (const { attributes, metric, time, value } of decodeAll(requests))
        points.push({ series: `${metric} ${JSON.stringify(attributes)}`, time, value: String(value) });
    }
  }
  return points;
}

test("no series has two values at one instant", () => {
  fc.assert(
    fc.property(steps, (plan) => {
      const values = new Map<string, string>();
      for (const { series, time, value } of shown(plan)) {
        const key = `${series} at ${time}`;
        expect(`${key}: ${value}`).toBe(`${key}: ${values.get(key) ?? value}`);
        values.set(key, value);
      }
    }),
    { numRuns: 300 },
  );
});
