// The durable spool: requests compressed into segment files, in order, until every destination has passed them.
// Order of a beat: segment synced -> ledger committed -> sent -> position moved -> segment removed. A crash between any
// two repeats a request or leaves a file behind, never more. Bounds drop the oldest first and record the loss.
import type { Log } from "../log.ts";
import type { Files } from "./files.ts";
import { diskFiles } from "./files.ts";
import { MemorySegment } from "./memory-segment.ts";
import { SEGMENT_HEADER_BYTES } from "./record-format.ts";
import type { Entry } from "./segment.ts";
import { Segment } from "./segment.ts";
import type { Held } from "./segment-list.ts";
import { SegmentList } from "./segment-list.ts";
import type { Loss, Spool, SpoolEntry, SpoolHeader, SpoolStatus } from "./spool.ts";
import type { PackedRecord } from "./spool-codec.ts";
import { packRecord, unpackRecord } from "./spool-codec.ts";
import type { SpoolFolder } from "./spool-folder.ts";
import { openSpoolFolder, quarantineBytes } from "./spool-folder.ts";
import type { SpoolState } from "./spool-state.ts";

const CACHE_BYTES_MAX = 4 * 1024 * 1024;
const MEMORY_BYTES_MAX = 16 * 1024 * 1024;
const FREE_BYTES_MIN = 64 * 1024 * 1024;

export interface SpoolOptions {
  readonly folder: string;
  readonly destinations: readonly string[];
  readonly log: Log;
  /** Disk it may take, at least four segments. */
  readonly bytesMax: number;
  readonly hoursMax?: number;
  /** Default: an eighth of `bytesMax`, 64 KiB to 8 MiB. */
  readonly segmentBytes?: number;
  /** Free disk left to others; below it the oldest telemetry goes first. */
  readonly freeBytesMin?: number;
  /** Last sequence whose totals the ledger committed; later records are cut. Absent: all that is intact counts. */
  readonly committed?: number;
  readonly files?: Files;
}

/** Opens a spool folder whatever is in it; throws only when it can be neither made nor listed. */
export async function openSegmentSpool(options: SpoolOptions): Promise<Spool> {
  const files = options.files ?? diskFiles;
  return new SegmentSpool(options, files, await openSpoolFolder(files, options));
}

class SegmentSpool implements Spool {
  readonly #options: SpoolOptions;
  readonly #files: Files;
  readonly #state: SpoolState;
  readonly #tornTails: number;
  readonly #segments: SegmentList;
  readonly #segmentBytes: number;
  readonly #listeners: (() => void)[] = [];
  readonly #cache = new Map<number, Uint8Array>();
  #active: Segment | undefined;
  #committed: number;
  #quarantined: number;
  #diskError: string | undefined;
  #work: Promise<unknown> = Promise.resolve();

  constructor(options: SpoolOptions, files: Files, found: SpoolFolder) {
    const eighth = Math.floor(options.bytesMax / 8);
    this.#options = options;
    this.#files = files;
    this.#state = found.state;
    this.#tornTails = found.tornTails;
    this.#segments = new SegmentList(found.segments);
    this.#segmentBytes = options.segmentBytes ?? Math.min(8 << 20, Math.max(64 << 10, eighth));
    this.#committed = found.state.head;
    this.#quarantined = found.quarantined;
  }

