// Dead letters: kept as sent, bounded, and never in the way.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { openDeadLetters } from "../../agent/store/dead-letters.ts";
import { diskFiles } from "../../agent/store/files.ts";

const folder = mkdtempSync(join(tmpdir(), "letters-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("openDeadLetters()", () => {
  test("keeps the bytes under a name that tells when, for whom and why, and drops the oldest beyond its bound", async () => {
    const letters = openDeadLetters({ folder: join(folder, "a"), filesMax: 3 });
    await Promise.all(
      [1, 2, 3, 4, 5].map((n) =>
        letters.put("main", Uint8Array.of(n), "INVALID/../ARGUMENT", 1_767_225_600_000 + n),
      ),
    );
    const names = readdirSync(join(folder, "a")).sort();
    expect(names.map((name) => readFileSync(join(folder, "a", name))[0])).toEqual([3, 4, 5]);
    expect(names[0]).toMatch(/^\d{18}-main-INVALID----ARGUMENT\.otlp$/);
    expect(letters.status()).toEqual({ kept: 5, dropped: 2 });
  });

  test("says no instead of failing when the disk refuses", async () => {
    const refuse = async () => Promise.reject(new Error("EROFS"));
    const letters = openDeadLetters({
      folder: join(folder, "b"),
      files: { ...diskFiles, makeFolder: refuse },
    });
    expect(await letters.put("main", Uint8Array.of(1), "x", 0)).toBe(false);
    expect(letters.status()).toEqual({ kept: 0, dropped: 1 });
  });
});
