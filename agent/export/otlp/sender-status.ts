// What a sender says of itself.
import type { Histogram } from "../../model.ts";

/** Counts since start, for `/-/status` and the agent's own metrics. */
export interface SenderStatus {
  readonly destination: string;
  readonly state: "idle" | "sending" | "waiting" | "retrying" | "stopped";
  readonly sentRequests: number;
  readonly sentPoints: number;
  /** Attempts that failed and are repeated. */
  readonly retries: number;
  readonly splits: number;
  /** Points the destination refused, by reason; not sent again. */
  readonly droppedPoints: Readonly<Record<string, number>>;
  readonly thinnedRecords: number;
  readonly skippedPoints: number;
  readonly position: number;
  /** Age of the oldest record that waits for this destination, 0 when none does. */
  readonly unsentSeconds: number;
  readonly lastError: string | undefined;
  /** Time spent in calls, for a mean. */
  readonly exportSeconds: number;
  readonly calls: number;
  /** From the first attempt at a request to the last word on it, by what went wrong; "" where nothing did. */
  readonly durations: Readonly<Record<string, Histogram>>;
}
