// The durable spool on a real folder: order, positions, bounds, restarts, damage and a full disk.
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { silentLog } from "../../../agent/platform/log.ts";
import type { Files, OpenFile } from "../../../agent/store/spool/files.ts";
import { diskFiles } from "../../../agent/store/spool/files.ts";
import { openSegmentSpool } from "../../../agent/store/spool/segment-spool.ts";
import type { Loss, Spool, SpoolEntry, SpoolOptions } from "../../../agent/store/spool/spool.ts";

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "spool-"));
  folders.push(folder);
  return folder;
}

function open(folder: string, rest: Partial<SpoolOptions> = {}): Promise<Spool> {
  return openSegmentSpool({
    folder,
    destinations: ["main"],
    log: silentLog,
    bytesMax: 1_000_000,
    segmentBytes: 4096,
    freeBytesMin: 0,
    ...rest,
  });
}

/** A request that does not compress, telling its number. */
function entry(number: number, bytes = 500): SpoolEntry {
  const content = Buffer.alloc(bytes);
  for (let i = 0, state = number + 1; i < bytes; i++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    content[i] = state >>> 16;
  }
  content.writeUInt32LE(number, 0);
  return { bytes: content, points: 10, time: BigInt(number) * 1_000_000_000n, layout: number };
}

async function put(spool: Spool, from: number, to: number, bytes?: number): Promise<void> {
  for (let number = from; number <= to; number++) spool.commit(await spool.append([entry(number, bytes)]));
}

/** Numbers of the records a destination would get, each checked byte for byte. */
async function take(spool: Spool, destination = "main", most = Number.POSITIVE_INFINITY): Promise<number[]> {
  const got: number[] = [];
  for (let after = spool.position(destination); got.length < most; ) {
    const header = spool.peek(after);
    if (header === undefined) break;
    after = header.sequence;
    const bytes = await spool.read(header.sequence);
    if (bytes === undefined) continue;
    const number = Buffer.from(bytes).readUInt32LE(0);
    expect(Buffer.from(bytes).equals(Buffer.from(entry(number, bytes.length).bytes))).toBe(true);
    expect(header).toMatchObject({ points: 10, time: BigInt(number) * 1_000_000_000n, layout: number });
    got.push(number);
  }
  return got;
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}

function segments(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith(".segment"))
    .sort();
}

