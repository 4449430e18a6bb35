// What stands between encoding and sending: a queue of requests that each destination reads at its own position.
// Two queues keep this contract: memory-spool.ts, and the durable one of segment files.
import type { UnixNanos } from "../../model.ts";
import type { Log } from "../../platform/log.ts";
import type { Files } from "./files.ts";

const MINUTE_NANOS = 60_000_000_000n;

/** Older records are thinned to the last of each minute. */
export const THIN_AFTER_MS = 300_000;

/** Whether the bytes of a request are still read: until they are not, nothing is written over them. */
export interface Lease {
  isHeld: boolean;
}

/** A request as it is put in. */
export interface SpoolEntry {
  readonly bytes: Uint8Array;
  /** Where it is given, the bytes may be held by it instead of being copied. */
  readonly lease?: Lease;
  readonly points: number;
  readonly time: UnixNanos;
  /**
   * Equal for requests that carry the same series under the same start times and nothing else: a later one then says
   * all an earlier one said but the shape in between. 0 = says something no later request repeats.
   */
  readonly layout: number;
}

/** What is known of a record without reading it. */
export interface SpoolHeader {
  /** Counts up from 1, never reused. */
  readonly sequence: number;
  readonly points: number;
  readonly time: UnixNanos;
  readonly layout: number;
}

/** Telemetry that will not be delivered: from when to when, how much and why. */
export interface Loss {
  readonly from: UnixNanos;
  readonly to: UnixNanos;
  readonly records: number;
  /** 0 where damage left unknown how many there were. */
  readonly points: number;
  readonly why: "evicted_bytes" | "evicted_age" | "corrupt" | "disk_full" | "refused" | "skipped";
  /** Absent = lost for every destination that had not sent it. */
  readonly destination?: string;
}

/** What a spool holds and has lost. */
export interface SpoolStatus {
  readonly kind: "memory" | "segments";
  readonly records: number;
  readonly bytes: number;
  readonly bytesMax: number;
  /** Age of what was not delivered everywhere yet is `now - oldest`. */
  readonly oldest: UnixNanos | undefined;
  readonly losses: readonly Loss[];
  readonly lostPoints: number;
  /** The same by reason. */
  readonly lostPointsBy: Readonly<Record<string, number>>;
  readonly facts?: Readonly<Record<string, unknown>>;
}

/** A bounded queue with a position per destination. What its bounds drop is reported as Loss. */
export interface Spool {
  /** What it stores survives this process. */
  readonly isDurable: boolean;
  /** A destination has had records that the ledger never heard of: the ledger is an older copy. */
  readonly isAhead: boolean;
  /**
   * Stores requests; durable where the spool is. Returns the sequence of the last one. Sent only once committed.
   * The bytes of an entry are used only until the next is asked for, or as long as its lease is held.
   */
  append(entries: Iterable<SpoolEntry>): Promise<number>;
  /** Lets everything up to `sequence` be sent: the totals in it are safe on disk. */
  commit(sequence: number): void;
  /** Calls `listener` after each commit. */
  onCommit(listener: () => void): void;
  /** Calls `listener` with each loss as it happens. */
  onLoss(listener: (loss: Loss) => void): void;
  /** The oldest committed record after `sequence`, undefined when there is no such record. */
  peek(after: number): SpoolHeader | undefined;
  /** Sequence of the newest committed record, 0 when there never was one. */
  head(): number;
  /**
   * The bytes of a record; undefined when it was dropped or cannot be read any more. They hold until every destination
   * has acknowledged the record: do not read them after that. Of a record that was given up they hold for good.
   */
  read(sequence: number): Promise<Uint8Array | undefined>;
  /** Last sequence this destination has done with, 0 at first. */
  position(destination: string): number;
  /** Moves a destination's position; records every known destination has passed are freed. */
  acknowledge(destination: string, sequence: number): Promise<void>;
  /** Passes over a record a destination does not want any more, and reports it as a loss of that destination. */
  abandon(destination: string, header: SpoolHeader): Promise<void>;
  status(): SpoolStatus;
  close(): Promise<void>;
}

/** How a spool of segment files is kept. */
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
  /** When that was: where the whole spool is gone, what waited until then is lost. */
  readonly committedTime?: UnixNanos;
  readonly files?: Files;
}

/**
 * Whether an old backlog can do without a record: a later record of the same minute carries the same series, and nothing
 * begins or ends in this one. Cumulative points make the later one say all the earlier one said, but the shape within
 * the minute.
 */
export function isSuperseded(
  header: SpoolHeader,
  following: (sequence: number) => SpoolHeader | undefined,
): boolean {
  if (header.layout === 0) return false;
  const minute = header.time / MINUTE_NANOS;
  for (let after = header.sequence; ; ) {
    const later = following(after);
    if (later === undefined || later.time / MINUTE_NANOS !== minute) return false;
    if (later.layout === header.layout) return true;
    after = later.sequence;
  }
}
