// Executions of a server on several GPUs whose place inside a second is not known, only how much there was (`busy_share`,
// `coarse_windows`): they are placed in the middle of the second on every GPU, one over the other. Requests of ranks come by
// chance, so that of shares p and q of a second p + q - pq is executed, not the larger of the two.
import type { Nanos } from "../model.ts";
import type { OwnStates, OwnStretch } from "./own-states.ts";
import { joined } from "./own-states.ts";
import type { Ties } from "./ties.ts";

/** Execution is placed in stretches of this length: activity/shares.ts. */
const slotNanos: Nanos = 1_000_000_000;

/** A second of which a part is decided. */
interface Begun {
  readonly slot: Nanos;
  /** How long each GPU executed in that part, and the server as a whole. */
  readonly active: ReadonlyMap<string, Nanos>;
  readonly found: Nanos;
  /** A stretch of it without a place. */
  readonly example: OwnStretch | undefined;
  /** Several GPUs had some. */
  readonly isShared: boolean;
}

/** What a server executes on several GPUs together, from one decision to the next: they end where they like in a second. */
export class ByChance {
  #begun: Begun | undefined;

  /**
   * Joins the states of a server on its GPUs as `joined()` does, and counts executions without a place by chance where GPUs
   * work each for itself: as far as was seen, and of ranks until it is seen that they step together. The GPUs of one rank
   * execute the same requests. `byGpu` follows what was joined before.
   */
  joined(
    byGpu: ReadonlyMap<string, readonly OwnStretch[]>,
    apart: ReadonlySet<string>,
    isRanked: boolean,
    { areApart, areTied }: Pick<Ties, "areApart" | "areTied">,
  ): OwnStates {
    const own = joined(byGpu, apart, areTied && !isRanked);
    if (byGpu.size < 2 || (isRanked ? areTied : !areApart)) return own;
    return { ...own, all: this.#spread(own.all, byGpu) };
  }

  /** Returns the states `all` with as much more execution in each second as its GPUs executed one without the other. */
  #spread(
    all: readonly OwnStretch[],
    byGpu: ReadonlyMap<string, readonly OwnStretch[]>,
  ): readonly OwnStretch[] {
    const begun = this.#begun;
    this.#begun = undefined;
    let placeless = 0;
    for (const list of byGpu.values()) if (list.some(isPlaceless)) placeless++;
    if (placeless === 0 && begun?.example === undefined) return all;
    const examples = new Map<Nanos, OwnStretch>();
    if (begun?.example !== undefined) examples.set(begun.slot, begun.example);
    const active = new Map<string, ReadonlyMap<Nanos, Nanos>>();
    for (const [gpu, list] of byGpu)
      active.set(gpu, activeBySlot(list, begun?.slot, begun?.active.get(gpu), examples));
    const found = activeBySlot(all, begun?.slot, begun?.found);
    const isShared = (slot: Nanos): boolean => placeless > 1 || (begun?.slot === slot && begun.isShared);
    const missing = new Map<Nanos, Nanos>();
    for (const slot of examples.keys()) {
      if (!isShared(slot)) continue;
      let free = 1;
      for (const bySlot of active.values()) free *= 1 - Math.min(1, (bySlot.get(slot) ?? 0) / slotNanos);
      const more = Math.round(slotNanos * (1 - free)) - (found.get(slot) ?? 0);
      if (more > 0) missing.set(slot, more);
    }
    const joined = missing.size === 0 ? all : all.flatMap((stretch) => withMore(stretch, missing, examples));
    const to = all.at(-1)?.to ?? 0;
    const slot = Math.floor(to / slotNanos) * slotNanos;
    if (slot < to)
      this.#begun = {
        slot,
        active: new Map([...active].map(([gpu, bySlot]) => [gpu, bySlot.get(slot) ?? 0])),
        found: activeBySlot(joined, begun?.slot, begun?.found).get(slot) ?? 0,
        example: examples.get(slot),
        isShared: isShared(slot),
      };
    return joined;
  }
}

/** Execution whose place in a second is a matter of form. */
function isPlaceless({ doubt, state }: OwnStretch): boolean {
  return state === "active" && (doubt?.reason === "busy_share" || doubt?.reason === "coarse_windows");
}

/**
 * How long a list is active in each second, after `before` in the second `begun`; `examples` gets a stretch without a place for
 * each that has one.
 */
function activeBySlot(
  list: readonly OwnStretch[],
  begun?: Nanos,
  before: Nanos = 0,
  examples?: Map<Nanos, OwnStretch>,
): ReadonlyMap<Nanos, Nanos> {
  const active = new Map<Nanos, Nanos>();
  if (begun !== undefined) active.set(begun, before);
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