describe("openSegmentSpool()", () => {
  test("sends nothing of an append that failed, also not under the numbers of what comes after it", async () => {
    const spool = await open(newFolder());
    function* failing(): Generator<SpoolEntry> {
      yield entry(1);
      yield entry(2);
      throw new Error("cannot be made");
    }
    await expect(spool.append(failing())).rejects.toThrow("cannot be made");
    await put(spool, 3, 4);
    expect(await take(spool)).toEqual([3, 4]);
    await spool.close();
  });
  test("gives back every request in order, over many segments and a restart", async () => {
    const folder = newFolder();
    const spool = await open(folder);
    await put(spool, 1, 40);
    expect(await take(spool)).toEqual(range(1, 40));
    await spool.close();
    const again = await open(folder);
    expect(await take(again)).toEqual(range(1, 40));
    expect(again.status()).toMatchObject({ lostPoints: 0, facts: { tornTails: 0, quarantined: 0 } });
    await put(again, 41, 45);
    expect(await take(again)).toEqual(range(1, 45));
    await again.close();
  });

  test("keeps positions over a restart and removes segments every destination has passed", async () => {
    const folder = newFolder();
    const destinations = ["main", "second"];
    const spool = await open(folder, { destinations });
    await put(spool, 1, 40);
    await spool.acknowledge("main", 40);
    expect(segments(folder).length).toBeGreaterThan(4);
    await spool.acknowledge("second", 30);
    await spool.close();
    expect(segments(folder).length).toBeLessThan(4);
    const again = await open(folder, { destinations });
    expect([again.position("main"), again.position("second")]).toEqual([40, 30]);
    expect(await take(again, "second")).toEqual(range(31, 40));
    expect(again.status().lostPoints).toBe(0);
    expect(again.status().losses).toEqual([]);
    await again.close();
  });

  test("lets a new destination begin with what comes now", async () => {
    const folder = newFolder();
    const spool = await open(folder);
    await put(spool, 1, 5);
    await spool.close();
    const again = await open(folder, { destinations: ["main", "new"] });
    await put(again, 6, 7);
    expect(await take(again, "new")).toEqual([6, 7]);
    expect(await take(again, "main")).toEqual(range(1, 7));
    await again.close();
  });

  test("shows nothing before it is committed, and cuts what the ledger never committed", async () => {
    const folder = newFolder();
    const spool = await open(folder);
    await put(spool, 1, 3);
    await spool.append([entry(4), entry(5)]);
    expect(await take(spool)).toEqual([1, 2, 3]);
    await spool.close();
    const again = await open(folder, { committed: 3 });
    expect(again.head()).toBe(3);
    await put(again, 6, 6);
    expect(await take(again)).toEqual([1, 2, 3, 6]);
    expect(again.status().losses).toEqual([]);
    await again.close();
    const third = await open(folder);
    expect(await take(third)).toEqual([1, 2, 3, 6]);
    expect(third.status().losses).toEqual([]);
    await third.close();
  });

  test("drops the oldest segment beyond bytesMax and says from when to when, how much and why", async () => {
    const folder = newFolder();
    const spool = await open(folder, { bytesMax: 20_000 });
    const losses: Loss[] = [];
    spool.onLoss((loss) => losses.push(loss));
    await put(spool, 1, 60);
    const kept = await take(spool);
    expect(kept).toEqual(range(kept[0] ?? 0, 60));
    expect(kept.length).toBeGreaterThan(15);
    expect(
      segments(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0),
    ).toBeLessThanOrEqual(20_000);
    const lost = 60 - kept.length;
    expect(losses.reduce((sum, loss) => sum + loss.records, 0)).toBe(lost);
    expect(spool.status().losses).toEqual([
      {
        from: 1_000_000_000n,
        to: BigInt(lost) * 1_000_000_000n,
        records: lost,
        points: lost * 10,
        why: "evicted_bytes",
      },
    ]);
    await spool.close();
    const again = await open(folder, { bytesMax: 20_000 });
    expect(again.status()).toMatchObject({ lostPoints: lost * 10 });
    expect(again.status().losses).toHaveLength(1);
    await again.close();
  });

  test("drops what is older than hoursMax", async () => {
    const spool = await open(newFolder(), { hoursMax: 1 });
    await put(spool, 1, 20);
    spool.commit(await spool.append([entry(7_200)]));
    const kept = await take(spool);
    expect(kept.at(-1)).toBe(7_200);
    expect(kept.length).toBeLessThan(10);
    expect(spool.status().losses[0]).toMatchObject({ why: "evicted_age" });
    await spool.close();
  });

  test("one dead destination costs the other nothing, and its losses bear its name", async () => {
    const spool = await open(newFolder(), { bytesMax: 20_000, destinations: ["alive", "dead"] });
    for (let number = 1; number <= 100; number++) {
      await put(spool, number, number);
      await spool.acknowledge("alive", number);
    }
    const { losses, lostPoints } = spool.status();
    expect(losses.map((loss) => loss.destination)).toEqual(["dead"]);
    expect(lostPoints).toBe((100 - (await take(spool, "dead")).length) * 10);
    await spool.close();
  });

  test("a request that a dead destination still holds keeps its bytes after it was evicted", async () => {
    const spool = await open(newFolder(), { bytesMax: 20_000, destinations: ["alive", "dead"] });
    let buffer = { bytes: Buffer.alloc(500), isHeld: false };
    /** Written over the one before, as an encoder does it, where that is not held. */
    const putOver = async (number: number): Promise<void> => {
      const { bytes, ...rest } = entry(number);
      if (buffer.isHeld) buffer = { bytes: Buffer.alloc(500), isHeld: false };
      buffer.bytes.set(bytes);
      spool.commit(await spool.append([{ ...rest, bytes: buffer.bytes, lease: buffer }]));
    };
    await putOver(1);
    const held = await spool.read(1);
    expect(held).toBe(buffer.bytes);
    const buffers = new Set([buffer]);
    for (let number = 2; number <= 100; number++) {
      await putOver(number);
      buffers.add(buffer);
      await spool.acknowledge("alive", number);
      if (number === 60) expect(await spool.read(1)).toBeUndefined();
      // A moment in which everybody is done: from here requests are held again.
      if (number === 70) await spool.acknowledge("dead", number);
    }
    expect(held).toEqual(entry(1).bytes);
    // The first, what came after it, and what was written while the second of them was held.
    expect(buffers.size).toBe(3);
    await spool.close();
  });

  test("abandon() is a loss of one destination only, also after a restart", async () => {
    const folder = newFolder();
    const destinations = ["live", "patient"];
    const spool = await open(folder, { destinations });
    await put(spool, 1, 10);
    for (
      let header = spool.peek(0);
      header !== undefined && header.sequence <= 5;
      header = spool.peek(header.sequence)
    ) {
      await spool.abandon("live", header);
    }
    expect(spool.position("live")).toBe(5);
    await spool.close();
    const again = await open(folder, { destinations });
    expect(await take(again, "patient")).toEqual(range(1, 10));
    expect(await take(again, "live")).toEqual(range(6, 10));
    expect(again.status().losses).toEqual([
      {
        from: 1_000_000_000n,
        to: 5_000_000_000n,
        records: 5,
        points: 50,
        why: "skipped",
        destination: "live",
      },
    ]);
    await again.close();
  });

  test("reads from disk what it no longer remembers, compressed or not", async () => {
    const folder = newFolder();
    const spool = await open(folder, { segmentBytes: 2_000_000, bytesMax: 20_000_000 });
    await put(spool, 1, 10, 900_000);
    const zeros = { bytes: new Uint8Array(3_000_000), points: 1, time: 11n, layout: 0 };
    spool.commit(await spool.append([zeros]));
    await put(spool, 12, 20, 900_000);
    const sequence = 11;
    expect((await spool.read(sequence))?.length).toBe(3_000_000);
    expect((await take(spool, "main", 10)).length).toBe(10);
    await spool.close();
  });
});

