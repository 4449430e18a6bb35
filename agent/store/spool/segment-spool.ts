// The durable spool: requests compressed into segment files, in order, until every destination has passed them.
// Order of a beat: segment synced -> ledger committed -> sent -> position moved -> segment removed. A crash between any
// two repeats a request or leaves a file behind, never more. Bounds drop the oldest first and record the loss.

import type { PackedRecord } from "./codec.ts";
import { packRecord, requestOf, unpackRecord } from "./codec.ts";
import type { Files } from "./files.ts";
import { diskFiles } from "./files.ts";
import type { SpoolFolder } from "./folder.ts";
import { openSpoolFolder, quarantineBytes, restoreFolder } from "./folder.ts";
import { skippedLoss } from "./losses.ts";
import { SEGMENT_HEADER_BYTES } from "./record-format.ts";
import { RequestCache } from "./request-cache.ts";
import { SpoolRoom } from "./room.ts";
import type { Entry } from "./segment.ts";
import { Segment } from "./segment.ts";
import { MemorySegment, SegmentList } from "./segment-list.ts";
import type { Loss, Spool, SpoolEntry, SpoolHeader, SpoolOptions, SpoolStatus } from "./spool.ts";
import type { SpoolState } from "./state.ts";

const CACHE_BYTES_MAX = 10 * 1024 * 1024;
const MEMORY_BYTES_MAX = 16 * 1024 * 1024;
const FREE_BYTES_MIN = 64 * 1024 * 1024;
const HOURS_MAX = 168;

/** Opens a spool folder whatever is in it; throws only when it can be neither made nor listed. */
export async function openSegmentSpool(options: SpoolOptions): Promise<Spool> {
  const files = options.files ?? diskFiles;
  return new SegmentSpool(options, files, await openSpoolFolder(files, options));
}

class SegmentSpool implements Spool {
  readonly isDurable = true;
  readonly isAhead: boolean;
  readonly #options: SpoolOptions;
  readonly #files: Files;
  readonly #state: SpoolState;
  readonly #tornTails: number;
  readonly #segments: SegmentList;
  readonly #segmentBytes: number;
  readonly #listeners: (() => void)[] = [];
  readonly #cache = new RequestCache(CACHE_BYTES_MAX);
  readonly #room: SpoolRoom;
  #committed: number;
  #quarantined: number;
  #diskError: string | undefined;
  /** The folder was removed while in use, and could not be made again yet. */
  #isRemoved = false;
  #work: Promise<unknown> = Promise.resolve();

