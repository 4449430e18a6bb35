// One physical GPU in one interval: itself, or the MIG instances on it with the remainder (METERING.md 2 and 4).
// The board's energy is read once and never repeated per instance: what holding costs is shared by weight, what is above
// by activity x slices of the instances that work. Every nanosecond and millijoule of the board is booked once.
import type { GpuInterval, Nanos } from "../model.ts";
import { apportion, Claims } from "./apportion.ts";
import type { Portion } from "./attribution.ts";
import { bookPiece } from "./attribution.ts";
import type { Booking } from "./booking.ts";
import { emptyBooking, finished, notePhases, noteUncertain, uncertainMillijoules } from "./booking.ts";
import type { Span } from "./edges.ts";
import { addEdge, spanAt } from "./edges.ts";
import type { FloorState } from "./energy/floor.ts";
import { Floor, steadyNanosMin } from "./energy/floor.ts";
import { placeEnergy } from "./energy/placed.ts";
import { SliceWatts } from "./energy/slice-watts.ts";
import { EnergyBook } from "./energy-book.ts";
import type { Given } from "./holders.ts";
import { bookHolders } from "./holders.ts";
import type { Member, Part, Settling } from "./member.ts";
import { lives, partOf, phasesOf, restOf, rowOf, weightOf } from "./member.ts";
import type { Piece, ResidentState } from "./pieces.ts";
import { onlyWorker } from "./pieces.ts";
import { learnSharing } from "./sharing.ts";
import type { Pieces, Slices } from "./slices.ts";
import { isWorking, learnSlices, placeSlices, slicesOf, takersOf } from "./slices.ts";
import { besideStranger } from "./stranger-turns.ts";
import { unmetered } from "./tenancy.ts";
import type { Timeline } from "./timeline.ts";
import { wasBusy } from "./token-step.ts";
import { hidesWork, ofStranger } from "./unseen-work.ts";
import { workersIn } from "./work-blocks.ts";
import { executedOn, isBesideOthers, isOnlyMetered, workRates } from "./work-rates.ts";

/** What a board got in one interval. */
export interface BoardInterval {
  readonly rows: readonly GpuInterval[];
  readonly parts: readonly Part[];
  /** Some member is a MIG instance. */
  readonly sliced: boolean;
  /** How much of the interval the board existed. */
  readonly wallNanos: Nanos;
  /** What its meter moved since the interval before, integrated windows included. */
  readonly millijoules: number;
}

/** Key of what no instance holds. */
const remainder = "";

/** A physical GPU: `own` is its own timeline under MIG, if it has one; `members` are what work runs on. */
export class Board {
  readonly uuid: string;
  own: Timeline | undefined;
  members: readonly Member[] = [];
  readonly floor: Floor;
  readonly energy = new EnergyBook();
  readonly #sliceWatts = new SliceWatts();
  readonly #nanos = new Map<string, number>();
  readonly #passive = new Map<string, number>();
  readonly #active = new Map<string, number>();

  constructor(uuid: string, floor?: FloorState) {
    this.uuid = uuid;
    this.floor = new Floor(floor);
  }

  /** All timelines, in the order in which energy is looked for on them: the board's own, then the instances. */
  get timelines(): Timeline[] {
    const timelines = this.own === undefined ? [] : [this.own];
    for (const { timeline } of this.members) if (timeline !== this.own) timelines.push(timeline);
    return timelines;
  }

  /** The timeline whose energy is the board's: repeated readings of it on instances are left alone. */
  get meter(): Timeline | undefined {
    if (this.own?.metersEnergy) return this.own;
    for (const { timeline } of this.members) if (timeline.metersEnergy) return timeline;
    return this.own ?? this.members[0]?.timeline;
  }