describe("a backlog on disk", () => {
  test("older than five minutes keeps one record a minute and all in which a series begins or ends", async () => {
    const folder = newFolder();
    const spool = await open(folder);
    const layoutOf = (beat: number): number => (beat % 50 === 7 ? 0 : 1);
    const beats = range(1, 360);
    for (const beat of beats) {
      const time = BigInt(beat * 10) * 1_000_000_000n;
      spool.commit(await spool.append([{ ...entry(beat * 10), time, layout: layoutOf(beat) }]));
    }
    const before = spool.status();
    expect(before.records).toBeLessThan(200);
    expect(before).toMatchObject({ losses: [], lostPoints: 0 });
    const held = async (one: Spool): Promise<number[]> => {
      const got: number[] = [];
      for (let after = 0, header = one.peek(0); header !== undefined; header = one.peek(after)) {
        after = header.sequence;
        expect(Buffer.from((await one.read(after)) ?? []).readUInt32LE(0)).toBe(header.sequence * 10);
        got.push(header.sequence);
      }
      return got;
    };
    const kept = await held(spool);
    for (const beat of beats) if (layoutOf(beat) === 0) expect(kept).toContain(beat);
    for (let minute = 1; minute < 59; minute++) expect(kept).toContain(minute * 6 + 5);
    await spool.close();
    const again = await open(folder);
    expect(await held(again)).toEqual(kept);
    expect(again.status().losses).toEqual([]);
    await again.close();
  });
});

