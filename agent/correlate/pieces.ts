// Cuts an interval of one GPU into pieces in which nothing changes, each in exactly one state (METERING.md 2).
// The GPU's state is the highest of its residents' states. A resident whose counters stand still is stalled while the
// GPU works and no resident is token-active on it, for then the work may be its own; else it is parked.
import type { ActivityMethod, AllocatedState, GpuState, Nanos, ServerPoll } from "../model.ts";
import type { ActivityWindow, Doubt, WorkRun } from "./activity/evidence.ts";
import { isSameDoubt } from "./activity/evidence.ts";
import { workRuns } from "./activity/runs.ts";
import type { Span } from "./edges.ts";
import { addEdge, spanAt } from "./edges.ts";
import type { OwnStates, OwnStretch } from "./own-states.ts";
import { statesOn } from "./own-states.ts";
import type { Holding, Tenancy } from "./tenancy.ts";
import { unmetered } from "./tenancy.ts";
import type { Cover, Timeline } from "./timeline.ts";
import { creditOf } from "./timeline.ts";

/** A resident in a piece, with its own state. */
export interface ResidentState {
  readonly server: string;
  readonly state: AllocatedState;
}

/** A stretch of a GPU in which nothing changes. */
export interface Piece {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly state: GpuState;
  readonly works: boolean;
  readonly residents: readonly ResidentState[];
  /** Which of the residents works in it is not known. */
  readonly contested?: boolean;
  /** The servers whose executions beside it account for the work in it. */
  readonly explainedBy?: readonly string[] | undefined;
  /** The assumption the state rests on, and whose activity it is about. */
  readonly doubt?: ServerDoubt | undefined;
  /** The same about the others that execute in it. */
  readonly alsoDoubted?: readonly ServerDoubt[] | undefined;
}

/** A piece that the next stretch may lengthen. */
type Draft = { -readonly [Key in keyof Piece]: Piece[Key] };

/** An assumption about a server's activity. */
export interface ServerDoubt extends Doubt {
  readonly server: string;
}

/** Work is looked for this far around an interval, so that its edges are the same from both sides. */
const workMargin = 2_000_000_000;
const noPolls: readonly ServerPoll[] = [];

/** What the pieces of one GPU are cut from. */
export interface Cutting {
  readonly timeline: Timeline;
  readonly tenancy: Tenancy;
  readonly own: ReadonlyMap<string, OwnStates>;
  readonly from: Nanos;
  readonly to: Nanos;
}

/** Returns pieces that cover `[from, to)` in order and without holes. */
export function cut(cutting: Cutting): Piece[] {
  const { timeline, from, to } = cutting;
  const runs = workOf(timeline, from, to);
  const edges = edgesOf(cutting, runs);
  const pieces: Draft[] = [];
  for (let index = 0; index + 1 < edges.length; index++) {
    const piece = pieceOf(cutting, runs, edges[index] as Nanos, edges[index + 1] as Nanos);
    const last = pieces.at(-1);
    if (last !== undefined && alike(last, piece)) last.to = piece.to;
    else pieces.push(piece);
  }
  return pieces;
}

/** Seen runs of work that touch `[from, to)`. */
function workOf(timeline: Timeline, from: Nanos, to: Nanos): WorkRun[] {
  const { windows } = timeline;
  const first = timeline.windowAfter(from - workMargin);
  let end = windows.length;
  while (end > first && (windows[end - 1] as ActivityWindow).from >= to + workMargin) end--;
  const near = windows.slice(first, end);
  const reached = near.at(-1)?.to ?? from;
  const runs = workRuns(near, noPolls, Math.min(near[0]?.from ?? from, from), reached, undefined);
  return runs.filter((run) => run.seen && run.to > from && run.from < to);
}

function edgesOf(cutting: Cutting, runs: readonly WorkRun[]): Nanos[] {
  const { timeline, tenancy, own, from, to } = cutting;
  const edges = from < to ? [from, to] : [];
  addEdges(edges, timeline.covers, from, to);
  addEdges(edges, runs, from, to);
  addEdges(edges, tenancy.passing, from, to);
  addEdges(edges, tenancy.holdings, from, to);
  for (const { server } of tenancy.holdings)
    addEdges(edges, statesOn(own.get(server), timeline.info.uuid), from, to);
  return edges;
}

/** Adds where spans begin and end inside `[from, to)`. */
function addEdges(edges: Nanos[], spans: readonly Span[], from: Nanos, to: Nanos): void {
  for (const span of spans) {
    if (span.from > from && span.from < to) addEdge(edges, Math.round(span.from));
    if (span.to > from && span.to < to) addEdge(edges, Math.round(span.to));
  }
}

