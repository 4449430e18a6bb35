// One segment file of the spool: created whole, filled front to back, read at random, removed whole.
// Its blocks are written as zeros when it is created: an append then changes no metadata (cheap to sync) and cannot meet
// a full disk. What cannot be trusted when it is opened again is cut or reported, never refused.
import type { UnixNanos } from "../../model.ts";
import type { Files, OpenFile } from "./files.ts";
import type { RecordHeader } from "./record-format.ts";
import {
  findRecord,
  payloadMatches,
  RECORD_HEADER_BYTES,
  readRecordHeader,
  readSegmentHeader,
  SEGMENT_HEADER_BYTES,
  segmentHeader,
  setSkipped,
} from "./record-format.ts";

const ZEROS = Buffer.alloc(256 * 1024);

/** Where a record lies and what its header says. */
export interface Entry {
  readonly sequence: number;
  readonly time: UnixNanos;
  readonly points: number;
  readonly layout: number;
  readonly offset: number;
  readonly length: number;
  /** How many sequences before it were left out on purpose. */
  readonly skipped?: number;
}

/** A stretch of a segment that is not what was written. */
export interface Damage {
  readonly from: number;
  readonly to: number;
}

/** A segment as it was found. */
export interface FoundSegment {
  readonly segment: Segment;
  readonly damages: readonly Damage[];
  /** The last write was cut by a crash: nothing had been promised about its record. */
  readonly tornTail: boolean;
}

/** The file name of a segment: sorts by sequence. */
function segmentName(first: number): string {
  return `${String(first).padStart(16, "0")}.segment`;
}

/** A segment's records in order of their sequence. */
export class Segment {
  readonly path: string;
  first: number;
  readonly entries: Entry[] = [];
  readonly #file: OpenFile;
  /** Bytes the file takes. */
  size: number;
  #end = SEGMENT_HEADER_BYTES;

  private constructor(path: string, first: number, file: OpenFile, size: number) {
    this.path = path;
    this.first = first;
    this.#file = file;
    this.size = size;
  }

  /** Creates a file of `size` bytes and makes sure of each of them. On failure nothing is left behind. */
  static async create(files: Files, folder: string, first: number, size: number): Promise<Segment> {
    const path = `${folder}/${segmentName(first)}`;
    const file = await files.open(path, "create");
    try {
      for (let at = 0; at < size; at += ZEROS.length) {
        await file.write(at + ZEROS.length > size ? ZEROS.subarray(0, size - at) : ZEROS, at);
      }
      await file.write(segmentHeader(first), 0);
      await file.sync();
      await files.syncFolder(folder);
      return new Segment(path, first, file, size);
    } catch (error) {
      await file.close().catch(() => {});
      await files.remove(path).catch(() => {});
      throw error;
    }
  }

  /**
   * Opens a file for reading and finds its records, under a damaged header too; undefined when there are none and it is
   * no segment, `empty` when a crash came before its header was written.
   */
  static async find(files: Files, path: string): Promise<FoundSegment | "empty" | undefined> {
    const file = await files.open(path, "update");
    let kept = false;
    try {
      const head = await file.read(0, SEGMENT_HEADER_BYTES);
      const announced = readSegmentHeader(head);
      const segment = new Segment(path, announced ?? 0, file, await file.size());
      const damages = await segment.#scan();
      const tornTail = await segment.#checkTail(damages);
      if (announced === undefined) {
        const [salvaged] = segment.entries;
        if (salvaged === undefined) return head.every((byte) => byte === 0) ? "empty" : undefined;
        segment.first = salvaged.sequence;
        damages.push({ from: 0, to: SEGMENT_HEADER_BYTES });
      }
      kept = true;
      return { segment, damages, tornTail };
    } finally {
      if (!kept) await file.close();
    }
  }

  get last(): number {
    return this.entries.at(-1)?.sequence ?? this.first - 1;
  }

  /** Whether its file is still in its place: of one that was removed only this process knows. */
  isInPlace(): Promise<boolean> {
    return this.#file.isNamed(this.path);
  }

  /** Whether a record of this size still fits. */
  fits(bytes: number): boolean {
    return this.#end + bytes <= this.size;
  }

