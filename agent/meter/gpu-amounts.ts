// What the residents of a GPU, and what is uncertain of it, become in postings: seconds and joules by server and state, by
// what token-active time was spent on, and by the assumption they rest on.
import type { AllocatedState, Dimensions, GpuInterval, ResidentShare } from "../model.ts";
import { JoinedSets, WithAttribute } from "./attribute-sets.ts";

/** The states in which a metered server holds the GPU. */
export const allocatedStates: readonly AllocatedState[] = ["parked", "stalled", "token_active"];

/** Takes an amount to be booked. */
export type TakeAmount = (metric: string, dimensions: Dimensions, amount: number) => void;

const onBoards = new JoinedSets();
const inState = new WithAttribute("tokenwatt.gpu.state");
const byMethod = new WithAttribute("tokenwatt.method");
const ofProduct = new WithAttribute("hw.model");
const inPhase = new WithAttribute("tokenwatt.phase");
const ofServer = new WithAttribute("tokenwatt.server.id");
const forReason = new WithAttribute("tokenwatt.reason");

/**
 * Gives `take` what a resident got of a GPU, under the attributes of its server and of the board. `isUnknown`: nothing says
 * whether the server executed, and its time says so, as that of the GPU does.
 */
export function residentAmounts(
  resident: ResidentShare,
  server: Dimensions,
  board: Dimensions,
  take: TakeAmount,
  isUnknown = false,
): void {
  const { method, millijoules, nanos } = resident;
  for (const state of allocatedStates) {
    if (nanos[state] === 0 && millijoules[state] === 0) continue;
    const inThis = inState.of(onBoards.of(server, board), state);
    const dimensions = byMethod.of(inThis, method);
    take("tokenwatt.server.gpu_time", isUnknown ? byMethod.of(inThis, "unknown") : dimensions, nanos[state]);
    take("tokenwatt.server.energy", dimensions, millijoules[state]);
  }
  phaseAmounts(resident, server, board["hw.model"], take);
}

function phaseAmounts(
  { phases = [] }: ResidentShare,
  server: Dimensions,
  product: string | undefined,
  take: TakeAmount,
): void {
  const known = ofProduct.of(server, product === "" ? undefined : product);
  for (const one of phases) {
    const part = byMethod.of(inPhase.of(known, one.phase), one.method);
    take("tokenwatt.server.phase_time", part, one.nanos);
    take("tokenwatt.server.phase_energy", part, one.millijoules);
    take("tokenwatt.server.phase_uncertain_time", known, one.uncertainNanos);
    take("tokenwatt.server.phase_uncertain_energy", known, one.uncertainMillijoules);
  }
}

/** Gives `take` what of a GPU rests on an assumption. */
export function uncertainAmounts({ uncertain = [] }: GpuInterval, board: Dimensions, take: TakeAmount): void {
  for (const { millijoules, nanos, reason, server } of uncertain) {
    const named = ofServer.of(board, server === "" ? undefined : server);
    const dimensions = forReason.of(named, reason);
    take("tokenwatt.uncertain_time", dimensions, nanos);
    take("tokenwatt.uncertain_energy", dimensions, millijoules);
  }
}
