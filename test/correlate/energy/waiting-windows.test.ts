// What a window teaches of the watts of execution: nothing where others worked in it too, be it known when.
import { expect, test } from "vitest";
import type { DoneWork } from "../../../agent/correlate/energy/waiting-windows.ts";
import { WaitingWindows } from "../../../agent/correlate/energy/waiting-windows.ts";
import { second } from "../scene.ts";

const limitWatts = 700;

/** Watts of execution for half of a window at 600 W above a floor of 100, once two minutes of others at 100 W were decided. */
function executingAfter(isOfOthers: boolean): number {
  const windows = new WaitingWindows(limitWatts);
  const add = (at: number, watts: number): void =>
    windows.add({
      ...{
        from: at * second,
        to: (at + 5) * second,
        at: (at + 5) * second,
        watts,
        method: "counter" as const,
        seenNanos: 0,
      },
      millijoules: watts * 5000,
    });
  const decide = (work: Partial<DoneWork>): ReturnType<WaitingWindows["decideNext"]> =>
    windows.decideNext(Infinity, limitWatts, {
      ...{ workIn: () => [0, 0], executed: undefined, floor: { watts: 100, isGuessed: false } },
      ...work,
    });
  const half: DoneWork["executed"] = (from, to) => [{ from, to: (from + to) / 2 }];
  for (let at = 0; at < 120; at += 5) {
    add(at, 150);
    decide({ executed: half, isOfOthers });
  }
  add(120, 400);
  const steps = decide({ executed: half })?.steps;
  return steps?.watts(0) ?? Number.NaN;
}

test("a window in which others worked does not say what the servers of a board draw", () => {
  expect(executingAfter(false)).toBeLessThan(300);
  expect(executingAfter(true)).toBe(700);
});
