// How the residents of a GPU share the energy above its floor in an interval, and what is learned for it: the driver's
// shares per process, each one's own power, what its work costs, its tokens (METERING.md 4).
import type { Nanos } from "../model.ts";
import type { ActivityWindow } from "./activity/evidence.ts";
import type { EnergyRule } from "./attribution.ts";
import { energyRule } from "./attribution.ts";
import type { Span } from "./edges.ts";
import type { OwnPower } from "./energy/own-power.ts";
import type { TurnWatts, WindowShare } from "./energy/turn-watts.ts";
import { windowNanos } from "./energy/turn-watts.ts";
import type { WindowFit } from "./energy/window-fit.ts";
import type { WorkFit } from "./energy/work-fit.ts";
import { runningBetween } from "./energy/work-fit.ts";
import type { Piece } from "./pieces.ts";
import type { SmShare } from "./sm-share.ts";
import type { Holding, Tenancy } from "./tenancy.ts";
import { unmetered } from "./tenancy.ts";
import type { ShareReading, Timeline } from "./timeline.ts";
import type { TokenStep } from "./token-step.ts";
import { wasBusy } from "./token-step.ts";
import type { WorkBlocks } from "./work-blocks.ts";
import { workersIn, workOf } from "./work-blocks.ts";

/** What is learned of the residents of one GPU. */
export interface Sharing {
  readonly smShare: SmShare;
  readonly ownPower: OwnPower;
  readonly workFit: WorkFit;
  readonly turnWatts: TurnWatts;
  readonly windowFit: WindowFit;
  readonly workBlocks: WorkBlocks;
}

/** The residents of a GPU in an interval. */
export interface Residents {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly servers: ReadonlySet<string>;
  readonly working: ReadonlySet<string>;
  /** The driver gives shares per process. */
  readonly hasShares: boolean;
  /** They run at the same time, not in turns: clients of MPS. */
  readonly areTogether: boolean;
  /** Weighted tokens of a server over the last 30 s. */
  readonly tokens: (server: string) => number | undefined;
  readonly steps: (server: string) => readonly TokenStep[];
}

/** What an interval cost above the floor is known from. */
export interface Cost {
  /** Joules before an instant, mJ. */
  readonly before: (at: Nanos) => number;
  readonly between: (from: Nanos, to: Nanos) => number;
  /** True where it says what those drew that executed in a stretch: it was not spread over them by that alone. */
  readonly isTold: (from: Nanos, to: Nanos) => boolean;
  /** Up to where it is known up to an instant, no window cut in two. */
  readonly toldUntil: (to: Nanos) => Nanos;
  /** True where a window hides who drew its joules. */
  readonly isCoarse: (from: Nanos, to: Nanos) => boolean;
  readonly floorWatts: number;
}

/** Standard error of a fit, over all it shares, up to which it is not said to be a guess. */
const fitErrorMax = 0.1;
/** The same of windows, whose errors are those of shares: two of them are what a share of a half may be off. */
const windowErrorMax = 0.03;
/** The same of watts, of a share that one has of it. */
const turnsErrorMax = 0.05;
/** Above it next to nothing was learned of them. */
const learnedErrorMax = 0.1;
/** More of a window than that somebody else must have had. */
const restMax = 0.05;
/**
 * What of a rule is another's, as two standard errors, where several run at the same time: a driver's sample credits one of them
 * with what all did, and what they draw together is less than what each does alone.
 */
const togetherDoubt = 0.3;
/** Weight of a stretch in which others may have worked too. */
const guessedWeight = 0.1;
/** Shorter stretches say little of power. */
const stretchMin = 180_000_000;

/**
 * Returns how several residents share, of whom some work. `window`: the interval with the windows of energy it is a part of, whose
 * joules are known as a whole alone.
 */
export function sharingRule(sharing: Sharing, residents: Residents, window: Span): EnergyRule {
  const rule = ruleInTurns(sharing, residents, window);
  if (!residents.areTogether || residents.working.size < 2) return rule;
  if (rule.doubt === undefined && rule.method !== "sm_share" && rule.method !== "own_power") return rule;
  const doubtRatio = rule.doubt === undefined ? togetherDoubt : Math.max(togetherDoubt, rule.doubtRatio ?? 1);
  return { ...rule, doubt: rule.doubt ?? "fitted_work", doubtRatio };
}