  constructor(options: SpoolOptions, files: Files, found: SpoolFolder) {
    const eighth = Math.floor(options.bytesMax / 8);
    this.#options = options;
    this.isAhead = found.isAhead;
    this.#files = files;
    this.#state = found.state;
    this.#tornTails = found.tornTails;
    this.#segments = new SegmentList(found.segments);
    this.#segmentBytes = options.segmentBytes ?? Math.min(8 << 20, Math.max(64 << 10, eighth));
    const { freeBytesMin = FREE_BYTES_MIN, hoursMax = HOURS_MAX } = options;
    const onEvict = (sequence: number): void => this.#cache.forget(sequence);
    const room = { ...options, freeBytesMin, hoursMax, committedNow: () => this.#committed, onEvict };
    this.#room = new SpoolRoom(room, files, this.#segments, found.state);
    this.#committed = found.state.head;
    this.#quarantined = found.quarantined;
  }

  append(entries: Iterable<SpoolEntry>): Promise<number> {
    return this.#inTurn(async () => {
      try {
        return await this.#append(entries);
      } catch (error) {
        // All or none: where the last request cannot be made, the others are not sent either.
        this.#cache.drop(this.#state.head);
        throw error;
      }
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
    // Thinned, removed or given up while it was read: look again.
    if (!this.#segments.all.includes(segment)) return this.read(sequence);
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
    this.#cache.recycle(this.#state.passed);
    const { oldest } = this.#segments;
    if (oldest !== undefined && oldest !== this.#room.active && oldest.last <= this.#state.passed) {
      await this.#inTurn(() => this.#room.removePassed());
    }
  }

  async abandon(destination: string, header: SpoolHeader): Promise<void> {
    this.#state.losses.recordLoss(skippedLoss(destination, header));
    await this.acknowledge(destination, header.sequence);
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
      lostPointsBy: losses.pointsBy,
      facts: {
        segments: this.#segments.all.length,
        thinnedRecords: this.#room.thinnedRecords,
        tornTails: this.#tornTails,
        quarantined: this.#quarantined,
        inMemory: this.#segments.all.filter((segment) => segment instanceof MemorySegment).length,
        ...(this.#diskError === undefined ? {} : { diskError: this.#diskError }),
      },
    };
  }

  close(): Promise<void> {
    return this.#inTurn(async () => {
      await this.#room.active?.seal().catch(() => {});
      for (const segment of this.#segments.all)
        if (segment instanceof Segment) await segment.close().catch(() => {});
      await this.#state.close();
    });
  }

  async #append(entries: Iterable<SpoolEntry>): Promise<number> {
    const records: PackedRecord[] = [];
    const next = this.#state.head + 1;
    // While a destination is behind, requests would only pile up before it comes to them.
    const isDrained = this.#state.passed >= this.#state.head;
    for (const entry of entries) {
      const sequence = next + records.length;
      records.push(await packRecord(entry, sequence));
      if (isDrained) this.#cache.keep(sequence, entry);
    }
    const [first] = records;
    if (first === undefined) return this.#state.head;
    await this.#room.dropOld(first.entry.time);
    try {
      if (!(await this.#isInPlace())) await this.#restore();
      const size = records.reduce((sum, record) => sum + record.bytes.length, 0);
      if (!this.#room.active?.fits(size)) await this.#rotate(first.entry, size);
      await this.#room.active?.append(records);
      this.#diskError = undefined;
    } catch (error) {
      await this.#holdInMemory(records, error as Error);
    }
    this.#state.head += records.length;
    this.#state.save();
    return this.#state.head;
  }

  /** One change of the folder after another. */
  #inTurn<Result>(run: () => Promise<Result>): Promise<Result> {
    const turn = this.#work.then(run);
    this.#work = turn.catch(() => {});
    return turn;
  }

  async #isInPlace(): Promise<boolean> {
    const isKept = (await this.#state.isInPlace()) && (await this.#room.active?.isInPlace()) !== false;
    return isKept && !this.#isRemoved;
  }

  /** The folder was removed under it: the append begins a segment in a new one, or the next append tries again. */
  async #restore(): Promise<void> {
    this.#isRemoved = true;
    await this.#room.active?.seal().catch(() => {});
    this.#room.active = undefined;
    await restoreFolder(this.#files, this.#options, this.#segments.all, this.#state);
    this.#isRemoved = false;
  }

  /** Begins a segment. Throws when there is no room for one. */
  async #rotate(first: PackedRecord["entry"], size: number): Promise<void> {
    const wanted = Math.max(this.#segmentBytes, size + SEGMENT_HEADER_BYTES);
    await this.#room.active?.seal().catch(() => {});
    this.#room.active = undefined;
    await this.#room.thinOne(first.time);
    await this.#room.make(wanted);
    const segment = await Segment.create(this.#files, this.#options.folder, first.sequence, wanted);
    this.#room.active = segment;
    this.#segments.all.push(segment);
  }

  /** The disk takes nothing: delivery goes on from memory, within bounds, and the next append tries the disk again. */
  async #holdInMemory(records: readonly PackedRecord[], error: Error): Promise<void> {
    if (this.#diskError !== error.message) {
      const facts = { source: "spool", cause: error.message };
      this.#options.log.error("cannot write the spool, holding telemetry in memory", facts);
    }
    this.#diskError = error.message;
    this.#room.active = undefined;
    const first = records[0]?.entry.sequence ?? this.#state.head;
    let held = this.#segments.newest;
    if (!(held instanceof MemorySegment)) {
      held = new MemorySegment(first);
      this.#segments.all.push(held);
    }
    for (const record of records) held.append(record.entry, await requestOf(record));
    this.#state.volatile = [this.#state.volatile?.[0] ?? first, held.last];
    while (held.size > MEMORY_BYTES_MAX) this.#room.lose(held.dropOldest(), "disk_full");
  }

  async #putAside(segment: Segment, entry: Entry): Promise<void> {
    const damage = { from: entry.offset, to: entry.offset + entry.length };
    this.#quarantined += await quarantineBytes(this.#files, this.#options.folder, segment, damage);
    segment.forget((one) => one.sequence === entry.sequence);
    this.#room.lose([entry], "corrupt");
    this.#state.save();
  }
}
