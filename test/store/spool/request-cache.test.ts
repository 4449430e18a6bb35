// The newest requests that a spool holds in memory: whose bytes hold how long.
import { describe, expect, test } from "vitest";
import { RequestCache } from "../../../agent/store/spool/request-cache.ts";
import type { Lease } from "../../../agent/store/spool/spool.ts";

interface Request {
  readonly bytes: Buffer;
  readonly lease: Lease;
}

function request(length = 100): Request {
  return { bytes: Buffer.alloc(length), lease: { isHeld: false } };
}

describe("RequestCache", () => {
  test("holds a request where it is, until it is recycled", () => {
    const cache = new RequestCache(1000);
    const [first, second] = [request(), request()];
    cache.keep(1, first);
    cache.keep(2, second);
    expect(cache.get(1)).toBe(first.bytes);
    cache.recycle(1);
    expect(cache.get(1)).toBeUndefined();
    expect(cache.get(2)).toBe(second.bytes);
    expect([first, second].map(({ lease }) => lease.isHeld)).toEqual([false, true]);
  });

  test("holds nothing that may not be held", () => {
    const cache = new RequestCache(1000);
    cache.keep(1, { bytes: Buffer.alloc(100) });
    expect(cache.get(1)).toBeUndefined();
  });

  test("lets nothing be written over that was given up: it may be on its way", () => {
    const cache = new RequestCache(1000);
    const [given, later] = [request(), request()];
    cache.keep(1, given);
    cache.forget(1);
    expect(cache.get(1)).toBeUndefined();
    cache.keep(2, later);
    cache.recycle(2);
    expect([given.lease.isHeld, later.lease.isHeld]).toEqual([true, false]);
  });

  test("lets go of what was never stored", () => {
    const cache = new RequestCache(1000);
    const [stored, unstored] = [request(), request()];
    cache.keep(1, stored);
    cache.keep(2, unstored);
    cache.drop(1);
    expect(cache.get(2)).toBeUndefined();
    expect([stored.lease.isHeld, unstored.lease.isHeld]).toEqual([true, false]);
  });

  test("stays within its bytes", () => {
    const cache = new RequestCache(1000);
    const [first, over] = [request(600), request(600)];
    cache.keep(1, first);
    cache.keep(2, over);
    expect(cache.get(2)).toBeUndefined();
    expect(over.lease.isHeld).toBe(false);
    cache.recycle(1);
    cache.keep(3, over);
    expect(cache.get(3)).toBe(over.bytes);
  });
});
