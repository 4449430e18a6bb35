// All servers of the host: who shares a GPU with whom, what each was doing, and which tokens an interval gets.
// Tokens are never spread: they belong whole to the interval in which the poll that saw them ended, or to the open one
// when that has settled.
import type { Nanos, ServerInfo, ServerInterval, ServerPoll, TokenIncrement } from "../model.ts";
import type { Span } from "./edges.ts";
import type { Gpus, StalledSpan } from "./gpus.ts";
import type { Violation } from "./laws.ts";
import { brokenServer } from "./laws.ts";
import type { Member } from "./member.ts";
import { Neighbours } from "./neighbours.ts";
import type { OwnStates, OwnStretch } from "./own-states.ts";
import { mainMethod } from "./pieces.ts";
import type { Placement, ServerHints } from "./placement.ts";
import type { Stay } from "./presence.ts";
import { isResident } from "./presence.ts";
import type { RankStatus } from "./rank-places.ts";
import { rankStatus } from "./rank-places.ts";
import type { RankOrder } from "./ranks/finder.ts";
import { ReadOrder } from "./read-order.ts";
import { ServerTrack } from "./server-track.ts";
import type { StrangerStretch } from "./strangers.ts";
import type { TokenStep } from "./token-step.ts";

/** The settled rows of all servers. */
export interface ServerSettlement {
  readonly rows: readonly ServerInterval[];
  readonly violations: readonly Violation[];
}

/** Servers that were never announced but counted tokens; beyond it their tokens are dropped and counted. */
const unannouncedMax = 256;

/** Up to when, by which readings, and with whom where. */
interface Followed {
  readonly to: Nanos;
  readonly readings: number;
  readonly moves: number;
}

/** The servers of the host. */
export class Servers {
  readonly #stallAfterNanos: Nanos;
  readonly #placement: Placement;
  readonly #tracks = new Map<string, ServerTrack>();
  readonly #readOrder = new ReadOrder<ServerTrack>();
  readonly #hints = new Map<string, ServerHints>();
  readonly #neighbours: Neighbours;
  readonly #orders: Readonly<Record<string, RankOrder>>;
  #dropped = 0;
  /** No poll that waits is newer, and none may be newer than that: its clock would be wrong. */
  #newestAt: Nanos = -Infinity;
  #latest: Nanos = Infinity;
  /** What everything was followed by last; undefined while some of it has to be followed again. */
  #followed: Followed | undefined;

  /** `orders`: of the ranks of servers, as an earlier run learned them. */
  constructor(
    stallAfterNanos: Nanos,
    placement: Placement,
    orders: Readonly<Record<string, RankOrder>> = {},
  ) {
    this.#orders = orders;
    this.#stallAfterNanos = stallAfterNanos;
    this.#placement = placement;
    this.#neighbours = new Neighbours(this.#tracks, placement);
  }