  /**
   * Books `[from, to)`: one row per member, and one for the remainder of a sliced board. A board of which no member is
   * there has a row without time when its meter moved.
   */
  settle(settling: Settling): BoardInterval {
    const { from, to } = settling;
    const parts = this.members
      .filter((member) => lives(member, settling))
      .map((member) => partOf(member, settling));
    const sliced = parts.some(isSlice);
    // In the interval of a change of topology the board itself was a member: remainder and member are one row.
    const whole = parts.find(({ member }) => member.timeline.info.uuid === this.uuid);
    const rest = whole?.booking ?? emptyBooking();
    const meter = this.meter?.energy;
    if (meter?.hasWaiting) {
      this.floor.observe(meter.leastWaitingWatts(to));
      meter.decideWaiting(to, {
        workIn: workRates(parts, settling.steps),
        executed: executedOn(parts, settling),
        isOfOthers: isBesideOthers(parts),
        floor: { watts: this.#floorWatts(), isGuessed: this.floor.isGuessed },
      });
    }
    if (meter !== undefined) meter.isPlaced = isOnlyMetered(parts) || isBesideOthers(parts);
    this.energy.begin(this.meter, from);
    if (to - from >= steadyNanosMin && this.energy.isMeasured(from, to))
      this.floor.observe((this.energy.between(from, to) * 1e6) / (to - from));
    const edges = edgesOf(parts, from, to);
    const slices = parts.length > 1 ? slicesOf(parts, from, to, this.#sliceWatts) : undefined;
    const energies = this.#energies(parts, edges, slices);
    let wallNanos = 0;
    for (let index = 0; index + 1 < edges.length; index++) {
      const start = edges[index] as Nanos;
      const end = edges[index + 1] as Nanos;
      wallNanos += this.#book(
        parts,
        rest,
        settling,
        { from: start, to: end },
        energies[index] as number,
        slices,
      );
    }
    const home = sliced ? rest : (parts[0]?.booking ?? rest);
    const millijoules = this.energy.finish(settling, home, parts[0]?.pieces ?? []);
    const energy = this.energy.method(settling);
    // A window of many intervals is decided at once: what is in doubt of it is spread over their joules.
    const certain = millijoules - uncertainMillijoules(home);
    noteUncertain(home, "sampled_power", undefined, 0, meter?.takeDoubt(certain) ?? 0);
    this.#learnSharing(parts, to);
    if (slices !== undefined && this.energy.decided(to)) {
      const floor = { watts: this.#floorWatts(), isAssumed: this.floor.assumed };
      learnSlices(this.#sliceWatts, parts, { from, to }, this.energy.between(from, to) / 1000, floor);
    }
    for (const { member } of parts)
      member.phases.forEach((phases, server) => {
        const gpu = member.timeline.info.uuid;
        phases.learn(settling.steps(server, gpu), to);
        settling.prefillPlaces.note(server, gpu, phases.isPromptsOnly, to);
      });
    const rows = parts.map((part) => rowOf(part, energy, sliced));
    const restOnly = parts.length === 0 && (millijoules > 0 || rest.rejectedMillijoules > 0);
    if ((sliced && whole === undefined) || restOnly) {
      const attribution = sliced ? "mig" : "direct";
      const method = { activity: "unknown", energy, attribution, time: attribution } as const;
      rows.push(finished(this.uuid, rest, method));
    }
    return { rows, parts, sliced, wallNanos, millijoules };
  }

  /** Takes in what the work of the residents of a whole GPU cost. */
  #learnSharing(parts: readonly Part[], to: Nanos): void {
    const part = parts[0];
    if (part === undefined || parts.length > 1 || !this.energy.decided(to)) return;
    const { member, pieces, residents, tenancy } = part;
    if (residents.servers.size === 0) return;
    const between = (start: Nanos, end: Nanos): number => this.energy.between(start, end);
    const isTold = (start: Nanos, end: Nanos): boolean => this.energy.isTold(start, end);
    const before = (at: Nanos): number => this.energy.before(at);
    const toldUntil = (at: Nanos): Nanos => this.energy.toldUntil(at);
    const isCoarse = (start: Nanos, end: Nanos): boolean => this.energy.isCoarse(start, end);
    const cost = { before, between, isCoarse, isTold, toldUntil, floorWatts: this.#floorWatts() };
    learnSharing(member, member.timeline, tenancy, pieces, residents, cost);
  }

  /** What the board drew between neighbouring edges. */
  #energies(parts: readonly Part[], edges: readonly Nanos[], slices: Slices | undefined): readonly number[] {
    const energies: number[] = [];
    for (let index = 0; index + 1 < edges.length; index++)
      energies.push(this.energy.between(edges[index] as Nanos, edges[index + 1] as Nanos));
    const part = parts[0];
    const piecesAt = (index: number): Pieces =>
      parts.map(({ pieces }) => spanAt(pieces, edges[index] as Nanos));
    if (slices !== undefined) placeSlices(edges, energies, parts, piecesAt, this.#floorWatts(), slices);
    if (part === undefined || parts.length > 1 || isSlice(part)) return energies;
    const pieceAt = (index: number): Piece | undefined => spanAt(part.pieces, edges[index] as Nanos);
    placeEnergy(edges, energies, pieceAt, this.#floorWatts());
    return energies;
  }

  /** Books a stretch in which no member changes; returns how much of it the board existed. */
  #book(
    parts: readonly Part[],
    rest: Booking,
    settling: Settling,
    { from, to }: Span,
    energy: number,
    slices: Slices | undefined,
  ): Nanos {
    const pieces = parts.map((part) => spanAt(part.pieces, from));
    if (!pieces.some(isThere)) {
      rest.millijoules.unattributed += energy;
      return 0;
    }
    const part = parts[0];
    if (part !== undefined && parts.length === 1 && this.#isAllOf(part)) {
      this.#bookWhole(part, pieces[0] as Piece, { from, to }, energy, settling);
      return to - from;
    }
    const sliced = parts.some((part, index) => pieces[index] !== undefined && isSlice(part));
    const claims = this.#weights(parts, pieces);
    const nanos = apportion(to - from, claims, this.#nanos);
    const held = this.#heldOf(energy, pieces.some(isWorking), to - from);
    // What no instance holds takes nothing where there are none: it comes last.
    if (!sliced) claims.size = parts.length;
    const passive = apportion(held, claims, this.#passive);
    const active = apportion(energy - held, takersOf(parts, pieces, slices), this.#active);
    for (let index = 0; index < parts.length; index++) {
      const part = parts[index] as Part;
      const piece = pieces[index];
      if (piece === undefined) continue;
      const portion = {
        nanos: nanos[index] ?? 0,
        floorMillijoules: passive[index] ?? 0,
        activeMillijoules: active[index] ?? 0,
        floorAssumed: this.floor.assumed,
        isSlice: sliced,
        sliceDoubt: slices?.doubts.get(part.member.timeline.info.uuid),
      };
      this.#bookPart(part, piece, { from, to }, portion, settling);
    }
    this.#feedFloor(pieces, from, to);
    const left = nanos[parts.length] ?? 0;
    if (!sliced) return to - from - left;
    const state = this.#observed(pieces, from, to) ? "free" : "unobserved";
    rest.nanos[state] += left;
    rest.millijoules[state] += passive[parts.length] ?? 0;
    return to - from;
  }

  /** True of a whole GPU that is its board, to which rounding owes nothing from a time with instances. */
  #isAllOf(part: Part): boolean {
    const { info } = part.member.timeline;
    if (isSlice(part) || weightOf(info) !== 1) return false;
    return (this.#nanos.get(info.uuid) ?? 0) === 0 && (this.#nanos.get(remainder) ?? 0) === 0;
  }

  /** Books a stretch of a whole GPU: it gets all of the time and of the energy. */
  #bookWhole(part: Part, piece: Piece, { from, to }: Span, energy: number, settling: Settling): void {
    const watts = (energy * 1e6) / (to - from);
    const floor = { watts: this.#floorWatts(), isAssumed: this.floor.assumed };
    const strangers = ofStranger(part, piece, watts, floor.watts);
    const works = isWorking(piece) || strangers !== undefined || hidesWork(piece, watts, floor);
    const held = this.#heldOf(energy, works, to - from);
    const portion = {
      nanos: to - from,
      floorMillijoules: held,
      activeMillijoules: energy - held,
      floorAssumed: this.floor.assumed,
      isSlice: false,
      sliceDoubt: undefined,
    };
    const drawn = { watts: ((energy - held) * 1e6) / (to - from), isNear: this.energy.isNear(from) };
    this.#bookPart(besideStranger(part, piece, drawn), strangers ?? piece, { from, to }, portion, settling);
    if (strangers === undefined) this.#feedFloor([piece], from, to);
  }

  /** What of the energy of a stretch holding the board cost: all of it while nothing works. */
  #heldOf(energy: number, works: boolean, nanos: Nanos): number {
    return works ? Math.min(energy, Math.round((this.#floorWatts() * nanos) / 1e6)) : energy;
  }

  /** Books what one member got of a stretch to its residents, their holders and phases. */
  #bookPart(part: Part, piece: Piece, { from, to }: Span, portion: Portion, settling: Settling): void {
    const { booking, member, tenancy } = part;
    const given = bookPiece(booking, piece, portion, part.rule, settling.shares, member.remainders);
    const { parent, uuid: gpu } = member.timeline.info;
    const stretch = { from, to, gpu, parent, tenancy, placement: settling.placement };
    bookHolders(booking, stretch, given, member.holderRemainders);
    this.#bookPhases(part, piece, stretch, given, settling);
    if (piece.works && !this.energy.isCoarse(from, to))
      observeWorkers(member, piece, stretch, portion.activeMillijoules, settling.steps);
  }

  /** Books which phases the token-active servers of a stretch were in; `given` is in the order of the residents. */
  #bookPhases(
    { booking, member }: Part,
    piece: Piece,
    { from, to }: Span,
    given: readonly Given[],
    settling: Settling,
  ): void {
    const { residents } = piece;
    for (let index = 0; index < residents.length; index++) {
      const { server, state } = residents[index] as ResidentState;
      const got = given[index];
      if (state === "parked" && piece.doubt === undefined) restOf(member, server, { from, to }, settling);
      if (state !== "token_active" || server === unmetered || got === undefined) continue;
      const { floorMillijoules, millijoules, nanos } = got;
      const stretch = {
        from,
        to,
        nanos,
        floorMillijoules,
        activeMillijoules: millijoules - floorMillijoules,
        isShared: onlyWorker(piece) === undefined || piece.contested === true,
        isCoarse: piece.doubt?.reason === "coarse_windows",
        isApportioned: member.timeline.info.parent !== undefined,
        isPrefilledElsewhere: settling.prefillPlaces.isElsewhere(
          server,
          member.timeline.info.uuid,
          settling.from,
        ),
      };
      const own = settling.steps(server, member.timeline.info.uuid);
      notePhases(booking, server, phasesOf(member, server).divide(stretch, own, this.#energyBefore));
    }
  }

  readonly #energyBefore = (at: Nanos): number => this.energy.before(at);

  #floorWatts(): number {
    return this.floor.watts(this.meter?.info.powerLimitWatts);
  }

  /** Slices of the members, and what none of them holds. */
  #weights(parts: readonly Part[], pieces: Pieces): Claims {
    const claims = new Claims();
    let held = 0;
    for (let index = 0; index < parts.length; index++) {
      const { info } = (parts[index] as Part).member.timeline;
      const weight = pieces[index] === undefined ? 0 : weightOf(info);
      held += weight;
      claims.add(info.uuid, weight);
    }
    return claims.add(remainder, held > 1 - 1e-9 ? 0 : 1 - held);
  }

  /** Whether the remainder counts as observed: its board was read, or any instance on it. */
  #observed(pieces: Pieces, from: Nanos, to: Nanos): boolean {
    if (this.own?.readAt !== undefined)
      return this.own.covers.some((cover) => cover.observed && cover.from < to && cover.to > from);
    return pieces.some((piece) => piece !== undefined && piece.state !== "unobserved");
  }

  #feedFloor(pieces: Pieces, from: Nanos, to: Nanos): void {
    if (pieces.some((piece) => piece?.works || isWorking(piece))) this.floor.worked(to);
    else if (pieces.some(isParked) && pieces.every(isResting) && this.energy.isMeasured(from, to))
      this.floor.parked(from, to, (start, end) => this.energy.between(start, end));
  }
}

/** Where the pieces of the members begin and end. */
function edgesOf(parts: readonly Part[], from: Nanos, to: Nanos): readonly Nanos[] {
  const edges: Nanos[] = [];
  addEdge(edges, from);
  addEdge(edges, to);
  for (const { pieces } of parts)
    for (const piece of pieces) {
      addEdge(edges, piece.from);
      addEdge(edges, piece.to);
    }
  return edges;
}

/** Notes what a resident draws above the floor while it alone works, and how busy several keep the GPU together. */
function observeWorkers(
  { ownPower, timeline }: Member,
  piece: Piece,
  { from, to }: Span,
  millijoules: number,
  steps: Settling["steps"],
): void {
  if (!isWorking(piece) || !piece.works || piece.contested) return;
  const only = onlyWorker(piece);
  if (only === undefined) {
    const working = workersIn(piece);
    // A stranger is held to work wherever it may.
    if (working.includes(unmetered)) return;
    ownPower.observeTogether(working, to - from, timeline.busyNanos(from, to));
    return;
  }
  // Where another counted tokens or had requests in flight between the same polls, some of the work may be its own, unless
  // the driver's shares per process said who worked.
  if (timeline.shares.length === 0)
    for (const other of piece.residents)
      if (
        other !== only &&
        other.server !== unmetered &&
        wasBusy(steps(other.server, timeline.info.uuid), from, to)
      )
        return;
  ownPower.observeAlone(only.server, to - from, timeline.busyNanos(from, to), millijoules);
}

function isSlice({ member }: Part): boolean {
  return member.timeline.info.parent !== undefined;
}

function isThere(piece: Piece | undefined): boolean {
  return piece !== undefined;
}

function isParked(piece: Piece | undefined): boolean {
  return piece?.state === "parked";
}

/** Holds or leaves the GPU and does nothing; so does a member that does not exist. */
function isResting(piece: Piece | undefined): boolean {
  return piece === undefined || piece.state === "parked" || piece.state === "free";
}