describe("a spool after a crash", () => {
  test("cuts a torn tail at any byte and loses nothing that was promised", async () => {
    const folder = newFolder();
    const spool = await open(folder, { segmentBytes: 65_536 });
    await put(spool, 1, 5);
    await spool.close();
    const [name = ""] = segments(folder);
    const whole = readFileSync(join(folder, name));
    const fifth = 32 + 4 * 556;
    for (const length of [fifth + 1, fifth + 40, fifth + 56, fifth + 57, fifth + 300, fifth + 555]) {
      const torn = newFolder();
      writeFileSync(join(torn, name), Buffer.concat([whole.subarray(0, length), Buffer.alloc(2_000)]));
      const again = await open(torn);
      expect(await take(again)).toEqual([1, 2, 3, 4]);
      expect(again.status()).toMatchObject({ losses: [], facts: { tornTails: 1 } });
      await put(again, 6, 7);
      expect(await take(again)).toEqual([1, 2, 3, 4, 6, 7]);
      await again.close();
    }
  });

  test("starts with any byte of a segment changed: whole records survive, the rest is told, never wrong", {
    timeout: 30_000,
  }, async () => {
    const folder = newFolder();
    const spool = await open(folder, { segmentBytes: 65_536 });
    await put(spool, 1, 6, 120);
    await spool.close();
    const [name = ""] = segments(folder);
    const whole = readFileSync(join(folder, name));
    const state = readFileSync(join(folder, "state"));
    for (let at = 0; at < whole.length; at += 17) {
      const damaged = newFolder();
      const bytes = Buffer.from(whole);
      bytes[at] = (bytes[at] ?? 0) ^ 0x55;
      writeFileSync(join(damaged, name), bytes);
      writeFileSync(join(damaged, "state"), state);
      const again = await open(damaged);
      const got = await take(again);
      const { losses } = again.status();
      expect(got.length).toBeGreaterThanOrEqual(5);
      expect(losses.reduce((sum, loss) => sum + loss.records, 0)).toBe(6 - got.length);
      expect(losses.every((loss) => loss.why === "corrupt")).toBe(true);
      await put(again, 7, 8, 120);
      expect((await take(again)).slice(-2)).toEqual([7, 8]);
      await again.close();
      const third = await open(damaged);
      expect(third.status().losses).toEqual(losses);
      await third.close();
    }
  });

  test("salvages the records of a segment whose header was overwritten with zeros", async () => {
    const folder = newFolder();
    const spool = await open(folder, { segmentBytes: 65_536 });
    await put(spool, 1, 6);
    await spool.close();
    const [name = ""] = segments(folder);
    const bytes = readFileSync(join(folder, name));
    bytes.fill(0, 0, 32);
    writeFileSync(join(folder, name), bytes);
    const again = await open(folder);
    expect(await take(again)).toEqual(range(1, 6));
    expect(again.status()).toMatchObject({ losses: [], facts: { quarantined: 1 } });
    await again.close();
  });

  test("starts with foreign files, a lost state and a state full of noise", async () => {
    const folder = newFolder();
    const spool = await open(folder);
    await put(spool, 1, 20);
    await spool.acknowledge("main", 10);
    await spool.close();
    writeFileSync(
      join(folder, "0000000000000000.segment"),
      "not a segment at all, but long enough to be read as one",
    );
    writeFileSync(join(folder, "0000000000000099.segment"), "");
    writeFileSync(join(folder, "notes.txt"), "hello");
    writeFileSync(join(folder, "state"), Buffer.alloc(200_000, 0x5a));
    const again = await open(folder);
    const got = await take(again);
    expect(got.at(-1)).toBe(20);
    expect(got).toEqual(range(got[0] ?? 0, 20));
    expect(again.status()).toMatchObject({ losses: [], facts: { quarantined: 1 } });
    await put(again, 21, 22);
    expect((await take(again)).slice(-2)).toEqual([21, 22]);
    await again.close();
  });

  test("tells a segment that went missing as a loss, once", async () => {
    const folder = newFolder();
    const spool = await open(folder);
    await put(spool, 1, 40);
    await spool.close();
    const names = segments(folder);
    rmSync(join(folder, names[2] as string));
    const again = await open(folder);
    const got = await take(again);
    expect(again.status().losses).toEqual([
      expect.objectContaining({ why: "corrupt", records: 40 - got.length }),
    ]);
    await again.close();
    const third = await open(folder);
    expect(third.status().losses).toHaveLength(1);
    await third.close();
  });

  test("any sequence of appends, acknowledgements and crashes neither loses nor repeats nor reorders", async () => {
    const step = fc.oneof(
      {
        weight: 5,
        arbitrary: fc.record({ kind: fc.constant("append" as const), count: fc.integer({ min: 1, max: 6 }) }),
      },
      {
        weight: 3,
        arbitrary: fc.record({ kind: fc.constant("ack" as const), count: fc.integer({ min: 1, max: 9 }) }),
      },
      {
        weight: 2,
        arbitrary: fc.record({
          kind: fc.constant("crash" as const),
          count: fc.integer({ min: 1, max: 600 }),
        }),
      },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
        const folder = newFolder();
        const { files, closeAll } = trackedFiles();
        let spool = await open(folder, { files });
        let appended = 0;
        let passed = 0;
        for (const { kind, count } of steps) {
          if (kind === "append") {
            const entries = range(appended + 1, appended + count).map((number) => entry(number));
            spool.commit(await spool.append(entries));
            appended += count;
          } else if (kind === "ack") {
            const next = Math.min(appended, passed + count);
            if (next > passed) await spool.acknowledge("main", next);
            passed = next;
          } else {
            await new Promise((resolve) => setImmediate(resolve));
            spool = await open(folder, { files });
          }
          const position = spool.position("main");
          expect(position).toBeLessThanOrEqual(passed);
          expect(await take(spool)).toEqual(range(Math.max(position + 1, await firstOf(spool)), appended));
          passed = position;
        }
        expect(spool.status().losses).toEqual([]);
        await spool.close();
        await closeAll();
      }),
      { numRuns: 8 },
    );
  });
});

