// What is thought of requests before any poll read one: how long their tokens take at the most, and whose windows say anything.
import fc from "fast-check";
import { expect, test } from "vitest";
import { createActivity, observeWindow } from "../../../agent/correlate/activity/activity.ts";
import { observeOwnRoughness } from "../../../agent/correlate/activity/ahead.ts";
import type { ActivityWindow } from "../../../agent/correlate/activity/evidence.ts";
import { createLevel, observeRoughness } from "../../../agent/correlate/activity/level.ts";
import { observePeer } from "../../../agent/correlate/activity/others.ts";
import { areMadeShorter, observeMade, paceOfSamples } from "../../../agent/correlate/activity/presumed.ts";
import { second } from "../trace-replay.ts";

const window = second / 5;

test("requests are held to be short by their tokens only where no GPU up to 28 ms a step takes longer for them", () => {
  const micros = fc.integer({ min: 500, max: 28_000 });
  fc.assert(
    fc.property(
      fc.nat(40),
      fc.nat(4000),
      micros,
      fc.integer({ min: 50, max: 500 }),
      (steps, prompt, each, ms) => {
        const level = createLevel();
        for (let poll = 0; poll < 5; poll++)
          observeMade(level, { lone: 4 * (steps + prompt / 200), requests: 4 });
        const nanos = (steps + 1 + prompt / 200) * each * 1000;
        if (areMadeShorter(level, ms * 1e6)) expect(nanos).toBeLessThan(ms * 1e6);
        // Those of which polls read some in flight are as long as that says, and few that ended say nothing.
        expect(areMadeShorter({ ...level, inside: 2 }, ms * 1e6)).toBe(false);
        expect(areMadeShorter({ ...level, made: 2, makings: 2 * (steps + prompt / 200) }, ms * 1e6)).toBe(
          false,
        );
      },
    ),
  );
  const level = createLevel();
  observeMade(level, { lone: 30, requests: 15 });
  expect(areMadeShorter(level, second / 4)).toBe(true);
});

test("how rough windows are is learned where nobody else worked in any of the four that are compared", () => {
  const shares = fc.array(fc.integer({ min: 0, max: 100 }), { minLength: 40, maxLength: 40 });
  const spans = fc.array(fc.tuple(fc.nat(36), fc.integer({ min: 1, max: 4 })), {
    minLength: 1,
    maxLength: 2,
  });
  fc.assert(
    fc.property(shares, spans, (hundredths, busy) => {
      const windows = hundredths.map(
        (hundredth, index): ActivityWindow => ({
          ...{ from: index * window, to: (index + 1) * window, busyRatio: hundredth / 100 },
        }),
      );
      const peers = busy.map(([from, length]) => ({
        ...{ from: from * window, to: (from + length) * window, stranger: false },
      }));
      const isFree = (from: number, to: number): boolean =>
        !peers.some((peer) => peer.from < to && peer.to > from);
      const [found, wanted] = [createLevel(), createLevel()];
      for (let from = 0; from < 40 * window; from += 5 * window) {
        const contended = !isFree(from, from + 5 * window);
        observeOwnRoughness(
          found,
          { windows, peers },
          { contended, from, to: from + 5 * window, kind: "moved" },
        );
        for (let index = from / window; !contended && index < from / window + 5; index++)
          if (isFree((index - 3) * window, (index + 1) * window))
            observeRoughness(wanted, windows, index + 1);
      }
      expect([found.pairs, found.roughness]).toEqual([wanted.pairs, wanted.roughness]);
    }),
  );
});

test("from when others came windows say nothing by themselves of how long requests are", () => {
  const state = createActivity({ from: 0, pollNanos: second });
  const see = (from: number, busyRatio: number): boolean =>
    observeWindow(state, { from, to: from + window, busyRatio });
  for (let index = 0; index < 10; index++) see(index * window, index % 2 === 0 ? 0.1 : 0.4);
  expect(state.level.pairs).toBeGreaterThan(0);
  observePeer(state, second, 2 * second);
  for (let index = 10; index < 40; index++) see(index * window, 1);
  expect(state.level.pairs).toBe(0);
  expect(state.level.roughness).toBe(createLevel().roughness);
});

test("paceOfSamples() is between what last windows showed and what GPUs make of steps, nearer to the better known, and surer than either", () => {
  const interval = fc.record({
    lone: fc.double({ min: 0.1, max: 1000, noNaN: true }),
    progress: fc.double({ min: 0.1, max: 1000, noNaN: true }),
    steps: fc.constantFrom(0, 5),
  });
  const micros = fc.integer({ min: 10, max: 100_000 });
  fc.assert(
    fc.property(interval, micros, fc.double({ min: 0.01, max: 50, noNaN: true }), (made, each, samples) => {
      const presumed = paceOfSamples(undefined, 0, made);
      const seen = { perProgress: each * 1000, error: 0.1 };
      const pace = paceOfSamples(seen, samples, made);
      const surer = paceOfSamples(seen, 2 * samples, made);
      if (presumed === undefined || pace === undefined || surer === undefined) throw new Error("no pace");
      const [least, most] = [presumed, seen].map(({ perProgress }) => perProgress).sort((a, b) => a - b);
      expect(pace.perProgress).toBeGreaterThanOrEqual(0.999 * (least as number));
      expect(pace.perProgress).toBeLessThanOrEqual(1.001 * (most as number));
      const from = (perProgress: number): number => Math.abs(Math.log(perProgress / seen.perProgress));
      expect(from(surer.perProgress)).toBeLessThanOrEqual(from(pace.perProgress) + 1e-9);
      expect(pace.error).toBeLessThan(Math.min(presumed.error, Math.hypot(0.1, 1 / Math.sqrt(samples))));
      expect(paceOfSamples(seen, 0, made)).toEqual(presumed);
      // Of no progress nothing is thought.
      expect(paceOfSamples(seen, samples, { ...made, progress: 0 })).toBe(seen);
    }),
  );
});
