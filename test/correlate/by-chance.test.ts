// Executions of a server on several GPUs whose place in a second is not known: as much is executed as if they came by chance.
import fc from "fast-check";
import { expect, test } from "vitest";
import { ByChance } from "../../agent/correlate/by-chance.ts";
import type { OwnStretch } from "../../agent/correlate/own-states.ts";
import { joined } from "../../agent/correlate/own-states.ts";
import { Random } from "../simulator/random.ts";
import { second } from "./scene.ts";

const length = 20;
const rest: Omit<OwnStretch, "from" | "to"> = {
  ...{ state: "idle", method: "counter_gpu", contested: false, accounted: true, doubt: undefined },
};
const busyShare = { reason: "busy_share", ratio: 0.1 } as const;

/** States in which execution is placed in the middle of each second. */
function statesOf(seconds: readonly number[], isPlaced = false): OwnStretch[] {
  const doubt = isPlaced ? undefined : busyShare;
  return seconds.flatMap((share, at) => {
    const [start, amount] = [at * second, Math.round(share * second)];
    const from = start + Math.floor((second - amount) / 2);
    const parts: OwnStretch[] = [
      { ...rest, from: start, to: from },
      { ...rest, state: "active", doubt, from, to: from + amount },
      { ...rest, from: from + amount, to: start + second },
    ];
    return parts.filter(({ from, to }) => to > from);
  });
}

const activeIn = (list: readonly OwnStretch[], from = 0, to = length): number =>
  list.reduce((sum, stretch) => {
    const inside = Math.min(stretch.to, to * second) - Math.max(stretch.from, from * second);
    return sum + (stretch.state === "active" ? Math.max(0, inside) / second : 0);
  }, 0);
const byGpuOf = (lists: readonly (readonly OwnStretch[])[]) =>
  new Map(lists.map((list, gpu) => [`g${gpu}`, list]));
const wholeOf = (
  lists: readonly (readonly OwnStretch[])[],
  isRanked = false,
  ties = { areApart: true, areTied: false },
): readonly OwnStretch[] => new ByChance().joined(byGpuOf(lists), new Set(), isRanked, ties).all;

// Whole thousandths: doubles between 0 and 1 are mostly no more than nothing.
const share = fc.oneof(
  fc.constant(0),
  fc.integer({ min: 0, max: 1000 }).map((part) => part / 1000),
);
const shares = fc.array(fc.array(share, { minLength: length, maxLength: length }), {
  minLength: 1,
  maxLength: 8,
});

test("ByChance.joined() finds what requests that come by chance execute together in each second, and covers the same time", () => {
  fc.assert(
    fc.property(shares, (gpus) => {
      const all = wholeOf(gpus.map((seconds) => statesOf(seconds)));
      expect([all[0]?.from, all.at(-1)?.to]).toEqual([0, length * second]);
      all.forEach((stretch, index) => {
        expect(stretch.to).toBeGreaterThan(stretch.from);
        if (index > 0) expect(stretch.from).toBe(all[index - 1]?.to);
      });
      for (let at = 0; at < length; at++) {
        const free = gpus.reduce((product, seconds) => product * (1 - (seconds[at] as number)), 1);
        expect(activeIn(all, at, at + 1)).toBeCloseTo(1 - free, 6);
      }
    }),
  );
});

test("ByChance.joined() agrees with requests of 45 ms that ranks get by chance", () => {
  const random = new Random(5);
  const lengthMs = length * 1000;
  for (let gpus = 2; gpus <= 8; gpus *= 2) {
    const together = new Uint8Array(lengthMs);
    const lists = Array.from({ length: gpus }, () => {
      const busy = new Uint8Array(lengthMs);
      for (let at = 0; at < lengthMs; at += 45 + random.wait(250))
        busy.fill(1, Math.floor(at), Math.min(lengthMs, Math.floor(at) + 45));
      busy.forEach((works, ms) => {
        together[ms] = (together[ms] as number) | works;
      });
      const secondOf = (at: number): number =>
        busy.subarray(at * 1000, (at + 1) * 1000).reduce((sum, works) => sum + works, 0) / 1000;
      return statesOf(Array.from({ length }, (_, at) => secondOf(at)));
    });
    const truth = together.reduce((sum, works) => sum + works, 0) / 1000;
    expect(Math.abs(activeIn(wholeOf(lists)) / truth - 1)).toBeLessThan(0.08);
  }
});

test("ByChance.joined() leaves alone what has a place, what one GPU alone executed, and GPUs that are tied", () => {
  fc.assert(
    fc.property(shares, fc.nat(7), fc.boolean(), (gpus, one, isRanked) => {
      const known = gpus.map((seconds, gpu) => statesOf(seconds, gpu !== one));
      expect(wholeOf(known)).toEqual(joined(byGpuOf(known)).all);
      const placeless = gpus.map((seconds) => statesOf(seconds));
      const tied = { areApart: false, areTied: true };
      expect(wholeOf(placeless, isRanked, tied)).toEqual(
        joined(byGpuOf(placeless), new Set(), !isRanked).all,
      );
      // Whether GPUs work together is not known at first: ranks get requests of their own, other GPUs the same ones.
      const unknown = { areApart: false, areTied: false };
      const chance = wholeOf(placeless);
      expect(wholeOf(placeless, true, unknown)).toEqual(chance);
      expect(wholeOf(placeless, false, unknown)).toEqual(joined(byGpuOf(placeless)).all);
    }),
  );
});

test("ByChance.joined() finds about the same of two GPUs wherever in a second decisions end", () => {
  const seconds = fc.array(fc.tuple(share, share), { minLength: length, maxLength: length });
  fc.assert(
    fc.property(seconds, fc.integer({ min: 1, max: 999 }), (parts, cutMs) => {
      const lists = [0, 1].map((gpu) => statesOf(parts.map((both) => both[gpu] as number)));
      const byChance = new ByChance();
      const pieces: OwnStretch[] = [];
      for (let at = -1; at < length; at++) {
        const from = Math.max(0, at * second + cutMs * 1e6);
        const to = Math.min(length * second, (at + 1) * second + cutMs * 1e6);
        const own = byGpuOf(lists.map((list) => list.flatMap((stretch) => within(stretch, from, to))));
        pieces.push(...byChance.joined(own, new Set(), false, { areApart: true, areTied: false }).all);
      }
      const whole = wholeOf(lists);
      for (let at = 0; at < length; at++)
        expect(Math.abs(activeIn(pieces, at, at + 1) - activeIn(whole, at, at + 1))).toBeLessThan(0.08);
    }),
  );
});

function within(stretch: OwnStretch, from: number, to: number): OwnStretch[] {
  const part = { ...stretch, from: Math.max(stretch.from, from), to: Math.min(stretch.to, to) };
  return part.to > part.from ? [part] : [];
}
