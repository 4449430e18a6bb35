// What both spools promise of the bytes they are given.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { silentLog } from "../../../agent/platform/log.ts";
import { memorySpool } from "../../../agent/store/spool/memory-spool.ts";
import { openSegmentSpool } from "../../../agent/store/spool/segment-spool.ts";
import type { Spool, SpoolEntry } from "../../../agent/store/spool/spool.ts";

const folder = mkdtempSync(join(tmpdir(), "spools-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const segments = (): Promise<Spool> =>
  openSegmentSpool({
    folder,
    destinations: ["main", "slow"],
    log: silentLog,
    bytesMax: 1e6,
    freeBytesMin: 0,
  });

/** Three requests in one buffer, written over as the encoder's stream does. */
function* shared(from: number): Generator<SpoolEntry> {
  const buffer = Buffer.alloc(500);
  for (const number of [from, from + 1, from + 2]) {
    yield { bytes: buffer.fill(number), points: 1, time: 1_000_000_000n, layout: 0 };
  }
  buffer.fill(0);
}

test.each([
  ["memory", async () => memorySpool(["main", "slow"])],
  ["segments", segments],
])("append() into %s uses an entry's bytes only until the next is asked for", async (_, open) => {
  const spool = await open();
  for (const from of [1, 4]) spool.commit(await spool.append(shared(from)));
  for (let sequence = 1; sequence <= 6; sequence++) {
    expect(Buffer.from((await spool.read(sequence)) ?? [])).toEqual(Buffer.alloc(500, sequence));
  }
});

test.each([
  ["memory", async () => memorySpool(["main", "slow"])],
  [
    "segments",
    () => {
      rmSync(folder, { recursive: true, force: true });
      return segments();
    },
  ],
])(
  "append() into %s takes all requests or none: what follows a failure is sent under its own bytes",
  async (_, open) => {
    const spool = await open();
    const failing = function* (): Generator<SpoolEntry> {
      yield* shared(1);
      throw new Error("cannot be encoded");
    };
    await expect(spool.append(failing())).rejects.toThrow("cannot be encoded");
    // No copy is kept of these: a destination is behind.
    spool.commit(await spool.append(shared(4)));
    spool.commit(await spool.append(shared(7)));
    expect(spool.head()).toBe(6);
    for (let sequence = 1; sequence <= 6; sequence++)
      expect(Buffer.from((await spool.read(sequence)) ?? [])).toEqual(Buffer.alloc(500, sequence + 3));
  },
);

test("read() gives bytes that hold until every destination has passed them", async () => {
  rmSync(folder, { recursive: true, force: true });
  const spool = await segments();
  spool.commit(await spool.append(shared(1)));
  const bytes = (await spool.read(1)) as Uint8Array;
  await spool.acknowledge("main", 3);
  spool.commit(await spool.append(shared(4)));
  expect(Buffer.from(bytes)).toEqual(Buffer.alloc(500, 1));
  await spool.acknowledge("main", 6);
  await spool.acknowledge("slow", 6);
  spool.commit(await spool.append(shared(7)));
  expect((await spool.read(7))?.buffer).toBe(bytes.buffer);
});
