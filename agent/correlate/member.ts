// One GPU or MIG instance in one interval: its pieces, the rule its residents share energy by, and its finished row.
import type { ActivityMethod, EnergyMethod, GpuInfo, GpuInterval, Nanos } from "../model.ts";
import type { ActivityWindow } from "./activity/evidence.ts";
import type { ConfiguredShares, EnergyRule, GpuRemainders } from "./attribution.ts";
import { noRemainders, timeMethod } from "./attribution.ts";
import type { Booking } from "./booking.ts";
import { emptyBooking, finished, isAllocated } from "./booking.ts";
import type { Span } from "./edges.ts";
import { OwnPower } from "./energy/own-power.ts";
import { TurnWatts } from "./energy/turn-watts.ts";
import { WindowFit } from "./energy/window-fit.ts";
import { WorkFit } from "./energy/work-fit.ts";
import type { HolderRemainders } from "./holders.ts";
import type { OwnStates, OwnStretch } from "./own-states.ts";
import { statesOn } from "./own-states.ts";
import { Phases } from "./phases/phases.ts";
import type { PrefillPlaces } from "./phases/prefill-places.ts";
import type { Piece } from "./pieces.ts";
import { cut, mainMethod } from "./pieces.ts";
import type { Placed, Placement } from "./placement.ts";
import type { Residents, Sharing } from "./sharing.ts";
import { sharingRule } from "./sharing.ts";
import { SmShare } from "./sm-share.ts";
import { Strangers } from "./strangers.ts";
import type { Tenancy } from "./tenancy.ts";
import { Tenure, unmetered } from "./tenancy.ts";
import type { Timeline } from "./timeline.ts";
import { creditOf } from "./timeline.ts";
import type { TokenStep } from "./token-step.ts";
import { WorkBlocks } from "./work-blocks.ts";

/** What is kept of a GPU or MIG instance between intervals. */
export interface Member extends Sharing {
  readonly timeline: Timeline;
  readonly since: Nanos;
  /** When inventory stopped naming it, or named it as a MIG board. */
  until: Nanos | undefined;
  readonly strangers: Strangers;
  readonly tenure: Tenure;
  /** By server. */
  readonly phases: Map<string, Phases>;
  readonly remainders: GpuRemainders;
  readonly holderRemainders: HolderRemainders;
  /** Kept while no resident works, so that a pause does not change the label. */
  lastRule: EnergyRule;
  lastActivity: ActivityMethod;
  busyRoundedOff: number;
  placed: readonly Placed[];
}

/** What an interval is settled with. */
export interface Settling {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly own: ReadonlyMap<string, OwnStates>;
  /** When a server executes on a GPU after `to`, as far as windows of energy reach that begin before it. */
  readonly ahead: (server: string, gpu: string) => readonly Span[];
  readonly placement: Placement;
  readonly shares: ConfiguredShares;
  /** Weighted tokens of a server over the last 30 s; undefined = it shows none. */
  readonly tokens: (server: string, gpu: string) => number | undefined;
  /** Which GPUs of a server do prompts alone. */
  readonly prefillPlaces: PrefillPlaces;
  /** What a server's counters, or those of its rank on a GPU, did between its polls, by rising time. */
  readonly steps: (server: string, gpu: string) => readonly TokenStep[];
}

/** A member in an interval, being booked. */
export interface Part {
  readonly member: Member;
  readonly pieces: readonly Piece[];
  readonly rule: EnergyRule;
  readonly residents: Residents;
  readonly shares: ConfiguredShares;
  readonly booking: Booking;
  readonly tenancy: Tenancy;
}

/** Returns what is kept of a GPU, nothing known yet. */
export function createMember(timeline: Timeline, since: Nanos): Member {
  return {
    timeline,
    since,
    until: undefined,
    smShare: new SmShare(),
    strangers: new Strangers(),
    tenure: new Tenure(),
    ownPower: new OwnPower(),
    workFit: new WorkFit(),
    turnWatts: new TurnWatts(),
    windowFit: new WindowFit(),
    workBlocks: new WorkBlocks(),
    phases: new Map(),
    remainders: noRemainders(),
    holderRemainders: { nanos: new Map(), millijoules: new Map() },
    lastRule: { method: "equal", weights: undefined },
    lastActivity: "unknown",
    busyRoundedOff: 0,
    placed: [],
  };
}

/** Servers whose phases are remembered on a GPU at most. */
const phasesMax = 256;

/** The phases of a server on a GPU, from the first time it is token-active there. */
export function phasesOf({ phases }: Member, server: string): Phases {
  const known = phases.get(server);
  if (known !== undefined) return known;
  if (phases.size >= phasesMax) phases.clear();
  const created = new Phases();
  phases.set(server, created);
  return created;
}

/** Tells the phases of a server on a GPU that it did nothing there, and how long it executed on others meanwhile. */
export function restOf(
  { phases, timeline }: Member,
  server: string,
  { from, to }: Span,
  settling: Settling,
): void {
  const known = phases.get(server);
  const states = settling.own.get(server);
  if (known === undefined || states === undefined || states.byGpu.size === 0) return;
  let elsewhere = 0;
  for (const { from: start, state, to: end } of states.all)
    if (state === "active") elsewhere += Math.max(0, Math.min(end, to) - Math.max(start, from));
  known.rest(from, to, elsewhere, settling.steps(server, timeline.info.uuid));
}

/** Share of the board: 1, or slices under MIG; unusable weights count as 1. */
export function weightOf({ weight }: GpuInfo): number {
  return Number.isFinite(weight) && weight > 0 && weight <= 1 ? weight : 1;
}

