// A spool in memory: what is queued at a crash is gone. For demo, replay and hosts without a state folder.
import { LossBook, skippedLoss } from "./losses.ts";
import type { Loss, Spool, SpoolEntry, SpoolHeader, SpoolStatus } from "./spool.ts";

/** An empty spool for these destinations; beyond `bytesMax` the oldest records are dropped and reported as losses. */
export function memorySpool(destinations: readonly string[], bytesMax = 32 * 1024 * 1024): Spool {
  return new MemorySpool(destinations, bytesMax);
}

type Held = SpoolHeader & { readonly bytes: Uint8Array };

class MemorySpool implements Spool {
  readonly isDurable = false;
  readonly isAhead = false;
  readonly #bytesMax: number;
  readonly #positions: Map<string, number>;
  readonly #losses = new LossBook();
  readonly #listeners: (() => void)[] = [];
  #records: Held[] = [];
  #bytes = 0;
  #last = 0;
  #committed = 0;

  constructor(destinations: readonly string[], bytesMax: number) {
    this.#bytesMax = bytesMax;
    this.#positions = new Map(destinations.map((name) => [name, 0]));
  }

  async append(entries: Iterable<SpoolEntry>): Promise<number> {
    // All or none: where the last cannot be made, the others are not sent either.
    const copies = Array.from(entries, (entry) => ({ ...entry, bytes: Uint8Array.from(entry.bytes) }));
    for (const copy of copies) {
      this.#records.push({ ...copy, sequence: ++this.#last });
      this.#bytes += copy.bytes.length;
    }
    while (this.#bytes > this.#bytesMax && this.#records.length > 1) this.#evict();
    return this.#last;
  }

  commit(sequence: number): void {
    this.#committed = Math.max(this.#committed, sequence);
    for (const listener of this.#listeners) listener();
  }

  onCommit(listener: () => void): void {
    this.#listeners.push(listener);
  }

  onLoss(listener: (loss: Loss) => void): void {
    this.#losses.listen(listener);
  }

  peek(after: number): SpoolHeader | undefined {
    const index = this.#indexAfter(after);
    const record = this.#records[index];
    return record !== undefined && record.sequence <= this.#committed ? record : undefined;
  }

  head(): number {
    return this.#committed;
  }

  async read(sequence: number): Promise<Uint8Array | undefined> {
    const record = this.#records[this.#indexAfter(sequence - 1)];
    return record?.sequence === sequence ? record.bytes : undefined;
  }

  position(destination: string): number {
    return this.#positions.get(destination) ?? 0;
  }

  async acknowledge(destination: string, sequence: number): Promise<void> {
    this.#positions.set(destination, Math.max(sequence, this.position(destination)));
    const done = Math.min(...this.#positions.values());
    const kept = this.#indexAfter(done);
    for (const record of this.#records.slice(0, kept)) this.#bytes -= record.bytes.length;
    this.#records = this.#records.slice(kept);
  }

  async abandon(destination: string, header: SpoolHeader): Promise<void> {
    this.#losses.recordLoss(skippedLoss(destination, header));
    await this.acknowledge(destination, header.sequence);
  }

  status(): SpoolStatus {
    return {
      kind: "memory",
      records: this.#records.length,
      bytes: this.#bytes,
      bytesMax: this.#bytesMax,
      oldest: this.#records[0]?.time,
      losses: this.#losses.recent,
      lostPoints: this.#losses.points,
      lostPointsBy: this.#losses.pointsBy,
    };
  }

  async close(): Promise<void> {
    this.#records = [];
    this.#bytes = 0;
  }

  /** Index of the first record after a sequence; sequences in memory have no holes. */
  #indexAfter(sequence: number): number {
    const first = this.#records[0]?.sequence ?? this.#last + 1;
    return Math.max(0, Math.min(this.#records.length, sequence + 1 - first));
  }

  #evict(): void {
    const record = this.#records.shift();
    if (record === undefined) return;
    this.#bytes -= record.bytes.length;
    const { points, time } = record;
    this.#losses.recordLoss({ from: time, to: time, records: 1, points, why: "evicted_bytes" });
  }
}
