// All servers of the host: who shares a GPU with whom, what each was doing, and which tokens an interval gets.
// Tokens are never spread: they belong whole to the interval in which the poll that saw them ended, or to the open one
// when that has settled.
import type { Nanos, ServerInfo, ServerInterval, ServerPoll, TokenIncrement } from "../model.ts";
import type { ActivityWindow } from "./activity/evidence.ts";
import type { Gpus, StalledSpan } from "./gpus.ts";
import type { Violation } from "./laws.ts";
import { brokenServer } from "./laws.ts";
import type { Member } from "./member.ts";
import type { OwnStates, OwnStretch } from "./own-states.ts";
import { mainMethod } from "./pieces.ts";
import type { Placement, ServerHints } from "./placement.ts";
import type { Stay } from "./presence.ts";
import { isHelper, isResident } from "./presence.ts";
import type { TokenStep } from "./server-track.ts";
import { ServerTrack } from "./server-track.ts";
import type { StrangerStretch } from "./strangers.ts";
import type { Timeline } from "./timeline.ts";

/** The settled rows of all servers. */
export interface ServerSettlement {
  readonly rows: readonly ServerInterval[];
  readonly violations: readonly Violation[];
}

/** Servers that were never announced but counted tokens; beyond it their tokens are dropped and counted. */
const unannouncedMax = 256;

/** The servers of the host. */
export class Servers {
  readonly #stallAfterNanos: Nanos;
  readonly #placement: Placement;
  readonly #tracks = new Map<string, ServerTrack>();
  readonly #hints = new Map<string, ServerHints>();
  #dropped = 0;

  constructor(stallAfterNanos: Nanos, placement: Placement) {
    this.#stallAfterNanos = stallAfterNanos;
    this.#placement = placement;
  }

