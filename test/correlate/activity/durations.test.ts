// Durations of requests as evidence: how much may have been executed, and when durations say nothing.
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  createDurations,
  executionOfBusy,
  executionOfHit,
  executionPerBusyMax,
  executionPerDuration,
  executionPerStep,
  hasPauses,
  observeDurations,
} from "../../../agent/correlate/activity/durations.ts";
import type { PollInterval } from "../../../agent/correlate/activity/evidence.ts";
import type { Durations } from "../../../agent/correlate/activity/learned.ts";
import { createLevel, executionPerBusy } from "../../../agent/correlate/activity/level.ts";
import { endedOf } from "../../../agent/correlate/ended.ts";
import type { Histogram, Latencies, LatencyKey } from "../../../agent/model.ts";
import { Random } from "../../simulator/random.ts";

const second = 1_000_000_000;

/** Durations after `polls` intervals of a second, each with `requests` ended and a GPU that is busy for `busyRatio`. */
function durationsOf(
  given: { readonly requests: number; readonly seconds: number; readonly busyRatio: number },
  more: { readonly workNanos?: number; readonly sampled?: boolean; readonly inFlight?: number } = {},
  polls = 60,
): Durations {
  const durations = createDurations();
  const ended = {
    ...{ requests: given.requests, nanos: given.seconds * second, isExecution: true },
    ...{ firstTokens: 0, firstTokenNanos: 0 },
  };
  for (let index = 0; index < polls; index++) {
    const [from, to] = [index * second, (index + 1) * second];
    const interval: PollInterval = {
      ...{ from, to, open: false, kind: "moved", progress: given.requests, steps: 0, lone: 0, ownSteps: 0 },
      ...{ inFlightFrom: 0, inFlightTo: 0, work: [], workNanos: more.workNanos ?? 0, spared: [] },
      ...{ all: [], contended: false, beside: false, besideThin: false, doubt: undefined },
      ended,
      activeNanos: undefined,
    };
    const poll = { at: to, inputTokens: index, outputTokens: index, progress: "step" as const, ended };
    const window = { from, to, busyRatio: given.busyRatio, sampled: more.sampled ?? false };
    observeDurations(durations, interval, { ...poll, inFlight: more.inFlight ?? 0 }, [window]);
  }
  return durations;
}

const busy = fc.record({
  requests: fc.integer({ min: 1, max: 20 }),
  seconds: fc.double({ min: 0.05, max: 0.9, noNaN: true }),
  busyRatio: fc.double({ min: 0.01, max: 1, noNaN: true }),
});

test("executionPerBusyMax() allows what requests took and no more, and never less than the GPU was busy", () => {
  fc.assert(
    fc.property(busy, (given) => {
      const most = executionPerBusyMax(durationsOf(given)) * given.busyRatio;
      expect(most).toBeCloseTo(Math.max(given.busyRatio, given.seconds), 6);
    }),
  );
});

test("executionPerDuration() gives back the busy time of windows, whatever requests took", () => {
  fc.assert(
    fc.property(busy, (given) => {
      const perDuration = executionPerDuration(durationsOf(given), 1, 5 * second);
      expect((perDuration ?? Number.NaN) * given.seconds).toBeCloseTo(given.busyRatio, 6);
    }),
  );
});

test("executionPerDuration() trusts durations the more, the fewer busy samples there are of the GPU", () => {
  const error = (polls: number): number => {
    // One request of 0.2 s a second, and samples that happened to see half of the work.
    const given = { requests: 1, seconds: 0.2, busyRatio: 0.1 };
    const perDuration = executionPerDuration(durationsOf(given, { sampled: true }, polls), 1, 5 * second);
    return Math.abs((perDuration ?? Number.NaN) - 1 / (0.2 / (1 - Math.exp(-0.2))));
  };
  expect(error(30)).toBeLessThan(error(120));
  expect(error(120)).toBeLessThan(error(600));
});

test("durations say nothing before twenty requests ended, or of requests that outlast the polls", () => {
  const few = durationsOf({ requests: 1, seconds: 0.1, busyRatio: 0.5 }, {}, 15);
  expect(executionPerBusyMax(few)).toBe(Number.POSITIVE_INFINITY);
  expect(executionPerDuration(few, 1, 5 * second)).toBeUndefined();
  const long = durationsOf({ requests: 1, seconds: 8, busyRatio: 0.5 });
  expect(executionPerDuration(long, 1, 5 * second)).toBeUndefined();
});

test("hasPauses() is true where seen work outlasts all requests together", () => {
  const given = { requests: 4, seconds: 0.2, busyRatio: 0.15 };
  expect(hasPauses(durationsOf(given, { workNanos: 0.6 * second }))).toBe(true);
  expect(hasPauses(durationsOf(given, { workNanos: 0.2 * second }))).toBe(false);
});

