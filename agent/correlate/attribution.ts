// Who gets the GPU-seconds and the joules of a piece: every row of METERING.md 4 but MIG, which board.ts puts on top.
// GPU-seconds are shared equally, or as configured. Energy up to the floor is shared equally; above it, over the
// residents that work in the piece: by SM share, else by tokens, else equally. A parked resident gets none of it.
import type { AttributionMethod, Nanos, UncertainReason } from "../model.ts";
import type { Doubt } from "./activity/evidence.ts";
import type { Remainders } from "./apportion.ts";
import { apportion, Claims } from "./apportion.ts";
import type { Booking } from "./booking.ts";
import { noteUncertain, shareOf } from "./booking.ts";
import type { Given } from "./holders.ts";
import type { Piece, ResidentState, ServerDoubt } from "./pieces.ts";
import { unmetered } from "./tenancy.ts";
import type { TokenStep } from "./token-step.ts";

/** Configured shares of GPU time, per server id; the rest is shared equally by those without one. */
export type ConfiguredShares = Readonly<Record<string, number>>;

/** How residents that work share energy, decided once per GPU and interval. */
export interface EnergyRule {
  readonly method: AttributionMethod;
  /** Undefined = equally. */
  readonly weights: ReadonlyMap<string, number> | undefined;
  /** The assumption the weights rest on. */
  readonly doubt?: UncertainReason | undefined;
  /** How much of what it shares may be another's; absent = all. */
  readonly doubtRatio?: number;
  /** The weights are what each one's work in the interval cost, wherever in it that was. */
  readonly byWork?: boolean;
}

/** Remainders of one GPU, kept between intervals. */
export interface GpuRemainders {
  readonly nanos: Remainders;
  readonly floor: Remainders;
  readonly active: Remainders;
}

/** Output tokens cost this much more than input tokens (METERING.md 4). */
const outputWeight = 2.5;
const tokenWindow = 30_000_000_000;

/** Returns remainders with nothing owed. */
export function noRemainders(): GpuRemainders {
  return { nanos: new Map(), floor: new Map(), active: new Map() };
}

/** Returns how the residents of an interval share time: alone, as configured, or equally. */
export function timeMethod(servers: ReadonlySet<string>, shares: ConfiguredShares): AttributionMethod {
  if (servers.size <= 1) return "direct";
  for (const server of servers) if (usable(shares[server])) return "configured";
  return "equal";
}

/**
 * Returns how the residents share energy above the floor: `smWeights` where there is enough of it, else tokens if every
 * one of `working` shows some, else equally.
 */
export function energyRule(
  servers: ReadonlySet<string>,
  working: ReadonlySet<string>,
  smWeights: ReadonlyMap<string, number> | undefined,
  tokens: (server: string) => number | undefined,
  watts: ReadonlyMap<string, number> | undefined,
): EnergyRule {
  if (servers.size <= 1) return { method: "direct", weights: undefined };
  if (smWeights !== undefined) return { method: "sm_share", weights: smWeights };
  if (watts !== undefined) return { method: "own_power", weights: watts };
  const weights = new Map<string, number>();
  for (const server of working) {
    const weight = server === unmetered ? undefined : tokens(server);
    if (weight === undefined || weight <= 0) return { method: "equal", weights: undefined };
    weights.set(server, weight);
  }
  return weights.size === 0 ? { method: "equal", weights: undefined } : { method: "token_share", weights };
}

/** Weighted tokens in the 30 s before `at`, a step that reaches over an edge counted by its part inside. */
export function tokenWeight(steps: readonly TokenStep[], at: Nanos): number | undefined {
  if (steps.length === 0) return undefined;
  const from = at - tokenWindow;
  let weight = 0;
  for (const step of steps) {
    const inside = Math.min(step.to, at) - Math.max(step.from, from);
    if (inside <= 0 || step.to <= step.from || step.isLent) continue;
    weight += ((step.inputTokens + outputWeight * step.outputTokens) * inside) / (step.to - step.from);
  }
  return weight;
}

/** How far off an assumed floor may be, as a share of it: GPUs of one kind that are held idle draw 14 to 21 % of their limit. */
export const floorDoubt = 0.4;