/** The same of residents that take turns. */
function ruleInTurns(sharing: Sharing, residents: Residents, window: Span): EnergyRule {
  const { from, hasShares, servers, tokens, to, working } = residents;
  const { ownPower, smShare, turnWatts } = sharing;
  const credited = smShare.weights(to);
  const turns = ownPower.turns([...working], credited);
  const byTurns = turnWatts.shares(turns);
  const standIns = [...working].filter((server) => ownPower.watts(server) === undefined);
  const guessed = (byTurns?.error ?? 1) > turnsErrorMax ? "equal_watts" : undefined;
  const ofWindow = window.from < from || window.to > to ? windowRule(sharing, residents, window) : undefined;
  if (ofWindow !== undefined) return ofWindow;
  if (credited !== undefined) {
    const doubtRatio = ratioOf(byTurns?.error);
    return { method: "sm_share", weights: byTurns?.weights ?? turns, doubt: guessed, doubtRatio };
  }
  const work = workOf(servers, residents.steps, from, to);
  // Where the driver says who worked, it also says when one was alone: own watts are good then.
  const isSeenAlone = hasShares && standIns.length === 0;
  const fitted = work === undefined || isSeenAlone ? undefined : sharing.workFit.shares(work);
  if (fitted !== undefined) {
    const doubt = fitted.error > fitErrorMax ? "fitted_work" : undefined;
    return {
      method: "own_power",
      weights: fitted.joules,
      byWork: true,
      doubt,
      doubtRatio: ratioOf(fitted.error),
    };
  }
  if (byTurns !== undefined && byTurns.error <= learnedErrorMax && working.size > 1) {
    const doubtRatio = ratioOf(byTurns.error);
    return { method: "own_power", weights: byTurns.weights, doubt: guessed, doubtRatio };
  }
  const rule = energyRule(servers, working, undefined, tokens, ownPower.weights(working));
  return rule.method === "own_power" && standIns.length > 0 ? { ...rule, doubt: "equal_watts" } : rule;
}

/** The same by what the work of all of a window of energy cost; undefined where that is not known. */
function windowRule(
  { windowFit }: Sharing,
  { servers, steps }: Residents,
  window: Span,
): EnergyRule | undefined {
  const work = workOf(servers, steps, window.from, window.to, runningBetween);
  const fitted = work === undefined ? undefined : windowFit.shares(work);
  if (fitted === undefined) return undefined;
  const doubt = fitted.error > windowErrorMax ? "fitted_work" : undefined;
  const doubtRatio = ratioOf(fitted.error);
  return { method: "own_power", weights: fitted.joules, byWork: true, doubt, doubtRatio };
}

/** Two standard errors of a fit over all that it shares. */
function ratioOf(error: number | undefined): number {
  return error === undefined ? 1 : Math.min(1, 2 * error);
}

/** Learns from an interval of a whole GPU whose energy is decided. */
export function learnSharing(
  sharing: Sharing,
  timeline: Timeline,
  { holdings }: Tenancy,
  pieces: readonly Piece[],
  residents: Residents,
  cost: Cost,
): void {
  const { from, servers, steps, to } = residents;
  if (pieces.some(({ state }) => state === "unobserved")) return;
  if (servers.size === 1) {
    // Whoever comes later shares with one whose watts are known.
    learnPieces(sharing, timeline, pieces, residents, cost);
    return;
  }
  for (let place = timeline.windowAfter(from); place < timeline.windows.length; place++) {
    const window = timeline.windows[place] as ActivityWindow;
    const inside = Math.min(window.to, to) - Math.max(window.from, from);
    if (inside > 0 && window.busyRatio > 0) sharing.workFit.observeWindow(inside, window.busyRatio);
  }
  if (!servers.has(unmetered)) sharing.workBlocks.learn(sharing.windowFit, pieces, residents, cost);
  const work =
    servers.has(unmetered) || cost.isCoarse(from, to) ? undefined : workOf(servers, steps, from, to);
  if (work !== undefined)
    sharing.workFit.observe(work, (cost.between(from, to) * 1e6 - cost.floorWatts * (to - from)) / 1e9);
  learnPieces(sharing, timeline, pieces, residents, cost);
  for (const reading of timeline.shares)
    learnWindows(sharing, timeline, holdings, pieces, residents, reading, cost);
}

