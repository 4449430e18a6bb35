// What a power cut leaves and kill -9 does not: cuts that come back, a state older than the ledger, holes in what was
// never promised. The whole of it, call by call, is test/e2e/faults/power.e2e.ts.
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { silentLog } from "../../../agent/platform/log.ts";
import type { Files } from "../../../agent/store/spool/files.ts";
import { diskFiles } from "../../../agent/store/spool/files.ts";
import { openSegmentSpool } from "../../../agent/store/spool/segment-spool.ts";
import type { Spool, SpoolEntry, SpoolOptions } from "../../../agent/store/spool/spool.ts";

const MINUTE = 60_000_000_000n;
const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "cut-"));
  folders.push(folder);
  return folder;
}

function open(folder: string, rest: Partial<SpoolOptions> = {}): Promise<Spool> {
  const fixed = { folder, destinations: ["main"], log: silentLog, freeBytesMin: 0, segmentBytes: 4096 };
  return openSegmentSpool({ bytesMax: 1_000_000, ...fixed, ...rest });
}

function entry(number: number, rest: Partial<SpoolEntry> = {}): SpoolEntry {
  const bytes = crypto.getRandomValues(new Uint8Array(500));
  new DataView(bytes.buffer).setUint32(0, number);
  return { bytes, points: 1, time: BigInt(number) * 1_000_000_000n, layout: number, ...rest };
}

async function held(spool: Spool): Promise<number[]> {
  const numbers: number[] = [];
  for (let at = spool.peek(spool.position("main")); at !== undefined; at = spool.peek(at.sequence)) {
    const bytes = await spool.read(at.sequence);
    if (bytes !== undefined) numbers.push(new DataView(bytes.buffer, bytes.byteOffset).getUint32(0));
  }
  return numbers;
}

/** The one segment of a folder. */
function segmentOf(folder: string): string {
  return join(folder, readdirSync(folder).find((name) => name.endsWith(".segment")) ?? "");
}

describe("openSegmentSpool() after a power cut", () => {
  test("has cut what was never committed before it gives its sequence to another record", async () => {
    const folder = newFolder();
    const spool = await open(folder);
    await spool.append([entry(1), entry(2)]);
    await spool.close();
    const calls: string[] = [];
    const files: Files = {
      ...diskFiles,
      open: async (path, how) => {
        const file = await diskFiles.open(path, how);
        return {
          ...file,
          truncate: async (length) => {
            calls.push(`cut ${path}`);
            await file.truncate(length);
          },
          sync: async () => {
            calls.push(`sync ${path}`);
            await file.sync();
          },
        };
      },
    };
    const cut = segmentOf(folder);
    const again = await open(folder, { committed: 1, files });
    expect(calls.lastIndexOf(`sync ${cut}`)).toBeGreaterThan(calls.indexOf(`cut ${cut}`));
    expect(calls.indexOf(`cut ${cut}`)).not.toBe(-1);
    await again.close();
  });

  test("never sends an uncommitted record that the disk would not cut", async () => {
    const folder = newFolder();
    const spool = await open(folder);
    await spool.append([entry(1), entry(2)]);
    await spool.close();
    const refuse = async (): Promise<never> => Promise.reject(new Error("EROFS"));
    const stubborn: Files = {
      ...diskFiles,
      open: async (path, how) => {
        const file = await diskFiles.open(path, how);
        return path.endsWith(".segment") && how === "update" ? { ...file, truncate: refuse } : file;
      },
    };
    const again = await open(folder, { committed: 1, files: stubborn });
    again.commit(await again.append([entry(3)]));
    expect(await held(again)).toEqual([1, 3]);
    const committed = again.head();
    await again.close();
    const third = await open(folder, { committed });
    expect(await held(third)).toEqual([1, 3]);
    expect(third.status().losses).toEqual([]);
    await third.close();
  });

  test("tells no loss of records that were never committed, also where the first of a beat is gone", async () => {
    const folder = newFolder();
    const spool = await open(folder);
    spool.commit(await spool.append([entry(1)]));
    const offset = 32 + 56 + 500;
    await spool.append([entry(2), entry(3)]);
    await spool.close();
    const path = segmentOf(folder);
    const bytes = readFileSync(path);
    bytes.fill(0, offset, offset + 56 + 500);
    writeFileSync(path, bytes);
    const again = await open(folder, { committed: 1 });
    expect(await held(again)).toEqual([1]);
    expect(again.status().losses).toEqual([]);
    await again.close();
  });

  test("tells a committed record that is gone, though its own state is older than the ledger or lost", async () => {
    for (const state of ["older", "lost"]) {
      const folder = newFolder();
      const spool = await open(folder);
      spool.commit(await spool.append([entry(1)]));
      await spool.acknowledge("main", 0);
      await spool.close();
      copyFileSync(join(folder, "state"), join(folder, "state.old"));
      const second = await open(folder);
      second.commit(await second.append([entry(2)]));
      await second.close();
      for (const name of readdirSync(folder).filter((one) => one.endsWith("2.segment")))
        rmSync(join(folder, name));
      if (state === "older") copyFileSync(join(folder, "state.old"), join(folder, "state"));
      else writeFileSync(join(folder, "state"), Buffer.alloc(0));
      const again = await open(folder, { committed: 2 });
      expect(await held(again)).toEqual([1]);
      expect(again.status().losses).toEqual([expect.objectContaining({ why: "corrupt", records: 1 })]);
      await again.close();
    }
  });
});

test("what was thinned out of a segment that was evicted later is not taken for damage at the next start", async () => {
  const folder = newFolder();
  const spool = await open(folder, { bytesMax: 40_000 });
  for (let beat = 1; beat <= 300; beat++)
    spool.commit(await spool.append([entry(beat, { time: (BigInt(beat) * MINUTE) / 6n, layout: 1 })]));
  const { losses } = spool.status();
  expect(losses.map((loss) => loss.why)).toEqual(["evicted_bytes"]);
  const kept = await held(spool);
  const lostTo = losses[0]?.to ?? 0n;
  expect(lostTo).toBeLessThan((BigInt(kept[0] ?? 0) * MINUTE) / 6n);
  await spool.close();
  const again = await open(folder, { bytesMax: 40_000 });
  expect(again.status().losses).toEqual(losses);
  expect(await held(again)).toEqual(kept);
  await again.close();
});

test("a spool that is gone altogether is told once: when, not how much, because nobody knows", async () => {
  const folder = newFolder();
  for (const _ of [1, 2]) {
    const spool = await open(folder, { committed: 70, committedTime: 5n });
    expect(spool.status().losses).toEqual([{ from: 5n, to: 5n, records: 0, points: 0, why: "corrupt" }]);
    expect(await spool.append([entry(71)])).toBe(71);
    await spool.close();
  }
});
