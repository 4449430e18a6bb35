// All GPUs of the host: boards, MIG instances, their timelines, and the laws their rows must keep.
// Inventory may change at any instant: a member that is not named any more ends, new ones begin, a whole GPU that became
// a MIG board keeps its timeline and with it its energy.
import type { GpuInfo, GpuInterval, GpuSample, Nanos } from "../model.ts";
import { Board } from "./board.ts";
import { judge } from "./board-laws.ts";
import type { FloorState } from "./energy/floor.ts";
import type { CounterState, EnergyOptions, EnergyTotals } from "./energy/meter.ts";
import { usableLimit } from "./energy/meter.ts";
import type { Violation } from "./laws.ts";
import type { Member, Settling } from "./member.ts";
import { createMember } from "./member.ts";
import type { Piece } from "./pieces.ts";
import type { Placed } from "./placement.ts";
import type { Acceptance } from "./timeline.ts";
import { Timeline } from "./timeline.ts";

/** A stretch in which a resident of a GPU was stalled there. */
export interface StalledSpan {
  readonly server: string;
  readonly from: Nanos;
  readonly to: Nanos;
}

/** The settled rows of all GPUs. */
export interface GpuSettlement {
  readonly rows: readonly GpuInterval[];
  readonly violations: readonly Violation[];
  readonly stalled: readonly StalledSpan[];
}

/**
 * A GPU is live, and covered between two readings, for this many polls, and for a second at least: two readings in a row may
 * be lost, and the next one may be late.
 */
const coverPolls = 3.5;
const coverMin = 1_000_000_000;
/** Readings up to this long after an interval help to decide it. */
const lookahead = 1_200_000_000;
/** Windows stay this long for servers that are placed late. */
const windowsKept = 10_000_000_000;

/** The GPUs of the host. */
export class Gpus {
  readonly #pollNanos: Nanos;
  readonly #coverMax: Nanos;
  readonly #floors: Readonly<Record<string, FloorState>>;
  /** Counters of an earlier run, each until its GPU is found. */
  readonly #counters: Map<string, NonNullable<EnergyOptions["before"]>>;
  readonly #timelines = new Map<string, Timeline>();
  readonly #boards = new Map<string, Board>();
  #members: readonly Member[] = [];
  /** No reading that waits is newer. */
  #newestAt: Nanos = -Infinity;
  /** Counts the readings that were taken up. */
  readings = 0;
  /** The inventory was replaced since the last interval: boards and timelines may be without a use. */
  #isReplaced = false;

  constructor(
    gpuPollMs: number,
    floors: Readonly<Record<string, FloorState>>,
    counters: Readonly<Record<string, NonNullable<EnergyOptions["before"]>>> = {},
  ) {
    this.#counters = new Map(Object.entries(counters));
    this.#pollNanos = Math.round((Number.isFinite(gpuPollMs) && gpuPollMs > 0 ? gpuPollMs : 1000) * 1e6);
    this.#coverMax = Math.max(coverMin, coverPolls * this.#pollNanos);
    this.#floors = floors;
  }

  /** What work runs on: whole GPUs and MIG instances, ended ones included until they are settled; a new list when it changes. */
  get members(): readonly Member[] {
    return this.#members;
  }

  /** Replaces the inventory from `at` on. */
  set(infos: readonly GpuInfo[], at: Nanos): void {
    const parents = new Set(infos.map(({ parent }) => parent));
    const named = new Set(infos.filter(({ uuid }) => !parents.has(uuid)).map(({ uuid }) => uuid));
    for (const member of this.members) {
      const info = infos.find(({ uuid }) => uuid === member.timeline.info.uuid);
      const moved = info !== undefined && !sameSlice(info, member.timeline.info);
      if (!named.has(member.timeline.info.uuid) || moved) member.until = Math.min(member.until ?? at, at);
    }
    for (const info of infos) {
      const timeline = this.#timeline(info, at);
      const board = this.#board(info.parent ?? info.uuid);
      if (parents.has(info.uuid)) board.own = timeline;
      else {
        const known = board.members.find((member) => member.timeline === timeline);
        if (known !== undefined) known.until = undefined;
        else board.members = [...board.members, createMember(timeline, at)];
      }
    }
    this.#members = [...this.#boards.values()].flatMap((board) => board.members);
    this.#isReplaced = true;
  }