  /** Writes records; they are on the disk when it resolves. */
  async append(
    records: readonly { readonly bytes: Buffer; readonly entry: Omit<Entry, "offset" | "length"> }[],
  ): Promise<void> {
    const bytes = Buffer.concat(records.map((record) => record.bytes));
    await this.#file.write(bytes, this.#end);
    await this.#file.sync();
    for (const { bytes: one, entry } of records) {
      this.entries.push({ ...entry, offset: this.#end, length: one.length });
      this.#end += one.length;
    }
  }

  /** Gives back the room behind the last record; nothing is appended after this. */
  async seal(): Promise<void> {
    if (this.#end >= this.size) return;
    await this.#file.truncate(this.#end);
    this.size = this.#end;
  }

  /** The same segment with only these of its records, in the place of the old file. On failure the old one stays. */
  async rewrite(files: Files, kept: readonly Entry[]): Promise<Segment> {
    const path = `${this.path}.tmp`;
    await files.remove(path).catch(() => {});
    const file = await files.open(path, "create");
    try {
      const smaller = new Segment(this.path, this.first, file, SEGMENT_HEADER_BYTES);
      const chunks: Buffer[] = [segmentHeader(this.first)];
      let before = this.first - 1;
      for (const entry of kept) {
        const bytes = await this.#file.read(entry.offset, entry.length);
        if (readRecordHeader(bytes)?.sequence !== entry.sequence) throw new Error("a record is damaged");
        const skipped = entry.sequence - before - 1;
        setSkipped(bytes, skipped);
        chunks.push(bytes);
        smaller.entries.push({ ...entry, offset: smaller.size, skipped });
        smaller.size += entry.length;
        before = entry.sequence;
      }
      await file.write(Buffer.concat(chunks), 0);
      await file.sync();
      await files.move(path, this.path);
      await files.syncFolder(this.path.slice(0, this.path.lastIndexOf("/")));
      smaller.#end = smaller.size;
      return smaller;
    } catch (error) {
      await file.close().catch(() => {});
      await files.remove(path).catch(() => {});
      throw error;
    }
  }

  /** Drops records from the index; their bytes stay. */
  forget(which: (entry: Entry) => boolean): void {
    const kept = this.entries.filter((entry) => !which(entry));
    if (kept.length < this.entries.length) this.entries.splice(0, this.entries.length, ...kept);
  }

  /**
   * Cuts off every record after a sequence; they are gone from the disk when it resolves, or would come back with the
   * next power cut under sequences that were given to others since. Where the disk refuses, it throws.
   */
  async cutAfter(sequence: number): Promise<void> {
    const cut = this.entries.findIndex((entry) => entry.sequence > sequence);
    if (cut === -1) return;
    this.#end = this.entries[cut]?.offset ?? this.#end;
    this.entries.length = cut;
    await this.#file.truncate(this.#end);
    this.size = this.#end;
    await this.#file.sync();
  }

  /** A record's header and payload; undefined when they are not what was written. */
  async read(entry: Entry): Promise<{ header: RecordHeader; payload: Buffer } | undefined> {
    const bytes = await this.#file.read(entry.offset, entry.length);
    const header = readRecordHeader(bytes);
    const payload = bytes.subarray(RECORD_HEADER_BYTES);
    if (header === undefined || header.sequence !== entry.sequence || !payloadMatches(header, payload))
      return undefined;
    return { header, payload };
  }

  /** The bytes of a stretch, for quarantine. */
  raw(from: number, to: number): Promise<Buffer> {
    return this.#file.read(from, to - from);
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  /** Hops from header to header; where one is damaged it looks for the next that is not. */
  async #scan(): Promise<Damage[]> {
    const damages: Damage[] = [];
    let at = SEGMENT_HEADER_BYTES;
    while (at + RECORD_HEADER_BYTES <= this.size) {
      const header = readRecordHeader(await this.#file.read(at, RECORD_HEADER_BYTES));
      const next = header === undefined ? 0 : at + RECORD_HEADER_BYTES + header.length;
      if (header !== undefined && next <= this.size && header.sequence > this.last) {
        const { sequence, time, points, layout, skipped } = header;
        this.entries.push({ sequence, time, points, layout, skipped, offset: at, length: next - at });
        at = next;
        continue;
      }
      const rest = await this.#file.read(at, this.size - at);
      const found = findRecord(rest, 1);
      if (found === -1) {
        if (rest.some((byte) => byte !== 0)) damages.push({ from: at, to: this.size });
        break;
      }
      damages.push({ from: at, to: at + found });
      at += found;
    }
    this.#end = at;
    return damages;
  }

  /** Drops a last record whose payload is not whole, and what follows it. */
  async #checkTail(damages: Damage[]): Promise<boolean> {
    const last = this.entries.at(-1);
    const trailing = damages.at(-1);
    if (trailing !== undefined && trailing.to === this.size) {
      damages.pop();
      this.#end = trailing.from;
      return true;
    }
    if (last === undefined || (await this.read(last)) !== undefined) return false;
    this.entries.pop();
    this.#end = last.offset;
    return true;
  }
}
