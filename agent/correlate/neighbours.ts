// Who is on which GPU, and which servers are beside each other: kept until processes, servers or GPUs change, for it is asked
// for at every tick and changes when a process starts or ends.
import type { ActivityWindow } from "./activity/evidence.ts";
import type { Member } from "./member.ts";
import type { Placement } from "./placement.ts";
import type { Stay } from "./presence.ts";
import { isHelper } from "./presence.ts";
import { rankOfTitle } from "./rank-places.ts";
import type { ServerTrack, Surroundings } from "./server-track.ts";
import type { Timeline } from "./timeline.ts";

/** Whose the processes of a GPU are. */
export interface Occupants {
  /** By server, ended ones included until they are forgotten. */
  readonly pids: ReadonlyMap<string, readonly number[]>;
  /** Processes that no server owns, residents or not yet. */
  readonly strangers: readonly Stay[];
  /** Data-parallel ranks that processes are named after, by server. */
  readonly ranks: ReadonlyMap<string, ReadonlySet<string>>;
}

interface Known extends Occupants {
  readonly presenceChanges: number;
  readonly placementChanges: number;
}

const noRanks: ReadonlySet<string> = new Set();

/** The servers and processes of all GPUs. */
export class Neighbours {
  readonly #tracks: ReadonlyMap<string, ServerTrack>;
  readonly #placement: Placement;
  readonly #known = new Map<Timeline, Known>();
  readonly #surroundings = new Map<ServerTrack, Surroundings>();
  #members: readonly Member[] = [];
  /** Counts how often who is where was forgotten. */
  changes = 0;

  constructor(tracks: ReadonlyMap<string, ServerTrack>, placement: Placement) {
    this.#tracks = tracks;
    this.#placement = placement;
  }

  /** Forgets who is where: servers came or went. */
  clear(): void {
    this.changes++;
    this.#known.clear();
    this.#surroundings.clear();
  }

  /** Takes the GPUs that there are now. */
  setMembers(members: readonly Member[]): void {
    if (members === this.#members) return;
    this.#members = members;
    this.clear();
  }

  /** Returns whose the processes of a GPU are; servers learn which GPUs are theirs and since when they are expected. */
  occupantsOf(timeline: Timeline): Occupants {
    const known = this.#known.get(timeline);
    const presenceChanges = timeline.presence.changes;
    const placementChanges = this.#placement.changes;
    if (known?.presenceChanges === presenceChanges && known.placementChanges === placementChanges)
      return known;
    this.#surroundings.clear();
    const found = { ...this.#locate(timeline), presenceChanges, placementChanges };
    this.#known.set(timeline, found);
    return found;
  }

  /** Returns what is around a server; ask for the occupants of all GPUs first. */
  surroundingsOf(track: ServerTrack): Surroundings {
    const known = this.#surroundings.get(track);
    if (known !== undefined) return known;
    const windows = new Map<string, readonly ActivityWindow[]>();
    const named = new Map<string, ReadonlySet<string>>();
    const guests = new Map<string, readonly Stay[]>();
    for (const timeline of this.#homesOf(track)) {
      const { uuid } = timeline.info;
      const { ranks, strangers } = this.occupantsOf(timeline);
      windows.set(uuid, timeline.windows);
      named.set(uuid, ranks.get(track.info.id) ?? noRanks);
      guests.set(uuid, strangers);
    }
    const peers = [...this.#tracks.values()].filter(
      (other) => other !== track && [...other.gpus].some((uuid) => track.gpus.has(uuid)),
    );
    const before = peers.filter(({ info }) => info.id < track.info.id).length;
    const seat = peers.length > 0 ? before / peers.length : 0;
    const found = { peers, windows, named, guests, seat };
    this.#surroundings.set(track, found);
    return found;
  }

  /** The GPUs that a server has processes on or that are configured for it, else those it was on last, by index. */
  #homesOf({ gpus, info }: ServerTrack): readonly Timeline[] {
    const timelines = this.#members.flatMap(({ timeline }) => (gpus.has(timeline.info.uuid) ? timeline : []));
    const here = timelines.filter((timeline) => {
      const { parent, uuid } = timeline.info;
      const configured = this.#placement.configured(uuid, parent);
      return configured.includes(info.id) || this.occupantsOf(timeline).pids.has(info.id);
    });
    const homes = here.length > 0 ? here : timelines;
    return homes.sort((one, other) => one.info.index - other.info.index);
  }

  #locate(timeline: Timeline): Occupants {
    const { uuid, parent } = timeline.info;
    const configured = this.#placement.configured(uuid, parent);
    for (const server of configured) this.#tracks.get(server)?.gpus.add(uuid);
    const stays = timeline.presence.stays.filter(
      ({ name, pid }) => !isHelper(name ?? this.#placement.nameOf(pid)),
    );
    const placed = this.#placement.place(
      uuid,
      parent,
      stays.map(({ pid }) => pid),
    );
    const strangers: Stay[] = [];
    const pids = new Map<string, number[]>();
    const ranks = new Map<string, Set<string>>();
    stays.forEach((stay, index) => {
      const server = placed[index]?.server;
      if (server === undefined) {
        if (configured.length === 0) strangers.push(stay);
        return;
      }
      pids.set(server, [...(pids.get(server) ?? []), stay.pid]);
      this.#tracks.get(server)?.expectOn(uuid, stay.from);
      const rank = rankOfTitle(stay.name) ?? this.#placement.rankOf(stay.pid);
      if (rank !== undefined) ranks.set(server, (ranks.get(server) ?? new Set()).add(rank));
    });
    return { strangers, pids, ranks };
  }
}
