// Who holds a GPU by name, metered or not: what each server and everything unmetered got in a stretch is shared equally by
// the pods, jobs, units and users its processes belong to there. A second view of the same seconds and joules, in metric
// families of its own; summed over holders it is what the GPU was held for (other and the allocated states).
import type { Holder, Nanos } from "../model.ts";
import type { Claimant, Remainders } from "./apportion.ts";
import { apportion } from "./apportion.ts";
import type { Booking } from "./booking.ts";
import type { Tenancy } from "./pieces.ts";
import { unmetered } from "./pieces.ts";
import type { Placement } from "./placement.ts";

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
  readonly nanos: number;
  readonly millijoules: number;
  /** The part of the energy that holding the GPU cost. */
  readonly floorMillijoules: number;
}

/** Books what each server got in a stretch to the holders of its processes there. */
export function bookHolders(
  booking: Booking,
  stretch: HeldStretch,
  given: ReadonlyMap<string, Given>,
  remainders: HolderRemainders,
): void {
  for (const [server, { millijoules, nanos }] of given) {
    const holders = holdersOf(stretch, server);
    const claims = [...holders].map(([key, { weight }]): Claimant => ({ key, weight }));
    const times = apportion(nanos, claims, remainders.nanos);
    const energies = apportion(millijoules, claims, remainders.millijoules);
    claims.forEach(({ key }, index) => {
      const before = booking.holders.get(key);
      booking.holders.set(key, {
        holder: (holders.get(key) as { readonly holder: Holder }).holder,
        nanos: (before?.nanos ?? 0) + (times[index] as number),
        millijoules: (before?.millijoules ?? 0) + (energies[index] as number),
      });
    });
  }
}

/** By key, each with how much of the stretch it was there: its longest process counts. */
function holdersOf(
  stretch: HeldStretch,
  server: string,
): ReadonlyMap<string, { readonly holder: Holder; readonly weight: number }> {
  const { from, gpu, parent, placement, tenancy, to } = stretch;
  const found = new Map<string, { holder: Holder; weight: number }>();
  const note = (holder: Holder, weight: number): void => {
    const key = `${holder.kind} ${holder.name}`;
    if (weight > (found.get(key)?.weight ?? 0)) found.set(key, { holder, weight });
  };
  const own = tenancy.holdings.filter((holding) => holding.server === server);
  const passing = server === unmetered ? tenancy.passing : [];
  for (const span of [...own, ...passing]) {
    const inside = Math.min(span.to, to) - Math.max(span.from, from);
    for (const pid of span.pids) {
      const holder = placement.holderOf(pid);
      if (holder !== undefined && inside > 0) note(holder, inside);
    }
  }
  // Without processes to go by the kubelet still says which pods were given the GPU.
  if (found.size === 0) for (const holder of placement.givenTo(gpu, parent)) note(holder, 1);
  if (found.size === 0) note(unknownHolder, 1);
  return found;
}
