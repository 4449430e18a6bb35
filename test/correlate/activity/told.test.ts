// What durations tell of short requests beside others: by many draws it leans to no side, and is as far off as is said.
import { expect, test } from "vitest";
import { nothingTold, toldPace, toldWith } from "../../../agent/correlate/activity/told.ts";
import { Random } from "../../simulator/random.ts";
import { second } from "../trace-replay.ts";

/** How many times longer execution takes than the GPU is busy for it. */
const slow = 2;

/** Requests that come by chance, `load` at a time, what a poll each second tells of them, and their true pace. */
function drawn(random: Random, load: number, isPhased: boolean) {
  const pace = (4 + 8 * random.next()) * 1e6;
  let [told, executed, slowed] = [nothingTold, 0, 0];
  for (let at = 0; at < 300; at++) {
    let [lone, nanos, running] = [0, 0, 0];
    const pieces: { from: number; to: number }[] = [];
    const poll = random.next() * second;
    let requests = 0;
    for (let when = random.wait(1); when < (load * second) / (3 * slow * pace); when += random.wait(1)) {
      const steps = 1 + 4 * random.next();
      const length = steps * pace * slow;
      const from = random.next() * (second - length);
      pieces.push({ from, to: from + length });
      if (from <= poll && poll < from + length) running++;
      requests++;
      lone += steps;
      nanos += length + (isPhased ? 0 : 8e6 * random.next());
    }
    let reached = 0;
    for (const { from, to } of pieces.sort((one, other) => one.from - other.from)) {
      executed += Math.max(0, to - Math.max(from, reached));
      reached = Math.max(reached, to);
    }
    slowed += lone * slow;
    const ended = { requests, nanos, firstTokens: 0, firstTokenNanos: 0, isExecution: isPhased, isPhased };
    const interval = { from: at * second, to: (at + 1) * second, inFlightTo: running, lone, ended };
    told = toldWith(told, interval, slow, 0);
  }
  return { told, pace: executed / slowed };
}

test.each([
  ["of front ends", false],
  ["of engines", true],
])("by durations %s the pace is known as nearly as is said", (_, isPhased) => {
  let [off, within, all] = [0, 0, 0];
  for (let seed = 1; seed <= 60; seed++) {
    const random = new Random(seed);
    const { pace, told } = drawn(random, 0.1 + 0.4 * random.next(), isPhased);
    const found = toldPace(told);
    if (found === undefined) throw new Error(`seed ${seed} tells nothing`);
    expect(found.error).toBeLessThan(isPhased ? 0.1 : 0.25);
    const error = found.perProgress / pace - 1;
    off += error;
    all++;
    if (Math.abs(error) <= 2 * found.error) within++;
  }
  expect(Math.abs(off / all)).toBeLessThan(0.03);
  expect(within / all).toBeGreaterThanOrEqual(0.9);
});

test("a page without durations tells nothing", () => {
  const interval = { from: 0, to: second, inFlightTo: 1, lone: 5, ended: undefined };
  expect(toldPace(toldWith(nothingTold, interval, slow, 0))).toBeUndefined();
});
