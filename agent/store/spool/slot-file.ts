// A small state in a file of fixed size: three slots, the newest intact one wins. A write goes to a slot that holds
// neither the newest state nor the newest that was synced: a crash leaves the one, a power cut at least the other.
// Nothing is created, grown or renamed after the first write, so that a full disk cannot stop it.
import { crc32 } from "node:zlib";
import type { Files, OpenFile } from "./files.ts";

const HEADER_BYTES = 24;
const MAGIC = 0x31505754;
const SLOTS = [0, 1, 2];

/** A state that survives; `write` overwrites it. */
export interface SlotFile {
  /** What was last written whole; undefined when nothing was or nothing is intact. */
  readonly initial: unknown;
  /** Writes a JSON value; larger than a slot is refused. With `durable` it is on the disk when it resolves. */
  write(value: unknown, durable: boolean): Promise<void>;
  /** Whether the file is still in its place: one that was removed does not survive. */
  isInPlace(): Promise<boolean>;
  close(): Promise<void>;
}

/** Opens or creates the file. Content that is no such file is overwritten. */
export async function openSlotFile(files: Files, path: string, slotBytes = 64 * 1024): Promise<SlotFile> {
  const file = await openOrCreate(files, path, slotBytes);
  const slots = [];
  for (const slot of SLOTS) slots.push(readSlot(await file.read(slot * slotBytes, slotBytes)));
  const newest = slots.reduce(
    (best, slot) => ((slot?.generation ?? 0) > (best?.generation ?? 0) ? slot : best),
    undefined,
  );
  let generation = newest?.generation ?? 0;
  let latest = newest === undefined ? -1 : slots.indexOf(newest);
  // What was found may not be on the disk yet if only the process died; after this it is.
  await file.sync().catch(() => {});
  let synced = latest;
  let last: Promise<void> = Promise.resolve();
  const write = async (value: unknown, durable: boolean): Promise<void> => {
    const text = Buffer.from(JSON.stringify(value));
    if (text.length > slotBytes - HEADER_BYTES)
      throw new Error(`Cannot keep ${text.length} bytes in a slot of ${slotBytes}`);
    const slot = Buffer.alloc(HEADER_BYTES + text.length);
    generation++;
    slot.writeUInt32LE(MAGIC, 0);
    slot.writeBigUInt64LE(BigInt(generation), 8);
    slot.writeUInt32LE(text.length, 16);
    slot.set(text, HEADER_BYTES);
    slot.writeUInt32LE(crc32(slot.subarray(8)), 4);
    const target = SLOTS.find((one) => one !== latest && one !== synced) ?? 0;
    await file.write(slot, target * slotBytes);
    latest = target;
    if (!durable) return;
    await file.sync();
    synced = target;
  };
  return {
    initial: newest?.value,
    write: (value, durable) => {
      const turn = last.then(() => write(value, durable));
      last = turn.catch(() => {});
      return turn;
    },
    isInPlace: () => file.isNamed(path),
    close: () => last.then(() => file.close()),
  };
}

async function openOrCreate(files: Files, path: string, slotBytes: number): Promise<OpenFile> {
  const file = await files.open(path, "update").catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
    return files.open(path, "create");
  });
  const bytes = SLOTS.length * slotBytes;
  const missing = bytes - (await file.size());
  if (missing > 0) await file.write(Buffer.alloc(missing), bytes - missing);
  return file;
}

function readSlot(bytes: Buffer): { generation: number; value: unknown } | undefined {
  if (bytes.length < HEADER_BYTES || bytes.readUInt32LE(0) !== MAGIC) return undefined;
  const length = bytes.readUInt32LE(16);
  if (length > bytes.length - HEADER_BYTES) return undefined;
  const checked = bytes.subarray(8, HEADER_BYTES + length);
  if (bytes.readUInt32LE(4) !== crc32(checked)) return undefined;
  try {
    const text = bytes.toString("utf8", HEADER_BYTES, HEADER_BYTES + length);
    return { generation: Number(bytes.readBigUInt64LE(8)), value: JSON.parse(text) };
  } catch {
    return undefined;
  }
}