/** Where shares are worked out, one question after the other. */
const draft = { claims: new Claims(), times: [0.5], floors: [0.5], actives: [0.5] };

/** What there is to share in one piece. */
export interface Portion {
  readonly nanos: Nanos;
  /** Energy that holding the GPU costs. */
  readonly floorMillijoules: number;
  /** Energy above it, for those that work. */
  readonly activeMillijoules: number;
  /** What holding costs was never measured. */
  readonly floorAssumed: boolean;
  /** It is a part of what a board drew, by activity. */
  readonly isSlice: boolean;
  /** How well that part is known, of what was drawn above the floor. */
  readonly sliceDoubt?: Doubt | undefined;
}

/**
 * Books a piece: to the GPU's state, and to its residents under their own states. Returns what each got; of a piece that
 * no metered server is in, everything unmetered got all.
 */
export function bookPiece(
  booking: Booking,
  piece: Piece,
  portion: Portion,
  rule: EnergyRule,
  shares: ConfiguredShares,
  remainders: GpuRemainders,
): readonly Given[] {
  const { state, residents } = piece;
  const { activeMillijoules, floorMillijoules, nanos } = portion;
  booking.nanos[state] += nanos;
  booking.millijoules[state] += floorMillijoules + activeMillijoules;
  noteDoubts(booking, piece, portion, rule);
  if (residents.length === 0) {
    if (state !== "other") return [];
    return [
      { server: unmetered, nanos, floorMillijoules, millijoules: floorMillijoules + activeMillijoules },
    ];
  }
  if (residents.length === 1) return [bookOnly(booking, residents[0] as ResidentState, portion)];
  const { times, floors, actives } = draft;
  apportion(nanos, timeClaims(residents, shares), remainders.nanos, times);
  apportion(floorMillijoules, equalClaims(residents), remainders.floor, floors);
  const claims = activeClaims(piece, rule);
  apportion(activeMillijoules, claims, remainders.active, actives);
  const given: Given[] = [];
  let taker = 0;
  for (let index = 0; index < residents.length; index++) {
    const { server, state: own } = residents[index] as ResidentState;
    const active = taker < claims.size && claims.keys[taker] === server ? (actives[taker++] as number) : 0;
    const floor = floors[index] as number;
    const got = {
      server,
      nanos: times[index] as number,
      floorMillijoules: floor,
      millijoules: floor + active,
    };
    const share = shareOf(booking, server);
    share.nanos[own] += got.nanos;
    share.millijoules[own] += got.millijoules;
    given.push(got);
  }
  return given;
}

/** Books a piece to the one resident that holds the GPU. */
function bookOnly(booking: Booking, { server, state }: ResidentState, portion: Portion): Given {
  const { activeMillijoules, floorMillijoules, nanos } = portion;
  const millijoules = floorMillijoules + activeMillijoules;
  const share = shareOf(booking, server);
  share.nanos[state] += nanos;
  share.millijoules[state] += millijoules;
  return { server, nanos, floorMillijoules, millijoules };
}

/** Who takes the energy above the floor, in the order of the residents: those that work, else all. */
function activeClaims({ explainedBy, residents }: Piece, { byWork, weights }: EnergyRule): Claims {
  const claims = draft.claims.clear();
  for (const { server, state } of residents) {
    const isWorker = explainedBy === undefined ? state !== "parked" : explainedBy.includes(server);
    const isTaker = byWork ? (weights?.get(server) ?? 0) > 0 : isWorker;
    if (isTaker) claims.add(server, weightIn(weights, server));
  }
  if (claims.size === 0) for (const { server } of residents) claims.add(server, weightIn(weights, server));
  return claims;
}

function weightIn(weights: ReadonlyMap<string, number> | undefined, server: string): number {
  return weights === undefined ? 1 : (weights.get(server) ?? 0);
}

/**
 * What of a piece rests on an assumption: as much of it as its state does, else what its residents share by guesswork. Who
 * holds a whole GPU alone gets its joules whatever the state is.
 */
