// The copies a spool keeps of its newest requests: whose bytes hold how long.
import { describe, expect, test } from "vitest";
import { RequestCache } from "../../../agent/store/spool/request-cache.ts";

describe("RequestCache", () => {
  test("keeps a copy, whatever becomes of the original", () => {
    const cache = new RequestCache(1000);
    const original = Buffer.alloc(100, 1);
    cache.keep(1, original);
    original.fill(9);
    expect(cache.get(1)).toEqual(Buffer.alloc(100, 1));
  });

  test("writes over nothing that was not recycled", () => {
    const cache = new RequestCache(1000);
    cache.keep(1, Buffer.alloc(100, 1));
    cache.keep(2, Buffer.alloc(100, 2));
    const [first, second] = [cache.get(1), cache.get(2)];
    cache.recycle(1);
    cache.keep(3, Buffer.alloc(100, 3));
    cache.keep(4, Buffer.alloc(100, 4));
    expect(second).toEqual(Buffer.alloc(100, 2));
    expect(cache.get(1)).toBeUndefined();
    expect(cache.get(3)?.buffer).toBe(first?.buffer);
    expect(cache.get(4)?.buffer).not.toBe(second?.buffer);
  });

  test("takes the place of what was recycled, also for a request a little larger", () => {
    const cache = new RequestCache(1000);
    cache.keep(1, Buffer.alloc(400, 1));
    const first = cache.get(1);
    cache.recycle(1);
    cache.keep(2, Buffer.alloc(420, 2));
    expect(cache.get(2)).toEqual(Buffer.alloc(420, 2));
    expect(cache.get(2)?.buffer).toBe(first?.buffer);
  });

  test("takes no memory for a beat of several requests that the beat before had, and keeps none that a beat left", () => {
    const cache = new RequestCache(10_000);
    let sequence = 0;
    const beat = (requests: number): (ArrayBufferLike | undefined)[] => {
      cache.beginBeat();
      const first = sequence + 1;
      for (let one = 0; one < requests; one++) cache.keep(++sequence, Buffer.alloc(100, sequence));
      const buffers = Array.from({ length: requests }, (_, one) => cache.get(first + one)?.buffer);
      for (let one = first; one <= sequence; one++) cache.recycle(one);
      return buffers;
    };
    const sameAs = (one: unknown[], other: unknown[]): number =>
      one.filter((each) => other.includes(each)).length;
    const [whole, again] = [beat(3), beat(3)];
    expect(sameAs(again, whole)).toBe(3);
    const [small, smaller] = [beat(1), beat(1)];
    expect([sameAs(small, whole), sameAs(smaller, whole)]).toEqual([1, 1]);
    expect(sameAs(beat(3), whole)).toBe(1);
  });

  test("stays within its bytes, free buffers included", () => {
    const cache = new RequestCache(1000);
    cache.keep(1, Buffer.alloc(600, 1));
    cache.keep(2, Buffer.alloc(600, 2));
    expect(cache.get(2)).toBeUndefined();
    cache.recycle(1);
    cache.keep(3, Buffer.alloc(800, 3));
    expect(cache.get(3)).toEqual(Buffer.alloc(800, 3));
    cache.keep(4, Buffer.alloc(200, 4));
    expect(cache.get(4)).toBeUndefined();
  });
});
