// Power that is read for the last second of every few: what lies between is known by what servers did, or else within an error.
import { expect, test } from "vitest";
import type { WorkIn } from "../../../agent/correlate/energy/sampled-power.ts";
import { SampledPower } from "../../../agent/correlate/energy/sampled-power.ts";
import { second } from "../scene.ts";

/** A generator of numbers from 0 to 1. */
function drawn(seed: number): () => number {
  let state = (seed * 2_654_435_769) >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Whether work was done in each tenth of a second, in stretches of some seconds. */
function load(next: () => number, tenths: number, meanSeconds: number): Uint8Array {
  const on = new Uint8Array(tenths);
  let [at, isOn] = [0, next() < 0.5];
  while (at < tenths) {
    const length = Math.max(1, Math.round(-10 * meanSeconds * Math.log(1 - next())));
    if (isOn) on.fill(1, at, at + length);
    at += length;
    isOn = !isOn;
  }
  return on;
}

function shareIn(on: Uint8Array, from: number, to: number): number {
  let sum = 0;
  for (let tenth = Math.round(from / 1e8); tenth < Math.round(to / 1e8); tenth++) sum += on[tenth] ?? 0;
  return sum / Math.max(1, Math.round((to - from) / 1e8));
}

const [floor, above, readings] = [120, 260, 100];

/** Energy found, the true one, plain readings times their distance, and what was in doubt, kJ. */
function run(seed: number, everySeconds: number, meanSeconds: number, isKnown: boolean) {
  const next = drawn(seed);
  const on = load(next, readings * everySeconds * 10, meanSeconds);
  const workIn: WorkIn = (from, to) => (isKnown ? [shareIn(on, from, to), 0] : undefined);
  const power = new SampledPower(700);
  const sums = { found: 0, plain: 0, doubt: 0 };
  for (let index = 0; index < readings; index++) {
    const [from, to] = [index * everySeconds * second, (index + 1) * everySeconds * second];
    const watts = floor + above * shareIn(on, to - second, to);
    const { doubtMillijoules, steps } = power.close({ from, to, watts, seenNanos: second }, workIn);
    expect(steps.from(0)).toBe(from);
    expect(steps.to(steps.length - 1)).toBe(to);
    expect(steps.covered()).toBe(to - from);
    expect(steps.watts(steps.length - 1)).toBe(watts);
    expect(doubtMillijoules).toBeGreaterThanOrEqual(0);
    sums.found += ((steps.meanWatts() ?? 0) * everySeconds) / 1000;
    sums.plain += (watts * everySeconds) / 1000;
    sums.doubt += doubtMillijoules / 1e6;
  }
  const all =
    (readings * everySeconds * (floor + above * shareIn(on, 0, readings * everySeconds * second))) / 1000;
  return { ...sums, all };
}

const seeds = Array.from({ length: 40 }, (_, index) => index + 1);

test.each([
  [5, 3],
  [5, 20],
  [10, 4],
  [30, 8],
])(
  "readings each %d s of work that lasts %d s: within a hundredth and a half where it is known",
  (everySeconds, meanSeconds) => {
    for (const seed of seeds) {
      const { all, found } = run(seed, everySeconds, meanSeconds, true);
      expect(Math.abs(found / all - 1)).toBeLessThan(0.015);
    }
  },
);

test.each([
  [5, 1],
  [5, 4],
  [5, 30],
  [15, 6],
])(
  "readings each %d s of work that lasts %d s: right on average, and as far off as is said where it is not known",
  (everySeconds, meanSeconds) => {
    const runs = seeds.map((seed) => run(seed, everySeconds, meanSeconds, false));
    const off = runs.map(({ all, found }) => found - all);
    const mean = off.reduce((sum, one) => sum + one, 0) / off.length;
    const spread = Math.sqrt(off.reduce((sum, one) => sum + one * one, 0) / off.length);
    expect(Math.abs(mean)).toBeLessThan(3.5 * (spread / Math.sqrt(off.length)));
    const covered = runs.filter(({ all, doubt, found }) => Math.abs(found - all) <= doubt).length;
    expect(covered).toBeGreaterThanOrEqual(0.88 * runs.length);
    // Two standard errors are not much more than that: doubt that is never needed says nothing.
    const doubt = runs.reduce((sum, one) => sum + one.doubt, 0) / runs.length;
    expect(doubt).toBeLessThan(4.5 * spread);
  },
);

test("what tokens cost is learned beside execution", () => {
  const next = drawn(5);
  const power = new SampledPower(700);
  const wattsOf = (rate: number): number => floor + 0.2 * rate;
  let [found, all] = [0, 0];
  for (let index = 0; index < readings; index++) {
    const rates = Array.from({ length: 5 }, () => Math.round(1000 * next()));
    const from = index * 5 * second;
    const workIn: WorkIn = (start, end) => {
      const own = rates.slice(Math.round((start - from) / second), Math.round((end - from) / second));
      return [1, own.reduce((sum, one) => sum + one, 0) / own.length];
    };
    const stretch = { from, to: from + 5 * second, watts: wattsOf(rates[4] as number), seenNanos: second };
    const { steps } = power.close(stretch, workIn);
    if (index < readings / 2) continue;
    const mean = rates.reduce((sum, one) => sum + wattsOf(one), 0) / 5;
    found += Math.abs((steps.meanWatts() ?? 0) - mean);
    all += mean;
  }
  expect(found / all).toBeLessThan(0.02);
});

test("a load that never changes is in ever less doubt: few readings that agree prove little", () => {
  const power = new SampledPower(700);
  const doubts: number[] = [];
  const joulesOf = 5 * 300;
  for (let index = 0; index < 720; index++) {
    const stretch = { from: index * 5 * second, to: (index + 1) * 5 * second, watts: 300, seenNanos: second };
    const { doubtMillijoules } = power.close(stretch, () => [1, 900]);
    doubts.push(doubtMillijoules / 1000);
  }
  const shareOf = (count: number): number =>
    doubts.slice(0, count).reduce((sum, doubt) => sum + doubt, 0) / (count * joulesOf);
  expect(shareOf(8)).toBeGreaterThan(0.1);
  expect(shareOf(50)).toBeLessThan(0.5 * shareOf(8));
  expect(shareOf(720)).toBeLessThan(0.01);
});
