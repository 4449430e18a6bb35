// Who holds a GPU: the processes that are residents, each under its server, and those that are none (yet) (METERING.md 4).
// Helpers of the driver hold nothing; what no server owns holds it as `unmetered`.
import type { Nanos } from "../model.ts";
import type { Placed, Placement } from "./placement.ts";
import type { Stay } from "./presence.ts";
import { isHelper, isResident } from "./presence.ts";
import type { Timeline } from "./timeline.ts";

/** Name under which all unknown processes of a GPU share. */
export const unmetered = "unmetered";

/** A stretch in which a resident holds the GPU; it may reach beyond the interval. */
export interface Holding {
  readonly server: string;
  readonly from: Nanos;
  readonly to: Nanos;
  readonly pids: readonly number[];
}

/** A stretch in which a process is there that is no resident (yet). */
export interface Passing {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly pids: readonly number[];
}

/** Who holds a GPU in an interval. */
export interface Tenancy {
  readonly holdings: readonly Holding[];
  /** Processes that are there but no residents (yet). */
  readonly passing: readonly Passing[];
  readonly placed: readonly Placed[];
}

/** What is known of a GPU's processes, and of whose they are, at an instant. */
interface Known {
  readonly tenancy: Tenancy;
  readonly presenceChanges: number;
  readonly placementChanges: number;
}

/** Who holds one GPU. While nobody comes or goes, which takes days, it is who held it in the interval before. */
export class Tenure {
  #known: Known | undefined;

  /** Returns who holds the GPU in `[from, to)`; spans may reach beyond it. */
  in(timeline: Timeline, placement: Placement, from: Nanos, to: Nanos): Tenancy {
    const { changes, known: isListed, stays } = timeline.presence;
    const known = this.#known;
    if (known?.presenceChanges === changes && known.placementChanges === placement.changes)
      return known.tenancy;
    const found = tenancy(timeline, placement, from, to);
    const isLasting = isListed && stays.every((stay) => stay.to === undefined && isSettled(stay, to));
    this.#known = isLasting
      ? { tenancy: found, presenceChanges: changes, placementChanges: placement.changes }
      : undefined;
    return found;
  }
}

/** A process that was there before an interval's end and counts as a resident stays one until the lists of processes change. */
function isSettled(stay: Stay, to: Nanos): boolean {
  return stay.from < to && isResident(stay);
}

/** Without any process list the configuration alone answers. */
function tenancy(timeline: Timeline, placement: Placement, from: Nanos, to: Nanos): Tenancy {
  const { info, presence } = timeline;
  if (!presence.known) {
    const servers = placement.configured(info.uuid, info.parent);
    return { holdings: servers.map((server) => ({ server, from, to, pids: [] })), passing: [], placed: [] };
  }
  const residents: Stay[] = [];
  const pids: number[] = [];
  const passing: Passing[] = [];
  for (const stay of presence.stays) {
    if (stay.from >= to || (stay.to ?? Infinity) <= from) continue;
    if (isHelper(stay.name ?? placement.nameOf(stay.pid))) continue;
    if (isResident(stay)) {
      residents.push(stay);
      pids.push(stay.pid);
    } else passing.push({ from: stay.from, to: stay.to ?? Infinity, pids: [stay.pid] });
  }
  const placed = placement.place(info.uuid, info.parent, pids);
  const shared = sharedByConfig(placement, timeline, placed);
  const holdings: Holding[] = [];
  for (let index = 0; index < residents.length; index++) {
    const stay = residents[index] as Stay;
    const server = placed[index]?.server;
    const servers = server !== undefined ? [server] : shared.length > 0 ? shared : [unmetered];
    for (const holder of servers)
      holdings.push({ server: holder, from: stay.from, to: stay.to ?? Infinity, pids: [stay.pid] });
  }
  return { holdings, passing, placed };
}

/** Servers configured for this GPU whose processes cannot be distinguished: they hold it together. */
function sharedByConfig(placement: Placement, timeline: Timeline, placed: readonly Placed[]): string[] {
  const { uuid, parent } = timeline.info;
  return placement
    .configured(uuid, parent)
    .filter((server) => !placed.some((process) => process.server === server));
}
