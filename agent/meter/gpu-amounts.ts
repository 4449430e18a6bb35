// What the residents of a GPU, and what is uncertain of it, become in postings: seconds and joules by server and state, by
// what token-active time was spent on, and by the assumption they rest on.
import type { AllocatedState, Dimensions, GpuInterval, ResidentShare } from "../model.ts";
import { attributes } from "./names.ts";

/** The states in which a metered server holds the GPU. */
export const allocatedStates: readonly AllocatedState[] = ["parked", "stalled", "token_active"];

/** An amount to be booked. */
export interface Amount {
  readonly metric: string;
  readonly dimensions: Dimensions;
  readonly amount: number;
}

/** Returns what a resident got of a GPU, under the attributes of its server and of the board. */
export function residentAmounts(
  resident: ResidentShare,
  server: Dimensions,
  board: Dimensions,
): readonly Amount[] {
  const states = allocatedStates.flatMap((state) => {
    if (resident.nanos[state] === 0 && resident.millijoules[state] === 0) return [];
    const how = { "tokenwatt.gpu.state": state, "tokenwatt.method": resident.method };
    const dimensions = { ...server, ...board, ...how };
    return [
      { metric: "tokenwatt.server.gpu_time", dimensions, amount: resident.nanos[state] },
      { metric: "tokenwatt.server.energy", dimensions, amount: resident.millijoules[state] },
    ];
  });
  return [...states, ...phaseAmounts(resident, server, board["hw.model"])];
}

function phaseAmounts(
  { phases = [] }: ResidentShare,
  server: Dimensions,
  product: string | undefined,
): readonly Amount[] {
  const known = { ...server, ...attributes("hw.model", product) };
  return phases.flatMap(({ method, millijoules, nanos, phase, uncertainMillijoules, uncertainNanos }) => {
    const part = { ...known, "tokenwatt.phase": phase, "tokenwatt.method": method };
    return [
      { metric: "tokenwatt.server.phase_time", dimensions: part, amount: nanos },
      { metric: "tokenwatt.server.phase_energy", dimensions: part, amount: millijoules },
      { metric: "tokenwatt.server.phase_uncertain_time", dimensions: known, amount: uncertainNanos },
      { metric: "tokenwatt.server.phase_uncertain_energy", dimensions: known, amount: uncertainMillijoules },
    ];
  });
}

/** Returns what of a GPU rests on an assumption. */
export function uncertainAmounts({ uncertain = [] }: GpuInterval, board: Dimensions): readonly Amount[] {
  return uncertain.flatMap(({ millijoules, nanos, reason, server }) => {
    const dimensions = { ...board, ...attributes("tokenwatt.server.id", server), "tokenwatt.reason": reason };
    return [
      { metric: "tokenwatt.uncertain_time", dimensions, amount: nanos },
      { metric: "tokenwatt.uncertain_energy", dimensions, amount: millijoules },
    ];
  });
}