const timed = fc.record({
  outcome: fc.constantFrom(undefined, "ok", "error", "aborted", "rejected"),
  seconds: fc.integer({ min: 1, max: 100 }),
});

test("endedOf() sums what executed, however requests are told apart, and nothing that was refused", () => {
  fc.assert(
    fc.property(fc.array(timed, { maxLength: 10 }), fc.boolean(), (all, queues) => {
      const latencies: Partial<Record<LatencyKey, Histogram>> = {};
      const add = (key: LatencyKey, sum: number): void => {
        const known = latencies[key] ?? { bounds: [], counts: [], sum: 0, count: 0 };
        latencies[key] = { ...known, sum: known.sum + sum, count: known.count + 1 };
      };
      for (const { outcome, seconds } of all) {
        add(outcome === undefined ? "request_duration" : `request_duration ${outcome}`, seconds);
        if (queues) add(outcome === undefined ? "queue_time" : `queue_time ${outcome}`, 0.25);
      }
      const executed = all.filter(({ outcome }) => outcome !== "rejected");
      const seconds = executed.reduce((sum, one) => sum + one.seconds - (queues ? 0.25 : 0), 0);
      const ended = endedOf({ latencies, requests: {} });
      expect(ended?.requests ?? 0).toBe(executed.length);
      if (executed.length > 0) expect(ended).toMatchObject({ nanos: seconds * 1e9, isExecution: queues });
      else expect(ended).toBeUndefined();
    }),
  );
});

test("endedOf() says nothing where a page times successes alone and others ended too", () => {
  const ok: Latencies = { "request_duration ok": { bounds: [], counts: [], sum: 3, count: 2 } };
  expect(endedOf({ latencies: ok, requests: { ok: 2 } })?.nanos).toBe(3e9);
  expect(endedOf({ latencies: ok, requests: { ok: 2, rejected: 5 } })?.nanos).toBe(3e9);
  expect(endedOf({ latencies: ok, requests: { ok: 2, error: 1 } })).toBeUndefined();
  expect(endedOf({ latencies: ok, requests: { aborted: 1 } })).toBeUndefined();
});

/** What four minutes of short requests leave behind that come by chance, of an engine that keeps the GPU busy for `level` of them. */
function durationsOfChance(random: Random, level: number, frontEndMs: number, isPhased: boolean): Durations {
  const perSecond = random.between(1, 6);
  const lengthMs = random.between(20, 70);
  const inFlight = new Uint8Array(240_000);
  const ended = new Float64Array(240);
  for (let at = random.wait(1000 / perSecond); at < 239_000; at += random.wait(1000 / perSecond)) {
    const length = lengthMs * random.between(0.5, 1.5);
    for (let ms = Math.floor(at); ms < at + length; ms++) inFlight[ms] = (inFlight[ms] as number) + 1;
    const slot = Math.floor((at + length) / 1000);
    ended[slot] = (ended[slot] as number) + length + frontEndMs;
  }
  const durations = createDurations();
  for (let index = 0; index < 240; index++) {
    const [from, to] = [index * second, (index + 1) * second];
    const busy = inFlight.subarray(index * 1000, (index + 1) * 1000).filter((count) => count > 0).length;
    const nanos = (ended[index] as number) * 1e6;
    const requests = Math.round(nanos / 1e6 / (lengthMs + frontEndMs));
    const phases = { firstTokens: requests, firstTokenNanos: 0, isExecution: true, isPhased };
    const poll = { at: to, inputTokens: index, outputTokens: index, progress: "step" as const };
    const interval: PollInterval = {
      ...{
        from,
        to,
        open: false,
        kind: "moved",
        progress: 1,
        steps: 0,
        lone: 0,
        ownSteps: 0,
        activeNanos: undefined,
      },
      ...{ inFlightFrom: 0, inFlightTo: 0, work: [], workNanos: 0, spared: [], all: [], ended: undefined },
      ...{ contended: false, beside: false, besideThin: false, doubt: undefined },
    };
    const seen = {
      ...poll,
      inFlight: inFlight[(index + 1) * 1000 - 1] as number,
      ended: { requests, nanos, ...phases },
    };
    observeDurations(durations, interval, seen, [{ from, to, busyRatio: (level * busy) / 1000 }]);
  }
  return durations;
}