/** The disk, with every file it opened remembered: a crashed spool closes none. */
function trackedFiles(): { files: Files; closeAll: () => Promise<void> } {
  const opened: OpenFile[] = [];
  const files: Files = {
    ...diskFiles,
    open: async (path, how) => {
      const file = await diskFiles.open(path, how);
      opened.push(file);
      return file;
    },
  };
  return { files, closeAll: async () => void (await Promise.allSettled(opened.map((file) => file.close()))) };
}

async function firstOf(spool: Spool): Promise<number> {
  return spool.peek(spool.position("main"))?.sequence ?? 0;
}

describe("a spool on a full disk", () => {
  /** A disk of so many bytes: files take what was written to them. */
  function smallDisk(limit: { bytes: number }): Files {
    const sizes = new Map<string, number>();
    const used = (): number => [...sizes.values()].reduce((sum, size) => sum + size, 0);
    return {
      ...diskFiles,
      freeBytes: async () => Math.max(0, limit.bytes - used()),
      remove: async (path) => {
        sizes.delete(path);
        await diskFiles.remove(path);
      },
      open: async (path, how) => {
        const file = await diskFiles.open(path, how);
        sizes.set(path, await file.size());
        return {
          ...file,
          write: async (bytes, position) => {
            const size = Math.max(sizes.get(path) ?? 0, position + bytes.length);
            const grown = size - (sizes.get(path) ?? 0);
            if (grown > 0 && used() + grown > limit.bytes)
              throw Object.assign(new Error("ENOSPC: no space left on device"), { code: "ENOSPC" });
            sizes.set(path, size);
            await file.write(bytes, position);
          },
          truncate: async (length) => {
            sizes.set(path, length);
            await file.truncate(length);
          },
        };
      },
    };
  }

  test("gives up the oldest at its watermark and goes on", async () => {
    const files = smallDisk({ bytes: 226_000 });
    const spool = await open(newFolder(), { files, freeBytesMin: 8_000 });
    await put(spool, 1, 80);
    const kept = await take(spool);
    expect(kept).toEqual(range(kept[0] ?? 0, 80));
    expect(spool.status().losses).toEqual([
      expect.objectContaining({ why: "disk_full", records: 80 - kept.length }),
    ]);
    await spool.close();
  });

  test("holds telemetry in memory while nothing can be written, and returns to disk by itself", async () => {
    const limit = { bytes: 10_000_000 };
    const folder = newFolder();
    const files = smallDisk(limit);
    const spool = await open(folder, { files });
    await put(spool, 1, 3);
    limit.bytes = 0;
    await put(spool, 4, 20);
    expect(await take(spool)).toEqual(range(1, 20));
    expect(spool.status().facts).toMatchObject({
      inMemory: 1,
      diskError: expect.stringContaining("free on the disk"),
    });
    limit.bytes = 10_000_000;
    await put(spool, 21, 30);
    expect(await take(spool)).toEqual(range(1, 30));
    expect(spool.status().facts).not.toHaveProperty("diskError");
    await spool.close();
    const again = await open(folder);
    const survived = await take(again);
    expect(survived.slice(-10)).toEqual(range(21, 30));
    expect(again.status().losses).toEqual([
      expect.objectContaining({ why: "disk_full", records: 30 - survived.length }),
    ]);
    await again.close();
  });

  test("frees room of what was delivered even when the disk is full", async () => {
    const limit = { bytes: 10_000_000 };
    const folder = newFolder();
    const spool = await open(folder, { files: smallDisk(limit) });
    await put(spool, 1, 40);
    limit.bytes = 0;
    const before = segments(folder).length;
    await spool.acknowledge("main", 40);
    expect(segments(folder).length).toBeLessThan(before);
    await spool.close();
  });
});

