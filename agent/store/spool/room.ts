// How much room a spool takes, and what goes when there is too little: first what every destination has passed, then
// what an old backlog can do without, then the oldest, reported as a loss.
import type { Log } from "../../platform/log.ts";
import type { Files } from "./files.ts";
import type { Entry } from "./segment.ts";
import { Segment } from "./segment.ts";
import type { Held, SegmentList } from "./segment-list.ts";
import type { Loss } from "./spool.ts";
import { isSuperseded, THIN_AFTER_MS } from "./spool.ts";
import type { SpoolState } from "./state.ts";

const MINUTE_NANOS = 60_000_000_000n;

/** How much room the spool may take, and whom it asks and informs. */
export interface RoomOptions {
  readonly folder: string;
  readonly log: Log;
  readonly bytesMax: number;
  readonly hoursMax: number;
  readonly freeBytesMin: number;
  readonly committedNow: () => number;
  /** Called when everything up to a sequence is given up. */
  readonly onEvict: (sequence: number) => void;
}

/** Makes room; every change of the folder goes through here, one at a time. */
export class SpoolRoom {
  readonly #options: RoomOptions;
  readonly #files: Files;
  readonly #segments: SegmentList;
  readonly #state: SpoolState;
  readonly #compacted = new WeakSet<Segment>();
  /** The segment being filled; it is never given up. */
  active: Segment | undefined;
  thinnedRecords = 0;

  constructor(options: RoomOptions, files: Files, segments: SegmentList, state: SpoolState) {
    this.#options = options;
    this.#files = files;
    this.#segments = segments;
    this.#state = state;
  }

  /** Room for a new segment of this size within all bounds. Throws when there is none to be had. */
  async make(bytes: number): Promise<void> {
    const { bytesMax, freeBytesMin } = this.#options;
    await this.removePassed();
    while (this.#segments.bytes + bytes > bytesMax) if (!(await this.#evict("evicted_bytes"))) break;
    await this.#makeFree(freeBytesMin + bytes);
  }

  /** Removes whole segments every destination has passed. */
  async removePassed(): Promise<void> {
    const done = this.#state.passed;
    const passed = this.#segments.all.filter((segment) => segment !== this.active && segment.last <= done);
    if (passed.length > 0) await this.#discard(passed);
  }

  /** Gives up segments whose newest record is older than the bound. */
  async dropOld(now: bigint): Promise<void> {
    const age = BigInt(Math.round(this.#options.hoursMax * 3600)) * 1_000_000_000n;
    const isOld = (segment: Held | undefined): boolean => now - (segment?.entries.at(-1)?.time ?? now) > age;
    while (isOld(this.#segments.oldest) && (await this.#evict("evicted_age")));
  }

  /** Rewrites one sealed segment of an old backlog without the records it can do without. */
  async thinOne(now: bigint): Promise<void> {
    const limit = now - BigInt(THIN_AFTER_MS) * 1_000_000n;
    const isDue = (segment: Held): segment is Segment =>
      segment instanceof Segment &&
      segment !== this.active &&
      !this.#compacted.has(segment) &&
      (segment.entries.at(-1)?.time ?? now) < limit;
    const index = this.#segments.all.findIndex(isDue);
    const segment = this.#segments.all[index];
    if (!(segment instanceof Segment)) return;
    this.#compacted.add(segment);
    const following = (sequence: number): Entry | undefined => this.#segments.find(sequence)?.entry;
    const last = segment.entries.at(-1);
    const kept = segment.entries.filter((entry) => entry === last || !isSuperseded(entry, following));
    if (kept.length === segment.entries.length) return;
    try {
      const smaller = await segment.rewrite(this.#files, kept);
      this.thinnedRecords += segment.entries.length - kept.length;
      this.#compacted.add(smaller);
      this.#segments.all[index] = smaller;
      await segment.close().catch(() => {});
    } catch (error) {
      this.#options.log.warn("cannot thin a spool segment", {
        source: "spool",
        cause: (error as Error).message,
      });
    }
  }

  /** Books what is lost for each destination that had not passed it. */
  lose(entries: readonly Entry[], why: Loss["why"]): void {
    const { losses, positions } = this.#state;
    for (const [destination, position] of positions) {
      const missing = entries.filter((entry) => entry.sequence > position);
      const [first, last] = [missing[0], missing.at(-1)];
      if (first === undefined || last === undefined) continue;
      const points = missing.reduce((sum, entry) => sum + entry.points, 0);
      const [from, range] = [beginOf(first), [first.sequence - (first.skipped ?? 0), last.sequence] as const];
      const loss = { from, to: last.time, records: missing.length, points, why };
      losses.recordLoss(positions.size > 1 ? { ...loss, destination } : loss, range);
    }
  }

  /** Gives up the oldest on a disk that others fill, but only where that is enough; else throws and gives up nothing. */
  async #makeFree(wanted: number): Promise<void> {
    for (;;) {
      const free = await this.#files.freeBytes(this.#options.folder);
      if (free >= wanted) return;
      if (free + this.#segments.diskBytes < wanted || !(await this.#evict("disk_full"))) {
        throw new Error(`less than ${wanted} bytes free on the disk`);
      }
    }
  }

  /** Gives up the oldest segment; false when only the active one is left. */
  async #evict(why: Loss["why"]): Promise<boolean> {
    const { oldest } = this.#segments;
    if (oldest === undefined || oldest === this.active) return false;
    this.lose(oldest.entries, why);
    // No destination waits for it any more; what was thinned out of it must not be taken for a hole at the next start.
    const { positions } = this.#state;
    this.#options.onEvict(oldest.last);
    const passed = Math.min(oldest.last, this.#options.committedNow());
    for (const [name, position] of positions) positions.set(name, Math.max(position, passed));
    await this.#discard([oldest]);
    return true;
  }

  /** The state is on the disk before a file goes: a hole that the state does not explain is taken for damage. */
  async #discard(segments: readonly Held[]): Promise<void> {
    await this.#state.sync();
    for (const segment of segments) {
      this.#segments.all.splice(this.#segments.all.indexOf(segment), 1);
      if (!(segment instanceof Segment)) continue;
      await segment.close().catch(() => {});
      await this.#files.remove(segment.path).catch((error: NodeJS.ErrnoException) => {
        if (error.code === "ENOENT") return;
        this.#options.log.warn("cannot remove a spool segment", { source: "spool", cause: error.message });
      });
    }
  }
}

/** When what a record stands for began: one that others were thinned in favour of speaks for its whole minute. */
function beginOf({ skipped = 0, time }: Entry): bigint {
  return skipped === 0 ? time : time - (time % MINUTE_NANOS);
}