/** Where pieces are worked out, one after the other. */
const draft: { readonly servers: string[]; readonly stretches: (OwnStretch | undefined)[] } = {
  servers: [],
  stretches: [],
};

function pieceOf(cutting: Cutting, runs: readonly WorkRun[], from: Nanos, to: Nanos): Piece {
  const { timeline, tenancy, own } = cutting;
  const middle = from + (to - from) / 2;
  const works = spanAt(runs, middle) !== undefined;
  if (!isObservedAt(timeline.covers, middle))
    return { from, to, state: "unobserved", works: false, residents: [] };
  const { servers, stretches } = draft;
  findHolders(servers, tenancy.holdings, middle);
  if (servers.length === 0) {
    const held = spanAt(tenancy.passing, middle) !== undefined || (!timeline.presence.known && works);
    return { from, to, state: held ? "other" : "free", works, residents: [] };
  }
  if (servers.every(isUnmetered)) return { from, to, state: "other", works, residents: [] };
  stretches.length = servers.length;
  let active = false;
  let contested = false;
  for (let index = 0; index < servers.length; index++) {
    const states = statesOn(own.get(servers[index] as string), timeline.info.uuid);
    const stretch = spanAt(states, middle);
    stretches[index] = stretch;
    active ||= stretch?.state === "active";
    // The execution of one of the residents, which of them is not known: activity/evidence.ts, `contested`.
    contested ||= works && stretch?.contested === true;
  }
  const explainedBy = works && !active ? accountedFor(servers, stretches) : undefined;
  const isOpen = works && explainedBy === undefined;
  const residents: ResidentState[] = [];
  for (let index = 0; index < servers.length; index++) {
    const server = servers[index] as string;
    const state = ownState(cutting, server, stretches[index], isOpen, active, from, to);
    residents.push({ server, state });
  }
  const state = contested ? "token_active" : highest(residents, isOpen);
  const doubt = doubtOf(servers, stretches, works);
  const alsoDoubted = doubt === undefined ? undefined : otherDoubts(servers, stretches, doubt.server);
  return { from, to, state, works, residents, contested, explainedBy, doubt, alsoDoubted };
}

/** The servers whose executions beside a piece account for it. */
function accountedFor(
  servers: readonly string[],
  stretches: readonly (OwnStretch | undefined)[],
): readonly string[] | undefined {
  let found: string[] | undefined;
  for (let index = 0; index < servers.length; index++) {
    if (stretches[index]?.accounted !== true) continue;
    if (found === undefined) found = [servers[index] as string];
    else found.push(servers[index] as string);
  }
  return found;
}

function isObservedAt(covers: readonly Cover[], at: Nanos): boolean {
  for (const { from, observed, to } of covers) if (observed && from <= at && to > at) return true;
  return false;
}

/** The servers that hold the GPU at an instant, each once. */
function findHolders(servers: string[], holdings: readonly Holding[], at: Nanos): void {
  let count = 0;
  for (const { from, server, to } of holdings)
    if (from <= at && to > at && !isAmong(servers, count, server)) servers[count++] = server;
  servers.length = count;
}

function isAmong(servers: readonly string[], count: number, server: string): boolean {
  for (let index = 0; index < count; index++) if (servers[index] === server) return true;
  return false;
}

function isUnmetered(server: string): boolean {
  return server === unmetered;
}

/** The doubt of the first resident that has one, of those that decide the state first. */
function doubtOf(
  servers: readonly string[],
  stretches: readonly (OwnStretch | undefined)[],
  works: boolean,
): ServerDoubt | undefined {
  let found: ServerDoubt | undefined;
  for (let index = 0; index < servers.length; index++) {
    const stretch = stretches[index];
    if (stretch?.doubt === undefined) continue;
    const server = servers[index] as string;
    if (stretch.state === "active") return { server, ...stretch.doubt };
    if (works) found ??= { server, ...stretch.doubt };
  }
  return found;
}

/** The doubts of the others that execute; undefined where there are none. */
function otherDoubts(
  servers: readonly string[],
  stretches: readonly (OwnStretch | undefined)[],
  first: string,
): readonly ServerDoubt[] | undefined {
  let found: ServerDoubt[] | undefined;
  for (let index = 0; index < servers.length; index++) {
    const server = servers[index] as string;
    const stretch = stretches[index];
    if (server === first || stretch?.doubt === undefined || stretch.state !== "active") continue;
    found ??= [];
    found.push({ server, ...stretch.doubt });
  }
  return found;
}

