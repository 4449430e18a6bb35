// Energy of an interval where the place of execution is not known, only how much there was: short requests inside a window,
// or readings far apart (reasons `busy_share` and `coarse_windows`). What such a stretch drew above the floor was drawn by
// the execution in it, wherever inside it lay; by the clock it would fall beside it, to `stalled`.
import type { Nanos } from "../../model.ts";
import type { Piece } from "../pieces.ts";
import { onlyWorker } from "../pieces.ts";

/** What a board drew between neighbouring edges, in order; nothing is kept of it. */
export type Energies = number[];

/**
 * Moves energy above the floor to the execution it belongs to, within stretches whose execution has no known place; the
 * sum of each stretch stays. `pieceAt` is the one piece of the board between two edges.
 */
export function placeEnergy(
  edges: readonly Nanos[],
  energies: Energies,
  pieceAt: (index: number) => Piece | undefined,
  floorWatts: number,
): void {
  let first = 0;
  while (first < energies.length) {
    const server = workerOf(pieceAt(first));
    let end = first + 1;
    if (server !== undefined) while (end < energies.length && workerOf(pieceAt(end)) === server) end++;
    if (end - first > 1) placeWithin(edges, energies, pieceAt, floorWatts, first, end);
    first = end;
  }
}

function placeWithin(
  edges: readonly Nanos[],
  energies: Energies,
  pieceAt: (index: number) => Piece | undefined,
  floorWatts: number,
  first: number,
  end: number,
): void {
  let energy = 0;
  let executed = 0;
  const lengthOf = (index: number): Nanos => (edges[index + 1] as Nanos) - (edges[index] as Nanos);
  for (let index = first; index < end; index++) {
    energy += energies[index] as number;
    if (isPlaceless(pieceAt(index))) executed += lengthOf(index);
  }
  const floor = (floorWatts * ((edges[end] as Nanos) - (edges[first] as Nanos))) / 1e6;
  if (executed <= 0 || energy <= floor) return;
  let wanted = 0;
  let given = 0;
  for (let index = first; index < end; index++) {
    const length = lengthOf(index);
    wanted += (floorWatts * length) / 1e6;
    if (isPlaceless(pieceAt(index))) wanted += ((energy - floor) * length) / executed;
    const amount = index === end - 1 ? energy - given : Math.round(wanted) - given;
    energies[index] = amount;
    given += amount;
  }
}

/** Execution whose place inside a stretch is a matter of form. */
function isPlaceless(piece: Piece | undefined): boolean {
  const reason = piece?.doubt?.reason;
  return piece?.state === "token_active" && (reason === "busy_share" || reason === "coarse_windows");
}

/** The one resident that may have done the work of a stretch with placeless execution. */
function workerOf(piece: Piece | undefined): string | undefined {
  if (piece?.explainedBy !== undefined)
    return piece.explainedBy.length === 1 ? piece.explainedBy[0] : undefined;
  if (piece === undefined || piece.contested === true) return undefined;
  if (!isPlaceless(piece) && !(piece.state === "stalled" && piece.works)) return undefined;
  return onlyWorker(piece)?.server;
}
