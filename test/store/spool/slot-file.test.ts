// Slots written in turn: the newest intact one wins, whatever a crash or a power cut left in the others.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { diskFiles } from "../../../agent/store/spool/files.ts";
import { openSlotFile } from "../../../agent/store/spool/slot-file.ts";

const folder = mkdtempSync(join(tmpdir(), "slots-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What a file holds. */
async function contentOf(path: string, slotBytes: number): Promise<unknown> {
  const file = await openSlotFile(diskFiles, path, slotBytes);
  await file.close();
  return file.initial;
}

describe("openSlotFile()", () => {
  test("gives back what was written last, and nothing of an empty file", async () => {
    const path = join(folder, "a");
    const file = await openSlotFile(diskFiles, path, 256);
    expect(file.initial).toBeUndefined();
    await Promise.all([1, 2, 3].map((n) => file.write({ n }, n === 3)));
    await file.close();
    expect(await contentOf(path, 256)).toEqual({ n: 3 });
  });

  test("falls back to the write before when any byte of the last one is damaged", async () => {
    const path = join(folder, "b");
    const file = await openSlotFile(diskFiles, path, 256);
    for (const n of [1, 2]) await file.write({ n }, true);
    await file.close();
    const whole = readFileSync(path);
    for (let at = 256; at < 256 + 24 + 7; at++) {
      const damaged = Buffer.from(whole);
      damaged[at] = (damaged[at] ?? 0) ^ 0xff;
      writeFileSync(path, damaged);
      const found = await contentOf(path, 256);
      expect(found).toEqual({ n: 1 });
    }
  });

  test("keeps what was synced last, whatever a power cut makes of every write since", async () => {
    const path = join(folder, "d");
    const file = await openSlotFile(diskFiles, path, 256);
    await file.write({ n: 0 }, false);
    await file.write({ n: 1 }, true);
    const synced = readFileSync(path);
    for (const n of [2, 3, 4, 5]) await file.write({ n }, false);
    await file.close();
    const after = readFileSync(path);
    for (let at = 0; at < after.length; at++) if (after[at] !== synced[at]) after[at] = 0x5a;
    writeFileSync(path, after);
    expect(await contentOf(path, 256)).toEqual({ n: 1 });
  });

  test("grows no file: a state larger than its slot is refused", async () => {
    const file = await openSlotFile(diskFiles, join(folder, "c"), 128);
    await expect(file.write("x".repeat(200), false)).rejects.toThrow(/200|202/);
    await file.write({ fits: true }, false);
    await file.close();
    expect(await contentOf(join(folder, "c"), 128)).toEqual({ fits: true });
  });
});
