// Ids that were counted, as 64-bit hashes, over restarts: bounded by number and by age, whichever ends first.
// Stored in rows of a thousand; only the last one is rewritten. At 10^6 ids two differ in hash but for one chance in
// 10^7.
import { createHash } from "node:crypto";
import type { ReceiverMemory } from "./memory.ts";

const CHUNK = 1000;

interface Chunk {
  readonly number: number;
  readonly ids: bigint[];
  /** Unix seconds at which the last id was added. */
  at: number;
}

/** How long and how many ids are remembered. */
export interface SeenBounds {
  readonly idsMax: number;
  readonly seconds: number;
}

/** Ids of one kind that a receiver has counted. */
export class SeenIds {
  readonly #memory: ReceiverMemory;
  readonly #group: string;
  readonly #bounds: SeenBounds;
  readonly #known = new Set<bigint>();
  /** Oldest first. */
  readonly #chunks: Chunk[] = [];

  constructor(memory: ReceiverMemory, group: string, bounds: SeenBounds) {
    this.#memory = memory;
    this.#group = group;
    this.#bounds = bounds;
    for (const { name, value } of memory.restored(group)) {
      const { at, ids } = value as { at: number; ids: string };
      const chunk = { number: Number(name), at: Number(at), ids: unpack(String(ids)) };
      this.#chunks.push(chunk);
      for (const id of chunk.ids) this.#known.add(id);
    }
    this.#chunks.sort((a, b) => a.number - b.number);
  }

  /** Whether the id was remembered. */
  has(id: string): boolean {
    return this.#known.has(hashOf(id));
  }

  /** Whether the id is new; from now on it is not. */
  remember(id: string, unixSeconds: number): boolean {
    const hash = hashOf(id);
    if (this.#known.has(hash)) return false;
    this.#known.add(hash);
    let chunk = this.#chunks.at(-1);
    if (chunk === undefined || chunk.ids.length >= CHUNK) chunk = this.#next(chunk, unixSeconds);
    const last = chunk;
    last.ids.push(hash);
    last.at = Math.max(last.at, unixSeconds);
    this.#memory.set(this.#group, String(last.number), () => ({ at: last.at, ids: pack(last.ids) }));
    return true;
  }

  #next(last: Chunk | undefined, unixSeconds: number): Chunk {
    const { idsMax, seconds } = this.#bounds;
    for (let oldest = this.#chunks[0]; oldest !== undefined; oldest = this.#chunks[0]) {
      if (this.#chunks.length * CHUNK < idsMax && oldest.at >= unixSeconds - seconds) break;
      this.#chunks.shift();
      for (const id of oldest.ids) this.#known.delete(id);
      this.#memory.set(this.#group, String(oldest.number), () => undefined);
    }
    const chunk = { number: (last?.number ?? 0) + 1, ids: [], at: unixSeconds };
    this.#chunks.push(chunk);
    return chunk;
  }
}

function hashOf(id: string): bigint {
  return createHash("sha256").update(id).digest().readBigUInt64LE();
}

function pack(ids: readonly bigint[]): string {
  return Buffer.from(BigUint64Array.from(ids).buffer).toString("base64");
}

function unpack(text: string): bigint[] {
  const bytes = Buffer.from(text, "base64");
  return Array.from({ length: Math.floor(bytes.length / 8) }, (_, index) => bytes.readBigUInt64LE(index * 8));
}
