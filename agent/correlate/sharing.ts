// How the residents of a GPU share the energy above its floor in an interval, and what is learned for it: the driver's
// shares per process, each one's own power, what its work costs, its tokens (METERING.md 4).
import type { Nanos } from "../model.ts";
import type { ActivityWindow } from "./activity/evidence.ts";
import type { EnergyRule } from "./attribution.ts";
import { energyRule } from "./attribution.ts";
import type { OwnPower } from "./energy/own-power.ts";
import type { TurnWatts, WindowShare } from "./energy/turn-watts.ts";
import { windowNanos } from "./energy/turn-watts.ts";
import type { Work, WorkFit } from "./energy/work-fit.ts";
import { workIn } from "./energy/work-fit.ts";
import type { Piece } from "./pieces.ts";
import type { SmShare } from "./sm-share.ts";
import type { Holding, Tenancy } from "./tenancy.ts";
import { unmetered } from "./tenancy.ts";
import type { ShareReading, Timeline } from "./timeline.ts";
import type { TokenStep } from "./token-step.ts";

/** What is learned of the residents of one GPU. */
export interface Sharing {
  readonly smShare: SmShare;
  readonly ownPower: OwnPower;
  readonly workFit: WorkFit;
  readonly turnWatts: TurnWatts;
}

/** The residents of a GPU in an interval. */
export interface Residents {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly servers: ReadonlySet<string>;
  readonly working: ReadonlySet<string>;
  /** The driver gives shares per process. */
  readonly hasShares: boolean;
  /** Weighted tokens of a server over the last 30 s. */
  readonly tokens: (server: string) => number | undefined;
  readonly steps: (server: string) => readonly TokenStep[];
}

/** What an interval cost above the floor is known from. */
export interface Cost {
  readonly between: (from: Nanos, to: Nanos) => number;
  readonly floorWatts: number;
}

/** Standard error of a fit, over all it shares, up to which it is not said to be a guess. */
const fitErrorMax = 0.1;

/** Returns how several residents share, of whom some work. */
export function sharingRule(sharing: Sharing, residents: Residents): EnergyRule {
  const { from, hasShares, servers, tokens, to, working } = residents;
  const { ownPower, smShare, turnWatts } = sharing;
  const credited = smShare.weights(to);
  const byTurns = turnWatts.watts(working);
  const standIns = [...working].filter((server) => ownPower.watts(server) === undefined);
  if (credited !== undefined) {
    const weights = ownPower.weighted(credited, working, byTurns?.watts);
    const isGuess = byTurns === undefined ? standIns.length > 0 : byTurns.error > fitErrorMax;
    const doubt = isGuess ? "equal_watts" : undefined;
    return { method: "sm_share", weights, doubt, doubtRatio: ratioOf(byTurns?.error) };
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
  const rule = energyRule(servers, working, undefined, tokens, ownPower.weights(working));
  return rule.method === "own_power" && standIns.length > 0 ? { ...rule, doubt: "equal_watts" } : rule;
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
  for (let place = timeline.windowAfter(from); place < timeline.windows.length; place++) {
    const window = timeline.windows[place] as ActivityWindow;
    const inside = Math.min(window.to, to) - Math.max(window.from, from);
    if (inside > 0 && window.busyRatio > 0) sharing.workFit.observeWindow(inside, window.busyRatio);
  }
  const work = servers.has(unmetered) ? undefined : workOf(servers, steps, from, to);
  if (work !== undefined)
    sharing.workFit.observe(work, (cost.between(from, to) * 1e6 - cost.floorWatts * (to - from)) / 1e9);
  for (const reading of timeline.shares)
    learnTurns(sharing, timeline, holdings, pieces, residents, reading, cost);
}

function learnTurns(
  { turnWatts }: Sharing,
  timeline: Timeline,
  holdings: readonly Holding[],
  pieces: readonly Piece[],
  { from, servers, to }: Residents,
  { samples, to: readAt }: ShareReading,
  { between, floorWatts }: Cost,
): void {
  const shares: WindowShare[] = [];
  for (const { at, pid, smRatio } of samples) {
    const server = ownerOf(holdings, pid);
    if (server !== undefined) shares.push({ server, at, ratio: smRatio });
  }
  if (readAt > from && readAt <= to) turnWatts.observeReading(shares);
  for (const share of shares) {
    const start = share.at - windowNanos;
    if (start < from || share.at > to) continue;
    const other = otherWorker(share.server, servers, pieces, start, share.at);
    if (other === undefined) continue;
    const rest = Math.max(0, timeline.busyNanos(start, share.at) / windowNanos - share.ratio);
    turnWatts.observe(share, other, rest, (between(start, share.at) * 1e6) / windowNanos - floorWatts);
  }
}

function ownerOf(holdings: readonly Holding[], pid: number): string | undefined {
  for (let index = holdings.length - 1; index >= 0; index--) {
    const { pids, server } = holdings[index] as Holding;
    if (pids.includes(pid)) return server;
  }
  return undefined;
}

/** The one that may have worked beside `server` in a stretch: the other resident of two, or who else worked in it. */
function otherWorker(
  server: string,
  servers: ReadonlySet<string>,
  pieces: readonly Piece[],
  from: Nanos,
  to: Nanos,
): string | undefined {
  let other: string | undefined;
  if (servers.size === 2)
    for (const one of servers) {
      if (one === server) continue;
      if (other !== undefined) return undefined;
      other = one;
    }
  for (const piece of pieces) {
    if (piece.from >= to || piece.to <= from) continue;
    for (const resident of piece.residents) {
      if (resident.state === "parked" || resident.server === server) continue;
      if (other !== undefined && other !== resident.server) return undefined;
      other = resident.server;
    }
  }
  return other;
}

/** The work of each of the servers in an interval; undefined where that of one is not known. */
function workOf(
  servers: ReadonlySet<string>,
  steps: Residents["steps"],
  from: Nanos,
  to: Nanos,
): ReadonlyMap<string, Work> | undefined {
  const all = new Map<string, Work>();
  for (const server of servers) {
    const work = workIn(steps(server), from, to);
    if (work === undefined) return undefined;
    all.set(server, work);
  }
  return all;
}