test("executionOfBusy() finds the level of an engine by what requests took, and covers how far off it is", () => {
  const off = { exact: 0, whole: 0, gauges: 0 };
  let covered = 0;
  for (let seed = 1; seed <= 60; seed++) {
    const random = new Random(seed);
    const level = random.between(0.5, 0.98);
    const of = (isExact: boolean) => {
      const frontEndMs = isExact ? 0 : random.between(0, 8);
      const found = executionOfBusy(createLevel(), durationsOfChance(random, level, frontEndMs, isExact));
      const error = Math.abs(Math.log(found.perBusy * level));
      if (error <= 2 * found.error) covered++;
      return error / 60;
    };
    off.exact += of(true);
    off.whole += of(false);
    off.gauges += Math.abs(Math.log(executionPerBusy(createLevel()) * level)) / 60;
  }
  expect(covered).toBeGreaterThanOrEqual(0.92 * 120);
  expect(off.exact).toBeLessThan(0.06);
  expect(off.whole).toBeLessThan(0.1);
  expect(off.gauges).toBeGreaterThan(0.15);
});

test("executionPerStep() finds what a step takes whatever of it the GPU is busy, once a request was seen throughout", () => {
  const fullness = fc.double({ min: 0.06, max: 1, noNaN: true });
  fc.assert(
    fc.property(fullness, fc.integer({ min: 5, max: 200 }), fc.nat(2 ** 31), (full, stepsPerSecond, seed) => {
      const random = new Random(seed);
      const durations = createDurations();
      for (let index = 0; index < 300; index++) {
        const [from, to] = [index * second, (index + 1) * second];
        // Ten seconds of work, ten of rest: the first and the last of the ten begin or end a request.
        const place = index % 20;
        const isOn = place < 10;
        const inFlight = { inFlightFrom: isOn && place > 0 ? 1 : 0, inFlightTo: isOn && place < 9 ? 1 : 0 };
        const ownSteps = isOn ? stepsPerSecond : 0;
        const window = { from, to, busyRatio: isOn ? full * (0.6 + 0.4 * random.next()) : 0, sampled: true };
        const interval: PollInterval = {
          ...{ from, to, open: false, progress: ownSteps, steps: ownSteps, lone: 0, ownSteps, ...inFlight },
          ...{ kind: isOn ? ("moved" as const) : ("quiet" as const), requests: 0, ended: undefined },
          ...{ all: [], work: [], workNanos: 0, spared: [], contended: false, beside: false },
          ...{ besideThin: false, doubt: undefined, activeNanos: undefined },
        };
        const poll = { at: to, inputTokens: 0, outputTokens: index, progress: "step" as const };
        observeDurations(durations, interval, { ...poll, inFlight: inFlight.inFlightTo }, [window]);
      }
      const { nanosPerStep } = executionPerStep(durations, 1);
      expect((nanosPerStep * stepsPerSecond) / second).toBeGreaterThan(0.7);
      expect((nanosPerStep * stepsPerSecond) / second).toBeLessThan(1.1);
    }),
    { numRuns: 30 },
  );
});

/** Durations after 300 readings of a driver's last window, of requests that run one at a time and keep the GPU `level` busy. */
function durationsOfHits(random: Random, level: number, requestSeconds: number): Durations {
  const isOn = new Uint8Array(300_000);
  let requests = 0;
  let executed = 0;
  for (let at = 500; at < isOn.length; requests++) {
    const until = Math.min(isOn.length, at + Math.round(1000 * requestSeconds * random.between(0.5, 1.5)));
    isOn.fill(1, at, until);
    executed += until - at;
    at = until + Math.round(1000 * requestSeconds * random.between(0.2, 3));
  }
  let [hits, busySamples] = [0, 0];
  for (let to = 1000; to <= isOn.length; to += 1000) {
    const busy = (level * isOn.subarray(to - 200, to).reduce((sum, on) => sum + on, 0)) / 200;
    busySamples += busy;
    if (busy >= 0.01) hits++;
  }
  const nanos = executed * 1e6;
  const wallNanos = 300 * second;
  return {
    ...createDurations(),
    requests,
    nanos,
    wallNanos,
    hits,
    busySamples,
    busyNanos: busySamples * second,
  };
}

test("executionOfBusy() finds how little a host lets its GPU do by how many last windows catch work, however long requests are", () => {
  let covered = 0;
  let off = 0;
  for (let seed = 1; seed <= 60; seed++) {
    const random = new Random(seed);
    const [level, requestSeconds] = [random.between(0.12, 0.9), random.between(0.4, 5)];
    const durations = durationsOfHits(random, level, requestSeconds);
    const { error, perBusy } = executionOfBusy(createLevel(), durations);
    const miss = Math.abs(Math.log(perBusy * level));
    if (miss <= 2 * error) covered++;
    off += miss / 60;
    expect(executionOfHit(durations)).toBeCloseTo(requestSeconds / (requestSeconds + 0.2), 1);
  }
  expect(covered).toBeGreaterThanOrEqual(0.92 * 60);
  expect(off).toBeLessThan(0.12);
  expect(executionOfHit(createDurations())).toBe(0);
});
