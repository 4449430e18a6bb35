import { Readable } from "node:stream";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { PageBuffer } from "../../agent/page/page-buffer.ts";

const LIMIT = 4 * 1024 * 1024;

const fill = (page: PageBuffer, parts: readonly Uint8Array[]): Promise<Buffer> =>
  page.fill(Readable.from(parts.map((part) => Buffer.from(part))));

describe("PageBuffer", () => {
  test("fill() gives the bytes of the stream, in whatever pieces they come and however far it grew", async () => {
    const part = fc.tuple(fc.integer({ min: 1, max: 200_000 }), fc.integer({ min: 0, max: 255 }));
    await fc.assert(
      fc.asyncProperty(fc.array(part, { minLength: 1, maxLength: 6 }), async (sizes) => {
        const parts = sizes.map(([length, value]) => new Uint8Array(length).fill(value));
        const page = new PageBuffer(LIMIT, "http://127.0.0.1/metrics");
        expect((await fill(page, parts)).equals(Buffer.concat(parts))).toBe(true);
        page.free();
      }),
      { numRuns: 30 },
    );
  });

  test("free() keeps a few buffers for later pages and gives the memory of all others back at once", async () => {
    const pages = Array.from({ length: 10 }, () => new PageBuffer(LIMIT, "http://127.0.0.1/metrics"));
    const memories = await Promise.all(
      pages.map(async (page) => (await fill(page, [new Uint8Array(300_000)])).buffer as ArrayBuffer),
    );
    for (const page of pages) page.free();
    const kept = memories.filter((memory) => !memory.detached);
    expect(kept.length).toBeLessThanOrEqual(2);
    const next = new PageBuffer(LIMIT, "http://127.0.0.1/metrics");
    expect(kept).toContain((await fill(next, [new Uint8Array(1000)])).buffer);
    next.free();
  });

  test("a memory that was outgrown is free at once", async () => {
    // More than are kept, so that one of them begins with new memory.
    const pages = Array.from({ length: 6 }, () => new PageBuffer(LIMIT, "http://127.0.0.1/metrics"));
    const small = await Promise.all(pages.map((page) => fill(page, [new Uint8Array(1000)])));
    const before = small.map(({ buffer }) => buffer as ArrayBuffer);
    await Promise.all(pages.map((page) => fill(page, [new Uint8Array(3_000_000)])));
    expect(before.every((memory) => memory.detached)).toBe(true);
    for (const page of pages) page.free();
  });
});