/** The part of an interval in which a member exists. */
export function lifeIn(
  member: Member,
  { from, to }: { readonly from: Nanos; readonly to: Nanos },
): { readonly from: Nanos; readonly to: Nanos } {
  const start = Math.min(to, Math.max(from, member.since));
  return { from: start, to: Math.max(start, Math.min(to, member.until ?? to)) };
}

/** True when a member exists in some part of an interval. */
export function lives(member: Member, interval: { readonly from: Nanos; readonly to: Nanos }): boolean {
  const { from, to } = lifeIn(member, interval);
  return to > from;
}

/** Cuts the interval and decides how residents share; nothing is booked yet but busy time. */
export function partOf(member: Member, settling: Settling): Part {
  const { own, placement, shares } = settling;
  const { timeline } = member;
  const { from, to } = lifeIn(member, settling);
  const held = member.tenure.in(timeline, placement, from, to);
  member.placed = held.placed;
  const pieces = cut({ timeline, tenancy: held, own, from, to });
  const servers = new Set<string>();
  const working = new Set<string>();
  for (const piece of pieces) {
    observeStrangers(member, piece);
    if (!isAllocated(piece.state) && piece.residents.length === 0) continue;
    for (const { server, state } of piece.residents) {
      servers.add(server);
      if (state !== "parked") working.add(server);
    }
    watchShares(member, held, piece);
  }
  const hasShares = timeline.shares.length > 0;
  const { uuid } = timeline.info;
  const tokens = (server: string): number | undefined => settling.tokens(server, uuid);
  const steps = (server: string): readonly TokenStep[] => settling.steps(server, uuid);
  const areTogether = timeline.presence.hasMpsClients;
  const residents = { from, to, servers, working, hasShares, areTogether, tokens, steps };
  const rule =
    working.size > 0 && servers.size > 1
      ? sharingRule(member, residents, timeline.energy.withWindows(from, to))
      : member.lastRule;
  if (servers.size > 1) member.lastRule = rule;
  const direct: EnergyRule = { method: "direct", weights: undefined };
  const booking = emptyBooking();
  booking.busyNanos = busyNanos(member, pieces);
  noteActivity(member, own, servers);
  return {
    member,
    pieces,
    rule: servers.size > 1 ? rule : direct,
    residents,
    shares,
    booking,
    tenancy: held,
  };
}

/** Notes what unknown processes do while every metered resident is idle. */
function observeStrangers({ strangers }: Member, { from, to, residents, works }: Piece): void {
  let metered = 0;
  for (const { server, state } of residents) {
    if (server === unmetered) continue;
    if (state !== "parked") return;
    metered++;
  }
  if (metered > 0 && metered < residents.length) strangers.observeIdle(to, to - from, works);
}

/** Returns the finished row of a member. */
export function rowOf(part: Part, energy: EnergyMethod, sliced: boolean): GpuInterval {
  const { member, booking, rule, residents, shares } = part;
  const { servers } = residents;
  const alone = servers.size <= 1;
  const label = sliced ? "mig" : "direct";
  return finished(member.timeline.info.uuid, booking, {
    activity: member.lastActivity,
    energy,
    attribution: alone ? label : rule.method,
    time: alone ? label : timeMethod(servers, shares),
  });
}

/** Where that is worked out, one piece after the other. */
const watched: { readonly working: string[]; readonly ratios: number[] } = { working: [], ratios: [0.5] };

/** Notes how the driver shared the SMs in a piece in which two or more residents worked. */
function watchShares({ timeline, smShare }: Member, { holdings }: Tenancy, piece: Piece): void {
  if (timeline.shares.length === 0) return;
  const { ratios, working } = watched;
  let count = 0;
  for (const { server, state } of piece.residents) if (state !== "parked") working[count++] = server;
  working.length = count;
  if (count < 2) return;
  for (const reading of timeline.shares) {
    const from = Math.max(reading.from, piece.from);
    const to = Math.min(reading.to, piece.to);
    if (to <= from) continue;
    for (let place = 0; place < count; place++) ratios[place] = 0;
    for (const { server, pids } of holdings) {
      const place = working.indexOf(server);
      if (place < 0) continue;
      for (const pid of pids) ratios[place] = (ratios[place] as number) + creditOf(reading, pid);
    }
    smShare.noteWork(to, to - from, working, ratios);
  }
}

/** Busy share x length of the windows inside observed pieces, weighted, rounded down with the rest carried. */
function busyNanos(member: Member, pieces: readonly Piece[]): number {
  const { info, windows } = member.timeline;
  let busy = member.busyRoundedOff;
  for (const piece of pieces) {
    if (piece.state === "unobserved") continue;
    for (let place = member.timeline.windowAfter(piece.from); place < windows.length; place++) {
      const window = windows[place] as ActivityWindow;
      if (window.from >= piece.to) break;
      const inside = Math.min(window.to, piece.to) - Math.max(window.from, piece.from);
      if (inside > 0) busy += inside * window.busyRatio * weightOf(info);
    }
  }
  const whole = Math.floor(busy);
  member.busyRoundedOff = busy - whole;
  return whole;
}

function noteActivity(
  member: Member,
  own: ReadonlyMap<string, OwnStates>,
  servers: ReadonlySet<string>,
): void {
  const stretches: OwnStretch[] = [];
  for (const server of servers)
    for (const stretch of statesOn(own.get(server), member.timeline.info.uuid)) stretches.push(stretch);
  member.lastActivity =
    mainMethod(stretches, isActive) ?? mainMethod(stretches, isKnown) ?? member.lastActivity;
}

function isActive({ state }: OwnStretch): boolean {
  return state === "active";
}

function isKnown({ state }: OwnStretch): boolean {
  return state !== "unknown";
}