  /** Replaces the servers from `at` on. */
  set(infos: readonly ServerInfo[], at: Nanos): void {
    const named = new Set(infos.map(({ id }) => id));
    for (const [id, track] of this.#tracks) if (!named.has(id)) track.until ??= at;
    for (const info of infos) {
      const track = this.#tracks.get(info.id);
      if (track === undefined)
        this.#begin(new ServerTrack(info, at, this.#stallAfterNanos, this.#orders[info.id]));
      else {
        track.info = info;
        track.until = undefined;
      }
    }
    for (const id of this.#hints.keys()) if (!named.has(id)) this.#hints.delete(id);
    this.#placement.setServers(infos, this.#hints);
    this.#neighbours.clear();
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
    if (poll !== undefined && Number.isFinite(poll.at))
      this.#newestAt = Math.max(this.#newestAt, Math.round(poll.at));
    if (track !== undefined) {
      if (poll !== undefined) this.#readOrder.noteRead(track);
      return track.takePoll(poll, increments);
    }
    this.#dropped += increments.length;
    return false;
  }

  /** Notes that a server could not be read. */
  notePollFailed(server: string): void {
    this.#tracks.get(server)?.notePollFailed();
  }

  /** Drops waiting polls from after `latest`; returns how many. */
  dropAfter(latest: Nanos): number {
    this.#latest = latest;
    if (this.#newestAt <= latest) return 0;
    this.#newestAt = latest;
    let dropped = 0;
    for (const track of this.#tracks.values()) dropped += track.dropAfter(latest);
    return dropped;
  }

  /** The longest distance of two readings of the live servers, 0 without any. */
  slowestLive(now: Nanos): Nanos {
    let slowest = 0;
    for (const track of this.#tracks.values())
      if (isLive(track, now)) slowest = Math.max(slowest, track.expectedNanos);
    return slowest;
  }

  /** How long an interval may have to wait for the page of a live server that may be a copy, 0 where none need be. */
  copyHoldNanos(now: Nanos): Nanos {
    let longest = 0;
    for (const track of this.#tracks.values())
      if (isLive(track, now)) longest = Math.max(longest, track.copyHoldNanos);
    return longest;
  }

  /** The live server that was not polled at or after `to` and is expected last; undefined where all were. */
  unread(to: Nanos, now: Nanos): string | undefined {
    const isMeant = (track: ServerTrack): boolean => (track.polledAt ?? -Infinity) < to && isLive(track, now);
    return this.#readOrder.lastOf(isMeant)?.info.id;
  }

  /**
   * Finds the GPUs of every server and hands the estimators windows and polls to decide up to `to`. It is asked for after
   * every poll of any server: while nothing else came, only that one has something new.
   */
  follow(gpus: Gpus, to: Nanos): void {
    this.#neighbours.setMembers(gpus.members);
    const now = { to, readings: gpus.readings, moves: this.#neighbours.changes + this.#placement.changes };
    const isSame = isAlike(this.#followed, now);
    this.#followed = now;
    if (!isSame && this.#followGpus(gpus)) this.#followed = undefined;
    for (const track of this.#tracks.values()) {
      if (track.info.family !== "engine" || (isSame && !track.hasNews)) continue;
      if (track.feed(to, this.#neighbours.surroundingsOf(track))) this.#followed = undefined;
    }
  }

  /** Servers learn what the readings of their GPUs say; true where strangers are on some GPU. */
  #followGpus(gpus: Gpus): boolean {
    let hasStrangers = false;
    for (const member of gpus.members) {
      const { pids, strangers } = this.#neighbours.occupantsOf(member.timeline);
      for (const [server, own] of pids) this.#tracks.get(server)?.observeCreditsOn(member.timeline, own);
      if (strangers.length === 0) continue;
      hasStrangers = true;
      this.#observeStrangers(member, strangers);
    }
    return hasStrangers;
  }

  #observeStrangers(member: Member, strangers: readonly Stay[]): void {
    const gpus = new Set([member.timeline.info.uuid]);
    for (const { from, to } of strangersAt(member, strangers.filter(isResident)))
      for (const track of this.#tracks.values()) track.observePeerOn(gpus, from, to, true);
  }

  /** The live server that was polled up to `to`, cannot be decided up to there and is expected last; undefined where all can. */
  undecided(to: Nanos, now: Nanos, waitNanos: Nanos): string | undefined {
    const isMeant = (track: ServerTrack): boolean =>
      isLive(track, now) &&
      (track.polledAt ?? -Infinity) >= to &&
      track.decidableUntil(now, waitNanos, to) < to;
    return this.#readOrder.lastOf(isMeant)?.info.id;
  }

  /** Decides the own states of `[from, to)`. */
  settle(from: Nanos, to: Nanos): Map<string, OwnStates> {
    const own = new Map<string, OwnStates>();
    for (const track of this.#tracks.values())
      if (track.info.family === "engine")
        own.set(track.info.id, track.settle(Math.max(from, track.since), to));
    return own;
  }

  /** When a server executes on a GPU up to `until`, as far as that is not decided yet. */
  executedAhead(server: string, gpu: string, until: Nanos): readonly Span[] {
    return this.#tracks.get(server)?.placeOn(gpu)?.executedAhead(until) ?? [];
  }

  /** Progress of a server over the last minute; on a GPU of one of its ranks, of the rank. */
  stepsOf(server: string, gpu: string): readonly TokenStep[] {
    const track = this.#tracks.get(server);
    return track?.placeOn(gpu)?.steps ?? track?.steps ?? [];
  }

  /** Where the data-parallel ranks of the servers that tell them apart are. */
  ranks(): RankStatus[] {
    return [...this.#tracks].flatMap(([server, { rankNames, ranks }]) =>
      ranks === undefined || rankNames === undefined ? [] : rankStatus(server, rankNames, ranks),
    );
  }

  /** What was learned of the order of ranks, by server. */
  rankOrders(): Record<string, RankOrder> {
    const orders: Record<string, RankOrder> = {};
    for (const [server, { rankOrder }] of this.#tracks)
      if (rankOrder !== undefined) orders[server] = rankOrder;
    return orders;
  }

  /** True while some tokens of a server are made by ranks on other hosts. */
  hasRanksElsewhere(server: string): boolean {
    const ranks = this.#tracks.get(server)?.ranks;
    return ranks !== undefined && (ranks.isUnplaced || ranks.elsewhere.size > 0);
  }

  /** Returns a row per server known in `[from, to)`; `closing` hands out increments of polls at `to` as well. */
  rows(
    interval: { readonly from: Nanos; readonly to: Nanos; readonly closing: boolean },
    own: ReadonlyMap<string, OwnStates>,
    stalled: readonly StalledSpan[],
  ): ServerSettlement {
    const rows: ServerInterval[] = [];
    const violations: Violation[] = [];
    for (const track of this.#tracks.values()) {
      const server = track.info.id;
      const increments = track.takeIncrements(interval.closing ? undefined : interval.to, this.#latest);
      const from = Math.max(interval.from, track.since);
      const to = Math.max(from, Math.min(interval.to, track.until ?? interval.to));
      if (from >= to && increments.length === 0) continue;
      const stretches = own.get(server)?.all ?? [];
      track.method = mainMethod(stretches, isActive) ?? mainMethod(stretches) ?? track.method;
      const nanos = ownNanos(stretches, spansOf(stalled, server), from, to);
      const row = { server, nanos, activityMethod: track.method, increments };
      for (const violation of brokenServer(row, to - from)) violations.push(violation);
      rows.push(row);
    }
    return { rows, violations };
  }

  /** Drops servers that ended and have nothing left to book. */
  forget(before: Nanos): void {
    for (const track of this.#tracks.values()) {
      if (track.until === undefined || track.until > before || track.hasIncrements) continue;
      this.#tracks.delete(track.info.id);
      this.#readOrder.leaveOut(track);
      this.#neighbours.clear();
    }
  }

  /** True while tokens wait to be booked. */
  get hasIncrements(): boolean {
    for (const track of this.#tracks.values()) if (track.hasIncrements) return true;
    return false;
  }

  /** Polls and increments dropped by a bound. */
  dropped(): number {
    let dropped = this.#dropped;
    for (const track of this.#tracks.values()) dropped += track.dropped;
    return dropped;
  }

  /** Tokens of a server that was never announced are booked all the same. */
  #unannounced(id: string, increments: readonly TokenIncrement[], at: Nanos): ServerTrack | undefined {
    if (this.#tracks.size >= unannouncedMax) return undefined;
    const family = increments[0]?.family ?? "engine";
    const info: ServerInfo = { id, type: "unannounced", family, address: "", pollMs: 1000 };
    const track = new ServerTrack(info, at, this.#stallAfterNanos);
    this.#begin(track);
    this.#neighbours.clear();
    return track;
  }

  #begin(track: ServerTrack): void {
    this.#tracks.set(track.info.id, track);
    this.#readOrder.noteRead(track);
  }
}

function isAlike(one: Followed | undefined, other: Followed): boolean {
  return one?.to === other.to && one.readings === other.readings && one.moves === other.moves;
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

/** Length of the union of spans, by their beginnings, inside `[from, to)`. */
function overlap(spans: readonly StalledSpan[], from: Nanos, to: Nanos): Nanos {
  let reached = from;
  let length = 0;
  for (const span of spans) {
    const start = Math.max(reached, span.from);
    const end = Math.min(to, span.to);
    if (end <= start) continue;
    length += end - start;
    reached = end;
  }
  return length;
}

const noSpans: StalledSpan[] = [];

/** The stretches in which a server was stalled, by their beginnings. */
function spansOf(stalled: readonly StalledSpan[], server: string): readonly StalledSpan[] {
  let spans: StalledSpan[] = noSpans;
  for (const span of stalled) {
    if (span.server !== server) continue;
    if (spans === noSpans) spans = [];
    spans.push(span);
  }
  for (let index = 1; index < spans.length; index++)
    if ((spans[index] as StalledSpan).from < (spans[index - 1] as StalledSpan).from)
      return spans.sort((left, right) => left.from - right.from);
  return spans;
}

function isActive({ state }: OwnStretch): boolean {
  return state === "active";
}

function isLive(track: ServerTrack, now: Nanos): boolean {
  return track.info.family === "engine" && track.until === undefined && track.isLive(now);
}
