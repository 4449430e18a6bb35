// Dead letters: kept as sent, bounded, shared by agent and command line, and never in the way.
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { DeadLetter, DeadLetters, Refusal } from "../../agent/store/dead-letters.ts";
import { openDeadLetters } from "../../agent/store/dead-letters.ts";
import { diskFiles } from "../../agent/store/spool/files.ts";

const root = mkdtempSync(join(tmpdir(), "letters-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const T = 1_767_225_600_000;

function refusal(n: number, rest: Partial<Refusal> = {}): Refusal {
  const fixed = { destination: "main", why: "INVALID_ARGUMENT", points: n, dataSeconds: T / 1000 + n };
  return { ...fixed, unixMs: T + n, ...rest };
}

async function contents(letters: DeadLetters): Promise<(number | undefined)[]> {
  const read = async (letter: DeadLetter): Promise<number | undefined> => (await letters.read(letter))?.[0];
  return Promise.all((await letters.list()).map(read));
}

describe("openDeadLetters()", () => {
  test("keeps the bytes, tells when, for whom, why and how much, and drops the oldest beyond its bound", async () => {
    const folder = join(root, "a");
    const dropped: DeadLetter[] = [];
    const letters = openDeadLetters({ folder, filesMax: 3, onDrop: (one) => dropped.push(one) });
    expect(await letters.list()).toEqual([]);
    await Promise.all(
      [1, 2, 3, 4, 5].map((n) => letters.put(refusal(n, { destination: "far-away" }), Uint8Array.of(n))),
    );
    expect(await contents(letters)).toEqual([3, 4, 5]);
    const [first] = await letters.list();
    expect(first).toMatchObject(refusal(3, { destination: "far-away" }));
    expect(first?.id).toMatch(/^\d{18}$/);
    expect(dropped.map(({ points }) => points)).toEqual([1, 2]);
  });

  test("drops the oldest beyond bytesMax", async () => {
    const letters = openDeadLetters({ folder: join(root, "b"), bytesMax: 5_000 });
    for (let n = 1; n <= 6; n++) {
      const bytes = crypto.getRandomValues(new Uint8Array(2_000));
      bytes[0] = n;
      expect(await letters.put(refusal(n), bytes)).toBe(true);
    }
    expect(await contents(letters)).toEqual([5, 6]);
  });

  test("keeps the order of arrival over restarts and a clock that went back", async () => {
    const folder = join(root, "c");
    for (const [n, ms] of [
      [1, T],
      [2, T],
      [3, T - 3_600_000],
    ] as const)
      await openDeadLetters({ folder }).put(refusal(n, { unixMs: ms }), Uint8Array.of(n));
    expect(await contents(openDeadLetters({ folder }))).toEqual([1, 2, 3]);
  });

  test("reads letters of an older version, passes over foreign files, and says what is gone or no letter", async () => {
    const folder = join(root, "d");
    const letters = openDeadLetters({ folder });
    await letters.put(refusal(9, { why: "odd/../reason" }), Uint8Array.of(9));
    writeFileSync(join(folder, "000000000000010000-main-partial.otlp"), Uint8Array.of(7));
    writeFileSync(join(folder, "000000000000020000-1-1-main-partial.otlp.gz"), "no gzip");
    writeFileSync(join(folder, "notes.txt"), "hello");
    expect(await contents(letters)).toEqual([7, undefined, 9]);
    const [old, , newest] = await letters.list();
    expect(old).toMatchObject({
      destination: "main",
      why: "partial",
      points: undefined,
      dataSeconds: undefined,
    });
    expect(newest?.why).toBe("odd____reason");
    expect(await letters.remove(newest as DeadLetter)).toBe(true);
    expect(await letters.remove(newest as DeadLetter)).toBe(false);
    expect(await letters.read(newest as DeadLetter)).toBeUndefined();
    expect(readdirSync(folder)).toContain("notes.txt");
  });

  test("says no instead of failing when the disk refuses", async () => {
    const refuse = async () => Promise.reject(new Error("EROFS"));
    const files = { ...diskFiles, makeFolder: refuse };
    const letters = openDeadLetters({ folder: join(root, "e"), files });
    expect(await letters.put(refusal(1), Uint8Array.of(1))).toBe(false);
  });
});