describe("a spool whose files are removed while it is open", () => {
  /** What an operator or a cleaner of old files may remove. */
  const removals: Record<string, (folder: string) => void> = {
    "the folder": (folder) => rmSync(folder, { recursive: true, force: true }),
    "every file": (folder) => {
      for (const name of readdirSync(folder)) rmSync(join(folder, name), { recursive: true });
    },
    "the segments": (folder) => {
      for (const name of readdirSync(folder).filter((one) => one.endsWith(".segment")))
        rmSync(join(folder, name));
    },
    "the state": (folder) => rmSync(join(folder, "state")),
  };

  test.each(Object.keys(removals))(
    "%s: delivers every record, and a crash after the next loses none",
    async (name) => {
      await fc.assert(
        fc.asyncProperty(
          fc.nat(20),
          fc.integer({ min: 1, max: 20 }),
          fc.nat(10),
          async (before, after, passed) => {
            const folder = newFolder();
            const { files, closeAll } = trackedFiles();
            const spool = await open(folder, { files });
            await put(spool, 1, before);
            await spool.acknowledge("main", Math.min(passed, before));
            removals[name]?.(folder);
            await put(spool, before + 1, before + after);
            // Another process finds what a kill at this moment leaves.
            const again = await open(folder, { committed: before + after });
            const position = again.position("main");
            expect(await take(again)).toEqual(range(position + 1, before + after));
            expect(position).toBeLessThanOrEqual(Math.min(passed, before));
            expect(again.status().losses).toEqual([]);
            await again.close();
            await closeAll();
          },
        ),
        { numRuns: 12 },
      );
    },
  );

  test("a folder that cannot be made again: delivery goes on from memory until it can", async () => {
    const folder = newFolder();
    const disk = { refuses: false };
    const refuse = async (): Promise<never> => Promise.reject(new Error("EROFS: read-only file system"));
    const files: Files = {
      ...diskFiles,
      makeFolder: (path) => (disk.refuses ? refuse() : diskFiles.makeFolder(path)),
    };
    const spool = await open(folder, { files });
    await put(spool, 1, 3);
    rmSync(folder, { recursive: true });
    disk.refuses = true;
    await put(spool, 4, 6);
    expect(await take(spool)).toEqual(range(1, 6));
    disk.refuses = false;
    await put(spool, 7, 9);
    expect(await take(spool)).toEqual(range(1, 9));
    await spool.close();
    const again = await open(folder);
    expect(await take(again)).toEqual([1, 2, 3, 7, 8, 9]);
    const [loss] = again.status().losses;
    expect(loss).toMatchObject({ records: 3, why: "disk_full" });
    await again.close();
  });
});
