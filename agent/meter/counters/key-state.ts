// What is remembered of the counters of one label set, as plain data: it goes into the store with the totals it led to, and
// comes back after a restart.
import type { Latencies, Role } from "../../model.ts";

/** Who a row of counters belongs to. */
export interface KeyIdentity {
  readonly model?: string;
  readonly tenant?: string;
  readonly endpoint?: string;
  readonly role: Role;
}

/** A label set as plain data. `null` stands for "never seen". */
export interface KeyState {
  readonly identity: KeyIdentity;
  readonly epoch?: string;
  /** The scale its values are on; absent = the server's own. */
  readonly scale?: string;
  readonly at: string;
  readonly values: readonly (number | null)[];
  readonly histograms: Latencies;
}