function noteDoubts(booking: Booking, piece: Piece, portion: Portion, rule: EnergyRule): void {
  const { activeMillijoules, floorMillijoules } = portion;
  const isShared = piece.residents.length > 1;
  let open = activeMillijoules;
  if (piece.doubt !== undefined) {
    const { ratio } = piece.doubt;
    // What holding costs is shared whoever works, and a fit of work shares the rest whatever the states.
    const byState = isShared && !rule.byWork ? activeMillijoules : 0;
    const millijoules = Math.round(
      ratio * (portion.isSlice ? floorMillijoules + activeMillijoules : byState),
    );
    noteTimes(booking, piece.doubt, piece.alsoDoubted, portion.nanos, millijoules);
    open = portion.isSlice ? 0 : activeMillijoules - millijoules;
  }
  const { sliceDoubt } = portion;
  if (sliceDoubt !== undefined)
    noteUncertain(booking, sliceDoubt.reason, undefined, 0, Math.round(sliceDoubt.ratio * open));
  if (!isShared) return;
  if (portion.floorAssumed)
    noteUncertain(booking, "floor_assumed", undefined, 0, movedByFloor(piece, rule, floorMillijoules));
  if (!rule.byWork && workingIn(piece) < 2) {
    if (isUnseenWork(piece)) noteUncertain(booking, "coarse_windows", undefined, 0, open);
    return;
  }
  const guess = doubtOf(rule);
  if (guess !== undefined)
    noteUncertain(booking, guess, undefined, 0, Math.round((rule.doubtRatio ?? 1) * open));
}

/** How much of a piece's time each of several servers may not have executed in, all of them together no more than it is. */
function noteTimes(
  booking: Booking,
  first: ServerDoubt,
  others: readonly ServerDoubt[] | undefined,
  nanos: number,
  millijoules: number,
): void {
  if (others === undefined) {
    noteUncertain(booking, first.reason, first.server, Math.round(first.ratio * nanos), millijoules);
    return;
  }
  let all = first.ratio;
  for (const { ratio } of others) all += ratio;
  const scale = nanos / Math.max(1, all);
  noteUncertain(booking, first.reason, first.server, Math.floor(first.ratio * scale), millijoules);
  for (const { ratio, reason, server } of others)
    noteUncertain(booking, reason, server, Math.floor(ratio * scale), 0);
}

/** Why a rule that shares the energy of several is a guess. */
function doubtOf({ doubt, method }: EnergyRule): UncertainReason | undefined {
  if (doubt !== undefined) return doubt;
  if (method === "token_share") return "token_share";
  return method === "equal" ? "equal_share" : undefined;
}

/** Joules that would be another's were the floor as far off as it may be: it is shared equally, what is above by the rule. */
function movedByFloor(piece: Piece, rule: EnergyRule, floorMillijoules: number): number {
  const claims = activeClaims(piece, rule);
  let all = 0;
  for (let index = 0; index < claims.size; index++) all += claims.weights[index] as number;
  const equal = 1 / piece.residents.length;
  let moved = (piece.residents.length - claims.size) * equal;
  for (let index = 0; all > 0 && index < claims.size; index++)
    moved += Math.max(0, equal - (claims.weights[index] as number) / all);
  return Math.round(floorDoubt * moved * floorMillijoules);
}

/** What is drawn above the floor in it was drawn by work that no reading shows. */
function isUnseenWork(piece: Piece): boolean {
  return workingIn(piece) === 0 && piece.explainedBy === undefined && piece.contested !== true;
}

function workingIn({ residents }: Piece): number {
  let working = 0;
  for (const { state } of residents) if (state !== "parked") working++;
  return working;
}

function equalClaims(residents: readonly ResidentState[]): Claims {
  const claims = draft.claims.clear();
  for (const { server } of residents) claims.add(server, 1);
  return claims;
}

function timeClaims(residents: readonly ResidentState[], shares: ConfiguredShares): Claims {
  let sum = 0;
  let configured = 0;
  for (const { server } of residents) {
    const share = shares[server];
    if (!usable(share)) continue;
    sum += share;
    configured++;
  }
  const others = residents.length - configured;
  const rest = others === 0 ? 0 : Math.max(0, 1 - sum) / others;
  const claims = draft.claims.clear();
  for (const { server } of residents) {
    const share = shares[server];
    claims.add(server, usable(share) ? share : rest);
  }
  return claims;
}

function usable(share: number | undefined): share is number {
  return share !== undefined && Number.isFinite(share) && share > 0;
}