  /** Replaces the servers from `at` on. */
  set(infos: readonly ServerInfo[], at: Nanos): void {
    const named = new Set(infos.map(({ id }) => id));
    for (const [id, track] of this.#tracks) if (!named.has(id)) track.until ??= at;
    for (const info of infos) {
      const track = this.#tracks.get(info.id);
      if (track === undefined) this.#tracks.set(info.id, new ServerTrack(info, at, this.#stallAfterNanos));
      else {
        track.info = info;
        track.until = undefined;
      }
    }
    for (const id of this.#hints.keys()) if (!named.has(id)) this.#hints.delete(id);
    this.#placement.setServers(infos, this.#hints);
  }

  /** Replaces what is known of a server's place beyond its configuration. */
  hint(server: string, hints: ServerHints): void {
    this.#hints.set(server, hints);
    const infos = [...this.#tracks.values()]
      .filter(({ until }) => until === undefined)
      .map(({ info }) => info);
    this.#placement.setServers(infos, this.#hints);
  }

  /** Takes a poll and its increments in; false when the poll could not be used. */
  takePoll(
    server: string,
    poll: ServerPoll | undefined,
    increments: readonly TokenIncrement[],
    at: Nanos,
  ): boolean {
    const track = this.#tracks.get(server) ?? this.#unannounced(server, increments, at);
    if (track !== undefined) return track.takePoll(poll, increments);
    this.#dropped += increments.length;
    return false;
  }

  /** Notes that a server could not be read. */
  notePollFailed(server: string): void {
    this.#tracks.get(server)?.notePollFailed();
  }

  /** Drops waiting polls from after `latest`; returns how many. */
  dropAfter(latest: Nanos): number {
    let dropped = 0;
    for (const track of this.#tracks.values()) dropped += track.dropAfter(latest);
    return dropped;
  }

  /** The longest poll distance of the live servers, 0 without any. */
  slowestLive(now: Nanos): Nanos {
    return Math.max(0, ...this.#live(now).map((track) => track.pollNanos));
  }

  /** True when every live server was polled at or after `to`. */
  reach(to: Nanos, now: Nanos): boolean {
    return this.#live(now).every((track) => (track.polledAt ?? -Infinity) >= to);
  }

  /** Finds the GPUs of every server and hands the estimators windows and polls to decide up to `to`. */
  follow(gpus: Gpus, to: Nanos): void {
    const timelines = new Map<string, Timeline>();
    for (const member of gpus.members) {
      const { timeline } = member;
      timelines.set(timeline.info.uuid, timeline);
      const { strangers, pids } = this.#locate(timeline);
      for (const [server, own] of pids)
        this.#tracks.get(server)?.observeCreditsOn(timeline.info.uuid, timeline.shares, own);
      for (const { from, to: end } of strangersAt(member, strangers))
        for (const track of this.#tracks.values())
          track.observePeerOn(new Set([timeline.info.uuid]), from, end, true);
    }
    for (const track of this.#tracks.values()) {
      if (track.info.family !== "engine") continue;
      const windows = new Map<string, readonly ActivityWindow[]>();
      for (const uuid of track.gpus) {
        const timeline = timelines.get(uuid);
        if (timeline !== undefined) windows.set(uuid, timeline.windows);
      }
      track.feed(to, windows, this.#peers(track));
    }
  }

  /** True when every live server that was polled up to `to` can be decided up to there. */
  decided(to: Nanos, now: Nanos, waitNanos: Nanos): boolean {
    return this.#live(now).every(
      (track) => (track.polledAt ?? -Infinity) < to || track.decidableUntil(now, waitNanos, to) >= to,
    );
  }

  /** Decides the own states of `[from, to)`. */
  settle(from: Nanos, to: Nanos): Map<string, OwnStates> {
    const own = new Map<string, OwnStates>();
    for (const [id, track] of this.#tracks)
      if (track.info.family === "engine") own.set(id, track.settle(Math.max(from, track.since), to));
    return own;
  }

  /** Progress of a server over the last minute. */
  stepsOf(server: string): readonly TokenStep[] {
    return this.#tracks.get(server)?.steps ?? [];
  }

  /** Returns a row per server known in `[from, to)`; `closing` hands out increments of polls at `to` as well. */
  rows(
    interval: { readonly from: Nanos; readonly to: Nanos; readonly closing: boolean },
    own: ReadonlyMap<string, OwnStates>,
    stalled: readonly StalledSpan[],
  ): ServerSettlement {
    const rows: ServerInterval[] = [];
    const violations: Violation[] = [];
    for (const [server, track] of this.#tracks) {
      const increments = track.takeIncrements(interval.closing ? undefined : interval.to);
      const from = Math.max(interval.from, track.since);
      const to = Math.max(from, Math.min(interval.to, track.until ?? interval.to));
      if (from >= to && increments.length === 0) continue;
      const stretches = own.get(server)?.all ?? [];
      track.method =
        mainMethod(stretches.filter(({ state }) => state === "active")) ??
        mainMethod(stretches) ??
        track.method;
      const spans = stalled.filter((span) => span.server === server);
      const nanos = ownNanos(stretches, spans, from, to);
      const row = { server, nanos, activityMethod: track.method, increments };
      violations.push(...brokenServer(row, to - from));
      rows.push(row);
    }
    return { rows, violations };
  }

  /** Drops servers that ended and have nothing left to book. */
  forget(before: Nanos): void {
    for (const [id, track] of this.#tracks)
      if (track.until !== undefined && track.until <= before && !track.hasIncrements) this.#tracks.delete(id);
  }

  /** True while tokens wait to be booked. */
  get hasIncrements(): boolean {
    return [...this.#tracks.values()].some((track) => track.hasIncrements);
  }

  /** Polls and increments dropped by a bound. */
  dropped(): number {
    let dropped = this.#dropped;
    for (const track of this.#tracks.values()) dropped += track.dropped;
    return dropped;
  }

  /** Finds the servers of a GPU's processes; returns their processes, and the stays of those that no server owns. */
  #locate(timeline: Timeline): {
    readonly strangers: readonly Stay[];
    readonly pids: ReadonlyMap<string, readonly number[]>;
  } {
    const { uuid, parent } = timeline.info;
    const configured = this.#placement.configured(uuid, parent);
    for (const server of configured) this.#tracks.get(server)?.gpus.add(uuid);
    const stays = timeline.presence.stays.filter(
      ({ name, pid }) => !isHelper(name ?? this.#placement.nameOf(pid)),
    );
    const pids = stays.map(({ pid }) => pid);
    const strangers: Stay[] = [];
    const known = new Map<string, number[]>();
    this.#placement.place(uuid, parent, pids).forEach(({ server }, index) => {
      const { pid } = stays[index] as Stay;
      if (server !== undefined) known.set(server, [...(known.get(server) ?? []), pid]);
      if (server === undefined && configured.length === 0) strangers.push(stays[index] as Stay);
      const track = server === undefined ? undefined : this.#tracks.get(server);
      track?.gpus.add(uuid);
      if (track !== undefined)
        track.expectedFrom = Math.max(track.expectedFrom, stays[index]?.from ?? -Infinity);
    });
    return { strangers: strangers.filter(isResident), pids: known };
  }

  #peers(track: ServerTrack): ServerTrack[] {
    return [...this.#tracks.values()].filter(
      (other) => other !== track && [...other.gpus].some((uuid) => track.gpus.has(uuid)),
    );
  }

  #live(now: Nanos): ServerTrack[] {
    return [...this.#tracks.values()].filter(
      (track) => track.info.family === "engine" && track.until === undefined && track.isLive(now),
    );
  }

  /** Tokens of a server that was never announced are booked all the same. */
  #unannounced(id: string, increments: readonly TokenIncrement[], at: Nanos): ServerTrack | undefined {
    if (this.#tracks.size >= unannouncedMax) return undefined;
    const family = increments[0]?.family ?? "engine";
    const info: ServerInfo = { id, type: "unannounced", family, address: "", pollMs: 1000 };
    const track = new ServerTrack(info, at, this.#stallAfterNanos);
    this.#tracks.set(id, track);
    return track;
  }
}

/** When unknown processes of a GPU may have worked, as far as it was read. */
function strangersAt({ strangers, timeline }: Member, stays: readonly Stay[]): readonly StrangerStretch[] {
  const pids = stays.map(({ pid }) => pid);
  const from = Math.min(...stays.map((stay) => stay.from));
  return strangers.stretches(pids, timeline, from, timeline.readAt ?? -Infinity);
}

/** Wall time per own state. Idle time in which the server was stalled on one of its GPUs is stalled. */
function ownNanos(
  stretches: readonly OwnStretch[],
  stalled: readonly StalledSpan[],
  from: Nanos,
  to: Nanos,
): ServerInterval["nanos"] {
  const nanos = { token_active: 0, stalled: 0, parked: 0, unknown: 0 };
  let known = 0;
  for (const stretch of stretches) {
    const start = Math.max(from, stretch.from);
    const length = Math.min(to, stretch.to) - start;
    if (length <= 0) continue;
    known += length;
    if (stretch.state === "active") nanos.token_active += length;
    else if (stretch.state === "waiting") nanos.stalled += length;
    else if (stretch.state === "unknown") nanos.unknown += length;
    else {
      const working = overlap(stalled, start, start + length);
      nanos.stalled += working;
      nanos.parked += length - working;
    }
  }
  nanos.unknown += to - from - known;
  return nanos;
}

/** Length of the union of spans inside `[from, to)`. */
function overlap(spans: readonly StalledSpan[], from: Nanos, to: Nanos): Nanos {
  let reached = from;
  let length = 0;
  for (const span of [...spans].sort((left, right) => left.from - right.from)) {
    const start = Math.max(reached, span.from);
    const end = Math.min(to, span.to);
    if (end <= start) continue;
    length += end - start;
    reached = end;
  }
  return length;
}
