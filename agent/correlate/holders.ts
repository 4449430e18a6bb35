// Who holds a GPU by name, metered or not: what each server and everything unmetered got in a stretch is shared equally by
// the pods, jobs, units and users its processes belong to there. A second view of the same seconds and joules, in metric
// families of its own; summed over holders it is what the GPU was held for (other and the allocated states).
import type { Holder, Nanos } from "../model.ts";
import type { Remainders } from "./apportion.ts";
import { apportion, Claims } from "./apportion.ts";
import type { Booking } from "./booking.ts";
import type { Placement } from "./placement.ts";
import type { Passing, Tenancy } from "./tenancy.ts";
import { unmetered } from "./tenancy.ts";

/** Processes that hold the GPU and whose owner nothing says. */
const unknownHolder: Holder = { kind: "unknown", name: "unknown" };

/** What rounding owes the holders of one GPU. */
export interface HolderRemainders {
  readonly nanos: Remainders;
  readonly millijoules: Remainders;
}

/** A stretch of a GPU that is held. */
export interface HeldStretch {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly gpu: string;
  readonly parent: string | undefined;
  readonly tenancy: Tenancy;
  readonly placement: Placement;
}

/** What one server, or everything unmetered, got in a stretch. */
export interface Given {
  readonly server: string;
  readonly nanos: number;
  readonly millijoules: number;
  /** The part of the energy that holding the GPU cost. */
  readonly floorMillijoules: number;
}

/** A holder in a stretch, and how much of it it was there. */
interface Held {
  readonly key: string;
  holder: Holder;
  weight: number;
}

const heldByUnknown: readonly Held[] = [{ key: "unknown unknown", holder: unknownHolder, weight: 1 }];

/** Books what each server got in a stretch to the holders of its processes there. */
export function bookHolders(
  booking: Booking,
  stretch: HeldStretch,
  given: readonly Given[],
  remainders: HolderRemainders,
): void {
  for (const { millijoules, nanos, server } of given) {
    const holders = holdersOf(stretch, server);
    const only = holders[0];
    if (only !== undefined && holders.length === 1) {
      noteHeld(booking, only, nanos, millijoules);
      continue;
    }
    const claims = new Claims();
    for (const { key, weight } of holders) claims.add(key, weight);
    const times = apportion(nanos, claims, remainders.nanos);
    const energies = apportion(millijoules, claims, remainders.millijoules);
    for (let index = 0; index < holders.length; index++)
      noteHeld(booking, holders[index] as Held, times[index] as number, energies[index] as number);
  }
}

function noteHeld({ holders }: Booking, { holder, key }: Held, nanos: number, millijoules: number): void {
  const known = holders.get(key);
  if (known === undefined) {
    holders.set(key, { holder, nanos, millijoules });
    return;
  }
  known.holder = holder;
  known.nanos += nanos;
  known.millijoules += millijoules;
}

/** Each with how much of the stretch it was there: its longest process counts. */
function holdersOf(stretch: HeldStretch, server: string): readonly Held[] {
  const { gpu, parent, placement, tenancy } = stretch;
  const found: Held[] = [];
  for (const span of tenancy.holdings) if (span.server === server) findHolders(found, span, stretch);
  if (server === unmetered) for (const span of tenancy.passing) findHolders(found, span, stretch);
  // Without processes to go by the kubelet still says which pods were given the GPU.
  if (found.length === 0) for (const holder of placement.givenTo(gpu, parent)) noteHolder(found, holder, 1);
  return found.length === 0 ? heldByUnknown : found;
}

function findHolders(found: Held[], span: Passing, stretch: HeldStretch): void {
  const inside = Math.min(span.to, stretch.to) - Math.max(span.from, stretch.from);
  if (inside <= 0) return;
  for (const pid of span.pids) {
    const holder = stretch.placement.holderOf(pid);
    if (holder !== undefined) noteHolder(found, holder, inside);
  }
}

function noteHolder(found: Held[], holder: Holder, weight: number): void {
  for (const known of found) {
    if (known.holder.kind !== holder.kind || known.holder.name !== holder.name) continue;
    if (weight <= known.weight) return;
    known.holder = holder;
    known.weight = weight;
    return;
  }
  found.push({ key: `${holder.kind} ${holder.name}`, holder, weight });
}
