// Executions of a server on several GPUs whose place inside a second is not known, only how much there was (`busy_share`,
// `coarse_windows`): they are placed in the middle of the second on every GPU, one over the other. Requests of ranks come by
// chance, so that of shares p and q of a second p + q - pq is executed, not the larger of the two.
import type { Nanos } from "../model.ts";
import type { OwnStates, OwnStretch } from "./own-states.ts";
import { joined } from "./own-states.ts";
import type { Ties } from "./ties.ts";

/** Execution is placed in stretches of this length: activity/shares.ts. */
const slotNanos: Nanos = 1_000_000_000;

/**
 * Joins the states of a server on its GPUs as `joined()` does, and counts executions without a place by chance where GPUs work
 * each for itself: as far as was seen, and of ranks until it is seen that they step together. The GPUs of one rank execute the
 * same requests.
 */
export function joinedByChance(
  byGpu: ReadonlyMap<string, readonly OwnStretch[]>,
  apart: ReadonlySet<string>,
  isRanked: boolean,
  { areApart, areTied }: Pick<Ties, "areApart" | "areTied">,
): OwnStates {
  const own = joined(byGpu, apart, areTied && !isRanked);
  if (byGpu.size < 2 || (isRanked ? areTied : !areApart)) return own;
  return { ...own, all: spreadByChance(own.all, [...byGpu.values()]) };
}

/**
 * Returns the states `all` of a server as a whole, with as much more execution in each second as its GPUs executed one without
 * the other; `lists`: its states on each of them.
 */
function spreadByChance(
  all: readonly OwnStretch[],
  lists: readonly (readonly OwnStretch[])[],
): readonly OwnStretch[] {
  if (lists.filter((list) => list.some(isPlaceless)).length < 2) return all;
  const missing = new Map<Nanos, Nanos>();
  const examples = new Map<Nanos, OwnStretch>();
  const bySlot = lists.map((list) => activeBySlot(list, examples));
  const found = activeBySlot(all);
  for (const slot of examples.keys()) {
    let free = 1;
    for (const active of bySlot) free *= 1 - Math.min(1, (active.get(slot) ?? 0) / slotNanos);
    const more = Math.round(slotNanos * (1 - free)) - (found.get(slot) ?? 0);
    if (more > 0) missing.set(slot, more);
  }
  return missing.size === 0 ? all : all.flatMap((stretch) => withMore(stretch, missing, examples));
}

/** Execution whose place in a second is a matter of form. */
function isPlaceless({ doubt, state }: OwnStretch): boolean {
  return state === "active" && (doubt?.reason === "busy_share" || doubt?.reason === "coarse_windows");
}

/** How long a list is active in each second; `examples` gets a stretch without a place for each that has one. */
function activeBySlot(
  list: readonly OwnStretch[],
  examples?: Map<Nanos, OwnStretch>,
): ReadonlyMap<Nanos, Nanos> {
  const active = new Map<Nanos, Nanos>();
  for (const stretch of list) {
    if (stretch.state !== "active") continue;
    for (const [slot, from, to] of slotsOf(stretch)) {
      active.set(slot, (active.get(slot) ?? 0) + to - from);
      if (isPlaceless(stretch)) examples?.set(slot, stretch);
    }
  }
  return active;
}

/** The seconds a stretch reaches over, and what of it is in each. */
function slotsOf({ from, to }: OwnStretch): [slot: Nanos, from: Nanos, to: Nanos][] {
  const slots: [Nanos, Nanos, Nanos][] = [];
  for (let slot = Math.floor(from / slotNanos) * slotNanos; slot < to; slot += slotNanos)
    slots.push([slot, Math.max(from, slot), Math.min(to, slot + slotNanos)]);
  return slots;
}

/** A stretch in which the server did not execute, with the execution that is missing in its seconds. */
function withMore(
  stretch: OwnStretch,
  missing: Map<Nanos, Nanos>,
  examples: ReadonlyMap<Nanos, OwnStretch>,
): readonly OwnStretch[] {
  if (stretch.state !== "idle" && stretch.state !== "waiting") return [stretch];
  return slotsOf(stretch).flatMap(([slot, from, to]) => {
    const more = Math.min(missing.get(slot) ?? 0, to - from);
    if (more <= 0) return [{ ...stretch, from, to }];
    missing.set(slot, (missing.get(slot) as Nanos) - more);
    const executed = { ...(examples.get(slot) as OwnStretch), from, to: from + more };
    return more === to - from ? [executed] : [executed, { ...stretch, from: from + more, to }];
  });
}
