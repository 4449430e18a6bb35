// What the MIG instances of one board drew in an interval. Their activity is read once a second or so and the board's energy is
// one: who worked where inside an interval says nothing more, so that what the board drew above its floor is shared over the whole
// interval, by activity x watts (energy/slice-watts.ts), and lies where each one worked.
import type { Nanos } from "../model.ts";
import type { Doubt } from "./activity/evidence.ts";
import { Claims } from "./apportion.ts";
import type { Energies } from "./energy/placed.ts";
import type { SliceWatts } from "./energy/slice-watts.ts";
import type { Part } from "./member.ts";
import { weightOf } from "./member.ts";
import type { Piece } from "./pieces.ts";

/** The piece each member is in; undefined for one that does not exist then. */
export type Pieces = readonly (Piece | undefined)[];

/** Shares of the members of a board in an interval. */
export interface Slices {
  /** What each that worked drew for a nanosecond of its work, in parts of whatever all drew. */
  readonly perNano: ReadonlyMap<string, number>;
  readonly doubts: ReadonlyMap<string, Doubt>;
}

/** Returns how the members of a board share what it drew above its floor in `[from, to)`. */
export function slicesOf(parts: readonly Part[], from: Nanos, to: Nanos, watts: SliceWatts): Slices {
  const activity = new Map<string, number>();
  const worked = new Map<string, Nanos>();
  for (const { member, pieces } of parts) {
    const { uuid } = member.timeline.info;
    let nanos = 0;
    for (const piece of pieces) if (isWorking(piece)) nanos += piece.to - piece.from;
    worked.set(uuid, nanos);
    activity.set(uuid, nanos > 0 ? activityOf(member, from, to) : 0);
  }
  const { doubts: ratios, isFitted, joules } = watts.shares(activity);
  const perNano = new Map<string, number>();
  const doubts = new Map<string, Doubt>();
  for (const [uuid, nanos] of worked) {
    if (nanos > 0) perNano.set(uuid, (joules.get(uuid) ?? 0) / nanos);
    const ratio = ratios.get(uuid) ?? 0;
    if (ratio > 0) doubts.set(uuid, { reason: isFitted ? "fitted_work" : "equal_watts", ratio });
  }
  return { perNano, doubts };
}

/** Takes in what a board drew for the activity of its members, where all of it is known. */
export function learnSlices(
  watts: SliceWatts,
  parts: readonly Part[],
  span: { readonly from: Nanos; readonly to: Nanos },
  joules: number,
  floor: { readonly watts: number; readonly isAssumed: boolean },
): void {
  const activity = new Map<string, number>();
  for (const { member, pieces } of parts) {
    if (pieces.some(({ state }) => state === "unobserved")) return;
    const own = activityOf(member, span.from, span.to);
    if (own <= 0 && pieces.some((piece) => isWorking(piece) && piece.works)) return;
    activity.set(member.timeline.info.uuid, own);
  }
  watts.observe(activity, (span.to - span.from) / 1e9, joules, floor.watts, floor.isAssumed);
}

/** Moves what a board drew above its floor to where its members worked, by their shares; the sum of the interval stays. */
export function placeSlices(
  edges: readonly Nanos[],
  energies: Energies,
  parts: readonly Part[],
  piecesAt: (index: number) => Pieces,
  floorWatts: number,
  { perNano }: Slices,
): void {
  const weights: number[] = [];
  let [all, above, floor] = [0, 0, 0];
  for (let index = 0; index < energies.length; index++) {
    const nanos = (edges[index + 1] as Nanos) - (edges[index] as Nanos);
    let weight = 0;
    piecesAt(index).forEach((piece, at) => {
      if (isWorking(piece)) weight += perNano.get((parts[at] as Part).member.timeline.info.uuid) ?? 0;
    });
    weights.push(weight * nanos);
    all += weight * nanos;
    above += energies[index] as number;
    floor += (floorWatts * nanos) / 1e6;
  }
  if (!(all > 0 && above > floor)) return;
  const whole = above;
  let [wanted, given] = [0, 0];
  for (let index = 0; index < energies.length; index++) {
    const nanos = (edges[index + 1] as Nanos) - (edges[index] as Nanos);
    wanted += (floorWatts * nanos) / 1e6 + ((whole - floor) * (weights[index] as number)) / all;
    const amount = index === energies.length - 1 ? whole - given : Math.round(wanted) - given;
    energies[index] = amount;
    given += amount;
  }
}

/** What each member that works takes: by its activity; by slices alone where no activity is known. */
export function takersOf(parts: readonly Part[], pieces: Pieces, slices: Slices | undefined): Claims {
  const bySlices = new Claims();
  const byActivity = new Claims();
  for (let index = 0; index < parts.length; index++) {
    const { info } = (parts[index] as Part).member.timeline;
    const isTaker = isWorking(pieces[index]);
    bySlices.add(info.uuid, isTaker ? weightOf(info) : 0);
    byActivity.add(info.uuid, isTaker ? (slices?.perNano.get(info.uuid) ?? 0) : 0);
  }
  return byActivity.hasWeight ? byActivity : bySlices;
}

/** Energy above the floor goes to these. Unmetered work on an instance counts as work when the GPU is seen working. */
export function isWorking(piece: Piece | undefined): boolean {
  if (piece === undefined) return false;
  const { explainedBy, state, works } = piece;
  return (
    explainedBy !== undefined ||
    state === "token_active" ||
    state === "stalled" ||
    (state === "other" && works)
  );
}

function activityOf({ timeline }: Part["member"], from: Nanos, to: Nanos): number {
  return (timeline.activeRatio(from, to) * weightOf(timeline.info) * (to - from)) / 1e9;
}
