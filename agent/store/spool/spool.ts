// What stands between encoding and sending: a queue of requests that each destination reads at its own position.
// Two queues keep this contract: memory-spool.ts, and the durable one of segment files.
import type { UnixNanos } from "../../model.ts";

/** A request as it is put in. */
export interface SpoolEntry {
  readonly bytes: Uint8Array;
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

/** A bounded queue with a position per destination. What its bounds drop is told as Loss. */
export interface Spool {
  /** A destination has had records that the ledger never heard of: the ledger is an older copy. */
  readonly isAhead: boolean;
  /**
   * Stores requests; durable where the spool is. Returns the sequence of the last one. Sent only once committed.
   * The bytes of an entry are used only until the next is asked for: the caller may write them all into one buffer.
   */
  append(entries: Iterable<SpoolEntry>): Promise<number>;
  /** Lets everything up to `sequence` be sent: the totals in it are safe on disk. */
  commit(sequence: number): void;
  /** Calls `listener` after each commit. */
  onCommit(listener: () => void): void;
  /** Calls `listener` with each loss as it happens. */
  onLoss(listener: (loss: Loss) => void): void;
  /** The oldest committed record after `sequence`, undefined when there is none. */
  peek(after: number): SpoolHeader | undefined;
  /** Sequence of the newest committed record, 0 when there never was one. */
  head(): number;
  /**
   * The bytes of a record; undefined when it was dropped or cannot be read any more. They hold until every destination
   * has acknowledged the record: nobody may look at them after that. Of a record that was given up they hold for good.
   */
  read(sequence: number): Promise<Uint8Array | undefined>;
  /** Last sequence this destination has done with, 0 at first. */
  position(destination: string): number;
  /** Moves a destination's position; records every known destination has passed are freed. */
  acknowledge(destination: string, sequence: number): Promise<void>;
  /** Passes over a record a destination does not want any more, and tells it as a loss of that destination. */
  abandon(destination: string, header: SpoolHeader): Promise<void>;
  status(): SpoolStatus;
  close(): Promise<void>;
}
