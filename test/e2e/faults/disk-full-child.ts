// Fills the disk under a spool and empties it again; prints what became of every record. Run by disk-full.e2e.ts.
import { rmSync, statfsSync, writeFileSync } from "node:fs";
import { silentLog } from "../../../agent/platform/log.ts";
import { openSegmentSpool } from "../../../agent/store/spool/segment-spool.ts";
import type { Spool } from "../../../agent/store/spool/spool.ts";

const folder = process.argv[2] ?? "";
const filler = `${folder}/filler`;
const open = (): Promise<Spool> =>
  openSegmentSpool({
    folder: `${folder}/spool`,
    destinations: ["main"],
    log: silentLog,
    bytesMax: 3_000_000,
    freeBytesMin: 0,
  });

let spool = await open();
let appended = 0;
const append = async (count: number): Promise<void> => {
  for (let i = 0; i < count; i++) {
    const bytes = crypto.getRandomValues(new Uint8Array(4_000));
    new DataView(bytes.buffer).setUint32(0, ++appended);
    spool.commit(
      await spool.append([{ bytes, points: 1, time: BigInt(appended) * 1_000_000_000n, layout: appended }]),
    );
  }
};
const held = async (): Promise<number[]> => {
  const got: number[] = [];
  for (let header = spool.peek(0); header !== undefined; header = spool.peek(header.sequence)) {
    const bytes = await spool.read(header.sequence);
    if (bytes !== undefined) got.push(new DataView(bytes.buffer, bytes.byteOffset).getUint32(0));
  }
  return got;
};
const missing = (got: readonly number[]): number =>
  appended - got.length - spool.status().losses.reduce((sum, loss) => sum + loss.records, 0);

await append(100);
for (
  let free = Number(statfsSync(folder).bavail) * 4096;
  free > 4096;
  free = Number(statfsSync(folder).bavail) * 4096
) {
  try {
    writeFileSync(filler, Buffer.alloc(Math.min(free, 65_536)), { flag: "a" });
  } catch {
    break;
  }
}
const freeWhenFull = Number(statfsSync(folder).bavail) * 4096;
await append(150);
const full = { held: await held(), ...spool.status() };
const missingWhenFull = missing(full.held);
await spool.acknowledge("main", full.held[50] ?? 0);
rmSync(filler);
await append(100);
await spool.close();
spool = await open();
const after = await held();
console.log(
  JSON.stringify({
    appended,
    freeWhenFull,
    heldWhenFull: full.held.length,
    inMemoryWhenFull: full.facts?.["inMemory"],
    newestWhenFull: full.held.at(-1),
    missingWhenFull,
    newestAfter: after.at(-1),
    lossesAfter: spool.status().losses.map(({ why, records }) => ({ why, records })),
    ascending: after.every((number, i) => i === 0 || number > (after[i - 1] ?? 0)),
  }),
);
await spool.close();
