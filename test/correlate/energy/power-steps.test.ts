// Columns of power steps hold what a list of objects would, whatever is appended, dropped and asked in between.
import { array, assert, constant, integer, oneof, property, record, tuple } from "fast-check";
import { describe, expect, test } from "vitest";
import { PowerSteps } from "../../../agent/correlate/energy/power-steps.ts";

interface Step {
  readonly from: number;
  readonly to: number;
  readonly watts: number;
}

const MAX = 100;
const action = oneof(
  {
    weight: 8,
    arbitrary: record({
      kind: constant("append" as const),
      gap: integer({ min: 0, max: 2 }),
      length: integer({ min: 1, max: 9 }),
    }),
  },
  {
    weight: 1,
    arbitrary: record({ kind: constant("forget" as const), share: integer({ min: 0, max: 100 }) }),
  },
  {
    weight: 2,
    arbitrary: record({
      kind: constant("clip" as const),
      range: tuple(integer({ min: -10, max: 3000 }), integer({ min: 0, max: 300 })),
    }),
  },
);

function stepsOf(columns: PowerSteps): Step[] {
  return Array.from({ length: columns.length }, (_, at) => ({
    from: columns.from(at),
    to: columns.to(at),
    watts: columns.watts(at),
  }));
}

function clipped(list: readonly Step[], from: number, to: number): Step[] {
  return list
    .filter((step) => step.to > from && step.from < to)
    .map((step) => ({ ...step, from: Math.max(step.from, from), to: Math.min(step.to, to) }));
}

describe("PowerSteps", () => {
  test("holds, clips and drops like a list of objects that never has more than its bound", () => {
    const into = new PowerSteps();
    assert(
      property(array(action, { minLength: 1, maxLength: 600, size: "max" }), (actions) => {
        const columns = new PowerSteps(MAX);
        let list: Step[] = [];
        let end = 0;
        for (const one of actions) {
          if (one.kind === "append") {
            const step = { from: end + one.gap, to: end + one.gap + one.length, watts: end % 7 };
            end = step.to;
            columns.append(step.from, step.to, step.watts);
            list = [...list, step].slice(-MAX);
          } else if (one.kind === "forget") {
            const before = (end * one.share) / 100;
            columns.forget(before);
            list = list.filter((step) => step.to > before);
          } else {
            const [from, length] = one.range;
            const inside = columns.clip(from, from + length, into);
            const wanted = clipped(list, from, from + length);
            expect(stepsOf(inside)).toEqual(wanted);
            const time = wanted.reduce((sum, step) => sum + step.to - step.from, 0);
            const energy = wanted.reduce((sum, step) => sum + step.watts * (step.to - step.from), 0);
            expect(inside.covered()).toBe(time);
            expect(inside.meanWatts()).toBe(time > 0 ? energy / time : undefined);
          }
          expect(columns.length).toBe(list.length);
        }
        expect(stepsOf(columns)).toEqual(list);
      }),
      { numRuns: 60 },
    );
  });
});
