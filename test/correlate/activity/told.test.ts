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

/** What is told of requests of 10 ms that no poll reads: `size` of them at once every tenth second or so, or so many spread over it. */
function unread(random: Random, size: number, isBurst: boolean) {
  let [told, executed, slowed] = [nothingTold, 0, 0];
  for (let at = 0; at < 200; at++) {
    const requests = isBurst ? (random.next() < 0.1 ? size : 0) : Math.floor(size / 10 + random.next());
    // Those of a burst are executed together; the others hardly ever meet.
    executed += 1e7 * (isBurst ? Math.min(1, requests) : requests);
    slowed += requests * slow;
    const ended = { requests, nanos: 1e7 * requests, firstTokens: 0, firstTokenNanos: 0 };
    const made = { ended: { ...ended, isExecution: true, isPhased: true }, inFlightTo: 0, lone: requests };
    told = toldWith(told, { from: at * second, to: (at + 1) * second, ...made }, slow, 0);
  }
  return { found: toldPace(told), pace: executed / slowed };
}

test("the more unevenly requests end that no poll reads, the less they tell of their pace, and no less than is said", () => {
  for (let seed = 1; seed <= 60; seed++) {
    const random = new Random(seed);
    const size = random.whole(10, 60);
    const [bursts, spread] = [unread(random, size, true), unread(random, size, false)];
    if (bursts.found === undefined || spread.found === undefined)
      throw new Error(`seed ${seed} tells nothing`);
    expect(spread.found.error).toBeLessThan(bursts.found.error / 2);
    for (const { found, pace } of [bursts, spread])
      expect(Math.abs(Math.log((found?.perProgress ?? Number.NaN) / pace))).toBeLessThan(
        2.5 * (found?.error ?? 0),
      );
  }
});

test("a page without durations tells nothing", () => {
  const interval = { from: 0, to: second, inFlightTo: 1, lone: 5, ended: undefined };
  expect(toldPace(toldWith(nothingTold, interval, slow, 0))).toBeUndefined();
});