function ownState(
  cutting: Cutting,
  server: string,
  stretch: OwnStretch | undefined,
  works: boolean,
  someoneActive: boolean,
  from: Nanos,
  to: Nanos,
): AllocatedState {
  if (stretch?.state === "active") return "token_active";
  if (stretch?.state === "waiting") return "stalled";
  if (server === unmetered) return works && mayWork(cutting, from, to) ? "stalled" : "parked";
  if (!works || someoneActive) return "parked";
  return hasStrangers(cutting.tenancy, from, to) && mayWork(cutting, from, to) ? "parked" : "stalled";
}

function hasStrangers({ holdings }: Tenancy, from: Nanos, to: Nanos): boolean {
  for (const held of holdings) if (held.server === unmetered && held.from < to && held.to > from) return true;
  return false;
}

/** Unknown processes work unless the driver lists shares per process and credits none of them. */
function mayWork({ timeline, tenancy }: Cutting, from: Nanos, to: Nanos): boolean {
  const readings = timeline.shares.filter((reading) => reading.from < to && reading.to > from);
  if (readings.length === 0) return true;
  const pids = tenancy.holdings
    .filter(({ server }) => server === unmetered)
    .flatMap((holding) => holding.pids);
  return readings.some((reading) => pids.some((pid) => creditOf(reading, pid) > 0));
}

/** Work of unknown processes is `other` as long as every metered resident is idle. */
function highest(residents: readonly ResidentState[], works: boolean): GpuState {
  let stalled = false;
  let strangers = false;
  let busy = false;
  for (const { server, state } of residents) {
    if (state === "token_active") return "token_active";
    if (state === "stalled") stalled = true;
    if (server === unmetered) strangers = true;
    else if (state !== "parked") busy = true;
  }
  if (works && strangers && !busy) return "other";
  return stalled ? "stalled" : "parked";
}

/** Returns the one resident that is not parked; undefined where none or several are. */
export function onlyWorker({ residents }: Piece): ResidentState | undefined {
  let only: ResidentState | undefined;
  for (const resident of residents) {
    if (resident.state === "parked") continue;
    if (only !== undefined) return undefined;
    only = resident;
  }
  return only;
}

function alike(left: Piece, right: Piece): boolean {
  return (
    left.state === right.state &&
    left.works === right.works &&
    (left.contested === true) === (right.contested === true) &&
    left.doubt?.server === right.doubt?.server &&
    areSame(left.explainedBy, right.explainedBy) &&
    isSameDoubt(left.doubt, right.doubt) &&
    areSameDoubts(left.alsoDoubted, right.alsoDoubted) &&
    haveSameStates(left.residents, right.residents)
  );
}

function areSameDoubts(left: Piece["alsoDoubted"], right: Piece["alsoDoubted"]): boolean {
  if (left === undefined || right === undefined) return left === right;
  if (left.length !== right.length) return false;
  return left.every((one, index) => one.server === right[index]?.server && isSameDoubt(one, right[index]));
}

function areSame(left: readonly string[] | undefined, right: readonly string[] | undefined): boolean {
  if (left === undefined || right === undefined) return left === right;
  return left.length === right.length && left.every((server, index) => server === right[index]);
}

function haveSameStates(left: readonly ResidentState[], right: readonly ResidentState[]): boolean {
  if (left.length !== right.length) return false;
  for (let index = 0; index < left.length; index++) {
    const one = left[index] as ResidentState;
    const other = right[index] as ResidentState;
    if (one.server !== other.server || one.state !== other.state) return false;
  }
  return true;
}

/** The method most of the stretches, or of those `picked`, were found by; undefined without any. */
export function mainMethod(
  stretches: readonly OwnStretch[],
  picked: (stretch: OwnStretch) => boolean = isAny,
): ActivityMethod | undefined {
  let first: ActivityMethod | undefined;
  let isSame = true;
  for (const stretch of stretches) {
    if (!picked(stretch)) continue;
    first ??= stretch.method;
    isSame &&= stretch.method === first;
  }
  if (isSame) return first;
  const nanos = new Map<ActivityMethod, number>();
  for (const stretch of stretches)
    if (picked(stretch))
      nanos.set(stretch.method, (nanos.get(stretch.method) ?? 0) + stretch.to - stretch.from);
  let best: ActivityMethod | undefined;
  for (const [method, length] of nanos)
    if (best === undefined || length > (nanos.get(best) ?? 0)) best = method;
  return best;
}

function isAny(): boolean {
  return true;
}
