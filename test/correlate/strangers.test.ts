// When processes that no server owns may be the ones who work.
import { expect, test } from "vitest";
import type { ActivityWindow } from "../../agent/correlate/activity/evidence.ts";
import { Strangers } from "../../agent/correlate/strangers.ts";
import type { ShareReading } from "../../agent/correlate/timeline.ts";

const second = 1_000_000_000;
const windowsOf = (seconds: number, busyAt: (second: number) => number): ActivityWindow[] =>
  Array.from({ length: 5 * seconds }, (_, index) => {
    const from = (index * second) / 5;
    return { from, to: from + second / 5, busyRatio: busyAt(Math.floor(index / 5)) };
  });

test("stretches() are none while the GPU rests now and then, and all that a GPU without a rest works", () => {
  const resting = windowsOf(20, (at) => (at % 4 === 3 ? 0 : 0.9));
  expect(new Strangers().stretches([7], { shares: [], windows: resting }, 0, 20 * second)).toEqual([]);
  const working = windowsOf(20, (at) => (at < 10 ? 0 : 0.9));
  const strangers = new Strangers();
  expect(strangers.stretches([7], { shares: [], windows: working.slice(0, 65) }, 0, 13 * second)).toEqual([]);
  expect(strangers.stretches([7], { shares: [], windows: working }, 0, 20 * second)).toHaveLength(1);
  expect(new Strangers().stretches([], { shares: [], windows: working }, 0, 20 * second)).toEqual([]);
});

test("stretches() are those that the driver credits, where it says who worked", () => {
  const readings = [1, 2, 3].map(
    (to): ShareReading => ({
      from: (to - 1) * second,
      to: to * second,
      samples: [{ pid: to === 2 ? 7 : 8, at: to * second, smRatio: 0.4 }],
    }),
  );
  const windows = windowsOf(3, () => 0.9);
  const found = new Strangers().stretches([7], { shares: readings, windows }, 0, 3 * second);
  expect(found).toEqual([{ from: second, to: 2 * second }]);
});

test("stretches() of strangers seen at work while every server was idle are not ended by a rest", () => {
  const strangers = new Strangers();
  strangers.observeIdle(3 * second, 3 * second, true);
  const windows = windowsOf(5, (at) => (at === 4 ? 0 : 0.9));
  expect(strangers.stretches([7], { shares: [], windows }, 0, 5 * second)).toEqual([
    { from: 0, to: 5 * second },
  ]);
});

test("duty() is what was seen of idle time, less sure the older it is, and nothing before two seconds of it", () => {
  const strangers = new Strangers();
  strangers.observeIdle(second, second, true);
  expect(strangers.duty(second)).toBeUndefined();
  strangers.observeIdle(40 * second, 39 * second, true);
  expect(strangers.duty(40 * second)).toBeCloseTo(41 / 42, 9);
  expect(strangers.duty(100 * second)).toBeCloseTo(21 / 22, 9);
  expect(strangers.duty(4000 * second)).toBeCloseTo(0.5, 3);
});
