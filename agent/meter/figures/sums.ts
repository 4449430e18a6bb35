// What ratios for people who look at one host are made of: states, joules and tokens of a window, added up. Tokens are those
// of engines that met observed GPU time (METERING.md 6): a gateway counts the same tokens again, late ones have no time, and
// those of ranks on other hosts have it there.
import type {
  ActivityMethod,
  AllocatedState,
  GpuState,
  ServerInterval,
  TokenIncrement,
} from "../../model.ts";

/** Sums of a window. */
export interface WindowSums {
  readonly nanos: Record<GpuState, number>;
  readonly millijoules: Record<GpuState, number>;
  /** Allocated time of which nothing says whether it was token-active. */
  unknownNanos: number;
  input: number;
  output: number;
}

/** Sums of nothing. */
export function emptySums(): WindowSums {
  const zeros = (): Record<GpuState, number> => ({
    token_active: 0,
    stalled: 0,
    parked: 0,
    other: 0,
    free: 0,
    unobserved: 0,
  });
  return { nanos: zeros(), millijoules: zeros(), unknownNanos: 0, input: 0, output: 0 };
}

/** Adds the time and energy of a GPU or of a server's part of one. */
export function addStates(
  sums: WindowSums,
  nanos: Readonly<Partial<Record<GpuState, number>>>,
  millijoules: Readonly<Partial<Record<GpuState, number>>>,
): void {
  for (const state of Object.keys(sums.nanos) as GpuState[]) {
    sums.nanos[state] += nanos[state] ?? 0;
    sums.millijoules[state] += millijoules[state] ?? 0;
  }
}

/** Adds allocated time whose activity nothing tells: counters that move at the end of a request, without a gauge. */
export function addUnknown(
  sums: WindowSums,
  method: ActivityMethod,
  { parked, stalled, token_active }: Readonly<Record<AllocatedState, number>>,
): void {
  if (method === "unknown") sums.unknownNanos += parked + stalled + token_active;
}

/** Whether tokens met time of this host. */
export function metTime({ elsewhere, late }: TokenIncrement): boolean {
  return !late && elsewhere !== true;
}

/** Adds an engine's tokens of an interval, or an equal part of them where it runs on several GPUs. */
export function addTokens(sums: WindowSums, { increments }: ServerInterval, parts = 1): void {
  for (const increment of increments) {
    if (increment.family !== "engine" || !metTime(increment)) continue;
    for (const [kind, amount] of Object.entries(increment.tokens)) {
      if (kind === "output") sums.output += amount / parts;
      else sums.input += amount / parts;
    }
  }
}