  append(entries: readonly SpoolEntry[]): Promise<number> {
    return this.#inTurn(async () => {
      const records: PackedRecord[] = [];
      const next = this.#state.head + 1;
      for (const entry of entries) records.push(await packRecord(entry, next + records.length));
      const [first] = records;
      if (first === undefined) return this.#state.head;
      await this.#dropOld(first.entry.time);
      try {
        const size = records.reduce((sum, record) => sum + record.bytes.length, 0);
        if (!this.#active?.fits(size)) await this.#rotate(next, size);
        await this.#active?.append(records);
        this.#diskError = undefined;
      } catch (error) {
        this.#holdInMemory(records, error as Error);
      }
      for (const { entry, raw } of records) this.#remember(entry.sequence, raw);
      this.#state.head += records.length;
      this.#state.save();
      return this.#state.head;
    });
  }

  commit(sequence: number): void {
    this.#committed = Math.max(this.#committed, Math.min(sequence, this.#state.head));
    for (const listener of this.#listeners) listener();
  }

  onCommit(listener: () => void): void {
    this.#listeners.push(listener);
  }

  onLoss(listener: (loss: Loss) => void): void {
    this.#state.losses.listen(listener);
  }

  peek(after: number): SpoolHeader | undefined {
    const entry = this.#segments.find(after)?.entry;
    return entry !== undefined && entry.sequence <= this.#committed ? entry : undefined;
  }

  head(): number {
    return this.#committed;
  }

  async read(sequence: number): Promise<Uint8Array | undefined> {
    const cached = this.#cache.get(sequence);
    if (cached !== undefined) return cached;
    const found = this.#segments.find(sequence - 1);
    if (found === undefined || found.entry.sequence !== sequence) return undefined;
    const { segment, entry } = found;
    if (segment instanceof MemorySegment) return segment.bytes(entry);
    try {
      const record = await segment.read(entry);
      if (record !== undefined) return await unpackRecord(record.header, record.payload);
    } catch (error) {
      const facts = { source: "spool", cause: String(error), sequence };
      this.#options.log.warn("cannot read a spool record", facts);
    }
    await this.#putAside(segment, entry);
    return undefined;
  }

  position(destination: string): number {
    return this.#state.positions.get(destination) ?? 0;
  }

  async acknowledge(destination: string, sequence: number): Promise<void> {
    if (sequence <= this.position(destination)) return;
    this.#state.positions.set(destination, sequence);
    this.#state.save();
    const { oldest } = this.#segments;
    if (oldest !== undefined && oldest !== this.#active && oldest.last <= this.#state.passed) {
      await this.#inTurn(() => this.#removePassed());
    }
  }

  status(): SpoolStatus {
    const { losses } = this.#state;
    return {
      kind: "segments",
      records: this.#segments.records,
      bytes: this.#segments.bytes,
      bytesMax: this.#options.bytesMax,
      oldest: this.#segments.find(this.#state.passed)?.entry.time,
      losses: losses.recent,
      lostPoints: losses.points,
      facts: {
        segments: this.#segments.all.length,
        tornTails: this.#tornTails,
        quarantined: this.#quarantined,
        inMemory: this.#segments.all.filter((segment) => segment instanceof MemorySegment).length,
        ...(this.#diskError === undefined ? {} : { diskError: this.#diskError }),
      },
    };
  }

  close(): Promise<void> {
    return this.#inTurn(async () => {
      await this.#active?.seal().catch(() => {});
      for (const segment of this.#segments.all)
        if (segment instanceof Segment) await segment.close().catch(() => {});
      await this.#state.close();
    });
  }

  /** One change of the folder after another. */
  #inTurn<Result>(run: () => Promise<Result>): Promise<Result> {
    const turn = this.#work.then(run);
    this.#work = turn.catch(() => {});
    return turn;
  }

  /** Begins a segment, making room first: what is passed, then what is oldest. Throws when there is none to be had. */
  async #rotate(first: number, size: number): Promise<void> {
    const { bytesMax, folder, freeBytesMin = FREE_BYTES_MIN } = this.#options;
    await this.#active?.seal().catch(() => {});
    this.#active = undefined;
    await this.#removePassed();
    const wanted = Math.max(this.#segmentBytes, size + SEGMENT_HEADER_BYTES);
    while (this.#segments.bytes + wanted > bytesMax) if (!(await this.#evict("evicted_bytes"))) break;
    await this.#makeFree(folder, freeBytesMin + wanted);
    const segment = await Segment.create(this.#files, folder, first, wanted);
    this.#active = segment;
    this.#segments.all.push(segment);
  }

  /** Gives up the oldest on a disk that others fill, but only where that is enough; else throws and gives up nothing. */
  async #makeFree(folder: string, wanted: number): Promise<void> {
    for (;;) {
      const free = await this.#files.freeBytes(folder);
      if (free >= wanted) return;
      if (free + this.#segments.diskBytes < wanted || !(await this.#evict("disk_full"))) {
        throw new Error(`less than ${wanted} bytes free on the disk`);
      }
    }
  }

  /** The disk takes nothing: delivery goes on from memory, within bounds, and the next append tries the disk again. */
  #holdInMemory(records: readonly PackedRecord[], error: Error): void {
    if (this.#diskError !== error.message) {
      const facts = { source: "spool", cause: error.message };
      this.#options.log.error("cannot write the spool, holding telemetry in memory", facts);
    }
    this.#diskError = error.message;
    this.#active = undefined;
    const first = records[0]?.entry.sequence ?? this.#state.head;
    let held = this.#segments.newest;
    if (!(held instanceof MemorySegment)) {
      held = new MemorySegment(first);
      this.#segments.all.push(held);
    }
    for (const { entry, raw } of records) held.add(entry, raw);
    this.#state.volatile = [this.#state.volatile?.[0] ?? first, held.last];
    while (held.size > MEMORY_BYTES_MAX) this.#lose(held.dropOldest(), "disk_full");
  }

  /** Removes whole segments every destination has passed. */
  async #removePassed(): Promise<void> {
    const done = this.#state.passed;
    const passed = this.#segments.all.filter((segment) => segment !== this.#active && segment.last <= done);
    if (passed.length > 0) await this.#discard(passed);
  }

  async #dropOld(now: bigint): Promise<void> {
    const age = BigInt(Math.round((this.#options.hoursMax ?? 168) * 3600)) * 1_000_000_000n;
    const isOld = (segment: Held | undefined): boolean => now - (segment?.entries.at(-1)?.time ?? now) > age;
    while (isOld(this.#segments.oldest) && (await this.#evict("evicted_age")));
  }

  /** Gives up the oldest segment; false when only the active one is left. */
  async #evict(why: Loss["why"]): Promise<boolean> {
    const { oldest } = this.#segments;
    if (oldest === undefined || oldest === this.#active) return false;
    this.#lose(oldest.entries, why);
    await this.#discard([oldest]);
    return true;
  }

  /** The state is on the disk before a file goes: a hole that the state does not explain is taken for damage. */
  async #discard(segments: readonly Held[]): Promise<void> {
    await this.#state.sync();
    for (const segment of segments) {
      this.#segments.all.splice(this.#segments.all.indexOf(segment), 1);
      for (const { sequence } of segment.entries) this.#cache.delete(sequence);
      if (!(segment instanceof Segment)) continue;
      await segment.close().catch(() => {});
      await this.#files.remove(segment.path).catch((error: Error) => {
        this.#options.log.warn("cannot remove a spool segment", { source: "spool", cause: error.message });
      });
    }
  }

  async #putAside(segment: Segment, entry: Entry): Promise<void> {
    const damage = { from: entry.offset, to: entry.offset + entry.length };
    this.#quarantined += await quarantineBytes(this.#files, this.#options.folder, segment, damage);
    segment.forget((one) => one.sequence === entry.sequence);
    this.#lose([entry], "corrupt");
    this.#state.save();
  }

  /** Books what is lost for each destination that had not passed it. */
  #lose(entries: readonly Entry[], why: Loss["why"]): void {
    const { losses, positions } = this.#state;
    for (const [destination, position] of positions) {
      const missing = entries.filter((entry) => entry.sequence > position);
      const [first, last] = [missing[0], missing.at(-1)];
      if (first === undefined || last === undefined) continue;
      const points = missing.reduce((sum, entry) => sum + entry.points, 0);
      const loss = { from: first.time, to: last.time, records: missing.length, points, why };
      losses.add(positions.size > 1 ? { ...loss, destination } : loss, [first.sequence, last.sequence]);
    }
  }

  /** Keeps the newest requests as they were: a destination that is up never reads the disk. */
  #remember(sequence: number, raw: Uint8Array): void {
    this.#cache.set(sequence, raw);
    let bytes = 0;
    for (const one of this.#cache.values()) bytes += one.length;
    for (const [oldest, one] of this.#cache) {
      if (bytes <= CACHE_BYTES_MAX) return;
      this.#cache.delete(oldest);
      bytes -= one.length;
    }
  }
}