/** Learns what those that work in a piece draw together. */
function learnPieces(
  { ownPower, turnWatts }: Sharing,
  timeline: Timeline,
  pieces: readonly Piece[],
  residents: Residents,
  { between, floorWatts, isTold }: Cost,
): void {
  for (const piece of pieces) {
    const { from, to } = piece;
    if (!piece.works || piece.contested || to - from < stretchMin || !isTold(from, to)) continue;
    const window = timeline.windows[timeline.windowAfter(from)];
    if (window === undefined || window.to - window.from > to - from) continue;
    const working = workersIn(piece);
    if (working.length === 0) continue;
    const busy = timeline.busyNanos(from, to) / (to - from);
    const turns = new Map<string, number>();
    for (const [server, ratio] of ownPower.turns(working)) turns.set(server, ratio * busy);
    const known = mayWork(working, residents, from, to) ? guessedWeight : 1;
    turnWatts.observe(
      turns,
      (between(from, to) * 1e6) / (to - from) - floorWatts,
      (known * (to - from)) / 1e9,
    );
  }
}

/** Whether one that is not among those that are held to work may have worked in a stretch too. */
function mayWork(working: readonly string[], { servers, steps }: Residents, from: Nanos, to: Nanos): boolean {
  for (const server of servers)
    if (server !== unmetered && !working.includes(server) && wasBusy(steps(server), from, to)) return true;
  return false;
}

/** Learns from the driver's samples per process: what of a window each had that ran in it. */
function learnWindows(
  { ownPower, turnWatts }: Sharing,
  timeline: Timeline,
  holdings: readonly Holding[],
  pieces: readonly Piece[],
  residents: Residents,
  { from: readBefore, samples, to: readAt }: ShareReading,
  { between, floorWatts, isTold }: Cost,
): void {
  const { from, servers, to } = residents;
  const shares: WindowShare[] = [];
  for (const { at, pid, smRatio } of samples) {
    const server = ownerOf(holdings, pid);
    if (server !== undefined) shares.push({ server, at, ratio: smRatio });
  }
  if (readAt > from && readAt <= to) {
    const busy = timeline.busyNanos(readBefore, readAt) / (readAt - readBefore);
    turnWatts.observeReading(shares, readAt - readBefore, busy);
  }
  for (const { at, ratio, server } of shares) {
    const start = at - windowNanos;
    if (start < from || at > to || !isTold(start, at)) continue;
    const working = workersDuring(server, servers, pieces, start, at);
    const busy = timeline.busyNanos(start, at) / windowNanos;
    const rest = Math.max(0, busy - ratio);
    if (working.length === 1 && rest > restMax) continue;
    if (rest > restMax && mayWork(working, residents, start, at)) continue;
    const turns = new Map(ownPower.turns(working));
    const others = 1 - (turns.get(server) as number);
    for (const [one, part] of turns) turns.set(one, one === server ? ratio : (rest * part) / others);
    turnWatts.observeWindow(turns, (between(start, at) * 1e6) / windowNanos - floorWatts);
  }
}

function ownerOf(holdings: readonly Holding[], pid: number): string | undefined {
  for (let index = holdings.length - 1; index >= 0; index--) {
    const { pids, server } = holdings[index] as Holding;
    if (pids.includes(pid)) return server;
  }
  return undefined;
}

/** A server and those that may have worked beside it in a stretch: the other resident of two, or who else worked in it. */
function workersDuring(
  server: string,
  servers: ReadonlySet<string>,
  pieces: readonly Piece[],
  from: Nanos,
  to: Nanos,
): string[] {
  if (servers.size === 2) return [...servers];
  const working = [server];
  for (const piece of pieces) {
    if (piece.from >= to || piece.to <= from) continue;
    for (const other of workersIn(piece)) if (!working.includes(other)) working.push(other);
  }
  return working;
}
