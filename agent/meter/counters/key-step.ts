// What one reading of one label set led to: thousands are made at every poll of a gateway, most of them the same nothing.
import type { TokenIncrement } from "../../model.ts";

/** The same while it is being filled in. */
export type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** What the counters of one label set moved. */
export type Movements = Pick<
  TokenIncrement,
  "tokens" | "tokensByOutcome" | "reasoningTokens" | "requests" | "latencies"
>;

/** What one reading of one label set added. */
export interface KeyStep {
  /** Absent when nothing moved; as if it was not late, which only the sample can say. */
  readonly moved: Mutable<TokenIncrement> | undefined;
  readonly progressInput: number;
  readonly progressOutput: number;
  readonly reset: boolean;
  readonly dropped: number;
  /** A counter stands lower than it stood, and is held where it was. */
  readonly fell: boolean;
}

/** Nothing moved and nothing was refused. */
export const still: KeyStep = {
  moved: undefined,
  progressInput: 0,
  progressOutput: 0,
  reset: false,
  dropped: 0,
  fell: false,
};
