// GPUs of a server that work together are told from those that work each for itself, and are executed on once.
import fc from "fast-check";
import { expect, test } from "vitest";
import type { ActivityWindow } from "../../agent/correlate/activity/evidence.ts";
import type { OwnStretch } from "../../agent/correlate/own-states.ts";
import { joined } from "../../agent/correlate/own-states.ts";
import { Ties } from "../../agent/correlate/ties.ts";
import { Random } from "../simulator/random.ts";
import { second } from "./scene.ts";

const [windowMs, lengthMs] = [200, 60_000];

/** Milliseconds in which a GPU executes requests that come by chance. */
function work(random: Random, perSecond: number): Uint8Array {
  const busy = new Uint8Array(lengthMs);
  for (let at = 0; at < lengthMs; at += random.wait(1000 / perSecond)) {
    const length = random.between(5, 120);
    for (let ms = Math.floor(at); ms < Math.min(lengthMs, at + length); ms++) busy[ms] = 1;
  }
  return busy;
}

/** The windows of a driver, which begin anywhere. */
function windowsOf(busy: Uint8Array, phase: number): ActivityWindow[] {
  const windows: ActivityWindow[] = [];
  for (let from = phase; from + windowMs <= lengthMs; from += windowMs) {
    let sum = 0;
    for (let ms = from; ms < from + windowMs; ms++) sum += busy[ms] as number;
    const busyRatio = Math.round((100 * sum) / windowMs) / 100;
    windows.push({ from: from * 1e6, to: (from + windowMs) * 1e6, busyRatio });
  }
  return windows;
}

function tiesOf(gpus: readonly Uint8Array[], random: Random): Ties {
  const ties = new Ties();
  const lists = gpus.map((busy) => windowsOf(busy, random.whole(0, windowMs - 1)));
  ties.observe(lists, 0);
  for (let until = second; until < lengthMs * 1e6; until += second) ties.observe(lists, until);
  return ties;
}

test("GPUs that execute the same requests are tied, wherever their windows begin; those that execute others are not", () => {
  let [apart, all] = [0, 0];
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 100_000 }),
      fc.integer({ min: 2, max: 8 }),
      fc.integer({ min: 2, max: 10 }),
      (seed, gpus, perSecond) => {
        const random = new Random(seed);
        const same = work(random, perSecond);
        const tied = tiesOf(
          Array.from({ length: gpus }, () => same),
          random,
        );
        expect([tied.areTied, tied.areApart]).toEqual([true, false]);
        const others = tiesOf(
          Array.from({ length: gpus }, () => work(random, perSecond)),
          random,
        );
        expect(others.areTied).toBe(false);
        if (others.areApart) apart++;
        all++;
      },
    ),
    { numRuns: 30 },
  );
  // Chance alone agrees further now and then: of two GPUs once in thirty draws, of more hardly ever.
  expect(apart).toBeGreaterThanOrEqual(all - 2);
});

test("long windows say nothing of ties", () => {
  const ties = new Ties();
  const list = [{ from: 0, to: 60 * second, busyRatio: 0.4 }];
  for (let until = 0; until <= 60 * second; until += second) ties.observe([list, list], until);
  expect([ties.areTied, ties.areApart]).toEqual([false, false]);
});

const active = (from: number, to: number): OwnStretch => ({
  ...{ from, to, state: "active", method: "counter_gpu" },
  ...{ contested: false, doubt: undefined },
});

test("joined() counts what tied GPUs show once, and what others show wherever any executes", () => {
  const byGpu = new Map([
    ["a", [active(0, 10)]],
    ["b", [active(10, 22)]],
    ["c", [active(30, 50)]],
  ]);
  const length = (tied: boolean): number =>
    joined(byGpu, new Set(), tied).all.reduce((sum, { from, to }) => sum + to - from, 0);
  expect(length(false)).toBe(42);
  expect(length(true)).toBe(12);
});
