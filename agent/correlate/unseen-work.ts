// Joules above rest in a stretch in which nobody is seen at work: the driver's last window, or the cap on what execution draws
// (energy/placed-power.ts), left them over. Holding a GPU costs less, so somebody worked: a stranger where one may have, else
// those who share what is above the floor, and who of them is in doubt (METERING.md 4).
import { floorDoubt } from "./attribution.ts";
import type { Part } from "./member.ts";
import type { Piece } from "./pieces.ts";
import { isWorking } from "./slices.ts";
import { unmetered } from "./tenancy.ts";

/** A GPU at rest draws no more than so much of its floor. */
const restingMax = 1.25;

/**
 * Returns a piece as the stranger's work where no server executes, no reading covers all of it and the GPU drew more than at rest;
 * undefined of any other.
 */
export function ofStranger(
  { member }: Part,
  piece: Piece,
  watts: number,
  floorWatts: number,
): Piece | undefined {
  const { from, residents, works } = piece;
  if (works || watts <= restingMax * floorWatts) return undefined;
  if (!residents.some(({ server }) => server === unmetered)) return undefined;
  if (residents.some(({ server, state }) => server !== unmetered && state !== "parked")) return undefined;
  const window = member.timeline.windows[member.timeline.windowAfter(from)];
  return window?.sampled === true ? { ...piece, explainedBy: [unmetered] } : undefined;
}

/** True of a stretch of a shared GPU that draws more than at rest while nobody is seen at work. */
export function hidesWork(
  piece: Piece,
  watts: number,
  floor: { readonly watts: number; readonly isAssumed: boolean },
): boolean {
  if (piece.residents.length < 2 || isWorking(piece)) return false;
  return watts > (floor.isAssumed ? 1 + floorDoubt : restingMax) * floor.watts;
}
