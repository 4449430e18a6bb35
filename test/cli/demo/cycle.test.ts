// A piece that is played round and round: counters go on as if the recording had been written that often one after the other.
import fc from "fast-check";
import { expect, test } from "vitest";
import { countedBy, elapsedAt, placeAt, playedBy, spentIn } from "../../../agent/cli/demo/cycle.ts";

const pieces = fc
  .record({ from: fc.nat(1000), length: fc.integer({ min: 1, max: 500 }), offset: fc.nat(499) })
  .map(({ from, length, offset }) => ({ from, to: from + length, offset: offset % length }));

test("placeAt() and elapsedAt() are each other's inverse", () => {
  fc.assert(
    fc.property(pieces, fc.nat(5000), (piece, elapsed) => {
      const place = placeAt(piece, elapsed);
      expect(place.micros).toBeGreaterThanOrEqual(piece.from);
      expect(place.micros).toBeLessThan(piece.to);
      expect(elapsedAt(piece, place)).toBe(elapsed);
    }),
  );
});

test("countedBy() counts what passing over every microsecond would, and never falls", () => {
  const events = fc.array(fc.nat(1500), { maxLength: 60 });
  fc.assert(
    fc.property(pieces, events, fc.nat(3000), (piece, at, elapsed) => {
      // Totals at or before a place; an event at the very beginning is in every total.
      const total = (micros: number): number => at.filter((one) => one <= micros).length;
      let passed = 0;
      for (let step = 1; step <= elapsed; step++) {
        const { micros } = placeAt(piece, step);
        const isWrap = micros === piece.from;
        passed += isWrap ? total(piece.to) - total(piece.to - 1) : total(micros) - total(micros - 1);
      }
      expect(countedBy(piece, elapsed, total)).toBe(passed);
      expect(countedBy(piece, 0, total)).toBe(0);
    }),
  );
});

test("what is lost for a while stands still for as long, and no longer", () => {
  const lost = { from: 60, to: 90, every: 240 };
  const seconds = (elapsed: number): number => spentIn(lost, elapsed * 1e6) / 1e6;
  expect([0, 60, 75, 90, 239, 240, 305, 480].map(seconds)).toEqual([0, 0, 15, 30, 30, 30, 35, 60]);
  expect(playedBy(lost, 75e6)).toBe(60e6);
  expect(playedBy(undefined, 75e6)).toBe(75e6);
});