  /** Takes a reading in; unknown GPUs are refused. */
  queueReading(sample: GpuSample, settledUntil: Nanos): Acceptance | "unknown" {
    const timeline = this.#timelines.get(sample.gpu);
    if (timeline === undefined) return "unknown";
    if (sample.at > this.#newestAt) this.#newestAt = Math.round(sample.at);
    const acceptance = timeline.queueReading(
      Number.isInteger(sample.at) ? sample : { ...sample, at: Math.round(sample.at) },
    );
    return acceptance === "accepted" && sample.at < settledUntil ? "late" : acceptance;
  }

  /** Notes that one GPU (`gpu:<uuid>`) or all of them (`gpu`) could not be read. */
  noteGap(source: string, at: Nanos): void {
    for (const [uuid, timeline] of this.#timelines)
      if (source === "gpu" || source === `gpu:${uuid}`) timeline.noteGap(at);
  }

  /** Drops waiting readings from after `latest`; returns how many. */
  dropAfter(latest: Nanos): number {
    if (this.#newestAt <= latest) return 0;
    this.#newestAt = latest;
    let dropped = 0;
    for (const timeline of this.#timelines.values()) dropped += timeline.dropAfter(latest);
    return dropped;
  }

  /** Poll distance if any GPU is live, else 0. */
  slowestLive(now: Nanos): Nanos {
    return this.#someLive(now, () => true) ? this.#pollNanos : 0;
  }

  /** True when every live GPU has a reading at or after `to`. */
  reach(to: Nanos, now: Nanos): boolean {
    return !this.#someLive(now, ({ newestAt }) => (newestAt ?? -Infinity) < to);
  }

  /** Takes up readings up to `to`, and what follows closely. */
  readTo(to: Nanos): void {
    for (const timeline of this.#timelines.values())
      while ((timeline.readAt ?? -Infinity) < to || (timeline.nextAt ?? Infinity) <= to + lookahead)
        if (!this.#takeUp(timeline)) break;
  }

  #takeUp(timeline: Timeline): boolean {
    if (!timeline.takeUpNext()) return false;
    this.readings++;
    return true;
  }

  /** Takes up one more reading of every GPU; false when no reading is left. */
  readOne(): boolean {
    let read = false;
    for (const timeline of this.#timelines.values()) read = this.#takeUp(timeline) || read;
    return read;
  }

  /** A board that reaches `to` whose residency, windows or energy are not decided up to there; undefined for none. */
  undecided(to: Nanos): string | undefined {
    for (const board of this.#boards.values()) {
      const { meter, uuid } = board;
      if (meter?.metersEnergy && (meter.readAt ?? -Infinity) >= to && (meter.energy.readUntil ?? to) < to)
        return uuid;
      for (const { timeline } of board.members) {
        if ((timeline.readAt ?? -Infinity) < to) continue;
        const window = timeline.windows.at(-1)?.to ?? to;
        if (window < to && window > to - this.#coverMax) return uuid;
        if (timeline.presence.decidedUntil() < to) return uuid;
      }
    }
    return undefined;
  }

  /** The end of the windows of energy that begin before `to` and wait for what was done in them; else `to`. */
  waitingUntil(to: Nanos): Nanos {
    let until = to;
    for (const { meter } of this.#boards.values())
      until = Math.max(until, meter?.energy.waitingUntil(to) ?? to);
    return until;
  }

  /** Closes windows of energy that reach over `to` without having been decided: the interval is overdue. */
  closeEarly(to: Nanos): void {
    for (const { meter } of this.#boards.values())
      if ((meter?.energy.readUntil ?? to) < to) meter?.energy.closeEarly();
  }

  /** Books an interval on every board; rows that break a law are booked as unattributed. */
  settle(settling: Settling): GpuSettlement {
    const rows: GpuInterval[] = [];
    const violations: Violation[] = [];
    const stalled: StalledSpan[] = [];
    for (const board of this.#boards.values()) {
      const settled = board.settle(settling);
      const judged = judge(board.uuid, settled, settling);
      for (const violation of judged.violations) violations.push(violation);
      for (const row of judged.rows) rows.push(row);
      for (const { pieces } of settled.parts) for (const piece of pieces) noteStalled(stalled, piece);
    }
    return { rows, violations, stalled };
  }

  /** Drops what no later interval needs. */
  forget(before: Nanos): void {
    if (this.#isReplaced || this.#members.some((member) => hasEnded(member, before))) this.#dropEnded(before);
    for (const timeline of this.#timelines.values()) timeline.forget(before, before - windowsKept);
  }

  #dropEnded(before: Nanos): void {
    this.#isReplaced = false;
    for (const [uuid, board] of this.#boards) {
      board.members = board.members.filter((member) => !hasEnded(member, before));
      if (board.members.length === 0) this.#boards.delete(uuid);
    }
    this.#members = [...this.#boards.values()].flatMap((board) => board.members);
    const used = new Set([...this.#boards.values()].flatMap(({ timelines }) => timelines));
    for (const [uuid, timeline] of this.#timelines) if (!used.has(timeline)) this.#timelines.delete(uuid);
  }

  /** Floors to persist. */
  floors(): Record<string, FloorState> {
    return Object.fromEntries([...this.#boards].map(([uuid, board]) => [uuid, board.floor.state()]));
  }

  /** Energy counters as they stood at `at`, to persist, by the UUID they are read under. */
  counters(at: Nanos): Record<string, CounterState> {
    return Object.fromEntries(
      [...this.#boards.values()].flatMap(({ meter }) => {
        const state = meter?.energy.counterAt(at);
        return meter === undefined || state === undefined ? [] : [[meter.info.uuid, state]];
      }),
    );
  }

  /** Whose every resident process was in the last interval. */
  placements(): Placed[] {
    return this.members.flatMap(({ placed }) => placed);
  }

  /** Energy counted over the life of each board. */
  energyTotals(): Record<string, EnergyTotals> {
    const totals: Record<string, EnergyTotals> = {};
    for (const [uuid, { meter }] of this.#boards) if (meter !== undefined) totals[uuid] = meter.energy.totals;
    return totals;
  }

  /** Readings dropped by a bound. */
  dropped(): number {
    let dropped = 0;
    for (const timeline of this.#timelines.values()) dropped += timeline.dropped;
    return dropped;
  }

  #timeline(info: GpuInfo, at: Nanos): Timeline {
    const known = this.#timelines.get(info.uuid);
    if (known !== undefined && sameSlice(known.info, info)) {
      known.info = info;
      known.energy.limitWatts = usableLimit(info.powerLimitWatts);
      return known;
    }
    const timeline = new Timeline(info, at, this.#coverMax, this.#counters.get(info.uuid));
    this.#counters.delete(info.uuid);
    this.#timelines.set(info.uuid, timeline);
    return timeline;
  }

  #board(uuid: string): Board {
    const known = this.#boards.get(uuid);
    if (known !== undefined) return known;
    const board = new Board(uuid, this.#floors[uuid]);
    this.#boards.set(uuid, board);
    return board;
  }

  /** True where a live GPU, or a board read beside its instances, meets a condition. */
  #someLive(now: Nanos, meets: (timeline: Timeline) => boolean): boolean {
    const limit = now - this.#coverMax;
    const isMet = (timeline: Timeline): boolean =>
      Math.max(timeline.newestAt ?? -Infinity, timeline.since) > limit && meets(timeline);
    for (const { members, own } of this.#boards.values()) {
      if (own !== undefined && isMet(own)) return true;
      for (const { timeline, until } of members) if (until === undefined && isMet(timeline)) return true;
    }
    return false;
  }
}

function noteStalled(stalled: StalledSpan[], { from, residents, to }: Piece): void {
  for (const { server, state } of residents) if (state === "stalled") stalled.push({ server, from, to });
}

function hasEnded({ until }: Member, before: Nanos): boolean {
  return until !== undefined && until <= before;
}

function sameSlice(left: GpuInfo, right: GpuInfo): boolean {
  return left.parent === right.parent && left.weight === right.weight;
}
